"""Linear models of the outcome and binomial models of the counts, with JS and cosines as predictors."""

from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

from persona_assets.statistics import weighted
from persona_assets.statistics.binomial import MixedFit, binomial_glm, binomial_mixed
from persona_assets.statistics.dyadic_errors import dyadic_ols, left_out_slopes
from persona_assets.statistics.dyads import RATE, SPOKEN
from persona_assets.statistics.families.inputs import Inputs
from persona_assets.statistics.families.sample import JS, Sample, answered
from persona_assets.statistics.jackknife import jackknife_interval, left_out_weights
from persona_assets.statistics.linear_mixed import linear_mixed
from persona_assets.statistics.nested_models import linear_model, nested_ols
from persona_assets.statistics.statement import Statement, UnanswerableError

Floats = NDArray[np.float64]

TOO_SURE = (
    "in simulations with 5 or 11 sources, tests with these errors rejected a true null in 18–24% of cases at a nominal "
    "5%, where the errors could be computed (benchmarks/results/calibration.md); use the jackknife and MRQAP instead"
)


def nested_models(inputs: Inputs) -> list[Statement]:
    """Return what JS adds to a linear model with a cosine, and vice versa, and R² of each model."""
    rows = []
    for cosine in inputs.cosines if JS in inputs.looks else ():
        sample = inputs.sample(cosine)
        for added, given in ((JS, cosine), (cosine, JS)):
            rows += _added(sample, added, given)
        for predictors in ((cosine,), (JS, cosine)):
            rows += _r_squared(sample, predictors)
    if JS in inputs.looks:
        rows += _r_squared(inputs.sample(JS), (JS,))
    return rows


def _added(sample: Sample, added: str, given: str) -> list[Statement]:
    about = partial(
        Statement,
        family="models",
        quantity="delta R²",
        outcome=sample.dyads.outcome_name,
        predictor=added,
        given=given,
        n=sample.dyads.n,
    )
    y, base, new = sample.dyads.outcome, sample.dyads.at(given)[None], sample.dyads.at(added)[None]
    places = [sample.variable(added)], [sample.variable(given)]

    def gain(matrices: Floats) -> Floats:
        return weighted.delta_r2(matrices, *places)

    def iid() -> dict[str, object]:
        sample.require_varying(added, given)
        models = nested_ols(y, base, new)
        return {
            "estimate": models.delta_r2,
            "interval": sample.bootstrap("dyads", "pearson", gain),
            "p": models.p,
            "n_effective": sample.dyads.n,
            "seed": sample.settings.seed,
            "note": f"R² {models.r2_base:.4f} → {models.r2_full:.4f}, "
            f"F({models.df_added}, {models.df_residual}) = {models.f:.2f}",
        }

    def dyadic() -> dict[str, object]:
        sample.require_varying(added, given)
        return {
            "estimate": float(gain(sample.observed["pearson"][None])[0]),
            "interval": sample.bootstrap(sample.ways[0], "pearson", gain),
            "p": sample.p_given(added, given, "pearson"),
            "seed": sample.seed,
            "note": "ΔR² is never negative, so its interval cannot show that it is 0; use p instead",
        }

    return [answered(about, "iid", iid), answered(about, "dyadic", dyadic)]


def _r_squared(sample: Sample, predictors: tuple[str, ...]) -> list[Statement]:
    about = partial(
        Statement,
        family="models",
        quantity="R²",
        outcome=sample.dyads.outcome_name,
        predictor=" + ".join(predictors),
        n=sample.dyads.n,
    )
    places = [sample.variable(name) for name in predictors]

    def share(matrices: Floats) -> Floats:
        return weighted.r_squared(matrices, places)

    def under(way: str) -> dict[str, object]:
        sample.require_varying(*predictors)
        estimate = float(share(sample.observed["pearson"][None])[0])
        return {"estimate": estimate, "interval": sample.bootstrap(way, "pearson", share), "seed": sample.seed_of(way)}

    return [
        answered(about, "iid", lambda: under("dyads")),
        answered(about, "dyadic", lambda: under(sample.ways[0])),
    ]


def slopes(inputs: Inputs) -> list[Statement]:
    """Return slopes of JS and the primary cosine in joint models: linear, and mixed with effects of source and target.

    The mixed model of the rate is binomial, of its counts; that of another outcome is linear.
    """
    if not inputs.primary or JS not in inputs.looks:
        return []
    sample = inputs.sample(inputs.primary)
    mixed = _binomial if sample.dyads.outcome_name == RATE else _mixed
    return [*_linear(sample, inputs.primary), *mixed(sample, inputs.primary)]


