"""Per-pair values of a checkpoint's matrices, overall and by question, and their changes between two checkpoints."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr

from persona_assets.metrics.drift_questions import Floats

_BY_QUESTION = ("question", "persona", "other")
_NEGLIGIBLE = 1e-12  # smaller changes of JS (nats) or of a cosine are rounding errors


class Quantity(NamedTuple):
    """JS of every pair, or the cosine of every pair for one population and layer.

    Attributes:
        pairs: the personas of each pair.
        estimate: shape (P,), the values in the checkpoint's matrix.
        by_question: shape (Q, P), with the estimate as mean; Q is 0 if per-question values were not stored.
        questions: Q names.
    """

    pairs: list[tuple[str, str]]
    estimate: Floats
    by_question: Floats
    questions: list[str]


def js_quantity(js: xr.DataArray, place: str, order: Sequence[str], ordered: bool) -> Quantity:
    """Return the JS of every pair.

    Args:
        js: (question, persona, other), nats.
        place: prefix of error messages.
        order: names that determine which persona of a pair comes first; includes all personas.
        ordered: whether (a, b) and (b, a) are different pairs, as they are if only the source's responses count.

    Raises:
        ValueError: dims are missing, or persona and other do not have the same names, each once.
    """
    values, pairs = _by_pair(js, _BY_QUESTION, place, order, ordered)
    return Quantity(pairs, values.mean(axis=0), values, _questions(js))


def cosine_quantities(cosine: xr.Dataset, place: str, order: Sequence[str]) -> dict[str, Quantity]:
    """Return `cosine_<population>_layer<N>` of every pair, without unmeasured ones.

    A pair's values by question are its pseudo-values, shifted so that their mean is the cosine itself. They describe
    how the cosine depends on the questions, while the compared estimate remains the cosine shown elsewhere.

    Args:
        cosine: cosine (population, layer, persona, other) and optionally cosine_by_question.
        place, order: as in `js_quantity`.

    Raises:
        ValueError: as in `js_quantity`.
    """
    quantities = {}
    for population in cosine["population"].values:
        for layer in cosine["layer"].values:
            at = {"population": population, "layer": layer}
            estimate, pairs = _by_pair(cosine["cosine"].sel(at), _BY_QUESTION[1:], place, order, ordered=False)
            if np.isnan(estimate).all():
                continue
            values, questions = np.empty((0, len(pairs))), list[str]()
            if "cosine_by_question" in cosine:
                of_questions = cosine["cosine_by_question"].sel(at)
                pseudovalues, _ = _by_pair(of_questions, _BY_QUESTION, place, order, ordered=False)
                # With a single question all pseudo-values are NaN.
                if np.isfinite(pseudovalues).any():
                    values = estimate + (pseudovalues - pseudovalues.mean(axis=0))
                    questions = _questions(of_questions)
            quantities[f"cosine_{population}_layer{layer}"] = Quantity(pairs, estimate, values, questions)
    return quantities


def persona_names(values: xr.DataArray | xr.Dataset) -> list[str]:
    """Return the personas of a matrix, in its order."""
    return [str(name) for name in values["persona"].values]


def is_symmetric(js: xr.DataArray, place: str) -> bool:
    """Return whether (a, b) and (b, a) are equal up to rounding; errors as in `js_quantity`."""
    _require_labels(js, _BY_QUESTION, place)
    names = persona_names(js)
    values = js.sel(persona=names, other=names).transpose(*_BY_QUESTION).values
    return bool(np.allclose(values, values.swapaxes(1, 2), rtol=1e-5, atol=1e-9, equal_nan=True))


def changes_by_question(before: Quantity, after: Quantity, place: str) -> tuple[Floats, Floats]:
    """Return the changes from one checkpoint to the next.

    Args:
        before, after: the same quantity of both, with pairs in the same order.
        place: prefix of error messages.

    Returns:
        Changes per pair (P,), and per question and pair (Q, P) with questions matched by name; Q is 0 if either side
        has no per-question values.

    Raises:
        ValueError: the two have different personas or questions.
    """
    _require_same("personas", _flat(before.pairs), _flat(after.pairs), place)
    change = _significant(after.estimate - before.estimate)
    if not before.questions or not after.questions:
        return change, np.empty((0, len(change)))
    _require_same("questions", before.questions, after.questions, place)
    places = [after.questions.index(question) for question in before.questions]
    return change, _significant(after.by_question[places] - before.by_question)


def _require_labels(values: xr.DataArray, dims: tuple[str, ...], place: str) -> None:
    if set(values.dims) != set(dims) or not set(dims) <= set(values.coords):
        raise ValueError(f"{place}: dims are {values.dims}; expected {dims}, each with its coordinate")
    names, others = persona_names(values), [str(name) for name in values["other"].values]
    if len(set(names)) != len(names) or sorted(names) != sorted(others):
        raise ValueError(f"{place}: persona names {names} and other {others}; expected the same names, each once")


def _by_pair(
    values: xr.DataArray, dims: tuple[str, ...], place: str, order: Sequence[str], ordered: bool
) -> tuple[Floats, list[tuple[str, str]]]:
    """Return the values (..., P) of every pair, and the pairs."""
    _require_labels(values, dims, place)
    names = persona_names(values)
    known = set(names)
    shown = [name for name in order if name in known]
    matrix = np.asarray(values.sel(persona=shown, other=shown).transpose(*dims).values, dtype=np.float64)
    of_pair = ~np.eye(len(shown), dtype=bool) if ordered else np.triu(np.ones((len(shown),) * 2, dtype=bool), k=1)
    first, second = np.nonzero(of_pair)
    pairs = [(shown[i], shown[j]) for i, j in zip(first, second, strict=True)]
    return matrix[..., first, second], pairs


def _questions(values: xr.DataArray) -> list[str]:
    return [str(question) for question in values["question"].values]


def _flat(pairs: Sequence[tuple[str, str]]) -> list[str]:
    return list(dict.fromkeys(name for pair in pairs for name in pair))


def _require_same(what: str, before: Sequence[str], after: Sequence[str], place: str) -> None:
    if len(before) != len(after) or set(before) != set(after):
        gone, new = (sorted(set(one) - set(other)) for one, other in ((before, after), (after, before)))
        raise ValueError(
            f"{place}: {what} differ: {_named(gone)} only before, {_named(new)} only after; "
            f"expected the same {what} in both, each once"
        )


def _named(names: Sequence[str]) -> str:
    return f"{list(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}" if names else "none"


def _significant(changes: Floats) -> Floats:
    return np.where(np.abs(changes) < _NEGLIGIBLE, 0.0, changes)


def require_same_populations(before: Mapping[str, object], after: Mapping[str, object], place: str) -> None:
    """Require equal centring populations, because only then is a change of a cosine meaningful.

    Args:
        before, after: attributes of the two datasets; `population_<name>` lists a population's personas.
        place: prefix of error messages.

    Raises:
        ValueError: a population that both have differs.
    """
    for key in sorted(set(before) & set(after)):
        if key.startswith("population_"):
            first, second = (str(attrs[key]).split(", ") for attrs in (before, after))
            _require_same(f"personas of the centring {key.replace('_', ' ', 1)}", first, second, place)
