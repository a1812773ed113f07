"""A checkpoint's matrices as one number a pair and one a question and pair, and two checkpoints side by side."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr

from persona_assets.metrics.drift_questions import Floats

_BY_QUESTION = ("question", "persona", "other")
_NOTHING = 1e-12  # a smaller change of a JS in nats or of a cosine is what rounding makes


class Quantity(NamedTuple):
    """JS, or the cosine of one population and layer, of every pair.

    Attributes:
        pairs: the personas of each pair.
        estimate: shape (P,), what the checkpoint's matrix holds.
        by_question: shape (Q, P), of which the estimate is the mean; Q is 0 where nobody kept them.
        questions: Q names.
    """

    pairs: list[tuple[str, str]]
    estimate: Floats
    by_question: Floats
    questions: list[str]


def js_quantity(js: xr.DataArray, place: str, order: Sequence[str], ordered: bool) -> Quantity:
    """JS of every pair.

    Args:
        js: (question, persona, other), nats.
        place: what an error begins with.
        order: names in the order in which a pair's two are named; the personas are among them.
        ordered: whether (a, b) and (b, a) are two pairs, as they are where only the source's responses count.

    Raises:
        ValueError: dims are missing, or persona and other do not carry the same names, each once.
    """
    values, pairs = _by_pair(js, _BY_QUESTION, place, order, ordered)
    return Quantity(pairs, values.mean(axis=0), values, _questions(js))


def cosine_quantities(cosine: xr.Dataset, place: str, order: Sequence[str]) -> dict[str, Quantity]:
    """`cosine_<population>_layer<N>` of every pair; what nobody measured is left out.

    A pair's values by question are its pseudo-values, moved so that their mean is the cosine itself: what they say is
    how the cosine hangs on the questions, and the cosine that is shown everywhere stays the one that is compared.

    Args:
        cosine: cosine (population, layer, persona, other), and where kept cosine_by_question.
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
                # Of one question there are no pseudo-values, only NaN in their places.
                if np.isfinite(pseudovalues).any():
                    values = estimate + (pseudovalues - pseudovalues.mean(axis=0))
                    questions = _questions(of_questions)
            quantities[f"cosine_{population}_layer{layer}"] = Quantity(pairs, estimate, values, questions)
    return quantities


def persona_names(values: xr.DataArray | xr.Dataset) -> list[str]:
    """The personas of a matrix, in its order."""
    return [str(name) for name in values["persona"].values]


def is_symmetric(js: xr.DataArray, place: str) -> bool:
    """Whether (a, b) and (b, a) hold the same but for rounding; errors as in `js_quantity`."""
    _require_labels(js, _BY_QUESTION, place)
    names = persona_names(js)
    values = js.sel(persona=names, other=names).transpose(*_BY_QUESTION).values
    return bool(np.allclose(values, values.swapaxes(1, 2), rtol=1e-5, atol=1e-9, equal_nan=True))


def changes_by_question(before: Quantity, after: Quantity, place: str) -> tuple[Floats, Floats]:
    """What changed from one checkpoint to the next.

    Args:
        before, after: the same quantity of both, their pairs named in the same order.
        place: what an error begins with.

    Returns:
        Per pair (P,), and per question and pair (Q, P), questions matched by name; Q is 0 where one of the two lacks
        them.

    Raises:
        ValueError: the two are of different personas or questions.
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
        raise ValueError(f"{place}: dims are {values.dims}; expected {dims}, each with its names")
    names, others = persona_names(values), [str(name) for name in values["other"].values]
    if len(set(names)) != len(names) or sorted(names) != sorted(others):
        raise ValueError(f"{place}: persona names {names} and other {others}; expected the same names, each once")


def _by_pair(
    values: xr.DataArray, dims: tuple[str, ...], place: str, order: Sequence[str], ordered: bool
) -> tuple[Floats, list[tuple[str, str]]]:
    """Values (..., P) of every pair, and who they are."""
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
    return np.where(np.abs(changes) < _NOTHING, 0.0, changes)


def require_same_populations(before: Mapping[str, object], after: Mapping[str, object], place: str) -> None:
    """A cosine's change means something only if both were centred on the same personas.

    Args:
        before, after: attributes of the two datasets; `population_<name>` lists a population's personas.
        place: what an error begins with.

    Raises:
        ValueError: a population that both name differs.
    """
    for key in sorted(set(before) & set(after)):
        if key.startswith("population_"):
            first, second = (str(attrs[key]).split(", ") for attrs in (before, after))
            _require_same(f"personas of the centring {key.replace('_', ' ', 1)}", first, second, place)
