"""Partitions of a run that an edited study no longer has."""

import dagster as dg
import pytest

from persona_assets.graph.home import Home
from persona_assets.graph.io_managers import build_io_manager
from persona_assets.graph.partitions import STUDY, StudyChangedError, keys_of_run, require_known_personas
from persona_assets.graph.processes import CHECKPOINT_TAG
from persona_assets.runs.attempts import failure_of

START, END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


@pytest.mark.parametrize(
    ("tags", "keys"),
    [
        ({}, []),
        ({"dagster/partition": "one"}, ["one"]),
        ({"dagster/partition": "one|villain"}, ["one|villain"]),
        ({START: "one|assistant", END: "two|villain"}, ["one|assistant", "two|villain"]),
    ],
)
def test_the_tags_of_a_run_name_its_partitions(tags, keys):
    assert keys_of_run(tags) == keys


def test_a_removed_persona_is_refused_by_name_with_what_to_do():
    require_known_personas(STUDY, ["one", "one|assistant"])
    expected = (
        f"^study {STUDY.name} changed since the definitions were loaded: it has no persona poet; "
        r"reload them in the page \(Deployment, then Reload\) and launch the run again$"
    )
    with pytest.raises(StudyChangedError, match=expected):
        require_known_personas(STUDY, ["one|assistant", "one|poet"])


def test_a_run_of_a_removed_persona_fails_with_that_sentence_and_names_its_checkpoint(tmp_path):
    @dg.op
    def read() -> None: ...

    @dg.job(resource_defs={"io_manager": build_io_manager(Home(tmp_path).store, STUDY)})
    def measure() -> None:
        read()

    with dg.instance_for_test() as instance:
        tags = {START: "one|assistant", END: "one|poet"}
        with pytest.raises(StudyChangedError):
            measure.execute_in_process(instance=instance, tags=tags)
        (run,) = instance.get_runs()
        assert run.tags[CHECKPOINT_TAG] == "one"
        assert failure_of(instance, run.run_id).startswith(
            "persona_assets.graph.partitions.StudyChangedError: study small changed since the definitions were loaded"
        )
