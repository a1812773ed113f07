"""The HTML report: one self-contained page that loads nothing from elsewhere."""

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import xarray as xr
from markupsafe import Markup

from persona_assets.presentation.figures.captions import averaged_over, interval_text, position_of
from persona_assets.presentation.layout.pairs import cosine_columns, unordered_pairs
from persona_assets.presentation.report.citation import Citation
from persona_assets.presentation.report.embedding import embed_figure
from persona_assets.presentation.report.filters import FILTERS, TESTS
from persona_assets.presentation.report.inference_section import inference_section
from persona_assets.presentation.report.leakage_section import leakage_section
from persona_assets.presentation.report.matrix import matrix_cells
from persona_assets.presentation.report.side_by_side import LIMITS, compare_responses
from persona_assets.presentation.summaries.headline import Headline, headline
from persona_assets.presentation.summaries.statements import VerdictLike, verdict_outcome

_TEMPLATES = Path(__file__).with_name("templates")
Responses = dict[str, dict[str, list[dict[str, Any]]]]


def render_report(
    *,
    title: str,
    study: Mapping[str, Any],
    checkpoint: Mapping[str, Any],
    logit_js_matrix: xr.Dataset,
    centroid_cosine: xr.Dataset,
    pair_table: pd.DataFrame,
    generations: pd.DataFrame,
    provenance: Mapping[str, Any],
    figures: Mapping[str, bytes],
    leakage_table: pd.DataFrame | None = None,
    samples: pd.DataFrame | None = None,
    statements: pd.DataFrame | None = None,
    verdict: VerdictLike | None = None,
    primary_cosine: str = "",
    tokens: pd.DataFrame | None = None,
    marker: str = "",
    cite: Citation | None = None,
) -> str:
    """Render the report of one checkpoint as a self-contained HTML page.

    Args:
        title: the page's heading.
        study, checkpoint, provenance: what was measured, on which weights, and how; nested mappings, shown as tables.
            A `Link` in them becomes a link to the Dagster page. Each persona of the study may have a `prompt`.
        logit_js_matrix, centroid_cosine: as in `headline`.
        pair_table: one row per dyad: `source`, `target`, `js`, `js_low`, `js_high`, `kl`, `kl_reverse` (nats, all for
            the generator subset `all`) and cosines.
        generations: one row per response: `persona`, `question`, `text` and, where known, `tokens`,
            `finish_reason`, `thought`, `answered`. Untrusted: texts are escaped, invisible characters are shown.
        figures: SVG files by name, named as in `standard_figures`.
        leakage_table: one row per dyad, as in `leakage_heatmap`. If given, the page has a leakage section and the pair
            table needs its outcomes, as in `leakage_section`.
        samples: one row per sampled reply: `source`, `target`, `question`, `text`, `found` (bool). A few are shown, and
            only with a leakage table. Untrusted, like `generations`.
        statements, verdict, primary_cosine: as in `inference_section`; only with leakage.
        tokens: JS per token of the two extreme pairs, as in `compare_responses`.
        marker: the text that was searched for in replies; highlighted in the replies that are shown.
        cite: how to cite the report.

    Returns:
        HTML that loads nothing and runs only its own script; its content security policy forbids everything else.
        The page has the same content without the script.
    """
    numbers = headline(logit_js_matrix, centroid_cosine)
    pairs = unordered_pairs(pair_table).iloc[::-1]
    outcome = "" if statements is None else verdict_outcome(statements)
    ordered = sorted(figures.items(), key=lambda figure: position_of(figure[0]))
    script = (_TEMPLATES / "report.js").read_text()
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            title=title,
            script=Markup(script),
            script_hash=_hash(script),
            study=study,
            checkpoint=checkpoint,
            provenance={name: facts for name, facts in provenance.items() if name != "stages"},
            stages=_stages(provenance.get("stages")),
            headline=numbers,
            matrix=matrix_cells(logit_js_matrix, numbers["generators"]),
            intervals=interval_text(logit_js_matrix),
            averaged_over=averaged_over(logit_js_matrix),
            without_answer=logit_js_matrix.attrs.get("without_answer", ""),
            figures=[embed_figure(name, figure, logit_js_matrix, leakage_table, outcome) for name, figure in ordered],
            cosines=cosine_columns(pair_table),
            pairs=pairs.to_dict("records"),
            pair_id=_pair_id,
            has_kl="kl" in pairs and bool(pairs["kl"].notna().any()),
            js_max=float(pairs["js"].max()),
            questions=list(dict.fromkeys(generations["question"])),
            responses=_responses(generations),
            prompts={name: persona["prompt"] for name, persona in study.get("personas", {}).items()},
            texts=_texts(numbers, generations, tokens, logit_js_matrix.get("js_by_question")),
            limits=LIMITS,
            marker=marker,
            leakage=None if leakage_table is None else leakage_section(pair_table, leakage_table, samples, outcome),
            inference=None
            if verdict is None or statements is None
            else inference_section(statements, verdict, primary_cosine),
            cite=cite,
        )
    )


def _hash(script: str) -> str:
    """Return the script's hash in the syntax of a content security policy."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode('ascii')}"


def _pair_id(first: str, second: str) -> str:
    """Return the id of a pair's table row; the order of the two personas does not matter."""
    return "pair-" + "--".join(sorted((first, second)))


def _stages(stages: Mapping[str, Mapping[str, Any]] | None) -> dict[str, Any] | None:
    """Split the facts of the stages into table columns (they differ) and shared facts (equal in all stages)."""
    if not stages:
        return None
    names = list(dict.fromkeys(name for facts in stages.values() for name in facts))
    first = next(iter(stages.values()))
    missing = object()
    shared = {n: first.get(n) for n in names if all(f.get(n, missing) == first.get(n) for f in stages.values())}
    shared = shared if len(stages) > 1 else {}
    return {"columns": [name for name in names if name not in shared], "rows": stages, "shared": shared}


def _texts(
    numbers: Headline, generations: pd.DataFrame, tokens: pd.DataFrame | None, js_by_question: xr.DataArray | None
) -> list[dict[str, Any]]:
    """Return the responses of the two extreme pairs side by side; one entry if both extremes are the same pair."""
    ends = {numbers["most_divergent"]: "Most divergent pair", numbers["most_similar"]: "Most similar pair"}
    return [
        {"label": label, **compare_responses(pair, generations, tokens, js_by_question)} for pair, label in ends.items()
    ]


def _responses(generations: pd.DataFrame) -> Responses:
    """Group responses by persona and question, both in the table's order."""
    responses: Responses = {}
    for row in generations.to_dict("records"):
        responses.setdefault(str(row["persona"]), {}).setdefault(str(row["question"]), []).append(
            {
                "text": row["text"],
                "tokens": row.get("tokens"),
                "cut": row.get("finish_reason") == "length",
                "thought": thought if isinstance(thought := row.get("thought"), str) else "",
                "answered": bool(row.get("answered", True)),  # missing for personas without thoughts
            }
        )
    return responses


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS)
    environment.tests.update(TESTS)
    return environment
