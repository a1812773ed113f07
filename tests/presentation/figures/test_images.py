"""Figures compared with reviewed reference images (`images/`).

After an intended change of a figure, review the new figure, renew the images and commit them with the change:

    RENEW_IMAGES=1 .venv/bin/python -m pytest -q tests/presentation/figures/test_images.py

If a figure differs, it is written to the test's temporary folder; the failure message has its path.
"""

import io
import os
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image, ImageFilter

from persona_assets.presentation import (
    ONE_COLUMN,
    checkpoint_drift_figure,
    cosine_heatmaps,
    coupling_panels,
    follow_curve,
    influence_figure,
    js_against_cosine,
    js_along_response,
    js_heatmap,
    layer_profile,
    leakage_against_predictors,
    leakage_by_source,
    leakage_heatmap,
    loss_curve,
    map_of_personas,
    persona_tree,
    reliability_figure,
    specification_curve,
    to_png,
    variance_components_figure,
)
from persona_assets.statistics import coupling_table, tabulate, trend
from tests.presentation.conftest import LAYERS, SOURCES, Synthetic
from tests.presentation.drift.test_figure import drift
from tests.presentation.made_statements import PRIMARY, made_reliability, made_statements

IMAGES = Path(__file__).with_name("images")
RENEW = bool(os.environ.get("RENEW_IMAGES"))
DPI = 100
BLOCK = 12  # pixels
# Root mean square difference of the worst block, out of 255, after a blur that hides anti-aliasing. The same matplotlib
# version draws identical images; a different letter gives 3, a different number 13, a moved point 40.
TOLERANCE = 2.5
# Other minor versions shift text by up to half a pixel.
MATPLOTLIB = "3.11"

pytestmark = pytest.mark.skipif(
    not matplotlib.__version__.startswith(f"{MATPLOTLIB}."),
    reason=f"the reference images need matplotlib {MATPLOTLIB}; found {matplotlib.__version__}",
)

STUDY = Synthetic(11)
STATEMENTS = made_statements(STUDY.names, LAYERS, SOURCES)
RELIABILITY = tabulate(made_reliability())
RATES = coupling_table(STUDY.leaky_pair_table, "assistant")
TRENDS = trend(STUDY.leaky_pair_table, ["js", PRIMARY])
TREE = persona_tree(STUDY.logit_js_matrix)
SHOWN = [name for name in TREE.order if name in SOURCES]


def tokens() -> pd.DataFrame:
    """Return a response of 120 tokens, some with characters that the font lacks."""
    words = [
        " a",
        " careful",
        " answer",
        "be",
        "gins",
        ",",
        "\n",
        " with",
        " patience",
        " 你",
        " and",
        " practice",
        ".",
    ]
    texts = [words[place * 7 % len(words)] for place in range(120)]
    js = np.abs(np.sin(np.arange(120) * 1.3)) ** 6 * np.linspace(0.4, 0.02, 120)
    return pd.DataFrame(
        {"persona": "villain", "other": "comedian", "question": "Why do people tell lies?", "piece": texts, "js": js}
    )


def steps() -> pd.DataFrame:
    step = np.arange(1, 41)
    return pd.DataFrame({"step": step, "loss": 3.0 / np.sqrt(step), "learning_rate": 2e-3 * np.minimum(1, step / 8)})


def followed() -> pd.DataFrame:
    rows = [
        (step, name, 0.9 / (1 + np.exp((30 + 8 * place - step) / 8)) * (1 - 0.08 * place))
        for place, name in enumerate(STUDY.names)
        for step in range(10, 101, 10)
    ]
    return pd.DataFrame(rows, columns=["step", "target", "expected_rate"])


PICTURES: dict[str, Callable[[], Figure]] = {
    "js_heatmap": lambda: js_heatmap(STUDY.logit_js_matrix),
    "js_heatmap_one_column": lambda: js_heatmap(STUDY.logit_js_matrix, ONE_COLUMN),
    "cosine_heatmaps": lambda: cosine_heatmaps(STUDY.centroid_cosine, TREE, "study"),
    "persona_map": lambda: map_of_personas(STUDY.logit_js_matrix, "assistant"),
    "js_against_cosine": lambda: js_against_cosine(STUDY.pair_table, "assistant", STATEMENTS),
    "js_along_response": lambda: js_along_response(tokens()),
    "leakage_against_predictors": lambda: leakage_against_predictors(
        STUDY.leaky_pair_table, SHOWN, [PRIMARY], STATEMENTS, TRENDS
    ),
    "leakage_against_predictors_one_column": lambda: leakage_against_predictors(
        STUDY.leaky_pair_table, SHOWN, [PRIMARY], STATEMENTS, TRENDS, ONE_COLUMN
    ),
    "leakage_by_source": lambda: leakage_by_source(STUDY.leaky_pair_table, SHOWN, PRIMARY),
    "leakage_heatmap": lambda: leakage_heatmap(STUDY.leakage_table, TREE.order),
    "layer_profile": lambda: layer_profile(STATEMENTS, PRIMARY),
    "coupling": lambda: coupling_panels(RATES, "assistant", STATEMENTS, PRIMARY),
    "specification_curve": lambda: specification_curve(STATEMENTS),
    "influence": lambda: influence_figure(STATEMENTS),
    "checkpoint_drift": lambda: checkpoint_drift_figure(*drift()),
    "loss_curve": lambda: loss_curve(steps()),
    "leakage_heatmap_log_prob_gain": lambda: leakage_heatmap(
        STUDY.full_leakage_table, TREE.order, outcome="log_prob_gain"
    ),
    "reliability": lambda: reliability_figure(RELIABILITY),
    "variance_components": lambda: variance_components_figure(RELIABILITY),
    "follow_curve": lambda: follow_curve(followed(), "software_engineer"),
}


