"""HTML tables of statements, made with great-tables: the iid and the dyadic view side by side."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from great_tables import GT
from markupsafe import Markup

from persona_assets.presentation.report.text import visible
from persona_assets.presentation.summaries.statements import number, p_text

Rows = Sequence[Mapping[str, Any]]
_COLUMNS = {
    "estimate": "estimate",
    "n": "n",
    "iid_interval": "interval",
    "iid_p": "p",
    "dyadic_interval": "interval",
    "dyadic_p": "p",
    "looks": "all looks",
    "n_effective": "n eff.",
}


def two_view_table(groups: Mapping[str, Rows], name: str) -> Markup:
    """Return a table of statements that have both views: one row per statement, grouped by family.

    Args:
        groups: heading → rows as returned by `side_by_side`; groups without rows are left out.
        name: prefix of the table's ids, unique on the page. Letters, digits and hyphens.

    Returns:
        A `<table>` with a spanner over the columns of each view; cell texts are escaped.
    """
    cells = [
        {"group": heading, "statement": str(visible(row["label"])), **_view_cells(row)}
        for heading, rows in groups.items()
        for row in rows
    ]
    table = _great_table(cells, name, _COLUMNS)
    table = table.tab_spanner("iid", columns=["iid_interval", "iid_p"])
    table = table.tab_spanner("dyadic", columns=["dyadic_interval", "dyadic_p", "looks", "n_effective"])
    return _html(table)


def single_view_table(rows: Rows, name: str) -> Markup:
    """Return a `<table>` of statements with one view: `label`, `estimate` and interval, `n` and `note` of each."""
    cells = [
        {
            "group": "",
            "statement": str(visible(row["label"])),
            "estimate": f"{number(row['estimate'])} {_interval(row)}".strip(),
            "n": "" if pd.isna(row["n"]) else str(int(row["n"])),
            "note": str(visible(row["note"])),
        }
        for row in rows
    ]
    return _html(_great_table(cells, name, {"estimate": "estimate", "n": "n", "note": "note"}))


def _great_table(cells: list[dict[str, str]], name: str, columns: Mapping[str, str]) -> GT:
    frame = pd.DataFrame(cells, columns=["group", "statement", *columns], dtype=object)
    grouped = frame["group"].ne("").any()
    frame = frame if grouped else frame.drop(columns="group")
    table = GT(frame, rowname_col="statement", groupname_col="group" if grouped else None, id=name)
    table = table.tab_stubhead("statement").cols_label(dict(columns))
    table = table.cols_align("right", columns=[column for column in columns if column != "note"])
    # The cells are escaped already; a formatter keeps great-tables from escaping them again.
    return table.fmt(lambda html: html, columns=["statement", *columns])


def _html(table: GT) -> Markup:
    """Return the `<table>` without great-tables' styles, so that the page's light and dark themes apply."""
    html = table.as_raw_html()
    alone = html[html.index("<table") : html.rindex("</table>") + len("</table>")]
    return Markup(alone.replace('class="gt_table"', 'class="gt_table pairs" data-rows="statements"', 1))


def _view_cells(row: Mapping[str, Any]) -> dict[str, str]:
    records = [record for record in (row["iid"], row["dyadic"]) if record is not None]
    shown = next((record["estimate"] for record in records if not math.isnan(record["estimate"])), math.nan)
    dyadic = row["dyadic"] or {}
    return {
        "estimate": number(shown),
        "n": str(row["n"]),
        "iid_interval": _interval_cell(row["iid"], shown),
        "iid_p": _p(row["iid"]),
        "dyadic_interval": "".join(_lines(row, shown)),
        "dyadic_p": _p(row["dyadic"]),
        "looks": p_text(p) if not math.isnan(p := dyadic.get("p_adjusted", math.nan)) else "",
        "n_effective": _n_effective(dyadic),
    }


def _n_effective(dyadic: Mapping[str, Any]) -> str:
    """Return the effective number of observations; nothing above n, where it only says that the interval is narrow."""
    n = dyadic.get("n_effective", math.nan)
    return f"{n:.0f}" if not math.isnan(n) and (pd.isna(dyadic["n"]) or n <= dyadic["n"]) else ""


def _lines(row: Mapping[str, Any], shown: float) -> Iterable[str]:
    """Yield the dyadic interval, then the intervals of the other methods with short names."""
    yield _interval_cell(row["dyadic"], shown)
    for check in row["checks"]:
        if not math.isnan(check["low"]):
            how = re.split(r" over |, |; ", str(check["method"]).removeprefix("interval: "))[0]
            yield Markup('<span class="check">{} {}</span>').format(visible(how), _interval(check))


def _interval_cell(record: Mapping[str, Any] | None, shown: float) -> str:
    """Return an interval, preceded by its estimate if that differs from the one shown, or the reason it is missing."""
    if record is None:
        return "–"
    if math.isnan(record["estimate"]):
        return Markup('<span class="reason">{}</span>').format(visible(record["note"]))
    other = "" if number(record["estimate"]) == number(shown) else f"{number(record['estimate'])} "
    return other + _interval(record)


def _interval(record: Mapping[str, Any]) -> str:
    return "" if math.isnan(record["low"]) else f"[{number(record['low'])}, {number(record['high'])}]"


def _p(record: Mapping[str, Any] | None) -> str:
    return "" if record is None or math.isnan(record["p"]) else p_text(record["p"])
