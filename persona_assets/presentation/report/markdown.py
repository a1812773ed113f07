"""Markdown summary of the report, for a pull request, an issue or a chat."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
import xarray as xr

from persona_assets.presentation.layout.style import display_name
from persona_assets.presentation.report.filters import nats, signed
from persona_assets.presentation.report.links import Link
from persona_assets.presentation.report.side_by_side import compare_responses
from persona_assets.presentation.report.text import fenced, markdown
from persona_assets.presentation.report.what_would_change import what_would_change
from persona_assets.presentation.summaries.headline import Headline, headline
from persona_assets.presentation.summaries.outcome_rows import outcome_rows
from persona_assets.presentation.summaries.statements import COLUMNS, VerdictLike, main_statements, number, row_cells

# Maximum length of a quoted response, in characters.
_EXCERPT = 400
_BY_OUTCOME = ("outcome", "ρ with JS", "ρ with the cosine", "difference of |ρ|", "reliability over questions")


def render_markdown(
    *,
    title: str,
    logit_js_matrix: xr.Dataset,
    centroid_cosine: xr.Dataset,
    generations: pd.DataFrame,
    study: Mapping[str, Any],
    checkpoint: Mapping[str, Any],
    provenance: Mapping[str, Any],
    statements: pd.DataFrame | None = None,
    verdict: VerdictLike | None = None,
    primary_cosine: str = "",
) -> str:
    """Render the verdict, its statements, the two extreme pairs and the provenance as GitHub Markdown.

    Args:
        As in `render_report`. Untrusted texts are escaped or put into code blocks.
    """
    numbers = headline(logit_js_matrix, centroid_cosine)
    parts = [
        f"# {markdown(title)}",
        f"{numbers['personas']} personas × {numbers['questions']} questions, {numbers['pairs']} pairs: JS "
        f"{nats(numbers['js_min'])} to {nats(numbers['js_max'])} nats, {nats(numbers['js_mean'])} on average.",
    ]
    if verdict is not None and statements is not None:
        parts += _verdict(statements, verdict, primary_cosine)
    parts += ["## Extremes", _extremes(numbers)]
    parts += _said(numbers["most_divergent"], generations, logit_js_matrix.get("js_by_question"))
    parts += ["## How this report was made", "\n".join(_lines(_in_short(study, checkpoint, provenance)))]
    parts += ["The full report is `report.html` in the same folder, with its tables as CSV and Parquet."]
    return "\n\n".join(parts) + "\n"


def _verdict(statements: pd.DataFrame, verdict: VerdictLike, primary: str) -> Iterable[str]:
    found = what_would_change(statements, verdict)
    yield f"**Verdict.** {markdown(found['verdict'])}"
    if rows := main_statements(statements, primary):
        yield _table(COLUMNS, map(row_cells, rows))
        yield "iid: dyads treated as independent, as is usual; dyadic: accounts for dyads that share personas."
    if len(rows := outcome_rows(statements, primary)) > 1:
        yield _table(_BY_OUTCOME, map(_outcome_cells, rows))
    if found["changes"]:
        yield "What would change the verdict:"
        yield "\n".join(f"- {change['heading']}: {markdown(change['text'])}" for change in found["changes"])


def _outcome_cells(row: Mapping[str, Any]) -> list[str]:
    cells = [row[name] for name in ("js", "cosine", "difference", "halves")]
    name = f"{row['outcome']} (verdict)" if row["is_verdicts"] else row["outcome"]
    return [name, *(number(cell["estimate"]) if cell else "–" for cell in cells)]


def _extremes(numbers: Headline) -> str:
    columns = [(population, layer) for population, layers in numbers["most_similar_cosine"].items() for layer in layers]
    heading = ["pair", "JS (nats)", *(f"cosine, {display_name(name)}, layer {layer}" for name, layer in columns)]
    rows = []
    for label, pair, js, cosine in (
        ("most similar", numbers["most_similar"], numbers["most_similar_js"], numbers["most_similar_cosine"]),
        ("most divergent", numbers["most_divergent"], numbers["most_divergent_js"], numbers["most_divergent_cosine"]),
    ):
        named = f"{label}: {' – '.join(display_name(name) for name in pair)}"
        interval = f"{nats(js['js'])} [{nats(js['js_low'])}, {nats(js['js_high'])}]"
        values = [signed(cosine.get(name, {}).get(layer, float("nan"))) for name, layer in columns]
        rows.append([named, interval, *values])
    return _table(heading, rows)


def _table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [[markdown(cell) for cell in row] for row in (heading, *rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in (lines[0], ["---"] * len(heading), *lines[1:]))


def _said(pair: tuple[str, str], generations: pd.DataFrame, js_by_question: xr.DataArray | None) -> Iterable[str]:
    """Yield excerpts of the most divergent pair's responses to its most divergent question."""
    if not (asked := compare_responses(pair, generations, None, js_by_question)["questions"]):
        return
    question = asked[0]["question"]
    yield f"Responses of the most divergent pair to “{markdown(question)}”:"
    for name in pair:
        own = generations[(generations["persona"] == name) & (generations["question"] == question)]
        text = str(own["text"].iloc[0])
        yield f"{markdown(display_name(name))}:"
        yield fenced(text if len(text) <= _EXCERPT else f"{text[:_EXCERPT]}…")


def _in_short(study: Mapping[str, Any], checkpoint: Mapping[str, Any], provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts that identify the checkpoint, the study and the runs."""
    named = {"checkpoint": checkpoint, "study": study}
    facts: dict[str, Any] = {
        what: f"{entry.get('name', '')} {str(entry.get('digest', ''))[:12]}".strip() for what, entry in named.items()
    }
    facts |= {name: value for name, value in provenance.items() if isinstance(value, str)}
    wanted = ("tokens", "seconds", "device", "dtype", "engine", "runs")
    for stage, cost in provenance.get("stages", {}).items():
        facts[stage] = {name: cost[name] for name in wanted if name in cost}
    if files := provenance.get("imported"):
        facts["imported"] = {name: str(sha)[:12] for name, sha in files.items()}
    if checks := provenance.get("checks"):
        failed = {name: said for name, said in checks.items() if not said.startswith("passed")}
        facts["checks"] = {"passed": len(checks) - len(failed), "failed": failed or 0}
    return {name: value for name, value in facts.items() if value != ""}


def _lines(facts: Mapping[str, Any]) -> Iterable[str]:
    for name, value in facts.items():
        yield f"- {markdown(display_name(str(name)))}: {_written(value)}"


def _written(value: Any) -> str:
    if isinstance(value, Link):
        return markdown(value.text)  # the URL is local to the machine that made the report
    if isinstance(value, Mapping):
        return ", ".join(f"{markdown(key)} {_written(inner)}" for key, inner in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return ", ".join(_written(inner) for inner in value)
    return markdown(value)
