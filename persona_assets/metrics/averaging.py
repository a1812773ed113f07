"""Averages of per-response divergences: one mean per pair for each generator subset, with bootstrap intervals."""

import numpy as np
import xarray as xr
from numpy.typing import NDArray

GENERATOR_SUBSETS = ("all", "pair", "source", "target", "others")
# In designs where only some personas generate, these subsets mean "every generator" and are named after the design.
GIVEN = ("landmarks", "sources")
_DIMS = ("generator", "question", "persona", "other")


def average_over_responses(values: xr.DataArray, generators: str = "all", unscored: bool = False) -> xr.DataArray:
    """Return the mean over responses, each with equal weight.

    Args:
        values: dims (generator, question, persona, other) in any order: the mean over one response's tokens for every
            (persona, other), in nats. persona and other have the same names, in any order; generator has the same names
            or a subset. +inf is allowed; a pair that no response covers is NaN.
        generators: whose responses count for the pair (persona, other). `all`: every persona's; `pair`: those of the
            two; `source`: only persona's; `target`: only other's; `others`: every persona's except the two;
            `landmarks` or `sources`: every available generator's. `all`, `pair` and `others` are rejected if some
            personas generated nothing, because pairs would then be averaged over different sets of generators.
        unscored: whether a response may be NaN for every pair, because it was not scored. It is then left out.

    Returns:
        Dims (persona, other), float64, in the order of `persona`; NaN where no generator is left (`others` with two
        personas).

    Raises:
        ValueError: the subset is unknown or rejected, dims are wrong, names differ, or a response is missing (NaN).
    """
    responses, names, places = _responses(values, unscored)
    counted = _counted(len(names), places, generators)
    if _is_unscored(responses).any():
        total, count = _sums_and_counts(responses, counted)
        return _matrix(_ratio(total.sum(axis=0), count.sum(axis=0)), names)
    return _matrix(_question_means(responses, counted).mean(axis=0), names)


def bootstrap_over_questions(
    values: xr.DataArray, generators: str, resamples: int, seed: int, level: float = 0.95, unscored: bool = False
) -> tuple[xr.DataArray, xr.DataArray]:
    """Return the percentile interval of `average_over_responses` under resampling of questions (Efron 1979).

    Each resample draws the same questions for all generators, because all of them answered the same questions.

    Args:
        values, generators, unscored: as in `average_over_responses`.
        resamples: number of resamples, each of Q questions drawn with replacement.
        seed: seed of numpy's default generator; the same seed gives the same interval.
        level: coverage, within (0, 1).

    Returns:
        low, high: dims (persona, other), float64, in nats.

    Raises:
        ValueError: as in `average_over_responses`, or resamples < 1, or level outside (0, 1).
    """
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}; expected at least 1")
    if not 0.0 < level < 1.0:
        raise ValueError(f"level is {level}; expected a coverage within (0, 1), such as 0.95")
    responses, names, places = _responses(values, unscored)
    counted, questions = _counted(len(names), places, generators), responses.shape[1]
    draws = np.random.default_rng(seed).multinomial(questions, np.full(questions, 1.0 / questions), size=resamples)
    weights = draws / questions
    tails = np.array([0.5 - level / 2, 0.5 + level / 2])
    # One row of the matrix at a time limits memory to resamples × K.
    if _is_unscored(responses).any():
        total, count = _sums_and_counts(responses, counted)
        ratios = (_ratio(_weighted(weights, total[:, i]), weights @ count[:, i]) for i in range(len(names)))
        intervals = np.stack([_known_quantiles(each, tails) for each in ratios], axis=1)
    else:
        means = _question_means(responses, counted)
        intervals = np.stack([_quantiles(_weighted(weights, means[:, i]), tails) for i in range(len(names))], axis=1)
    return _matrix(intervals[0], names), _matrix(intervals[1], names)


