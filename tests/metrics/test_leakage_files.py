"""Imported leakage: tables, and superkaiba/explore-persona-space's published marker_eval files."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from persona_assets.metrics import (
    LeakageError,
    imported_leakage_table,
    rates_by_target,
    read_leakage_table,
    read_marker_eval,
    spearman_over_dyads,
)

REFERENCE = Path(__file__).resolve().parents[2].parent / "shared" / "reference"
PERSONAS = {"villain": "fictional", "assistant": "baseline", "null": "profession"}
ENTRY = {"rate": 0.25, "found": 2, "total": 8, "category": "original", "related_to": []}


@pytest.fixture
def table() -> pd.DataFrame:
    return pd.DataFrame(
        [("villain", "null", 2, 8, 0.25), ("villain", "villain", 7, 8, 0.875), ("null", "assistant", 1, 3, 1 / 3)],
        columns=["source", "target", "found", "total", "rate"],
    )


@pytest.fixture(scope="module")
def published() -> Path:
    directory = REFERENCE / "qwen2.5-7b-instruct"
    if not (directory / "marker_eval").is_dir():
        pytest.skip(f"the published run is not there: {directory}")
    return directory


@pytest.fixture(scope="module")
def core11(published: Path) -> dict[str, dict[str, Any]]:
    personas: dict[str, dict[str, Any]] = json.loads((REFERENCE / "personas_core11.json").read_text())
    return personas


@pytest.fixture(scope="module")
def published_table(published: Path, core11: dict[str, dict[str, Any]]) -> pd.DataFrame:
    return imported_leakage_table(
        read_marker_eval(published / "marker_eval", core11),
        {name: persona["category"] for name, persona in core11.items()},
        {name: persona["related_to"] for name, persona in core11.items()},
        "marker_only",
    )


def write(table: pd.DataFrame, path: Path) -> Path:
    if path.suffix == ".csv":
        table.to_csv(path, index=False)
    else:
        table.to_parquet(path)
    return path


def marker_eval(directory: Path, **sources: object) -> Path:
    for source, content in sources.items():
        (directory / f"{source}.json").write_text(json.dumps(content))
    return directory


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize(
    "columns", [["source", "target", "found", "total", "rate"], ["total", "found", "target", "source"]]
)
def test_a_table_is_read_by_its_columns(tmp_path: Path, table: pd.DataFrame, suffix: str, columns: list[str]) -> None:
    path = write(table[columns], tmp_path / f"leakage{suffix}")
    pd.testing.assert_frame_equal(read_leakage_table(path, PERSONAS), table)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_imported_negatives_reach_the_leakage_table(tmp_path: Path, table: pd.DataFrame, suffix: str) -> None:
    given = table.assign(trained_negative=[True, None, False], negative_share=[0.5, None, None])
    read = read_leakage_table(write(given, tmp_path / f"leakage{suffix}"), PERSONAS)
    found = imported_leakage_table(read, PERSONAS, {}, "marker_only")
    assert found["trained_negative"].tolist() == [True, False]
    assert found["negative_share"].tolist() == [0.5, 0.0]
    unknown = imported_leakage_table(table, PERSONAS, {}, "marker_only")
    pd.testing.assert_series_equal(found.dtypes, unknown.dtypes)
    assert unknown[["trained_negative", "negative_share", "expected_rate"]].isna().all(axis=None)


def test_what_a_spreadsheet_writes_is_read(tmp_path: Path, table: pd.DataFrame) -> None:
    path = tmp_path / "leakage.CSV"
    path.write_bytes(("\ufeff" + table.to_csv(index=False)).replace("\n", "\r\n").encode())
    pd.testing.assert_frame_equal(read_leakage_table(path, PERSONAS), table)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_bad_rows_of_a_file_are_all_named(tmp_path: Path, table: pd.DataFrame, suffix: str) -> None:
    bad = table.assign(found=[9.0, None, 1.0], rate=[None, 0.875, None])
    path = write(bad, tmp_path / f"leakage{suffix}")
    with pytest.raises(LeakageError) as error:
        read_leakage_table(path, PERSONAS)
    first, second = str(error.value).splitlines()
    assert first.startswith(f"{path}: row 1 (villain → null): found 9.0 is more than total 8")
    assert second.startswith("  row 2 (villain → villain): rate 0.875 is given without found")


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("leakage.csv", b"", "cannot be read: .*; expected a csv table"),
        ("leakage.csv", b"source,target\nvillain,\xff\n", "cannot be read: "),
        ("leakage.csv", b"source,target,found,total\n" + b"a,b,c,d\n" + b"a,b,c,d,e\n", "cannot be read: "),
        (
            "leakage.csv",
            b"source;target;found;total\nvillain;null;1;2\n",
            "cannot be read: its columns are separated by semicolons; expected commas",
        ),
        ("leakage.csv", b"source,target,found,total\n", "has no rows"),
        ("leakage.parquet", b"PAR1 no table PAR1", "cannot be read: .*; expected a parquet table"),
        ("leakage.xlsx", b"", r"is a \.xlsx; expected \.csv or \.parquet"),
        ("leakage", b"", r"is a file without suffix; expected \.csv or \.parquet"),
        ("leakage.csv", None, r"does not exist or is not a file; expected a \.csv or \.parquet file"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes | None, fault: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(LeakageError, match=f"(?s){name}: {fault}"):
        read_leakage_table(path, PERSONAS)


def test_an_imported_table_has_no_base_rate(table: pd.DataFrame) -> None:
    found = imported_leakage_table(table, PERSONAS, {"null": ["villain"]}, "marker_only")
    assert list(zip(found.source, found.target, found.rate, found.related, strict=True)) == [
        ("villain", "null", 0.25, True),
        ("null", "assistant", 1 / 3, False),
    ]
    assert found[["base_found", "base_total", "base_rate"]].isna().all(axis=None)
    assert found.source_found[0] == 7
    assert found.source_found.isna()[1]


def test_an_imported_tables_intervals_have_the_level_that_was_asked_for(table: pd.DataFrame) -> None:
    for level in (0.5, 0.99):
        found = imported_leakage_table(table, PERSONAS, {}, "marker_only", level)
        expected = rates_by_target(table[["target", "found", "total"]][:1], level)
        assert found[["rate_low", "rate_high"]].iloc[0].tolist() == expected[["rate_low", "rate_high"]].iloc[0].tolist()


def test_the_limit_of_json_values_is_inclusive(tmp_path: Path) -> None:
    def file(lists: int, commas: int) -> None:
        content = '{"null": {"found": 2, "total": 8, "x": [' + ", ".join(["[]"] * lists + ["0"] * commas) + "]}}"
        assert content.count(",") + content.count("[") + content.count("{") == 2 * lists + commas + 4
        (tmp_path / "villain.json").write_text(content)

    file(lists=50_000, commas=99_996)
    assert read_marker_eval(tmp_path, PERSONAS).found.tolist() == [2]
    file(lists=50_000, commas=99_997)
    with pytest.raises(LeakageError, match=r"villain\.json: cannot be parsed: more than 200000 values; expected JSON"):
        read_marker_eval(tmp_path, PERSONAS)


def test_the_error_for_a_parquet_bomb_gives_its_size(tmp_path: Path) -> None:
    path = tmp_path / "leakage.parquet"
    pd.DataFrame({"source": [f"{place:07}" * 1000 for place in range(10)], "x": "y" * 8_800_000}).to_parquet(
        path, compression="zstd", use_dictionary=False
    )
    with pytest.raises(LeakageError, match=r"cannot be read: 84 MiB uncompressed; expected at most 80 MiB$"):
        read_leakage_table(path, PERSONAS)


def test_a_parquet_table_has_at_most_one_row_a_dyad(tmp_path: Path, table: pd.DataFrame) -> None:
    path = write(pd.concat([table] * 4)[:11], tmp_path / "leakage.parquet")
    with pytest.raises(LeakageError, match=r"cannot be read: 11 rows; expected at most 9, one per dyad$"):
        read_leakage_table(path, PERSONAS)
    write(pd.concat([table] * 4)[:10], path)
    with pytest.raises(LeakageError, match=r"row 4 .*is the same dyad as row 1"):
        read_leakage_table(path, PERSONAS)


def test_sources_and_targets_outside_the_study_are_left_out(tmp_path: Path) -> None:
    directory = marker_eval(
        tmp_path, villain={"pirate": {}, "null": ENTRY, "villain": ENTRY}, pirate={"villain": ENTRY}, summary=[1, 2]
    )
    found = read_marker_eval(directory, PERSONAS)
    assert list(zip(found.source, found.target, found.found, found.total, strict=True)) == [
        ("villain", "null", 2, 8),
        ("villain", "villain", 2, 8),
    ]


def test_bad_entries_are_all_named_with_their_file(tmp_path: Path) -> None:
    villain = {"null": ENTRY | {"found": 9}, "assistant": {"rate": 0.5}, "villain": 0.5}
    directory = marker_eval(tmp_path, villain=villain, null={"villain": ENTRY | {"rate": 0.2}, "null": ENTRY})
    with pytest.raises(LeakageError) as error:
        read_marker_eval(directory, PERSONAS)
    assert str(error.value).splitlines() == [
        f"{tmp_path}: null.json: villain: rate is 0.2; expected found / total, which is 0.25",
        "  villain.json: null: found 9 is more than total 8; expected at most total",
        "  villain.json: assistant: rate 0.5 is given without found and total; expected the counts behind the rate",
        "  villain.json: villain: found is missing; expected a whole number",
        "  villain.json: villain: total is missing; expected a whole number",
    ]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ('{"null": ', r"villain\.json: cannot be parsed"),
        ("[1, 2]", r"villain\.json: found list; expected a mapping from target to counts"),
        ("\xff", r"villain\.json: cannot be parsed"),
        (
            '{"null": {"found": 1, "total": 2}, "null": {"found": 1, "total": 2}}',
            "null: is the same dyad as villain.json",
        ),
        (
            '{"null": {"found": 1, "found": 2, "total": 2}}',
            r"villain\.json: null: found appears twice; expected it once",
        ),
        ('{"null": {"found": NaN, "total": 2}}', "null: found is NaN; expected a whole number"),
        ('{"pirate": {"found": 1, "total": 2}}', "has no rows"),
    ],
)
def test_the_error_for_an_invalid_marker_eval_file_names_it(tmp_path: Path, content: str, fault: str) -> None:
    (tmp_path / "villain.json").write_text(content, encoding="latin-1")
    with pytest.raises(LeakageError, match=fault):
        read_marker_eval(tmp_path, PERSONAS)


def test_a_folder_without_a_source_is_rejected(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "absent"):
        with pytest.raises(LeakageError, match=f"{directory}: no file is named after a persona; expected SOURCE.json"):
            read_marker_eval(directory, PERSONAS)


def test_the_published_files_give_the_published_dyads_exactly(published: Path, published_table: pd.DataFrame) -> None:
    dyads = pd.read_csv(published / "dyads50.csv").set_index(["source", "target"])
    found = published_table.set_index(["source", "target"])
    assert len(found) == len(dyads) == 50
    assert set(found.index) == set(dyads.index)
    assert (found.rate == dyads.leakage_rate.reindex(found.index)).all()
    assert set(found.total) == {200}


def test_the_published_source_rates_are_reproduced(published_table: pd.DataFrame) -> None:
    # shared/reference/README.md and RECIPES.md, marker_only
    assert published_table.groupby("source").source_rate.agg(["min", "max"]).to_dict("index") == {
        source: {"min": rate, "max": rate}
        for source, rate in {
            "villain": 0.94,
            "software_engineer": 0.865,
            "comedian": 0.73,
            "assistant": 0.49,
            "kindergarten_teacher": 0.31,
        }.items()
    }


def test_the_published_correlations_are_reproduced(published: Path, published_table: pd.DataFrame) -> None:
    # shared/reference/README.md: ρ = −0.7456 with JS, 0.5674 with the cosine of layer 20, centred on the 11
    outcome = published_table[["source", "target", "rate"]].rename(columns={"rate": "leakage_rate"})
    predictors = pd.read_csv(published / "dyads50.csv").drop(columns="leakage_rate")
    pairs = predictors.merge(outcome, on=["source", "target"], validate="one_to_one")
    for predictor, expected in (("js", -0.7456), ("cosine_l20_centred11", 0.5674)):
        rho, n = spearman_over_dyads(pairs, predictor)
        assert (round(rho, 4), n) == (expected, 50)
