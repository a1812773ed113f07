"""Draw the figures in docs/images from an instance's artefacts. Run it after `make demo`, and check the result by eye.

    python scripts/readme_images.py dagster_home

Two images are made differently: lineage.png is a screenshot of Dagster's web interface, and checkpoint_drift.png comes
from `make demo-training`.
"""

import argparse
from pathlib import Path

from persona_assets.presentation import leakage_against_predictors, leakage_heatmap, persona_order, to_png
from persona_assets.statistics import infer, primary_of, trend
from persona_assets.store.artefacts import Artefact, ArtefactStore


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("instance", type=Path)
    parser.add_argument("--checkpoint", default="smollm2-135m-instruct")
    parser.add_argument("--baseline", default="assistant")
    parser.add_argument("--to", type=Path, default=Path(__file__).parents[1] / "docs" / "images")
    given = parser.parse_args()
    store = ArtefactStore(given.instance / "artefacts")
    table = newest(store, given.checkpoint)
    matrix, leakage = (
        store.get(asset, table.made_from["inputs"][asset][given.checkpoint]).read()
        for asset in ("logit_js_matrix", "leakage_table")
    )
    pairs, order = table.read(), persona_order(matrix)
    statements = infer(pairs, given.baseline, by_question=matrix.js_by_question)
    cosine = primary_of(statements)
    sources = [name for name in order if name in set(leakage.source)]
    figures = {
        "leakage_against_predictors": leakage_against_predictors(
            pairs, sources, cosines=[cosine], statements=statements, trends=trend(pairs, ["js", cosine], outcome=None)
        ),
        "leakage_heatmap": leakage_heatmap(leakage, order),
    }
    for name, figure in figures.items():
        (given.to / f"{name}.png").write_bytes(to_png(figure))
        print(given.to / f"{name}.png")


def newest(store: ArtefactStore, checkpoint: str) -> Artefact:
    """Return the checkpoint's pair table that was written last."""
    found = [each for each in store.all("pair_table") if each.made_from["checkpoint"] == checkpoint]
    return max(found, key=lambda each: each.path.stat().st_mtime)


if __name__ == "__main__":
    main()
