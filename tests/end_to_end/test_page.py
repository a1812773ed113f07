"""Dagster's page over an instance: what `persona-assets ui` serves, read through the page's own GraphQL."""

import re
import shutil
import subprocess

import dagster as dg
import pytest
import yaml

from persona_assets.graph.home import Home
from persona_assets.graph.loggers import PLAIN_LINES
from persona_assets.graph.partitions import STUDY, partition_key, split_key
from persona_assets.runs.measure_job import PART_OF, measure_config
from tests.end_to_end.served import serve, wait_until

CHECKPOINT = "tiny"
HEAVY, LIGHT = ("generations", "centroids", "logit_js"), ("logit_js_matrix", "centroid_cosine", "report")


@pytest.fixture(scope="module")
def page(measured_tiny, tmp_path_factory):
    """The page over a copy of the measured instance, with the villain's prompt changed in the study's file."""
    folder = tmp_path_factory.mktemp("page")
    home = Home(shutil.copytree(measured_tiny, folder / "home"))
    tyrant = STUDY.personas["villain"].model_copy(update={"prompt": "You are a cruel tyrant."})
    with serve(home, STUDY.model_copy(update={"personas": STUDY.personas | {"villain": tyrant}}), folder) as page:
        yield page


def test_the_page_shows_exactly_what_a_changed_prompt_made_out_of_date(page):
    villain, comedian = partition_key(CHECKPOINT, "villain"), partition_key(CHECKPOINT, "comedian")
    # The sensor reads the study's file; nobody else tells Dagster of the new prompt.
    wait_until(
        lambda: page.staleness(villain, ["generations"]) == {"generations": "STALE"},
        90,
        "the sensor reports the prompt",
    )
    assert page.staleness(villain, HEAVY) == dict.fromkeys(HEAVY, "STALE")
    assert page.staleness(comedian, HEAVY) == {"generations": "FRESH", "centroids": "FRESH", "logit_js": "STALE"}
    assert page.staleness(CHECKPOINT, ["model_checkpoint"]) == {"model_checkpoint": "FRESH"}
    # Dagster looks one edge up: tables turn stale when what they are made from has been made again.
    assert page.staleness(CHECKPOINT, LIGHT) == dict.fromkeys(LIGHT, "FRESH")


def test_one_click_brings_exactly_that_up_to_date(page):
    run_id = page.launch("measure_checkpoint", measure_config(CHECKPOINT))
    with dg.DagsterInstance.from_config(str(page.home.root)) as instance:
        children = instance.get_runs(dg.RunsFilter(tags={PART_OF: run_id}))
        computed = {
            (event.asset_key.to_user_string(), split_key(event.partition)[1])
            for run in children
            for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
            if (event := entry.dagster_event.event_specific_data.materialization).metadata.get("computed")
            and event.metadata["computed"].value
        }
    assert computed == {
        ("generations", "villain"),
        ("centroids", "villain"),
        *(("logit_js", persona) for persona in ("assistant", "villain", "comedian")),
        ("marker_adapter", "villain"),
        ("marker_log_probs", "villain"),
        ("marker_rates", "villain"),
    }
    for persona in ("assistant", "villain", "comedian"):
        assert page.staleness(partition_key(CHECKPOINT, persona), HEAVY) == dict.fromkeys(HEAVY, "FRESH")
    assert page.staleness(CHECKPOINT, LIGHT) == dict.fromkeys(LIGHT, "FRESH")


def test_other_questions_put_out_of_date_what_was_asked_them_and_nothing_else(page):
    page.edit_study(lambda study: study["questions"].__setitem__(0, "Why is the sky blue?"))
    asked = ("generations", "logit_js", "centroids", "marker_log_probs", "marker_rates")
    for persona in ("assistant", "villain", "comedian"):
        key = partition_key(CHECKPOINT, persona)
        wait_until(lambda key=key: page.staleness(key, HEAVY) == dict.fromkeys(HEAVY, "STALE"), 60, f"{key} is stale")
    villain = partition_key(CHECKPOINT, "villain")
    assert page.staleness(villain, asked) == dict.fromkeys(asked, "STALE")
    assert page.staleness(villain, ["marker_adapter"]) == {"marker_adapter": "FRESH"}  # it has questions of its own
    assert page.staleness(CHECKPOINT, ["model_checkpoint"]) == {"model_checkpoint": "FRESH"}


def test_other_weights_behind_a_name_put_out_of_date_everything_that_was_measured_on_them(page, embedded_directory):
    measured = "What are some tips for managing stress?"
    page.edit_study(lambda study: study["questions"].__setitem__(0, measured))
    villain, before = (
        partition_key(CHECKPOINT, "villain"),
        (*HEAVY, "marker_adapter", "marker_log_probs", "marker_rates"),
    )
    wait_until(lambda: page.staleness(villain, before) == dict.fromkeys(before, "FRESH"), 60, "all is as it was")

    page.home.registry.file.write_text(yaml.safe_dump({CHECKPOINT: {"path": str(embedded_directory)}}))
    page.launch("identify_checkpoint", PLAIN_LINES, **{"dagster/partition": CHECKPOINT})
    assert page.staleness(CHECKPOINT, ["model_checkpoint"]) == {"model_checkpoint": "FRESH"}
    for persona in ("assistant", "villain", "comedian"):
        assert page.staleness(partition_key(CHECKPOINT, persona), HEAVY) == dict.fromkeys(HEAVY, "STALE")
    assert page.staleness(villain, before) == dict.fromkeys(before, "STALE")


def test_the_page_listens_on_loopback_only(page):
    port = int(re.search(r":(\d+)$", page.address).group(1))
    listening = subprocess.run(["cat", "/proc/net/tcp", "/proc/net/tcp6"], capture_output=True, text=True).stdout
    addresses = {
        fields[1].split(":")[0]
        for fields in map(str.split, listening.splitlines())
        if len(fields) > 3 and fields[3] == "0A" and fields[1].endswith(f":{port:04X}")
    }
    assert addresses == {"0100007F"}
