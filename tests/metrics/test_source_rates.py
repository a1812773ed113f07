"""Import of source rates: columns that are read, and errors that name row, column and value."""

from pathlib import Path

import pandas as pd
import pytest

from persona_assets.metrics import LeakageError, read_source_rates

PERSONAS = ["assistant", "villain", "comedian"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "rates.csv"


def test_rates_and_predictors_become_numbers_and_other_columns_are_dropped(file: Path) -> None:
    file.write_text(
        "cosine_l20,note,source_rate,persona,js,raw_js\n-1,x,0,villain,0.25,9\n1,,1.0,comedian,1e-2,9\n",
        encoding="utf-8",
    )
    expected = pd.DataFrame(
        {
            "persona": ["villain", "comedian"],
            "source_rate": [0.0, 1.0],
            "cosine_l20": [-1.0, 1.0],
            "js": [0.25, 0.01],
        }
    ).astype({"persona": "str"})
    pd.testing.assert_frame_equal(read_source_rates(file, PERSONAS), expected)


def test_only_the_used_columns_of_a_parquet_table_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "rates.parquet"
    pd.DataFrame({"persona": ["villain"], "source_rate": [0.5], "note": ["x"]}).to_parquet(path)
    assert read_source_rates(path, PERSONAS).to_dict("list") == {"persona": ["villain"], "source_rate": [0.5]}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("name,rate\nvillain,1\n", "columns persona, source_rate are missing; expected persona, source_rate"),
        ("persona,rate\nvillain,1\n", "columns source_rate are missing; expected persona, source_rate"),
        (
            "persona,source_rate\nvillain,1\npirate,1\n",
            "row 2: found 'pirate'; expected each persona of the study at most once",
        ),
        (
            "persona,source_rate\nvillain,1\ncomedian,0\nvillain,1\n",
            "row 3: found 'villain'; expected each persona of the study at most once",
        ),
        (
            "persona,source_rate\nvillain,1\ncomedian,1.001\n",
            "row 2: source_rate: found '1.001'; expected a number in [0.0, 1.0]",
        ),
        (
            "persona,source_rate\nvillain,-0.001\n",
            "row 1: source_rate: found '-0.001'; expected a number in [0.0, 1.0]",
        ),
        ("persona,source_rate\nvillain,many\n", "row 1: source_rate: found 'many'; expected a number in [0.0, 1.0]"),
        (
            "persona,source_rate,js\nvillain,1,0.1\ncomedian,1,-1.1\n",
            "row 2: js: found '-1.1'; expected a number in [-1.0, 1.0]",
        ),
        (
            "persona,source_rate,cosine_l1\nvillain,1,1.1\n",
            "row 1: cosine_l1: found '1.1'; expected a number in [-1.0, 1.0]",
        ),
    ],
)
def test_the_error_for_an_invalid_table_names_its_place(file: Path, content: str, said: str) -> None:
    file.write_text(content)
    with pytest.raises(LeakageError) as error:
        read_source_rates(file, PERSONAS)
    assert str(error.value) == f"{file}: {said}"
