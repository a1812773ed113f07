"""Order of the checkpoints in a comparison, and which one each is compared with."""

import math
from pathlib import Path

from persona_assets.checkpoints import Checkpoint
from persona_assets.runs.drift_inputs import in_order

BASE = Checkpoint(name="base", path=Path("/models/base"))


def adapter(name, series="run7", step=None, base="/models/base"):
    return Checkpoint(name=name, path=Path(base), adapter=Path(f"/runs/{name}"), series=series, step=step)


def rows(checkpoints, bases=None):
    table = in_order(checkpoints, bases or {})
    assert list(table.columns) == ["checkpoint", "series", "step", "previous"]
    return {row.checkpoint: (row.series, row.step, row.previous) for row in table.itertuples()}


def test_a_series_starts_at_the_base_of_its_adapters_and_is_sorted_by_training_step():
    found = rows([adapter("b", step=16), BASE, adapter("c", step=100), adapter("a", step=8)])
    assert list(found) == ["base", "a", "b", "c"]
    assert found["base"] == ("run7", 0.0, None)
    assert found["a"] == ("run7", 8.0, "base")
    assert found["b"] == ("run7", 16.0, "a")
    assert found["c"] == ("run7", 100.0, "b")


def test_a_series_of_full_models_starts_at_the_base_that_the_watch_names():
    models = [Checkpoint(name=n, path=Path(f"/runs/{n}"), series="full", step=s) for n, s in (("m1", 10), ("m2", 20))]
    assert rows([BASE, *models])["m1"][2] is None
    found = rows([BASE, *models], {"full": "base"})
    assert found["base"] == ("full", 0.0, None)
    assert (found["m1"][2], found["m2"][2]) == ("base", "m1")


def test_a_base_shared_by_two_series_belongs_to_neither_and_both_are_compared_with_it():
    found = rows([BASE, adapter("x", "run1", 5), adapter("y", "run2", 5)])
    series, step, previous = found["base"]
    assert (series, previous) == ("", None)
    assert math.isnan(step)
    assert (found["x"][2], found["y"][2]) == ("base", "base")


def test_unrelated_models_are_not_compared_with_one_another():
    others = [Checkpoint(name=name, path=Path(f"/models/{name}")) for name in ("qwen", "llama")]
    assert all(previous is None for _, _, previous in rows(others).values())


def test_a_base_that_was_not_measured_is_not_compared_with():
    found = rows([adapter("a", step=8), adapter("b", step=16)], {"run7": "base"})
    assert (found["a"][2], found["b"][2]) == (None, "a")


def test_adapters_without_a_step_are_compared_with_their_base():
    found = rows([BASE, adapter("a"), adapter("b")])
    assert (found["a"][2], found["b"][2]) == ("base", "base")


def test_the_order_of_registration_does_not_affect_the_comparison():
    checkpoints = [BASE, adapter("a", step=8), adapter("b", step=16)]
    assert rows(checkpoints) == rows(checkpoints[::-1])
