"""Architectures that cannot be measured, told from config.json alone; no weights, no PyTorch.

A persona's responses are compared token by token, so a model must read text from left to right and predict one next
token. The sets repeat what Transformers' configuration classes say; a test compares them with the installed version.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from persona_assets.checkpoints.errors import CheckpointError
from persona_assets.files.reading import shown

# Types whose configuration class says `is_encoder_decoder` by default.
ENCODER_DECODERS = frozenset({
    "bart", "bigbird_pegasus", "blenderbot", "blenderbot-small", "led", "m2m_100", "marian", "mbart", "mt5", "mvp",
    "pegasus", "pegasus_x", "plbart", "prophetnet", "switch_transformers", "t5", "t5gemma", "udop", "umt5", "whisper",
})  # fmt: skip
# Encoders, which attend to later tokens unless the configuration says `is_decoder`.
ENCODERS = frozenset({
    "bert", "bert-generation", "big_bird", "camembert", "data2vec-text", "electra", "ernie", "megatron-bert", "rembert",
    "roberta", "roberta-prelayernorm", "roc_bert", "roformer", "xlm-roberta", "xlm-roberta-xl",
})  # fmt: skip
_POSITIONS = "Transformers generates with positions that its forward pass does not have"
_STREAMS = "its blocks have several streams in place of one residual stream"
REASONS: Mapping[str, str] = {
    "camembert": _POSITIONS,
    "cpmant": "its tokenizer and prompts have a format of their own",
    "data2vec-text": _POSITIONS,
    "deepseek_v4": _STREAMS,
    "hrm_text": "its blocks are run several times, so layers have no numbers",
    "hy_v4": _STREAMS,
    "laguna": "PEFT cannot save an adapter of its experts",
    "longcat_flash": "its configuration counts two layers for each block",
    "moshi": "it predicts audio codes beside text",
    "musicgen": "it predicts audio codes, not text",
    "musicgen_melody": "it predicts audio codes, not text",
    "prophetnet": "it predicts several future tokens at once",
    "reformer": "its hashed attention depends on the length of the padded sequence",
    "roberta": _POSITIONS,
    "roberta-prelayernorm": _POSITIONS,
    "trocr": "it reads an image, not a prompt",
    "whisper": "it reads audio, not a prompt",
    "xlm": "it is an encoder of masked text that can also generate",
    "xlm-roberta": _POSITIONS,
    "xlm-roberta-xl": _POSITIONS,
    "xlnet": "it predicts tokens in permuted order",
    "xlstm": "its generation fails in Transformers",
    "xmod": "every input needs the id of its language",
}
# What a classification or embedding model's class ends with; its weights have no head that predicts tokens.
OTHER_HEADS = (
    "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering", "ForMultipleChoice", "ForMaskedLM",
    "RewardModel", "ForEmbedding",
)  # fmt: skip


def require_measurable(file: Path, config: Mapping[str, Any]) -> None:
    """Require that a model can read a prompt and predict the next token.

    Args:
        file: config.json, for the message.
        config: its content.

    Raises:
        CheckpointError: names the field, what was found, and why it cannot be measured.
    """
    kind = str(config.get("model_type", ""))
    if (why := _reason(kind, config)) is not None:
        raise CheckpointError(
            f"{file}: model_type: found {shown(kind)}; expected a decoder of text that predicts the next token: {why}",
            final=True,
        )
    classes = config.get("architectures")
    names = classes if isinstance(classes, list) else []
    if names and all(isinstance(name, str) and name.endswith(OTHER_HEADS) for name in names):
        raise CheckpointError(
            f"{file}: architectures: found {shown(names)}; expected a causal language model, since this one's weights "
            "have no head that predicts tokens",
            final=True,
        )


def _reason(kind: str, config: Mapping[str, Any]) -> str | None:
    if kind in REASONS:
        return REASONS[kind]
    if config.get("is_encoder_decoder", kind in ENCODER_DECODERS):
        return "it is an encoder-decoder"
    if kind in ENCODERS and not config.get("is_decoder"):
        return "it is an encoder, whose tokens attend to later ones (is_decoder is not set)"
    return None
