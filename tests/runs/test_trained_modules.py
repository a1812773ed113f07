"""The layers that a marker is trained on are part of its fingerprint where they are not the recipe's."""

from pathlib import Path

import pytest

from persona_assets.checkpoints import Checkpoint, DigestCache, Identity, identify
from persona_assets.runs.units import _trained_modules
from persona_assets.study.files import load_study


@pytest.fixture
def identity(tiny_directory: Path, tmp_path: Path) -> Identity:
    return identify(Checkpoint(name="mine", path=tiny_directory), DigestCache(tmp_path / "digests.json"))


@pytest.mark.parametrize(
    ("linear", "expected"),
    [
        (None, {}),
        ("k_proj, o_proj, q_proj, v_proj", {}),  # experts in one tensor: nothing else was or is trained
        ("down_proj, gate_up_proj, o_proj, qkv_proj", ["down_proj", "gate_up_proj", "o_proj", "qkv_proj"]),
        ("c_attn, c_fc, c_proj", ["c_attn", "c_fc", "c_proj"]),
    ],
)
def test_only_families_whose_layers_changed_get_another_fingerprint(
    identity: Identity, linear: str | None, expected: object
) -> None:
    found = _trained_modules(load_study(), identity.model_copy(update={"linear_layers": linear}))
    assert found == ({"trained_modules": expected} if expected else {})
