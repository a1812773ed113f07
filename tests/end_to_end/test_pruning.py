"""Room on the disk: what is deleted, what stays, and what comes back when it is needed."""

import shutil
from dataclasses import replace

import dagster as dg
import pytest

from persona_assets.graph.home import Home
from persona_assets.graph.provenance import HEAVY
from persona_assets.runs.staleness import to_do
from persona_assets.store.artefacts import ArtefactError
from persona_assets.upkeep.retention import prunable, prune
from tests import commands
from tests.end_to_end.conftest import CHECKPOINT, with_study


@pytest.fixture
def run(small_run, tmp_path):
    """A copy of the measured instance."""
    home = Home(shutil.copytree(small_run.home.root, tmp_path / "home"))
    with dg.DagsterInstance.from_config(str(home.root)) as instance:
        yield with_study(replace(small_run, instance=instance, home=home), small_run.study)


def everything(home):
    return {path.relative_to(home.root) for path in (home.root / "artefacts").rglob("*") if path.is_file()}


def test_the_command_says_first_what_it_would_delete(run):
    before = everything(run.home)

    def command(*options):
        done = commands.run(["-m", "persona_assets.cli", "prune", *options], {"DAGSTER_HOME": str(run.home.root)})
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    said = command("--keep", "0")
    assert f"{CHECKPOINT}: generations, 3 artefacts" in said
    assert f"{CHECKPOINT}: marker_adapter, 1 artefact," in said
    assert "use --delete to delete them" in said
    assert everything(run.home) == before
    assert "freed" in command("--keep", "0", "--delete")
    gone = before - everything(run.home)
    assert {path.parts[1] for path in gone} == {*HEAVY, "base_replies", "base_log_probs"}
    assert not any(path.suffix == ".json" for path in gone if len(path.parts) == 3)
    assert command("--keep", "0").splitlines()[-1] == "would free    0.0 MiB"


def test_the_last_checkpoints_and_whatever_has_their_weights_keep_everything(run):
    assert prunable(run.instance, run.home, 1) == ([CHECKPOINT], [])
    run.home.registry.add("newer", {"path": "elsewhere"})  # the same weights would count, other ones do not
    kept, doomed = prunable(run.instance, run.home, 1)
    assert kept == ["newer"]
    assert {each.checkpoints for each in doomed} == {(CHECKPOINT,)}
    assert {each.artefact.asset for each in doomed} == {*HEAVY, "base_replies", "base_log_probs"}


def test_pruned_artefacts_count_as_current_and_come_back_when_something_is_made_from_them(run):
    _, doomed = prunable(run.instance, run.home, 0)
    assert prune(run.home, doomed) == sum(each.size for each in doomed) > 0
    staleness = run.staleness()
    assert set(staleness["generations"].values()) == {"pruned"}
    assert set(staleness["report"].values()) == {"current"}
    assert run.is_pruned()
    assert run.materialise() == []
    (report,) = (run.home.root / "artefacts" / "report").glob("*/report.html")
    assert report.stat().st_size > 10_000
    gone = next(each.artefact for each in doomed if each.artefact.asset == "generations")
    with pytest.raises(ArtefactError, match=r"was pruned at .*; materialise generations again"):
        run.home.store.get("generations", gone.fingerprint).read()

    # Another way to average needs every logit_js again; only then are they computed, and they are what they were.
    def averaged_otherwise(spec):
        is_matrix = spec.key == dg.AssetKey("logit_js_matrix")
        return spec.replace_attributes(code_version="another average") if is_matrix else spec

    averaged = replace(run, defs=run.defs.map_asset_specs(func=averaged_otherwise))
    assert {"generations", "logit_js", "logit_js_matrix"} <= to_do(averaged.staleness())
    assert averaged.materialise_job("measure_personas")
    assert set(averaged.staleness()["logit_js"].values()) == {"current"}
    for each in doomed:
        if each.artefact.asset in ("generations", "centroids"):
            again = run.home.store.get(each.artefact.asset, each.artefact.fingerprint)
            assert (again.sha256, again.pruned) == (each.artefact.sha256, None)
