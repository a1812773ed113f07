"""A published run is imported as a checkpoint, or leaves nothing behind."""

import json
import shutil

import dagster as dg
import pytest

from persona_assets.graph.history import latest_artefacts
from persona_assets.graph.home import Home
from persona_assets.graph.partitions import CHECKPOINT, partition_key
from persona_assets.metrics import LeakageError
from persona_assets.published.files import PublishedRunError
from persona_assets.published.importing import import_published_run
from persona_assets.study.files import load_study


@pytest.fixture
def home(tmp_path, repository):
    root = tmp_path / "home"
    root.mkdir()
    shutil.copy(repository / "dagster_home" / "dagster.yaml", root)
    return Home(root)


@pytest.fixture
def instance(home):
    with dg.DagsterInstance.from_config(str(home.root)) as instance:
        yield instance


def materialisations(instance, asset):
    return instance.fetch_materializations(dg.AssetKey(asset), limit=100).records


def test_every_partition_records_the_files_it_was_imported_from(home, instance, published_files):
    brought = import_published_run(instance, home, published_files, "theirs", "assistant")
    assert brought.reported == 2 + 2 * 5
    assert instance.get_dynamic_partitions(CHECKPOINT) == ["theirs"]
    keys = [partition_key("theirs", persona) for persona in brought.study.personas]
    for asset, partitions in {"generations": keys, "logit_js": keys, "centroid_cosine": ["theirs"]}.items():
        events = [record.asset_materialization for record in materialisations(instance, asset)]
        assert sorted(event.partition for event in events) == sorted(partitions)
        for event in events:
            assert "imported" in event.description
            files = event.metadata["record"].data["made_from"]["imported"]
            assert all(len(digest) == 64 for digest in files.values())
            assert "centroids" in event.metadata["absent"].value
    assert not materialisations(instance, "centroids")


def test_imported_values_equal_those_in_the_files(home, instance, published_files):
    import_published_run(instance, home, published_files, "theirs", "assistant")
    key = partition_key("theirs", "villain")
    said = latest_artefacts(instance, home.store, "generations", [key])[key].read()
    assert said.text.tolist() == ["villain says Why?", "villain says How?", "villain says When?"]
    cosine = latest_artefacts(instance, home.store, "centroid_cosine", ["theirs"])["theirs"].read()
    assert list(cosine.population.values) == ["study", "9_personas"]


def test_the_study_contains_the_prompts_and_questions_of_the_run(home, instance, published_files):
    brought = import_published_run(instance, home, published_files, "theirs", "assistant")
    study = load_study(home.root / "studies" / "theirs.yaml")
    assert study == brought.study
    assert (study.name, study.imported, study.baseline) == ("theirs", True, "assistant")
    assert study.prompts["villain"] == "You are a villain."
    assert study.questions == ("Why?", "How?", "When?")
    assert study.leakage.is_dir()
    assert study.source_rates.is_file()
    assert home.root in study.leakage.parents  # copied, so the source folder is no longer needed


def test_importing_the_same_files_again_changes_nothing(home, instance, published_files):
    import_published_run(instance, home, published_files, "theirs", "assistant")
    assert import_published_run(instance, home, published_files, "theirs", "assistant").reported == 0
    assert len(materialisations(instance, "generations")) == 5


def test_importing_different_files_under_an_existing_name_is_rejected(home, instance, published_files):
    import_published_run(instance, home, published_files, "theirs", "assistant")
    file = published_files / "generations.json"
    file.write_text(file.read_text().replace("villain says Why?", "nothing"))
    with pytest.raises(PublishedRunError, match="this name is already used by"):
        import_published_run(instance, home, published_files, "theirs", "assistant")


@pytest.mark.parametrize("name", ["embedded", "published"])
def test_the_name_of_a_built_in_study_is_rejected(home, instance, published_files, name):
    with pytest.raises(PublishedRunError, match="expected another name after --as"):
        import_published_run(instance, home, published_files, name, "assistant")


def test_the_name_of_a_registered_checkpoint_is_rejected(home, instance, published_files, tiny_directory):
    home.registry.add("theirs", {"path": str(tiny_directory)})
    with pytest.raises(PublishedRunError, match=r"this name is already used by .*checkpoints\.yaml"):
        import_published_run(instance, home, published_files, "theirs", "assistant")


def test_a_rate_outside_0_to_1_leaves_nothing_behind(home, instance, published_files):
    file = published_files / "marker_eval" / "villain.json"
    counts = json.loads(file.read_text())
    counts["comedian"]["rate"] = 1.5
    file.write_text(json.dumps(counts))
    before = sorted(home.root.rglob("*"))
    with pytest.raises(LeakageError, match=r"villain.json: comedian: .*1\.5"):
        import_published_run(instance, home, published_files, "theirs", "assistant")
    assert sorted(path for path in home.root.rglob("*") if path not in before and "history" not in path.parts) == []
    assert instance.get_dynamic_partitions(CHECKPOINT) == []


def test_an_imported_run_cannot_be_measured(home, instance, published_files):
    import_published_run(instance, home, published_files, "theirs", "assistant")
    with pytest.raises(ValueError, match="which has no weights to measure; view it with `--study theirs`"):
        home.registry.get("theirs").directory()
