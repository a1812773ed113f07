"""Write docs/reference/models.md: every causal LM type of Transformers, tried as a tiny random model.

    make families

Each is registered, loaded, asked for responses, scored, read, trained and merged; every result is compared with the
model's own plain forward pass. About ten minutes on two cores.
"""

import argparse
import sys
import tempfile
import warnings
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch
from transformers import logging

from tests.inference.families import ALL, Tried, try_family, write_family

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "models.md"
WAYS = {"FusedScorer": "fused", "PackedScorer": "packed", "PrefixScorer": "padded", "WholeScorer": "whole sequences"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("types", nargs="*", help="model types; without any, all")
    parser.add_argument("--out", type=Path, default=PAGE)
    arguments = parser.parse_args()
    logging.set_verbosity_error()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(2)
    tried = {}
    for place, kind in enumerate(arguments.types or ALL, 1):
        tried[kind] = try_type(kind)
        print(f"{place}/{len(arguments.types or ALL)} {kind}: {row(kind, tried[kind])}", flush=True)
    if not arguments.types:
        arguments.out.write_text(page(tried), encoding="utf-8")
    sys.exit(any(isinstance(each, Tried) and each.outcome == "wrong" for each in tried.values()))


def try_type(kind: str) -> Tried | str:
    """Return what was found of a model type, or why no tiny model of it can be built."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            write_family(Path(folder), kind)
        except Exception as error:  # whatever a configuration raises
            return first_line(error)
        try:
            tried = try_family(Path(folder))
            return tried._replace(refused=tried.refused and tried.refused.replace(folder, "MODEL"))
        except Exception as error:
            return Tried(None, problem=f"{type(error).__name__}: {first_line(error)}")


def first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:160]


def row(kind: str, tried: Tried | str) -> str:
    if isinstance(tried, str):
        return f"| `{kind}` | not built | | | | {tried.replace('|', '/')} |"
    worst = max(tried.findings, key=lambda finding: finding.error / finding.limit, default=None)
    deviation = f"{worst.error / worst.limit:.2g}" if worst else ""
    why = tried.refused or tried.problem or "; ".join(each.part for each in tried.findings if not each.passed)
    scored = WAYS.get(tried.scorer, "")
    return f"| `{kind}` | {tried.outcome} | {scored} | {tried.attention} | {deviation} | {why.replace('|', '/')} |"


def page(tried: dict[str, Tried | str]) -> str:
    outcomes = [each.outcome if isinstance(each, Tried) else "not built" for each in tried.values()]
    counts = ", ".join(f"{outcomes.count(each)} {each}" for each in ("correct", "refused", "wrong", "not built"))
    return f"""# Models

Every causal LM type of Transformers {version("transformers")}, tried as a tiny random model in float32 on a CPU
({datetime.now(UTC).date()}; `make families` writes this page): {counts}.

A tiny model is registered, loaded, asked for responses, scored, read (hidden states), trained with a marker and merged.
Each result is compared with a plain forward pass of the model: alone, unpadded and uncached. *Deviation* is the largest
difference found, as a share of what rounding explains; 1 would be a failure. *Not built* means that Transformers' own
configuration class gives no small model; such types are not known to work. Every run repeats these comparisons on the
real checkpoint before it measures anything, so a type that is missing here is measured correctly, or the run stops and
says why.

How a type is scored on a GPU in 16 bits: *fused* or *packed* (sequences end to end, without padding), *padded* (prompts
padded on the left, their keys and values cached; also everywhere else than on a GPU), or *whole sequences* (one at a
time, uncached, for recurrent and hybrid models). Types that are fused or packed are also trained on packed batches. See
[scoring](../explanation/scoring.md).

| type | outcome | scored on a GPU | attention | deviation | why |
| --- | --- | --- | --- | --- | --- |
{chr(10).join(row(kind, each) for kind, each in tried.items())}
"""


if __name__ == "__main__":
    main()
