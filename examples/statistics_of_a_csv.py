"""Test which predictor is associated with leakage in your own CSV file, in the iid and in the dyadic view.

    python examples/statistics_of_a_csv.py examples/dyads.csv --baseline assistant

The file has one row per dyad: source, target, predictors (columns js and cosine_<population>_layer<N>), and found and
total if leakage was counted. `examples/dyads.csv` is synthetic: eight personas and four sources, not measured data.
It only needs `statistics`: no Dagster, no model.
"""

import argparse
from itertools import permutations
from pathlib import Path

import pandas as pd

from persona_assets.statistics import infer, verdict

SYMMETRIC = ("js", "cosine_")  # one value per pair: if only (a, b) is given, it is used for (b, a) too


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
    """Read a pair table with every ordered pair of the personas; values that the file lacks are missing."""
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
    """Return correlations and comparisons of predictors with the two views side by side."""
    about = statements.quantity.isin(["spearman", "partial spearman", "difference of |spearman|"])
    chosen = statements[about & statements.family.isin(["leakage", "comparison"])].drop_duplicates(["name", "view"])
    wide = chosen.pivot(index="name", columns="view", values=["estimate", "low", "high", "p"])
    return wide[[(figure, view) for view in ("iid", "dyadic") for figure in ("estimate", "low", "high", "p")]].round(3)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=Path)
    parser.add_argument("--baseline", default="assistant", help="the persona that the others are compared with")
    parser.add_argument("--permutations", type=int, default=10_000, help="number of relabellings of the personas")
    parser.add_argument(
        "--resamples",
        type=int,
        default=2000,
        help="number of resamples of the sources, if there are too many to enumerate",
    )
    parser.add_argument(
        "--simulations", type=int, default=200, help="number of simulated studies for the power analysis"
    )
    parser.add_argument("--to", type=Path, help="write all statements to this Parquet file")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
