"""Text and Markdown tables of statements: the iid and the dyadic view side by side."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import pandas as pd

from persona_assets.presentation.layout.outcomes import OUTCOMES
from persona_assets.presentation.layout.style import display_name

# Families of statements in the report's order, with their headings.
FAMILIES = {
    "leakage": "Leakage and each predictor",
    "comparison": "Which predictor is more closely associated with leakage",
    "models": "Models with both predictors",
    "pairs": "JS and cosine over pairs",
    "coupling": "Source rates and similarity to the baseline",
    "outcomes": "Leakage by the other outcomes",
    "negatives": "Without trained negatives",
    "kinds": "Within kinds of personas",
    "noise": "Measurement error",
    "reliability": "Reliability of the outcomes and variance components",
    "influence": "Influence of single sources and personas",
    "looks": "Specification curve",
    "power": "Statistical power",
}
# Column headings of a Markdown table of statements.
COLUMNS = ("statement", "n", "iid", "dyadic")
_SIDE_BY_SIDE = (
    *("leakage", "comparison", "outcomes", "negatives", "kinds"),
    *("models", "pairs", "coupling", "noise"),
)
# Quantities of single outcomes that are listed side by side, so that their label names the outcome.
OF_ONE_OUTCOME = ("reliability,", "spearman corrected", "variance component")


class RuleLike(Protocol):
    """A rule of a verdict: its name, outcome and explanation."""

    @property
    def name(self) -> str: ...
    @property
    def outcome(self) -> str: ...
    @property
    def because(self) -> str: ...


class VerdictLike(Protocol):
    """A verdict in words, and its rules."""

    @property
    def words(self) -> str: ...
    @property
    def rules(self) -> Iterable[RuleLike]: ...


def rules_markdown(verdict: VerdictLike) -> str:
    """Return the rules of a verdict as a Markdown table."""
    rows = ((rule.name, rule.outcome, rule.because) for rule in verdict.rules)
    return _markdown(("rule", "outcome", "because"), rows)


def statements_markdown(statements: pd.DataFrame) -> str:
    """Return the statements that have both views as a Markdown table, iid and dyadic side by side."""
    rows = (row_cells(row) for family in _SIDE_BY_SIDE for row in side_by_side(statements, family))
    return _markdown(COLUMNS, rows)


def row_cells(row: Mapping[str, Any]) -> tuple[str, str, str, str]:
    """Format a row of `side_by_side` as text, in the order of `COLUMNS`."""
    return row["label"], str(row["n"]), _cell(row["iid"]), _cell(row["dyadic"])


def _markdown(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; bars within cells, as in |ρ|, are escaped."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)


def side_by_side(statements: pd.DataFrame, family: str) -> list[dict[str, Any]]:
    """Return the statements of a family, one entry per name, with both views.

    Args:
        statements: as returned by `statistics.infer`.

    Returns:
        In the table's order: `label`, `n` (or –), `iid`, `dyadic` (records, or None) and `checks` (records). A
        statement with neither view, such as a reliability, is given as `dyadic`.
    """
    rows = []
    for _, same in statements[statements["family"] == family].groupby("name", sort=False):
        records = [{str(key): value for key, value in record.items()} for record in same.to_dict("records")]
        by_view = {view: [record for record in records if record["view"] == view] for view in same["view"].unique()}
        first = records[0]
        if first["view"] == "check":
            by_view = {"dyadic": records}
        counts = [record["n"] for record in records if not pd.isna(record["n"])]
        rows.append(
            {
                "label": label(first),
                "n": counts[0] if counts else "–",
                "iid": next(iter(by_view.get("iid", [])), None),
                "dyadic": next(iter(by_view.get("dyadic", [])), None),
                "checks": by_view.get("check", []),
            }
        )
    return rows


def main_statements(statements: pd.DataFrame, primary: str) -> list[dict[str, Any]]:
    """Return the statements that the verdict is about, as in `side_by_side`.

    They are Spearman's ρ of leakage with JS and with the primary cosine, each also given the other, and the difference
    between the two.
    """
    pair = {"js": primary, primary: "js"}
    rank = statements["quantity"].isin(["spearman", "partial spearman"]) & statements["predictor"].isin(list(pair))
    given = (statements["given"] == "") | (statements["given"] == statements["predictor"].map(pair))
    alone = statements[(statements["family"] == "leakage") & rank & given]
    difference = statements[
        (statements["family"] == "comparison")
        & (statements["quantity"] == "difference of |spearman|")
        & (statements["predictor"] == f"js − {primary}")
    ]
    return [*side_by_side(alone, "leakage"), *side_by_side(difference, "comparison")]


def label(statement: dict[str, Any]) -> str:
    """Return a statement's label: quantity, predictor, outcome and condition.

    The outcome that the verdict is about is not repeated in every label.
    """
    predictor = " ".join(predictor_name(part) for part in str(statement["predictor"]).split(" "))  # a − b, a + b
    outcome, quantity = str(statement["outcome"]), str(statement["quantity"])
    by_outcome = statement.get("family") == "outcomes" or quantity.startswith(OF_ONE_OUTCOME)
    of = "" if outcome == "" or (outcome in OUTCOMES and not by_outcome) else predictor_name(outcome)
    if predictor:
        text = f"{quantity}: {predictor}{f' with {of}' if of else ''}"
    else:
        text = f"{quantity} ({of})" if of and by_outcome else quantity
    return f"{text}, given {predictor_name(str(statement['given']))}" if statement["given"] else text


def verdict_outcome(statements: pd.DataFrame) -> str:
    """Return the column of the outcome that the verdict is about; "" if no correlation names one."""
    named = statements[(statements["family"] == "leakage") & statements["outcome"].isin(list(OUTCOMES))]
    return str(named["outcome"].iloc[0]) if len(named) else ""


def predictor_name(column: str) -> str:
    """Return the display name of a pair table column."""
    if column in OUTCOMES:
        return OUTCOMES[column].name
    cosine, _, layer = column.rpartition("_layer")
    if cosine.startswith("cosine"):
        return f"{display_name(cosine)} L{layer}"
    if column == "js" or column.startswith("js_"):
        return f"JS {column.removeprefix('js_')}" if column != "js" else "JS"
    return display_name(column) if "/" not in column else "leakage counts"


def _cell(record: dict[str, Any] | None) -> str:
    if record is None:
        return ""
    if math.isnan(record["estimate"]):
        return str(record["note"])
    parts = [number(record["estimate"])]
    if not math.isnan(record["low"]):
        parts.append(f"[{number(record['low'])}, {number(record['high'])}]")
    if not math.isnan(record["p"]):
        parts.append(f"p {p_text(record['p'])}")
    return " ".join(parts)


def number(value: float) -> str:
    """Format with three decimals and a Unicode minus sign."""
    return "–" if math.isnan(value) else f"{value:.3f}".replace("-", "−")


def p_text(p: float) -> str:
    """Format a p value with three decimals, in scientific notation below 0.001."""
    if math.isnan(p):
        return "–"
    return f"{p:.1e}".replace("e-0", "e-").replace("-", "−") if 0 < p < 0.001 else f"{p:.3f}"
