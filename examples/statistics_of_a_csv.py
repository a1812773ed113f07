"""Which predictor goes with leakage, asked of your own CSV: each statement as the field makes it and as dyads allow.

    python examples/statistics_of_a_csv.py examples/dyads.csv --baseline assistant

One row a dyad: source, target, predictors (columns js and cosine_<population>_layer<N>), and found and total where
leakage was counted. `examples/dyads.csv` is synthetic: eight personas, four sources, nothing in it was measured.
No Dagster and no model: `statistics` alone.
"""

import argparse
from itertools import permutations
from pathlib import Path

import pandas as pd

from persona_assets.statistics import infer, verdict

SYMMETRIC = ("js", "cosine_")  # one number a pair: where only (a, b) is given, (b, a) is the same


def main(arguments: list[str] | None = None) -> None:
    given = parse(arguments)
    dyads = read_dyads_file(given.csv)
    statements = infer(
        dyads, given.baseline, permutations=given.permutations, resamples=given.resamples, simulations=given.simulations
    )
    counted = int(dyads.leakage_rate.notna().sum())
    print(f"{counted} dyads of {dyads.source[dyads.leakage_rate.notna()].nunique()} sources\n")
    print(beside(statements).to_string(), end="\n\n")
    print(verdict(statements).words)
    if given.to is not None:
        statements.to_parquet(given.to)
        print(f"\n{len(statements)} statements in {given.to}")


def read_dyads_file(file: Path) -> pd.DataFrame:
    """A pair table: every ordered pair of the personas, what the file leaves out missing."""
    table = pd.read_csv(file)
    if absent := [column for column in ("source", "target", "found", "total") if column not in table]:
        raise SystemExit(f"{file}: columns {', '.join(absent)} are missing; expected source, target, found, total")
    personas = sorted({*table.source, *table.target})
    both_ways = pd.MultiIndex.from_tuples(permutations(personas, 2), names=["source", "target"])
    table = table.set_index(["source", "target"])
    swapped = table.swaplevel().rename_axis(["source", "target"])
    pairs = table.reindex(both_ways)
    for column in [name for name in pairs if name.startswith(SYMMETRIC)]:
        pairs[column] = pairs[column].fillna(swapped[column].reindex(both_ways))
    pairs = pairs.rename(columns={"found": "leakage_found", "total": "leakage_total"})
    pairs["leakage_rate"] = pairs.leakage_found / pairs.leakage_total
    for side in ("source_category", "target_category"):
        if side not in pairs:
            pairs[side] = "persona"
    return pairs.reset_index()


def beside(statements: pd.DataFrame) -> pd.DataFrame:
    """Correlations and the comparison of predictors, the two views side by side."""
    about = statements.quantity.isin(["spearman", "partial spearman", "difference of |spearman|"])
    chosen = statements[about & statements.family.isin(["leakage", "comparison"])].drop_duplicates(["name", "view"])
    wide = chosen.pivot(index="name", columns="view", values=["estimate", "low", "high", "p"])
    return wide[[(figure, view) for view in ("iid", "dyadic") for figure in ("estimate", "low", "high", "p")]].round(3)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=Path)
    parser.add_argument("--baseline", default="assistant", help="the persona that others are compared with")
    parser.add_argument("--permutations", type=int, default=10_000, help="relabellings of the personas")
    parser.add_argument("--resamples", type=int, default=2000, help="of sources, where not all can be taken")
    parser.add_argument("--simulations", type=int, default=200, help="studies simulated for the power")
    parser.add_argument("--to", type=Path, help="a Parquet file for all statements")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