def drawn(figure: Figure) -> Image.Image:
    """Render a figure like the stored images: small, with 256 colours."""
    with Image.open(io.BytesIO(to_png(figure, DPI))) as image:
        return image.convert("RGB").quantize(256, dither=Image.Dither.NONE)


def worst_block(one: Image.Image, other: Image.Image) -> float:
    """Return the root mean square difference of the block that differs most; 255 if sizes differ."""
    if one.size != other.size:
        return 255.0
    soft, other_soft = (
        np.asarray(image.convert("RGB").filter(ImageFilter.GaussianBlur(1)), dtype=float) for image in (one, other)
    )
    squared = ((soft - other_soft) ** 2).mean(axis=-1)
    rows, columns = (-(-side // BLOCK) * BLOCK for side in squared.shape)
    whole = np.zeros((rows, columns))
    whole[: squared.shape[0], : squared.shape[1]] = squared
    blocks = whole.reshape(rows // BLOCK, BLOCK, columns // BLOCK, BLOCK).mean(axis=(1, 3))
    return float(np.sqrt(blocks.max()))


@pytest.mark.parametrize("name", PICTURES)
def test_a_figure_matches_its_image(name: str, tmp_path: Path) -> None:
    now, kept = drawn(PICTURES[name]()), IMAGES / f"{name}.png"
    if RENEW:
        IMAGES.mkdir(exist_ok=True)
        now.save(kept, "PNG", optimize=True)
    with Image.open(kept) as before:
        if (apart := worst_block(before, now)) > TOLERANCE:
            now.save(tmp_path / f"{name}.png")
            raise AssertionError(
                f"{name}: differs from images/{kept.name} by {apart:.1f}; expected at most {TOLERANCE}. "
                f"See {tmp_path / name}.png"
            )


def one_rate_lower() -> Figure:
    table = STUDY.leaky_pair_table.copy()
    at = table["leakage_rate"].idxmax()
    table.loc[at, "leakage_rate"] -= 0.1
    return leakage_against_predictors(table, SHOWN, [PRIMARY], STATEMENTS, TRENDS)


def one_number_other() -> Figure:
    js = STUDY.logit_js_matrix.js.copy()
    for pair in (("villain", "assistant"), ("assistant", "villain")):
        js.loc[{"persona": pair[0], "other": pair[1]}] *= 1.05
    return js_heatmap(STUDY.logit_js_matrix.assign(js=js))


def one_letter_other() -> Figure:
    table = RATES.assign(persona=RATES["persona"].str.replace("villain", "villein"))
    return coupling_panels(table, "assistant", STATEMENTS, PRIMARY)


def one_correlation_other() -> Figure:
    at = (STATEMENTS["predictor"] == PRIMARY) & (STATEMENTS["quantity"] == "spearman")
    return layer_profile(STATEMENTS.assign(estimate=STATEMENTS["estimate"].where(~at, 0.46)), PRIMARY)


def other_colours() -> Figure:
    return leakage_by_source(STUDY.leaky_pair_table, SHOWN[::-1], PRIMARY)


CHANGES = {
    "leakage_against_predictors": one_rate_lower,
    "js_heatmap": one_number_other,
    "coupling": one_letter_other,
    "layer_profile": one_correlation_other,
    "leakage_by_source": other_colours,
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_small_change_is_detected(name: str) -> None:
    with Image.open(IMAGES / f"{name}.png") as before:
        assert worst_block(before, drawn(CHANGES[name]())) > TOLERANCE


def test_every_image_belongs_to_a_figure_and_all_are_small() -> None:
    kept = list(IMAGES.glob("*.png"))
    assert {path.stem for path in kept} == set(PICTURES)
    assert sum(path.stat().st_size for path in kept) < 400_000
