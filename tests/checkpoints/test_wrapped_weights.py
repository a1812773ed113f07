"""Weights that were saved from inside a wrapper are refused at registration, with the wrapper's name."""

from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from persona_assets.checkpoints import Checkpoint, CheckpointError, check_complete


def renamed(directory: Path, rename: Callable[[str], str]) -> Checkpoint:
    file = directory / "model.safetensors"
    save_file({rename(name): weight for name, weight in load_file(file).items()}, file, {"format": "pt"})
    return Checkpoint(name="tiny", path=directory)


@pytest.mark.parametrize(
    ("rename", "expected"),
    [
        (lambda name: f"_orig_mod.{name}", r"found _orig_mod\. of torch\.compile in the name.*save `model\._orig_mod`"),
        (lambda name: f"module.{name}", r"found module\. of DistributedDataParallel or DeepSpeed"),
        (lambda name: f"module._orig_mod.{name}", r"found _orig_mod\. of torch\.compile"),
        (lambda name: name.replace(".mlp.", "._fsdp_wrapped_module.mlp."), r"found _fsdp_wrapped_module\. of FSDP"),
        (lambda name: name.replace("q_proj.", "q_proj.base_layer."), "found a LoRA layer inside the model.*--adapter"),
    ],
    ids=["compiled", "parallel", "both", "fsdp", "lora"],
)  # fmt: skip
def test_names_of_a_wrapper_are_refused(tiny_directory: Path, rename: Callable[[str], str], expected: str) -> None:
    with pytest.raises(CheckpointError, match=expected) as refused:
        check_complete(renamed(tiny_directory, rename))
    assert refused.value.final  # waiting for more files does not help


def test_the_models_own_names_are_accepted(tiny_directory: Path) -> None:
    check_complete(renamed(tiny_directory, str))
