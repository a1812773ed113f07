"""All files of a report: the HTML page, the Markdown summary and the tables."""

from typing import Any

from persona_assets.presentation.report.citation import citation
from persona_assets.presentation.report.markdown import render_markdown
from persona_assets.presentation.report.page import render_report
from persona_assets.presentation.report.table_files import table_files

_SHORT = ("title", "study", "checkpoint", "provenance", "logit_js_matrix", "centroid_cosine", "generations")
_INFERENCE = ("statements", "verdict", "primary_cosine")
_TABLES = ("pair_table", "logit_js_matrix", "centroid_cosine", "statements", "leakage_table")


def report_files(**inputs: Any) -> dict[str, bytes]:
    """Return `report.html`, `report.md`, and every table as CSV and Parquet.

    Args:
        inputs: the arguments of `render_report` except `cite`. `study` and `checkpoint` need a `name` and a `digest`,
            `provenance` needs `made` (starting with the year) and `persona assets` (the version).
    """

    def some(*names: str) -> dict[str, Any]:
        return {name: inputs[name] for name in names if name in inputs}

    study, checkpoint, made = inputs["study"], inputs["checkpoint"], inputs["provenance"]
    cite = citation(
        version=made["persona assets"],
        year=int(made["made"][:4]),
        study=study["name"],
        checkpoint=checkpoint["name"],
        digests=[f"checkpoint {checkpoint['digest'][:12]}", f"study {study['digest'][:12]}"],
        imported=bool(study.get("imported")),
    )
    return {
        "report.html": render_report(**inputs, cite=cite).encode(),
        "report.md": render_markdown(**some(*_SHORT, *_INFERENCE)).encode(),
        **table_files(**some(*_TABLES)),
    }
