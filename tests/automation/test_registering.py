"""Registering a checkpoint from Dagster's launchpad."""

import dagster as dg
import pytest

from persona_assets.automation.registering import build_register_job
from persona_assets.checkpoints import CheckpointError
from persona_assets.graph.home import Home
from persona_assets.graph.partitions import CHECKPOINT


@pytest.fixture
def register(tmp_path):
    home = Home(tmp_path / "home")
    home.root.mkdir()
    with dg.instance_for_test() as instance:

        def run(**config):
            job = build_register_job(home)
            job.execute_in_process(instance=instance, run_config={"ops": {"register": {"config": config}}})
            return home.registry, instance.get_dynamic_partitions(CHECKPOINT)

        yield run


def test_a_checkpoint_gets_an_entry_and_a_partition(register, tiny_directory):
    registry, partitions = register(name="mine", path=str(tiny_directory), series="run7", step=500)
    assert partitions == ["mine"]
    assert (registry.get("mine").path, registry.get("mine").step) == (tiny_directory, 500)


def test_a_hub_checkpoint_that_cannot_be_inspected_is_not_registered(register, tmp_path):
    with pytest.raises(CheckpointError, match=r"somebody/model at 0{40} could not be downloaded"):
        register(name="theirs", hub="somebody/model", revision="0" * 40)
    assert Home(tmp_path / "home").registry.names() == []


def test_an_incomplete_checkpoint_is_rejected_and_not_registered(register, tiny_directory, tmp_path):
    (tiny_directory / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match="no tokenizer"):
        register(name="mine", path=str(tiny_directory))
    assert Home(tmp_path / "home").registry.names() == []
