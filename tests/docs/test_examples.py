"""Tests that run the examples as a reader would; none of them may import Dagster."""

import importlib.util
import itertools
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

from persona_assets.runs.run import Run

EXAMPLES = ("reading_artefacts", "js_of_two_prompts", "statistics_of_a_csv")
IMPORT_ALL = """
import importlib, sys
sys.path.insert(0, sys.argv.pop(1))
for name in sys.argv.pop(1).split():
    importlib.import_module(name)
print(sorted({name.partition(".")[0] for name in sys.modules} & {"dagster", "dagster_shared"}))
"""
FEW = ("--permutations", "100", "--resamples", "100", "--simulations", "1")


def example(repository: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, repository / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_examples_need_no_dagster(repository: Path) -> None:
    command = [sys.executable, "-c", IMPORT_ALL, str(repository / "examples"), " ".join(EXAMPLES)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_js_of_two_prompts_says_where_they_part_and_by_how_much(
    repository: Path, tiny_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(second: str) -> tuple[list[float], list[float], float]:
        arguments = ["You are a pirate.", second, "--model", str(tiny_directory), "--max-new-tokens", "6"]
        example(repository, "js_of_two_prompts").main(arguments)
        said = capsys.readouterr().out
        of_responses = [float(js) for js in re.findall(r": JS ([\d.]+) over 6 tokens", said)]
        of_tokens = [float(js) for js in re.findall(r"token +\d+ .* JS ([\d.]+)", said)]
        return of_responses, of_tokens, float(said.splitlines()[-1].split()[1])

    of_responses, of_tokens, overall = run("You are a librarian.")
    assert len(of_responses) == 2
    assert 0 < overall < 0.6931
    assert overall == pytest.approx(sum(of_responses) / 2, abs=1e-4)
    assert len(of_tokens) == 6
    assert max(of_tokens[:3]) == of_tokens[0] >= of_responses[0]
    assert run("You are a pirate.") == ([0.0, 0.0], [0.0] * 6, 0.0)


def test_statistics_of_a_csv_sets_both_views_side_by_side(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(repository / "examples" / "dyads.csv"), *FEW, "--to", str(tmp_path / "statements.parquet")]
    example(repository, "statistics_of_a_csv").main(arguments)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "28 dyads of 4 sources"
    (row,) = [line.split() for line in lines if line.startswith("spearman: leakage_rate ~ js ")]
    statements = pd.read_parquet(tmp_path / "statements.parquet").query("name == 'spearman: leakage_rate ~ js'")
    expected = [
        float(statements[statements["view"] == view].iloc[0][figure])
        for view in ("iid", "dyadic")
        for figure in ("estimate", "low", "high", "p")
    ]
    assert [float(cell) for cell in row[-8:]] == pytest.approx(expected, abs=6e-4)
    assert any("predict" in line and "leakage" in line for line in lines)


def test_statistics_of_a_csv_asks_for_what_is_missing(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("source,target,js\na,b,0.1\n")
    with pytest.raises(SystemExit, match=r"mine\.csv: columns found, total are missing"):
        example(repository, "statistics_of_a_csv").main([str(tmp_path / "mine.csv")])


def test_reading_artefacts_leads_from_a_table_to_its_texts(
    repository: Path, docs_run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    example(repository, "reading_artefacts").main([str(docs_run.home.root), "--checkpoint", "tiny"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split(":")[1].startswith(" 6 dyads")
    shown = dict(itertools.pairwise(lines))
    tables = [artefact.read() for artefact in docs_run.home.store.all("generations")]
    assert len(tables) == 3
    for table in tables:
        (line,) = [line for line in lines if line.startswith(f"{table.persona[0]} stands out most at ")]
        said = dict(zip(table.question, table.text, strict=True))
        (question,) = [question for question in said if repr(question) in line]
        assert shown[line].strip() == repr(said[question])
