"""Sizes are read from config.json as Transformers reads them: class defaults and other names included."""

import json
from pathlib import Path
from typing import Any

import pytest

from persona_assets.checkpoints import CheckpointError
from persona_assets.checkpoints.model_sizes import model_sizes

# What Gemma 3's published text_config holds.
GEMMA = {"hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text", "num_hidden_layers": 34}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"model_type": "gpt2", "n_layer": 3, "n_embd": 32, "vocab_size": 259}, (3, 32, 259)),
        ({"model_type": "falcon", "n_layer": 3, "hidden_size": 32, "vocab_size": 259}, None),
        ({"model_type": "bloom", "n_layer": 3, "hidden_size": 32, "vocab_size": 259}, (3, 32, 259)),
        ({"model_type": "gemma3", "text_config": GEMMA}, (34, 2560, 262_208)),
    ],
)
def test_sizes_that_are_left_out_or_named_otherwise(
    tmp_path: Path, config: dict[str, Any], expected: tuple[int, ...] | None
) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config))
    sizes = model_sizes(file, config)
    assert expected is None or tuple(sizes.values()) == expected
    assert all(type(size) is int for size in sizes.values())


def test_complete_sizes_are_read_without_transformers(tmp_path: Path) -> None:
    config = {"model_type": "unknown", "num_hidden_layers": 3, "hidden_size": 32, "vocab_size": 259}
    assert model_sizes(tmp_path / "absent.json", config) == {"blocks": 3, "hidden": 32, "vocabulary": 259}


def test_an_unknown_architecture_is_refused_by_name(tmp_path: Path) -> None:
    file, config = tmp_path / "config.json", {"model_type": "strange", "auto_map": {"AutoConfig": "own.Config"}}
    file.write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"found 'strange'; expected an architecture .*\(auto_map\) is not run"):
        model_sizes(file, config)
