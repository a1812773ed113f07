"""Units of heavy assets: one per training seed, stored where earlier versions stored a single seed."""

from pathlib import Path

import pytest

from persona_assets.checkpoints import Checkpoint, DigestCache, Identity, identify
from persona_assets.files.digest import digest_of
from persona_assets.graph.resources import Gpu
from persona_assets.runs.units import partition_inputs, parts_of, unit_inputs
from persona_assets.study import Study
from persona_assets.study.files import load_study

STUDY = load_study()


def with_seeds(*seeds: int) -> Study:
    assert STUDY.marker is not None
    training = STUDY.marker.training.model_copy(update={"seeds": seeds})
    return STUDY.model_copy(update={"marker": STUDY.marker.model_copy(update={"training": training})})


@pytest.fixture
def identity(tiny_directory: Path, tmp_path: Path) -> Identity:
    return identify(Checkpoint(name="mine", path=tiny_directory), DigestCache(tmp_path / "digests.json"))


def adapters(study: Study, identity: Identity) -> dict[str, str]:
    """Unit → fingerprint of the adapters of villain."""
    units = unit_inputs(study, "marker_adapter", "villain", identity, Gpu(device="cpu"), {}, {})
    return {unit: digest_of(made_from) for unit, made_from in units.items()}


def test_a_seed_among_others_has_the_fingerprint_of_that_seed_alone(identity: Identity) -> None:
    several = adapters(with_seeds(42, 137), identity)
    assert list(several) == ["villain@42", "villain@137"]
    assert several["villain@42"] == adapters(STUDY, identity)["villain"]
    assert several["villain@137"] == adapters(with_seeds(137), identity)["villain"], "all personas are negatives"


def test_a_partition_of_several_seeds_names_its_parts(identity: Identity) -> None:
    study = with_seeds(42, 137)
    units = unit_inputs(study, "marker_adapter", "villain", identity, Gpu(device="cpu"), {}, {})
    whole = partition_inputs(study, "marker_adapter", "villain", units)
    assert parts_of("villain", digest_of(whole), whole) == adapters(study, identity)
    assert whole["study"]["recipe"]["training"]["seeds"] == [42, 137]


def test_rates_of_a_seed_are_made_from_its_own_adapter(identity: Identity) -> None:
    study = with_seeds(42, 137)
    upstream = adapters(study, identity)
    units = unit_inputs(study, "marker_rates", "villain", identity, Gpu(device="cpu"), upstream, {})
    assert {unit: made_from["upstream"] for unit, made_from in units.items()} == upstream
