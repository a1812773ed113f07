"""Architectures that cannot be measured are refused from config.json alone; the sets agree with Transformers."""

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from persona_assets.checkpoints import CheckpointError
from persona_assets.checkpoints.unsupported import ENCODER_DECODERS, ENCODERS, REASONS, require_measurable

FILE = Path("config.json")


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"model_type": "bert"}, "found 'bert'; expected a decoder of text that .*: it is an encoder"),
        ({"model_type": "t5"}, "it is an encoder-decoder"),
        ({"model_type": "unknown", "is_encoder_decoder": True}, "it is an encoder-decoder"),
        ({"model_type": "xlnet"}, "it predicts tokens in permuted order"),
        ({"model_type": "qwen2", "architectures": ["Qwen2ForSequenceClassification"]}, "architectures: found"),
    ],
)
def test_models_without_next_token_predictions_are_refused(config: dict[str, Any], expected: str) -> None:
    with pytest.raises(CheckpointError, match=expected) as refused:
        require_measurable(FILE, config)
    assert refused.value.final


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]},
        {"model_type": "bert", "is_decoder": True},
        {"model_type": "bart", "is_encoder_decoder": False, "is_decoder": True},
        {"model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"]},
    ],
)
def test_decoders_are_accepted(config: dict[str, Any]) -> None:
    require_measurable(FILE, config)


def test_every_encoder_and_encoder_decoder_among_transformers_causal_models_is_known() -> None:
    """An upgrade of Transformers that adds one fails here."""
    for kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        if kind in REASONS:
            continue
        config = AutoConfig.for_model(kind)
        assert bool(getattr(config, "is_encoder_decoder", False)) == (kind in ENCODER_DECODERS), kind
        if kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES:
            assert kind in ENCODERS | ENCODER_DECODERS, kind
