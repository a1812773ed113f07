"""Captions of the leakage figures, by the outcome that they show."""

import pandas as pd

from persona_assets.presentation.figures.leakage_cells import (
    base_text,
    negatives_known,
    outcome_of_leakage,
    trained_negatives,
)
from persona_assets.presentation.figures.leakage_heatmap import recipe_names
from persona_assets.presentation.figures.leakage_scatter import DYADS_NOT_INDEPENDENT
from persona_assets.presentation.layout.outcomes import EXPECTED, GAIN, OUTCOMES, SAMPLED, Outcome

# In the report's order. A figure of another than the study's outcome has `_<outcome>` behind its name.
LEAKAGE_FIGURES = (
    "leakage_against_predictors",
    "leakage_by_source",
    "leakage_heatmap",
    "reliability",
    "variance_components",
    "layer_profile",
    "coupling",
    "specification_curve",
    "influence",
)

_DEFINITIONS = {
    SAMPLED: "Leakage rate: the share of the target’s sampled replies that contain the marker (found / total) after a "
    "LoRA adapter was trained to write it as the source.",
    EXPECTED: "Expected rate: the probability that the marker follows the target’s own replies, written without an "
    "adapter, once a LoRA adapter is applied that was trained to write it as the source; mean over questions and "
    "replies.",
    GAIN: "Gain in log-probability (nats): ln P(marker) after the target’s own replies, written without an adapter, "
    "with the LoRA adapter that was trained to write it as the source, minus the same without it; mean over questions "
    "and replies.",
}
_INTERVALS = {SAMPLED: "Wilson 95 % intervals of found / total"} | dict.fromkeys(
    (EXPECTED, GAIN), "95 % intervals, bootstrap over questions and, if there are several, training seeds"
)
# `{…}` are filled in by `leakage_caption`.
_CAPTIONS = {
    "leakage_heatmap": (
        "{definition} One row per source and one column per target, both in the order of the JS matrix; outlined cells "
        "are sources on themselves. {negatives}The report’s table of dyads lists the interval of every value ({bars})."
    ),
    "leakage_against_predictors": (
        "{definition} One point per dyad, against JS and against the cosine of the two centroids that the verdict is "
        "about. Colour and shape show the source; its value on itself is in the legend and not plotted. Bars: {bars}. "
        "Line: {line} through all dyads. Band: uncertainty of the line due to the choice of sources (95 %, jackknife "
        "over sources); it is not a prediction interval for dyads. Above: ρ with its interval and p, treating dyads as "
        "independent (iid) and accounting for shared personas (dyadic)."
    ),
    "leakage_by_source": (
        "{definition} One panel per source and predictor: the source’s dyads in colour, all others in grey, and "
        "Spearman’s ρ within the source. Bars: {bars}. With one dyad per target, a single ρ is uncertain; what matters "
        "is whether the sources agree."
    ),
    "reliability": (
        "How well each outcome agrees with itself: correlation over dyads between two halves of the questions, "
        "extended to all questions (Spearman–Brown); intraclass correlation over training seeds, where a source has "
        "several; and what remains if both kinds of error are subtracted. Beside it, if known: Spearman’s ρ with JS "
        "(sign flipped) and with the cosine that the verdict is about, as measured (hollow) and corrected for "
        "attenuation (filled). The correction covers the error of the outcome, not that of the predictors."
    ),
    "variance_components": (
        "Variance of the marker’s log-probability behind single replies, split by a mixed model with crossed random "
        "effects (Henderson’s first method). Sources, targets and their "
        "combinations are what the study is about; training seeds, questions and replies are error, and averaging over "
        "more of them reduces it. “Not separable here”: the data have one level of it per level of another effect."
    ),
    "layer_profile": (
        "Spearman’s ρ of leakage ({name}) with the cosine of the two centroids at each layer, one line per centring "
        "population, and ρ with JS (sign flipped). Bars and band: dyadic 95 % intervals. They are wide, and the layer "
        f"with the highest ρ among several is partly selected by chance. {DYADS_NOT_INDEPENDENT}"
    ),
    "coupling": (
        "Each point is a persona that a marker was trained into. The panels show its source rate (the rate on itself) "
        "against its JS and its cosine to the baseline, and these two against each other, with Pearson’s r in both "
        "views. All personas are compared with the same baseline; another baseline could give other values."
    ),
    "specification_curve": (
        "Correlation of leakage ({name}) with JS and with every cosine, for every defensible coefficient, subset of "
        "dyads and choice of generators, sorted. The ticks below show the choices of each point. The sign of JS is "
        f"flipped: positive values mean that more similar personas leak more. {DYADS_NOT_INDEPENDENT}"
    ),
    "influence": (
        "Spearman’s ρ of leakage ({name}) with JS (sign flipped) and with the cosine that the verdict is about, after "
        "leaving out each source and each persona. A row far from the others means that the result depends on it. "
        f"{DYADS_NOT_INDEPENDENT}"
    ),
}


def leakage_figure(name: str) -> tuple[str, str]:
    """Split the name of a leakage figure into its kind and its outcome, "" for the study's; both "" for others."""
    for kind in LEAKAGE_FIGURES:
        rest = name.removeprefix(kind)
        if name.startswith(kind) and (not rest or rest[1:] in OUTCOMES):
            return kind, rest[1:]
    return "", ""


def is_leakage_figure(name: str) -> bool:
    """Return whether a figure of this name shows leakage."""
    return leakage_figure(name)[0] != ""


def leakage_caption(name: str, leakage_table: pd.DataFrame | None, outcome: str = "") -> str:
    """Return the caption of a leakage figure, as in `captions.caption`."""
    kind, own = leakage_figure(name)
    shown = _shown(leakage_table, own or outcome)
    text = _CAPTIONS[kind].format(
        definition=_DEFINITIONS[shown],
        bars=_INTERVALS[shown],
        line="a logistic curve" if shown.is_rate else "a straight line",
        name=shown.name,
        negatives=_negatives(leakage_table),
    )
    if leakage_table is None:
        return text
    base = f"; {base_text(leakage_table, shown)}" if shown.of_base else ""
    return f"{text} Recipe: {recipe_names(leakage_table)}{base}."


def _shown(leakage_table: pd.DataFrame | None, outcome: str) -> Outcome:
    if leakage_table is None:
        return OUTCOMES.get(outcome, SAMPLED)
    return outcome_of_leakage(leakage_table, outcome)


def _negatives(leakage_table: pd.DataFrame | None) -> str:
    if leakage_table is None:
        return ""
    if not negatives_known(leakage_table):
        return "Which targets were trained negatives is not known. "
    if not any(trained_negatives(leakage_table)):
        return ""
    return (
        "A filled corner marks trained negatives: targets whose unmarked replies were in the source’s training set, "
        "which holds their leakage down. "
    )
