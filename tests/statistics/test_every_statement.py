"""Properties of every statement: its level, its seed, and the exact texts that describe its method.

The texts are pinned in `tests/fixtures/statements.json`, because readers cite them; # is a number with a decimal point.
After an intended change, regenerate them with `python -m tests.statistics.test_every_statement`.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from persona_assets.statistics import infer, verdict

WORDS = Path(__file__).resolve().parents[1] / "fixtures" / "statements.json"
NUMBER = re.compile(r"[-+−]?\d+\.\d+(e[-+]?\d+)?")
PERSONA = re.compile(r"persona_\d|\bassistant\b")
KEY = ["name", "view", "method"]
Infer = Callable[..., pd.DataFrame]


@pytest.fixture(scope="module")
def asked(
    make_pair_table: Callable[..., pd.DataFrame], make_by_question: Callable[[pd.DataFrame], xr.DataArray]
) -> Infer:
    table = make_pair_table()
    by_question = make_by_question(table)

    def ask(**more: Any) -> pd.DataFrame:
        settings = {"permutations": 200, "resamples": 200, "simulations": 20, **more}
        return infer(table, "assistant", by_question=by_question, **settings)

    return ask


# Not module-scoped: mutmut maps tests to functions only if each test calls the function itself.
@pytest.fixture
def statements(asked: Infer) -> pd.DataFrame:
    return asked()


def test_every_interval_has_the_requested_level(asked: Infer, statements: pd.DataFrame) -> None:
    narrow = asked(level=0.8)
    assert set(narrow["level"].dropna()) == {0.8}
    both = statements.merge(narrow, on=KEY, suffixes=("", "_narrow"), validate="one_to_one")
    both = both[both["low"].notna()]
    assert len(both) == statements["low"].notna().sum() == narrow["low"].notna().sum() > 130
    wrong = ~((both["low"] < both["low_narrow"]) & (both["high_narrow"] < both["high"]))
    assert both.loc[wrong, KEY].to_numpy().tolist() == []


def test_exactly_the_statements_with_a_seed_change_with_it(asked: Infer, statements: pd.DataFrame) -> None:
    other = asked(seed=7)
    assert (set(statements["seed"].dropna()), set(other["seed"].dropna())) == ({42}, {7})
    numbers = ["estimate", "low", "high", "p"]
    same = np.isclose(statements[numbers], other[numbers], rtol=0, atol=0, equal_nan=True).all(axis=1)
    without = statements["seed"].isna()
    assert statements.loc[without & ~same, KEY].to_numpy().tolist() == []
    assert (~same).sum() > 30


def test_the_requested_numbers_of_resamples_are_used(asked: Infer) -> None:
    rows = asked(permutations=150, resamples=120, simulations=10)
    drawn = rows.loc[rows["resamples"].notna(), ["method", "resamples"]]
    for told, count in ((r"random 150 permutations", 150), (r"two-way bootstrap .* 120 resamples", 120)):
        of_kind = drawn[drawn["method"].str.contains(told) & ~drawn["method"].str.contains("3,125")]
        assert len(of_kind) > 1
        assert set(of_kind["resamples"]) == {count}


def words(statements: pd.DataFrame) -> list[list[str]]:
    """Return distinct rows of quantity, view, method, structure, reference, note, then the verdict and its rules."""
    columns = ["quantity", "view", "method", "structure", "reference", "note"]
    rows = statements[columns].map(lambda text: NUMBER.sub("#", PERSONA.sub("PERSONA", text))).drop_duplicates()
    found = verdict(statements)
    rules = [[rule.name, rule.because] for rule in found.rules] + [["verdict", found.words]]
    return [*rows.to_numpy().tolist(), *([name, NUMBER.sub("#", text)] for name, text in rules)]


def test_the_texts_of_every_statement_are_pinned(statements: pd.DataFrame) -> None:
    assert words(statements) == json.loads(WORDS.read_text(encoding="utf-8"))


if __name__ == "__main__":
    from tests.statistics import conftest

    made = conftest._pair_table()
    found = infer(
        made, "assistant", by_question=conftest._by_question(made), permutations=200, resamples=200, simulations=20
    )
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in words(found))
    WORDS.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
