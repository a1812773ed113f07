"""Effect of measurement error on the correlation of JS with leakage: error of JS (questions) and of the outcome.

The error of a rate is that of its replies, from the counts; that of another outcome is that of its questions.
"""

from functools import partial

import numpy as np
from numpy.typing import NDArray

from persona_assets.statistics.dyads import RATE, Dyads
from persona_assets.statistics.families.inputs import Inputs
from persona_assets.statistics.families.sample import JS, Sample, answered
from persona_assets.statistics.noise import (
    explained_by_noise,
    noise_interval,
    noisy_correlations,
    question_draws,
    rate_draws,
    reliability,
)
from persona_assets.statistics.statement import Statement, UnanswerableError
from persona_assets.statistics.weighted import correlation_matrices

Floats = NDArray[np.float64]

_MANY = 2000  # with at least this many dyads, fewer draws are taken
_FEW_DRAWS = 300


def measurement_error(inputs: Inputs) -> list[Statement]:
    """Return intervals of JS's ρ with questions and replies redrawn, and the correlation corrected for that noise.

    For an outcome other than the rate, questions are redrawn instead of replies.
    """
    about = partial(Statement, family="noise", outcome=inputs.dyads.outcome_name, predictor=JS)
    try:
        noisy = _Noisy(inputs)
    except UnanswerableError as error:
        return [about(quantity="spearman with measurement error", view="dyadic", unanswerable=str(error))]
    about = partial(about, n=noisy.sample.dyads.n, seed=inputs.settings.seed)
    rows = [
        answered(partial(about, quantity="spearman with measurement error"), "iid", noisy.alone),
        answered(partial(about, quantity="spearman with measurement error"), "dyadic", noisy.with_sources),
    ]
    try:
        of_js, of_rates = noisy.reliabilities()
        corrected, share = explained_by_noise(noisy.estimate, of_js, of_rates)
    except UnanswerableError as error:
        return [*rows, about(quantity="reliability", view="check", unanswerable=str(error))]
    attenuation = "Spearman 1904, Am. J. Psychol. 15, 72–101; no such correction is made for cosines"
    return [
        *rows,
        about(quantity="reliability of JS", view="check", estimate=of_js, note="over questions, of ranks"),
        about(
            quantity="reliability of leakage",
            view="check",
            estimate=of_rates,
            note=f"over {'replies' if inputs.dyads.outcome_name == RATE else 'questions'}, of ranks",
        ),
        about(quantity="spearman without measurement error", view="check", estimate=corrected, note=attenuation),
        about(
            quantity="share of the missing correlation that noise explains",
            view="check",
            estimate=share,
            note="(|corrected ρ| − |ρ|) / (1 − |ρ|)",
        ),
    ]


class _Noisy:
    """Draws of JS and of the rates at the dyads."""

    def __init__(self, inputs: Inputs) -> None:
        if JS not in inputs.looks:
            raise UnanswerableError("the pair table has no js column")
        if inputs.by_question is None:
            raise UnanswerableError("JS per question is not known")
        dyads, of_outcome = _measured(inputs)
        self.sample = Sample(dyads, (JS,), inputs.settings)
        draws = inputs.settings.resamples if dyads.n < _MANY else _FEW_DRAWS
        by_question = inputs.by_question[:, dyads.source, dyads.target]
        self.x = question_draws(by_question, draws, inputs.settings.seed)
        if of_outcome is None:
            self.y = rate_draws(dyads.found, dyads.total, draws, inputs.settings.seed + 1)
        else:
            self.y = question_draws(of_outcome.T, draws, inputs.settings.seed + 1)

    @property
    def estimate(self) -> float:
        self.sample.require_varying(JS)
        return float(self.sample.observed["spearman"][0, 1])

    def alone(self) -> dict[str, object]:
        samples = noisy_correlations(self.x, self.y, "spearman")
        structure = "these dyads; questions and replies vary"
        return {
            "estimate": self.estimate,
            "interval": noise_interval(samples, self.sample.settings.level, structure),
        }

    def with_sources(self) -> dict[str, object]:
        """Combine each draw of questions and replies with one resample of the sources."""
        weights = self.sample.weights(self.sample.ways[0])
        chosen = np.random.default_rng(self.sample.settings.seed).integers(len(weights), size=len(self.x))
        samples = np.array(
            [
                correlation_matrices(np.stack([y, x]), weights[place][None], "spearman")[0, 0, 1]
                for x, y, place in zip(self.x, self.y, chosen, strict=True)
            ]
        )
        structure = "sources, questions and replies vary"
        return {
            "estimate": self.estimate,
            "interval": noise_interval(samples, self.sample.settings.level, structure),
        }

    def reliabilities(self) -> tuple[float, float]:
        dyads = self.sample.dyads
        return (
            reliability(dyads.at(JS), self.x, "spearman"),
            reliability(dyads.outcome, self.y, "spearman"),
        )


def _measured(inputs: Inputs) -> tuple[Dyads, Floats | None]:
    """Return the dyads whose measurement error is known, and for an outcome other than the rate its values, (n, Q)."""
    if inputs.dyads.outcome_name == RATE:
        known = inputs.dyads.known(JS)
        dyads = known.keep(np.isfinite(known.found) & np.isfinite(known.total))
        if not dyads.n:
            raise UnanswerableError("only rates are known, not counts")
        return dyads, None
    if inputs.replies is None:
        raise UnanswerableError(f"{inputs.dyads.outcome_name} per question is not known")
    kept = np.isfinite(inputs.dyads.at(JS)) & np.isfinite(inputs.replies.by_question).all(axis=1)
    if not kept.any():
        raise UnanswerableError(f"{inputs.dyads.outcome_name} was not measured with every question in any dyad")
    return inputs.dyads.keep(kept), inputs.replies.by_question[kept]
