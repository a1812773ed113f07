"""Read an instance's artefacts with pandas and xarray, and trace a table back to the texts it was made from.

    python examples/reading_artefacts.py dagster_home --checkpoint smollm2-135m-instruct

An artefact's name is the digest of its inputs, and the record beside it lists these inputs. So a number can be traced
to the texts behind it without Dagster and without its database.
"""

import argparse
from pathlib import Path

import pandas as pd
import xarray as xr

from persona_assets.statistics import verdict
from persona_assets.store.artefacts import Artefact, ArtefactStore


def main(arguments: list[str] | None = None) -> None:
    given = parse(arguments)
    store = ArtefactStore(given.instance / "artefacts")
    table = newest(store, "pair_table", given.checkpoint)
    pairs: pd.DataFrame = table.read()
    print(f"pair table {table.fingerprint[:12]}: {len(pairs)} dyads, columns {', '.join(pairs)}")
    if "leakage_rate" in pairs:
        print(pairs.groupby("source").leakage_rate.agg(["count", "mean"]).query("count > 0").to_string())
        for statements in store.all("partial_correlations"):
            if table.fingerprint in fingerprints(statements, "pair_table").values():
                print(verdict(statements.read()).words)

    upstream = fingerprints(table, "logit_js_matrix")
    matrix = store.get("logit_js_matrix", upstream[given.checkpoint])
    js: xr.DataArray = matrix.read().js.sel(generators="all")
    of_pairs = js.where(js.persona != js.other)
    print(f"JS matrix {matrix.fingerprint[:12]}: {dict(js.sizes)}, mean {float(of_pairs.mean()):.4f} nats")

    for partition, fingerprint in fingerprints(matrix, "logit_js").items():
        generator = partition.partition("|")[2]
        scored = store.get("logit_js", fingerprint)
        texts = responses(store, scored, generator)
        apart = scored.read().js.sel(persona=generator).drop_sel(other=generator).mean("other")  # for each question
        question = str(apart.idxmax("question").item())
        said = texts.set_index("question").loc[question, "text"]
        print(f"{generator} stands out most at {question!r}: JS {float(apart.max()):.4f}\n  {shortened(said)!r}")


def shortened(text: str, letters: int = 90) -> str:
    return text if len(text) <= letters else f"{text[:letters]}…"


def newest(store: ArtefactStore, asset: str, checkpoint: str) -> Artefact:
    """Return the most recently written artefact of a checkpoint."""
    found = [each for each in store.all(asset) if each.made_from["checkpoint"] == checkpoint]
    if not found:
        raise SystemExit(f"{store.root / asset}: no artefact of checkpoint {checkpoint}; run a study on it first")
    return max(found, key=lambda each: (store.root / asset / f"{each.fingerprint}.json").stat().st_mtime)


def fingerprints(artefact: Artefact, asset: str) -> dict[str, str]:
    """Return partition → fingerprint of an artefact's inputs; partitions of heavy assets are `checkpoint|persona`."""
    inputs: dict[str, str] = artefact.made_from["inputs"].get(asset, {})
    return inputs


def responses(store: ArtefactStore, scored: Artefact, generator: str) -> pd.DataFrame:
    """Return the responses behind one generator's JS: the upstream artefact, or those imported with it."""
    if fingerprint := scored.made_from.get("upstream"):
        table: pd.DataFrame = store.get("generations", fingerprint).read()
        return table
    imported = (each for each in store.all("generations") if each.made_from.get("persona") == generator)
    return next(each.read() for each in imported if each.made_from["checkpoint"] == scored.made_from["checkpoint"])


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("instance", type=Path, nargs="?", default=Path("dagster_home"), help="folder of the instance")
    parser.add_argument("--checkpoint", default="smollm2-135m-instruct")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