def _linear(sample: Sample, cosine: str) -> list[Statement]:
    dyads, level = sample.dyads, sample.settings.level
    names = (JS, cosine)
    columns = np.stack([_z(dyads.at(name)) for name in names])
    rows = []
    for place, (predictor, given) in enumerate((names, names[::-1])):
        about = partial(
            Statement,
            family="models",
            quantity=f"slope of the {SPOKEN[dyads.outcome_name]} per sd",
            outcome=sample.dyads.outcome_name,
            predictor=predictor,
            given=given,
            n=dyads.n,
        )

        def iid(place: int = place) -> dict[str, object]:
            model = linear_model(dyads.outcome, columns, level)
            return {
                "estimate": model.slopes[place],
                "interval": model.intervals[place],
                "p": model.p[place],
                "n_effective": dyads.n,
            }

        def dyadic(place: int = place, predictor: str = predictor, given: str = given) -> dict[str, object]:
            interval = jackknife_interval(
                linear_model(dyads.outcome, columns, level).slopes[place],
                left_out_slopes(dyads.outcome, columns, left_out_weights(dyads.source))[:, place],
                level,
                method=f"jackknife, delete one of {len(dyads.sources)} sources, t({len(dyads.sources) - 1})",
                structure="a source with all its dyads is one cluster",
                transform="none",
            )
            return {
                "estimate": linear_model(dyads.outcome, columns, level).slopes[place],
                "interval": interval,
                "p": sample.p_given(predictor, given, "pearson"),
                "seed": sample.seed,
            }

        def robust(place: int = place) -> dict[str, object]:
            model = dyadic_ols(dyads.outcome, columns, dyads.source, dyads.target, level)
            return {
                "estimate": model.slopes[place],
                "interval": model.intervals[place],
                "p": model.p[place],
                "note": TOO_SURE,
            }

        rows += [answered(about, "iid", iid), answered(about, "dyadic", dyadic), answered(about, "check", robust)]
    return rows


def _binomial(sample: Sample, cosine: str) -> list[Statement]:
    known = np.isfinite(sample.dyads.found) & np.isfinite(sample.dyads.total)
    dyads, level = sample.dyads.keep(known), sample.settings.level
    predictors = {name: dyads.at(name) for name in (JS, cosine)}

    def require_counts() -> None:
        if sample.dyads.n and not dyads.n:
            raise UnanswerableError("only rates are known, not counts")

    @cache
    def mixed() -> MixedFit:
        require_counts()
        return binomial_mixed(dyads.found, dyads.total, predictors, dyads.source, dyads.target, level)

    rows = []
    for predictor, given in ((JS, cosine), (cosine, JS)):
        about = partial(
            Statement,
            family="models",
            quantity="slope of the log odds per sd",
            outcome="leakage_found / leakage_total",
            predictor=predictor,
            given=given,
            n=dyads.n,
        )

        def iid(predictor: str = predictor) -> dict[str, object]:
            require_counts()
            fit = binomial_glm(dyads.found, dyads.total, predictors, level)
            return {
                "estimate": fit.slopes[predictor],
                "interval": fit.intervals[predictor],
                "p": fit.p[predictor],
            }

        def dyadic(predictor: str = predictor) -> dict[str, object]:
            fit = mixed()
            spread = f"sd of source {fit.sigma_source:.2f}, target {fit.sigma_target:.2f}, dyad {fit.sigma_dyad:.2f}"
            return {
                "estimate": fit.slopes[predictor],
                "interval": fit.intervals[predictor],
                "p": fit.p[predictor],
                "note": "; ".join(text for text in (spread, fit.note) if text),
            }

        rows += [answered(about, "iid", iid), answered(about, "dyadic", dyadic)]
    return rows


def _mixed(sample: Sample, cosine: str) -> list[Statement]:
    dyads, level = sample.dyads, sample.settings.level
    predictors = {name: dyads.at(name) for name in (JS, cosine)}

    @cache
    def fitted() -> MixedFit:
        return linear_mixed(dyads.outcome, predictors, dyads.source, dyads.target, level)

    def dyadic(predictor: str) -> dict[str, object]:
        fit = fitted()
        spread = f"sd of source {fit.sigma_source:.3g}, target {fit.sigma_target:.3g}, dyad {fit.sigma_dyad:.3g}"
        return {
            "estimate": fit.slopes[predictor],
            "interval": fit.intervals[predictor],
            "p": fit.p[predictor],
            "note": "; ".join(text for text in (spread, fit.note) if text),
        }

    rows = []
    for predictor, given in ((JS, cosine), (cosine, JS)):
        about = partial(
            Statement,
            family="models",
            quantity=f"slope of the {SPOKEN[dyads.outcome_name]} per sd",
            outcome=dyads.outcome_name,
            predictor=predictor,
            given=given,
            n=dyads.n,
        )
        rows.append(answered(about, "check", partial(dyadic, predictor)))
    return rows


def _z(values: Floats) -> Floats:
    if not len(values):
        return values
    return np.asarray((values - values.mean()) / (values.std() or 1.0))