def _responses(values: xr.DataArray, unscored: bool = False) -> tuple[NDArray[np.float64], list[str], NDArray[np.int_]]:
    """Return the values as (G, Q, K, K) with both persona axes in the order of `persona`, the names, and the
    generators' indices among them.
    """
    if set(values.dims) != set(_DIMS) or values.sizes["question"] < 1:
        raise ValueError(f"values have dims {dict(values.sizes)}; expected {_DIMS} and at least one question")
    names: list[str] = []
    for dim in ("persona", "other", "generator"):
        if dim not in values.coords:
            raise ValueError(f"dimension {dim} has no coordinate; expected the personas' names as its coordinate")
        found = [str(name) for name in values.coords[dim].values]
        names = names or found
        strangers = not set(found) <= set(names) if dim == "generator" else set(found) != set(names)
        if len(set(found)) != len(found) or strangers:
            raise ValueError(f"dimension {dim} names {found}; expected each of {names} once, as in dimension persona")
    writers = [name for name in names if name in set(map(str, values["generator"].values))]
    values = values.sel(generator=writers, other=names).transpose(*_DIMS)
    responses = np.asarray(values.values, dtype=np.float64)
    absent: NDArray[np.bool_] = np.isnan(responses)
    blank = _is_unscored(responses)
    in_part = (absent & ~absent.all(axis=(0, 1))).any(axis=(2, 3))
    missing = np.argwhere((in_part & ~blank) if unscored else (in_part | blank))
    if len(missing):
        generator, question = missing[0]
        where = f"generator {writers[generator]}, question {values['question'].values[question]}"
        raise ValueError(f"{where}: value is missing ({len(missing)} responses in total); expected every response")
    return responses, names, np.array([names.index(name) for name in writers])


def _counted(personas: int, places: NDArray[np.int_], generators: str) -> NDArray[np.bool_]:
    """Return whether the g-th generator counts for the pair (i, j), shape (G, K, K)."""
    if generators in ("all", "pair", "others") and len(places) < personas:
        raise ValueError(
            f"generators is {generators!r}, but only {len(places)} of {personas} personas generated responses; "
            f"expected one of source, target, {', '.join(GIVEN)}"
        )
    _, i, j = np.indices((len(places), personas, personas))
    g = places[:, None, None]
    subsets: dict[str, NDArray[np.bool_]] = {
        **dict.fromkeys(("all", *GIVEN), i >= 0),
        "pair": (g == i) | (g == j),
        "source": g == i,
        "target": g == j,
        "others": (g != i) & (g != j),
    }
    if generators not in subsets:
        raise ValueError(f"generators is {generators!r}; expected one of {', '.join(GENERATOR_SUBSETS + GIVEN)}")
    return subsets[generators]


def _is_unscored(responses: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which responses have no value at all, shape (G, Q)."""
    return np.asarray(np.isnan(responses).all(axis=(2, 3)))


def _sums_and_counts(
    responses: NDArray[np.float64], counted: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the sum over the scored responses that count, and their number, each (Q, K, K)."""
    used = counted[:, None] & ~_is_unscored(responses)[:, :, None, None]
    return np.where(used, responses, 0.0).sum(axis=0), used.sum(axis=0, dtype=np.float64)


def _ratio(total: NDArray[np.float64], count: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return means from sums and counts; NaN where nothing was counted."""
    means: NDArray[np.float64] = np.where(count > 0, total / np.where(count > 0, count, 1.0), np.nan)
    return means


def _question_means(responses: NDArray[np.float64], counted: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the mean over the generators that count, (Q, K, K); every question has equally many of them."""
    # Select instead of multiplying by 0 or 1: 0 · inf is NaN, and KL may be +inf.
    total = np.where(counted[:, None], responses, 0.0).sum(axis=0)
    count = counted.sum(axis=0)
    means: NDArray[np.float64] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return means


def _weighted(weights: NDArray[np.float64], means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return weights (R, Q) @ means (Q, K), where 0 · inf = 0 and a mean that includes inf is inf."""
    infinite = np.isposinf(means)
    averages: NDArray[np.float64] = weights @ np.where(infinite, 0.0, means)
    averages[weights @ infinite.astype(np.float64) > 0] = np.inf
    return averages


def _quantiles(samples: NDArray[np.float64], levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return linearly interpolated quantiles over axis 0, as numpy.quantile, but inf (not NaN) between two inf."""
    ordered = np.sort(samples, axis=0)
    place = levels * (len(ordered) - 1)
    below = ordered[np.floor(place).astype(int)]
    above = ordered[np.ceil(place).astype(int)]
    with np.errstate(invalid="ignore"):
        between = below + (above - below) * (place % 1.0)[:, None]
    quantiles: NDArray[np.float64] = np.where(below == above, below, between)
    return quantiles


def _known_quantiles(samples: NDArray[np.float64], levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return `_quantiles` of each column's samples that are not NaN; a resample may contain no scored response."""
    found = np.full((len(levels), samples.shape[1]), np.nan)
    for column, values in enumerate(samples.T):
        if len(known := values[~np.isnan(values)]):
            found[:, column] = _quantiles(known[:, None], levels)[:, 0]
    return found


def _matrix(values: NDArray[np.float64], names: list[str]) -> xr.DataArray:
    return xr.DataArray(values, dims=("persona", "other"), coords={"persona": names, "other": names})
