"""Tables of `benchmarks.calibration_kinds` for results/calibration.md."""

from collections.abc import Sequence

import pandas as pd

HEADING = "## Personas in kinds"
TIGHT = "kinds are tight (sd 0.3 around centres of sd 1) and leak to each other with sd 1 on the logit scale"


def section(page: str, rows: pd.DataFrame, made: str) -> str:
    """Return the page of results with its section on kinds replaced."""
    rows = rows.assign(
        design=[
            "11 × 5, published kinds" if not kinds else f"{personas} × {sources}"
            for personas, sources, kinds in zip(rows["personas"], rows["sources"], rows["kinds"], strict=True)
        ]
    )
    null = rows[rows["truth"] == "nothing is related"]
    tight = null[(null["spread"] == 0.3) & (null["amplitude"] == 1.0)]
    others = null[null["kinds"] == 4].assign(
        truth_of_kinds=lambda each: [
            f"{'tight' if spread < 1 else 'loose'}, effects {amplitude:g}"
            for spread, amplitude in zip(each["spread"], each["amplitude"], strict=True)
        ]
    )
    related = rows[rows["truth"] == "both equally related"]
    alone = rows[rows["truth"] == "only cosine is related"]
    rejects, covers = "rejects", "covers"
    differences = related["test"].str.startswith("difference")
    many, few, fewest = (
        max(rows.loc[rows["test"].str.contains(tests), "studies"], default=0)
        for tests in ("ρ within kinds$", "two-way", "mixed model")
    )
    parts = [
        HEADING,
        "",
        f"{made}. {many:,} studies per row for tests by relabelling, {few} for intervals, "
        f"{fewest} for mixed models: in one scenario, a share of 5 % is known to ± {_error(many)}, ± {_error(few)} and "
        f"± {_error(fewest)}. "
        "A cell has the mean over scenarios, and the smallest and largest if there are several. Designs are personas × "
        "sources. All rows are in `calibration_kinds.csv`, the model in `benchmarks/kind_studies.py`.",
        "",
        "**Rejected at 5 % although nothing is related**, by design, over 2 to 5 kinds and all four outcomes; "
        f"{TIGHT}:",
        "",
        _table(tight[tight["what"] == rejects], "design"),
        "",
        "**The same by number of kinds**, all designs and outcomes:",
        "",
        _table(tight[(tight["what"] == rejects) & (tight["kinds"] > 0)], "kinds"),
        "",
        "**The same by outcome**, all designs and numbers of kinds:",
        "",
        _table(tight[(tight["what"] == rejects) & (tight["outcome"] != "JS over pairs")], "outcome"),
        "",
        "**The same with four kinds that are tight or loose and leak to each other more or less**:",
        "",
        _table(others[others["what"] == rejects], "truth_of_kinds"),
        "",
        "**Rejected at 5 % although JS adds nothing to the cosine**, which alone is related; four tight kinds:",
        "",
        _table(alone[(alone["what"] == rejects) & alone["test"].str.contains("MRQAP|model|OLS")], "design"),
        "",
        "**The difference of |ρ| is rejected at 5 % although JS and cosine are equally related**:",
        "",
        _table(related[(related["what"] == rejects) & differences], "design"),
        "",
        "**Coverage of 95 % intervals if JS and cosine are equally related**; the true value is that of a large study "
        "with the same kinds:",
        "",
        _table(related[related["what"] == covers], "design"),
        "",
        "**Coverage of 95 % intervals if nothing is related** (without *within kinds*: of the ρ that the kinds alone "
        "give a large study, which is not 0; *rejects* above counts the intervals that leave 0 out):",
        "",
        _table(tight[tight["what"] == covers], "design"),
        "",
        "**Power**: a true relation of JS is found at 5 % (slope 0.5 per standard deviation within kinds):",
        "",
        _table(related[(related["what"] == rejects) & related["test"].str.startswith(("ρ", "JS beside"))], "design"),
        "",
        "**Not computed**, share of the studies of a scenario's outcome:",
        "",
        _refused(rows),
        "",
    ]
    return page.partition(HEADING)[0].rstrip() + "\n\n" + "\n".join(parts)


def _table(rows: pd.DataFrame, across: str) -> str:
    columns = list(dict.fromkeys(rows[across]))
    lines = []
    for test in dict.fromkeys(rows["test"]):
        of_test = rows[rows["test"] == test]
        lines.append([test, *(_cell(of_test.loc[of_test[across] == column, "share"]) for column in columns)])
    return _markdown(["test", *(f"{column} kinds" if across == "kinds" else str(column) for column in columns)], lines)


def _cell(shares: "pd.Series[float]") -> str:
    if shares.empty:
        return ""
    mean, low, high = (100 * float(value) for value in (shares.mean(), shares.min(), shares.max()))
    return f"{mean:.1f} %" if len(shares) == 1 else f"{mean:.1f} % ({low:.1f}–{high:.1f})"


def _refused(rows: pd.DataFrame) -> str:
    asked = rows.pivot_table(
        index=["design", "kinds", "truth", "spread", "amplitude", "outcome", "test"],
        columns="what",
        values="studies",
        aggfunc="sum",
    ).reset_index()
    if "not computed" not in asked:
        return "None."
    answered = asked.reindex(columns=["rejects"]).fillna(0)["rejects"]
    shares = asked["not computed"].fillna(0) / (asked["not computed"].fillna(0) + answered)
    return _table(asked.assign(share=shares)[asked["not computed"].notna()], "design")


def _markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)


def _error(studies: int) -> str:
    return f"{196 * (0.05 * 0.95 / studies) ** 0.5:.1f} %" if studies else "–"
