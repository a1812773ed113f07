"""One page that a colleague can open, read and keep: everything is in it, and nothing in it asks for anything else."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import xarray as xr

from persona_assets.presentation.figures import LEAKAGE_FIGURES, averaged_over, caption, interval_text, place_of
from persona_assets.presentation.files import data_url
from persona_assets.presentation.headline import headline
from persona_assets.presentation.inference_section import inference_section
from persona_assets.presentation.leakage_section import leakage_section
from persona_assets.presentation.links import Link
from persona_assets.presentation.pairs import cosine_columns, unordered_pairs
from persona_assets.presentation.statements import VerdictLike, number, p_text
from persona_assets.presentation.style import spoken
from persona_assets.presentation.text import visible

_SVG_WIDTH = re.compile(rb'<svg[^>]* width="([0-9.]+)pt"')
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
) -> str:
    """Render the report of one checkpoint as a self-contained HTML page.

    Args:
        title: the page's heading.
        study, checkpoint, provenance: what was measured, on which weights, and how; nested mappings, shown as tables;
            a `Link` in them leads to Dagster's page.
        logit_js_matrix, centroid_cosine: as `headline` takes them.
        pair_table: one row a dyad: `source`, `target`, `js`, `js_low`, `js_high`, `kl`, `kl_reverse` (nats, all of the
            generator subset `all`) and cosines.
        generations: one row a response: `persona`, `question`, `text`, and where they are known `tokens`,
            `finish_reason`. Held to be hostile: escaped, and characters that cannot be seen are written out.
        figures: SVG files by name, as `standard_figures` names them.
        leakage_table: one row a dyad, as `leakage_heatmap` takes it; with it the page has a section on leakage, and the
            pair table has `leakage_found`, `leakage_total`, `leakage_rate`, `leakage_low`, `leakage_high`, `related`.
        samples: one row a sampled reply: `source`, `target`, `question`, `text`, `found` (bool); some are shown, and
            only with a leakage table. Held to be hostile as `generations` are.
        statements, verdict, primary_cosine: as `inference_section` takes them, where there is leakage.

    Returns:
        HTML that loads nothing, runs nothing, and whose policy forbids both.
    """
    numbers = headline(logit_js_matrix, centroid_cosine)
    responses = _responses(generations)
    pairs = unordered_pairs(pair_table).iloc[::-1]
    ordered = sorted(figures.items(), key=lambda figure: place_of(figure[0]))
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            title=title,
            study=study,
            checkpoint=checkpoint,
            provenance=provenance,
            headline=numbers,
            intervals=interval_text(logit_js_matrix),
            averaged_over=averaged_over(logit_js_matrix),
            figures=[_embedded(name, figure, logit_js_matrix, leakage_table) for name, figure in ordered],
            cosines=cosine_columns(pair_table),
            pairs=pairs.to_dict("records"),
            has_kl="kl" in pairs and bool(pairs["kl"].notna().any()),
            js_max=float(pairs["js"].max()),
            questions=list(dict.fromkeys(generations["question"])),
            responses=responses,
            compared=numbers["most_divergent"],
            leakage=None if leakage_table is None else leakage_section(pair_table, leakage_table, samples),
            inference=None
            if verdict is None or statements is None
            else inference_section(statements, verdict, primary_cosine),
        )
    )


def _embedded(name: str, svg: bytes, logit_js_matrix: xr.Dataset, leakage_table: pd.DataFrame | None) -> dict[str, Any]:
    width = _SVG_WIDTH.search(svg)
    if width is None:
        raise ValueError(f"figure {name}: no width in points in its SVG; expected a file as `to_svg` writes it")
    return {
        "url": data_url(svg, "image/svg+xml"),
        "alt": spoken(name),
        "caption": caption(name, logit_js_matrix, leakage_table),
        "leakage": name in LEAKAGE_FIGURES,
        "inches": float(width[1]) / 72,
    }


def _responses(generations: pd.DataFrame) -> Responses:
    """Responses by persona, then question, both in the table's order."""
    responses: Responses = {}
    for row in generations.to_dict("records"):
        responses.setdefault(str(row["persona"]), {}).setdefault(str(row["question"]), []).append(
            {"text": row["text"], "tokens": row.get("tokens"), "cut": row.get("finish_reason") == "length"}
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
    environment.filters.update(
        number=number,
        p_text=p_text,
        visible=visible,
        spoken=spoken,
        nats=_nats,
        signed=_signed,
        rate=_rate,
        yes_or_no=_yes_or_no,
    )
    environment.tests["eq_itself"] = lambda value: value == value  # a number, and not NaN
    environment.tests["link"] = lambda value: isinstance(value, Link)
    environment.tests["listed"] = lambda value: isinstance(value, Sequence | set) and not isinstance(value, str | bytes)
    return environment


def _nats(value: float) -> str:
    """Three decimals, one more below 0.01, and two significant digits where those would leave less."""
    if math.isnan(value):
        return "–"
    if 0 < abs(value) < 0.001:
        return f"{value:.2g}"
    return f"{value:.4f}" if 0 < abs(value) < 0.01 else f"{value:.3f}"


def _signed(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}".replace("-", "−")


def _rate(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"


def _yes_or_no(value: Any) -> str:
    return "–" if pd.isna(value) else "yes" if value else "no"
