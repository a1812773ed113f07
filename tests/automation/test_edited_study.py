"""Edits of the study's file show in Dagster's page, before and after the definitions are reloaded."""

import dagster as dg
import pytest
import yaml

from persona_assets.automation.edited_study import EditedStudy
from persona_assets.graph.history import DATA_VERSION
from persona_assets.graph.home import Home
from persona_assets.graph.partitions import STUDY, partition_key
from persona_assets.graph.provenance import code_version, personas_of, study_part
from persona_assets.graph.schemas import record
from persona_assets.study.files import ENVIRONMENT_VARIABLE, load_study

CHECKPOINT = "one"


class Edited:
    """An instance with stored tables of the small study, and a study's file that tests edit."""

    def __init__(self, instance, home, file):
        self.instance, self.home, self.file = instance, home, file
        self.memory = {}
        self.loaded = load_study()

    def edit(self, change):
        content = yaml.safe_load(self.file.read_text())
        change(content)
        self.file.write_text(yaml.safe_dump(content, sort_keys=False))

    def look(self, **options):
        look = EditedStudy(self.instance, self.home, self.loaded, **options).look(self.memory)
        self.memory = look.memory
        for event in look.events:
            self.instance.report_runless_asset_event(event)
        return look

    def store(self, asset, made_from, partition):
        artefact = self.home.store.put(asset, made_from, {"number": 1}, {})
        self.instance.report_runless_asset_event(
            dg.AssetMaterialization(asset, partition=partition, metadata=record(artefact))
        )
        return artefact.fingerprint

    def compute(self, study):
        """Stores responses, their matrix and the report, with the inputs that runs record."""
        inputs = {
            asset: {
                key: self.store(asset, {"asset": asset, "study": study_part(study, asset, persona)}, key)
                for persona in personas_of(study, asset)
                for key in [partition_key(CHECKPOINT, persona)]
            }
            for asset in ("generations", "logit_js")
        }
        matrix = self.table("logit_js_matrix", study, {"logit_js": inputs["logit_js"]})
        above = {"logit_js_matrix": {CHECKPOINT: matrix}, "generations": inputs["generations"]}
        self.table("report", study, above)

    def table(self, asset, study, inputs):
        version = code_version(study, asset)
        return self.store(asset, {"asset": asset, "code_version": version, "inputs": inputs}, CHECKPOINT)


@pytest.fixture
def edited(tmp_path, monkeypatch):
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(STUDY.model_dump(mode="json"), sort_keys=False))
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(file))
    home = Home(tmp_path / "home")
    home.root.mkdir()
    home.registry.add(CHECKPOINT, {"path": str(tmp_path)})
    with dg.instance_for_test() as instance:
        edited = Edited(instance, home, file)
        edited.compute(edited.loaded)
        edited.look()
        yield edited


def checks(look):
    """Table → description of its failed check, or "" if it passed."""
    found = [event for event in look.events if isinstance(event, dg.AssetCheckEvaluation)]
    return {each.asset_key.to_user_string(): "" if each.passed else each.description for each in found}


def prompts(look):
    return {event.partition for event in look.events if isinstance(event, dg.AssetMaterialization)}


def test_nothing_is_reported_while_the_study_is_as_it_was(edited):
    look = edited.look()
    assert look.events == []
    assert look.what == "the definitions have the study as it is in its file"


def test_an_edited_prompt_is_reported_without_a_reload_and_marks_table_and_report(edited):
    edited.edit(lambda study: study["personas"]["villain"].update(prompt="You are a tyrant."))
    look = edited.look()
    assert look.what.startswith(f"study {STUDY.name} changed since the definitions were loaded: reload")
    assert prompts(look) == {"villain"}
    stale = "out of date for one; changed in the study: prompt of villain"
    assert checks(look) == {"logit_js_matrix": stale, "report": stale}
    assert edited.look().events == []  # once


def test_an_edited_question_marks_the_tables_too(edited):
    edited.edit(lambda study: study["questions"].append("Why?"))
    look = edited.look()
    assert prompts(look) == set()
    assert "questions" in checks(look)["logit_js_matrix"]


@pytest.mark.parametrize("added", [True, False])
def test_an_added_or_removed_persona_is_named(edited, added):
    names = list(STUDY.personas)

    def change(study):
        if added:
            study["personas"]["queen"] = {"prompt": "You are a queen."}
        else:
            study["personas"].pop(names[-1])

    edited.edit(change)
    look = edited.look()
    assert f"{'queen' if added else names[-1]} was {'added' if added else 'removed'}" in checks(look)["report"]
    assert prompts(look) == set()  # Dagster does not know its partition before a reload


def test_the_mark_goes_when_tables_are_computed_again_or_the_edit_is_undone(edited):
    before = edited.file.read_text()
    edited.edit(lambda study: study["personas"]["villain"].update(prompt="You are a tyrant."))
    edited.look()
    edited.compute(load_study())
    assert checks(edited.look()) == {"logit_js_matrix": "", "report": ""}
    edited.file.write_text(before)
    assert all(checks(edited.look()).values())
    edited.compute(load_study())
    assert checks(edited.look()) == {"logit_js_matrix": "", "report": ""}


def test_an_invalid_file_is_said_and_changes_nothing(edited):
    edited.file.write_text("personas: [")
    memory = edited.memory
    look = edited.look()
    assert look.what.startswith("the study's file is invalid, so the page shows the study as it was")
    assert (look.events, look.memory) == ([], memory)


def test_a_look_stops_at_its_budget_and_the_next_one_continues(edited):
    edited.edit(lambda study: study["questions"].append("Why?"))
    look = edited.look(budget=0)
    assert (checks(look), look.memory["left"]) == ({}, [CHECKPOINT])
    assert set(checks(edited.look())) == {"logit_js_matrix", "report"}


def test_the_reported_version_is_the_edited_prompts(edited):
    from persona_assets.files.digest import digest_of

    edited.edit(lambda study: study["personas"]["villain"].update(prompt="You are a tyrant."))
    (event,) = [each for each in edited.look().events if isinstance(each, dg.AssetMaterialization)]
    assert event.tags[DATA_VERSION] == digest_of("You are a tyrant.")
