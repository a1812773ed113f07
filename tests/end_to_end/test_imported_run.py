"""Somebody else's files to tables, statistics and report, through the command, in an instance that has no model."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests import commands

REFERENCE = Path(__file__).resolve().parents[3] / "shared/reference/qwen2.5-7b-instruct"


@pytest.fixture
def command(tmp_path, repository, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(repository / "dagster_home" / "dagster.yaml", home)
    monkeypatch.delenv("PERSONA_ASSETS_STUDY")

    def run(*arguments: str) -> str:
        ran = commands.run(["-m", "persona_assets.cli", *arguments], {"DAGSTER_HOME": str(home)})
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    return home, run


def test_a_small_run_is_imported_materialised_and_then_current(command, published_files):
    home, run = command
    assert "5 personas × 3 questions; 12 partitions reported" in run(
        "import", "published-run", str(published_files), "--as", "theirs"
    )
    assert "theirs: 5 personas × 3 questions" in run("run", "--study", "theirs")
    assert not (home / "models").exists()
    assert "nothing to compute" in run("run", "--study", "theirs")
    status = dict(line.split(maxsplit=1) for line in run("status", "--study", "theirs").splitlines())
    assert status["partial_correlations"] == "1 current"
    assert status["generations"] == "5 current"
    assert "centroids" not in status


def test_the_published_run_of_qwen_gives_its_verdict(command):
    if not REFERENCE.is_dir():
        pytest.skip(f"the published run is not there: {REFERENCE}")
    home, run = command
    run("import", "published-run", str(REFERENCE), "--as", "qwen-published")
    said = run("run", "--study", "qwen-published")
    assert "these 5 sources cannot tell which is better (difference of |ρ| +0.18, 95% −0.12 to +0.30)" in said
    (table,) = (home / "artefacts" / "partial_correlations").glob("*.parquet")
    statements = pd.read_parquet(table).set_index(["name", "view"])
    rho = statements.loc[("spearman: leakage_rate ~ js", "iid")]
    assert (round(rho.estimate, 4), f"{rho.p:.2e}") == (-0.7456, "5.24e-10")
    (report,) = (home / "artefacts" / "report").glob("*/report.html")
    assert "cannot tell which is better" in report.read_text()
    assert report.stat().st_size < 5_000_000
