"""How much of what a correlation lacks is measurement error: of JS by its questions, of rates by their replies."""

from functools import partial

import numpy as np
from numpy.typing import NDArray

from persona_assets.statistics.families.asked import Asked
from persona_assets.statistics.families.sample import JS, OUTCOME, Sample, answered
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

_MANY = 2000  # dyads from which on fewer draws are taken
_FEW_DRAWS = 300


def measurement_error(asked: Asked) -> list[Statement]:
    """Intervals of JS's ρ with questions and replies drawn again, and what a study without that noise would find."""
    about = partial(Statement, family="noise", outcome=OUTCOME, predictor=JS)
    try:
        noisy = _Noisy(asked)
    except UnanswerableError as error:
        return [about(quantity="spearman with measurement error", view="dyadic", unanswerable=str(error))]
    about = partial(about, n=noisy.sample.dyads.n, seed=asked.settings.seed)
    rows = [
        answered(partial(about, quantity="spearman with measurement error"), "iid", noisy.alone),
        answered(partial(about, quantity="spearman with measurement error"), "dyadic", noisy.with_sources),
    ]
    try:
        of_js, of_rates = noisy.reliabilities()
        corrected, share = explained_by_noise(noisy.estimate, of_js, of_rates)
    except UnanswerableError as error:
        return [*rows, about(quantity="reliability", view="check", unanswerable=str(error))]
    attenuation = "Spearman 1904, Am. J. Psychol. 15, 72–101; the cosine's own error is not in the table"
    return [
        *rows,
        about(quantity="reliability of JS", view="check", estimate=of_js, note="over questions, of ranks"),
        about(quantity="reliability of leakage", view="check", estimate=of_rates, note="over replies, of ranks"),
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

    def __init__(self, asked: Asked) -> None:
        if JS not in asked.looks:
            raise UnanswerableError("the pair table holds no js")
        if asked.by_question is None:
            raise UnanswerableError("JS of single questions is not known")
        known = asked.dyads.known(JS)
        dyads = known.keep(np.isfinite(known.found) & np.isfinite(known.total))
        if not dyads.n:
            raise UnanswerableError("only rates are known and not their counts")
        self.sample = Sample(dyads, (JS,), asked.settings)
        draws = asked.settings.resamples if dyads.n < _MANY else _FEW_DRAWS
        by_question = asked.by_question[:, dyads.source, dyads.target]
        self.x = question_draws(by_question, draws, asked.settings.seed)
        self.y = rate_draws(dyads.found, dyads.total, draws, asked.settings.seed + 1)

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
        """Each draw of questions and replies meets one resample of the sources."""
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
            reliability(dyads.rate, self.y, "spearman"),
        )
