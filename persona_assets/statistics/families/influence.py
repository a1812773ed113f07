"""Influence of single sources and personas: the results with each left out in turn."""

import numpy as np

from persona_assets.statistics.dyads import Dyads
from persona_assets.statistics.families.inputs import Inputs
from persona_assets.statistics.families.sample import JS
from persona_assets.statistics.statement import Statement, UnanswerableError
from persona_assets.statistics.weighted import correlation_matrices


def influence(inputs: Inputs) -> list[Statement]:
    """Return Spearman of JS, of the primary cosine, and their difference, without each source and each persona."""
    predictors = [name for name in (JS, inputs.primary) if name in inputs.looks]
    if not predictors:
        return []
    dyads = inputs.dyads.known(*predictors)
    rows = []
    for source in dyads.sources:
        rows += _without(dyads.keep(dyads.source != source), f"source {dyads.personas[source]}", predictors)
    for place, persona in enumerate(dyads.personas):
        if place in dyads.source or place in dyads.target:
            rows += _without(dyads.without(place), f"persona {persona}", predictors)
    return rows


def _without(left: Dyads, who: str, predictors: list[str]) -> list[Statement]:
    values = np.stack([left.outcome, *(left.at(name) for name in predictors)])
    try:
        matrix = correlation_matrices(values, np.ones((1, left.n)), "spearman")[0]
        why = ""
    except UnanswerableError as error:
        matrix, why = np.full((len(values),) * 2, np.nan), str(error)
    estimates = {name: float(matrix[0, 1 + place]) for place, name in enumerate(predictors)}
    about = {name: (f"spearman without {who}", name, value) for name, value in estimates.items()}
    if len(predictors) == 2:
        first, second = predictors
        about["difference"] = (
            f"difference of |spearman| without {who}",
            f"{first} − {second}",
            abs(estimates[first]) - abs(estimates[second]),
        )
    return [
        Statement(
            family="influence",
            quantity=quantity,
            outcome=left.outcome_name,
            predictor=predictor,
            view="check",
            estimate=value,
            n=left.n,
            unanswerable=why or ("" if np.isfinite(value) else "a variable is constant in the remaining dyads"),
        )
        for quantity, predictor, value in about.values()
    ]
