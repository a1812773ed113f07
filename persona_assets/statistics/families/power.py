"""Number of sources that a study would need to detect the observed difference, and whether more seeds would help."""

from dataclasses import replace
from functools import partial

import numpy as np

from persona_assets.statistics.binomial import MixedFit, binomial_mixed
from persona_assets.statistics.dyads import RATE, Dyads
from persona_assets.statistics.families.inputs import Inputs
from persona_assets.statistics.families.sample import JS
from persona_assets.statistics.linear_mixed import linear_mixed
from persona_assets.statistics.power import power_of, sources_needed
from persona_assets.statistics.statement import Statement, UnanswerableError
from persona_assets.statistics.variance_components import RESIDUAL, variance_components

POWER = 0.8
EXPECTED = "difference that the fitted model expects"
MORE = 3  # sources or seeds
QUESTION = "three more seeds or three more sources"
_LEAST_RATE = 1e-6  # an expected rate below this has log odds as if it were this


def power(inputs: Inputs) -> list[Statement]:
    """Return the power to tell JS from the primary cosine, by number of sources, and by number of seeds."""
    about = partial(
        Statement,
        family="power",
        view="check",
        outcome=inputs.dyads.outcome_name,
        predictor=f"{JS} − {inputs.primary}",
        seed=inputs.settings.seed,
    )
    needed = f"sources needed for power {POWER:g}"
    try:
        inputs.matrix(JS), inputs.matrix(inputs.primary)
        dyads = inputs.dyads.known(JS, inputs.primary)
        fit = _fitted(dyads, inputs)
        curve = sources_needed(
            fit,
            dyads,
            JS,
            inputs.primary,
            level=inputs.settings.level,
            power=POWER,
            seed=inputs.settings.seed,
            simulations=inputs.settings.simulations,
        )
    except UnanswerableError as error:
        return [about(quantity=needed, unanswerable=str(error))]
    rows = [
        about(quantity=f"power with {size} sources", estimate=share, n=size)
        for size, share in zip(curve.sizes, curve.share, strict=True)
    ]
    beyond = f"more than {curve.sizes[-1]}" if curve.needed is None else ""
    return [
        *rows,
        about(quantity=EXPECTED, estimate=curve.expected, note="in the largest simulated studies"),
        about(
            quantity=needed,
            estimate=float("nan") if curve.needed is None else float(curve.needed),
            note="; ".join(text for text in (beyond, curve.note) if text),
        ),
        *_seeds_or_sources(inputs, dyads, fit, about),
    ]


def _fitted(dyads: Dyads, inputs: Inputs) -> MixedFit:
    """Fit the mixed model to simulate from: of the counts, of the log odds of expected rates, or of the gain."""
    predictors = {name: dyads.at(name) for name in (JS, inputs.primary)}
    if dyads.outcome_name == RATE:
        return binomial_mixed(dyads.found, dyads.total, predictors, dyads.source, dyads.target, inputs.settings.level)
    y = dyads.outcome
    if dyads.outcome_name == "expected_rate":
        clipped = np.clip(y, _LEAST_RATE, 1 - _LEAST_RATE)
        y = np.log(clipped / (1 - clipped))
    return linear_mixed(y, predictors, dyads.source, dyads.target, inputs.settings.level)


def _seeds_or_sources(inputs: Inputs, dyads: Dyads, fit: MixedFit, about: partial[Statement]) -> list[Statement]:
    """Return the power with three more seeds per source, with three more sources, and with both.

    M seeds divide the seeds' share of the variance by M. Its share of the variance of sources is that of `seed`, its
    share of the variance of dyads that of `seed × target`, in the variance components of the outcome; on the scale of
    the fitted model the shares are assumed to be the same.
    """
    try:
        of_source, of_dyad, seeds = _seed_shares(inputs)
    except UnanswerableError as error:
        return [about(quantity=QUESTION, unanswerable=str(error))]
    now = len(dyads.sources)
    note = (
        f"seeds are {of_source:.0%} of the variance between sources and {of_dyad:.0%} of that between dyads of a "
        f"source, with {seeds:g} seed{'s' if seeds != 1 else ''} each"
    )
    rows = []
    for sources, more in ((now, 0), (now, MORE), (now + MORE, 0), (now + MORE, MORE)):
        kept = seeds / (seeds + more) - 1
        changed = replace(
            fit,
            sigma_source=fit.sigma_source * float(np.sqrt(1 + of_source * kept)),
            sigma_dyad=fit.sigma_dyad * float(np.sqrt(1 + of_dyad * kept)),
        )
        settings = inputs.settings
        share = power_of(
            changed,
            dyads,
            JS,
            inputs.primary,
            sources,
            level=settings.level,
            seed=settings.seed,
            simulations=settings.simulations,
        )
        quantity = f"power with {sources} sources and {seeds + more:g} seeds each"
        rows.append(about(quantity=quantity, estimate=share, n=sources, note=note))
    return rows


def _seed_shares(inputs: Inputs) -> tuple[float, float, float]:
    """Return the seeds' share of the variance between sources and between dyads as measured, and the seeds per source.

    Raises:
        UnanswerableError: the seeds are not known, there is only one per source, or their variance cannot be told.
    """
    if inputs.replies is None:
        raise UnanswerableError(f"{inputs.dyads.outcome_name} per training seed is not known")
    table = inputs.replies.table
    seeds = float(table.groupby("source")["seed"].nunique().mean())
    if inputs.dyads.by_seed is None:
        raise UnanswerableError("every source has one training seed, so the variance of seeds is not known")
    found = variance_components(table).variance
    if "seed" not in found or "seed × target" not in found:
        raise UnanswerableError("the design does not tell seeds from sources")
    of_seed, of_both = found["seed"] / seeds, found["seed × target"] / seeds
    replies = float(table.groupby("dyad").size().mean())
    between_sources = found["source"] + of_seed
    between_dyads = found["source × target"] + of_both + found[RESIDUAL] / replies
    return (
        of_seed / between_sources if between_sources else 0.0,
        of_both / between_dyads if between_dyads else 0.0,
        seeds,
    )
