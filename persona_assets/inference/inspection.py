"""Inspection of a checkpoint before it is registered: how it will be measured, or why it cannot be.

Reads the configuration, the headers of weights, the tokenizer and the chat template as a run does, and builds the model
without its weights. Of a hub repository only the small files are downloaded.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from persona_assets.checkpoints import Checkpoint, CheckpointError, check_complete
from persona_assets.checkpoints.architecture import architecture_of
from persona_assets.checkpoints.files import read_weights, require_model
from persona_assets.checkpoints.json_files import json_object
from persona_assets.checkpoints.model_sizes import read_config, text_config
from persona_assets.checkpoints.other_base import other_base
from persona_assets.checkpoints.quantisation import quantisation_of
from persona_assets.checkpoints.unsupported import require_measurable
from persona_assets.files.reading import named, shortened, shown
from persona_assets.inference.adapters import require_modules
from persona_assets.inference.chat import Chat
from persona_assets.inference.chat.warnings import prompt_warnings
from persona_assets.inference.loading import read_chat, read_stop_ids
from persona_assets.inference.packed_attention import why_not_packed_family
from persona_assets.inference.scoring.choice import why_not_fused_family
from persona_assets.inference.training.lora_layers import modules_of
from persona_assets.inference.training.marker_tokens import marker_ids
from persona_assets.study import Study
from persona_assets.study.recipe import Lora
from persona_assets.study.settings import ChatSettings


@dataclass(frozen=True)
class Inspection:
    """How a checkpoint will be measured, each as a phrase for people.

    Attributes:
        model: class, number of blocks, hidden size and vocabulary.
        scoring: how responses are scored.
        attention: the attention implementation, and why if the architecture needs it.
        prompts: where the persona goes, and which template switches nobody set.
        training: which modules a marker's LoRA adapts.
        warnings: one sentence each.
    """

    model: str
    scoring: str
    attention: str
    prompts: str
    training: str
    warnings: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return the inspection as lines of a terminal."""
        facts = {name: getattr(self, name) for name in ("model", "scoring", "attention", "prompts", "training")}
        return [*(f"{name:10}{text}" for name, text in facts.items()), *(f"warning   {text}" for text in self.warnings)]


def inspect(checkpoint: Checkpoint, study: Study | None = None) -> Inspection:
    """Return how a checkpoint will be measured.

    Args:
        study: the study whose layers, template variables and recipe are checked too.

    Raises:
        CheckpointError: the checkpoint cannot be measured; names the file, the field and the reason.
        StudyError: the model does not have one of the study's layers, or its tokenizer cannot spell the marker.
    """
    check_complete(checkpoint)
    directory = checkpoint.texts()
    here = checkpoint.model_copy(update={"path": directory, "hub": None, "revision": None})
    file = directory / "config.json"
    require_model(directory)
    config = json_object(file)
    require_measurable(file, config)
    method = quantisation_of(file, config)
    model = _model_without_weights(file, config)
    if checkpoint.hub is None and method is None:
        _require_weights(model, directory)
    chat = read_chat(here).with_settings(study.chat if study else ChatSettings())
    read_stop_ids(here, chat)
    text = text_config(file)
    blocks = int(text["num_hidden_layers"])
    if study is not None and not study.imported:
        study.blocks(blocks)
        if study.marker and study.sources:
            marker_ids(
                chat, chat.prompt_ids(study.prompts[study.sources[0]], study.questions[0]), study.marker.marker.text
            )
    adapter = checkpoint.adapter or checkpoint.adapter_hub
    adapted = f", with the adapter {adapter}" if adapter else ""
    wanted = study.inference.attention if study else "sdpa"
    training, advice = _training(model, study.marker.lora if study and study.marker else Lora.model_construct())
    if (place := checkpoint.adapter_directory()) is not None:
        require_modules(model, place, checkpoint.name)
    return Inspection(
        model=f"{type(model).__name__}: {blocks} blocks of {text['hidden_size']}, "
        f"vocabulary {text['vocab_size']}{adapted}",
        scoring=_scoring(model),
        attention=_attention(text, wanted),
        prompts=_prompts(chat),
        training=training,
        warnings=(
            *prompt_warnings(chat, study.prompts if study else {}),
            *advice,
            *filter(None, [other_base(checkpoint)]),
        ),
    )


def refusal(checkpoint: Checkpoint) -> str | None:
    """Return why a checkpoint cannot be measured, in one sentence; None if it can."""
    try:
        inspect(checkpoint)
    except CheckpointError as error:
        return str(error)
    return None


def _model_without_weights(file: Path, config: Mapping[str, Any]) -> Any:
    """Return the model that a run would load, on PyTorch's meta device.

    Raises:
        CheckpointError: Transformers has no causal language model for this type, or cannot build it.
    """
    from transformers import AutoModelForCausalLM
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    read, kind = read_config(file), shown(config.get("model_type"))
    if type(read) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise CheckpointError(
            f"{file}: model_type: found {kind}; expected an architecture for which Transformers has a causal language "
            "model (AutoModelForCausalLM)",
            final=True,
        )
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(read, trust_remote_code=False)
    except Exception as error:
        raise CheckpointError(_one_line(f"{file}: Transformers cannot build this model: {_text(error)}")) from error
    if not model.can_generate():
        raise CheckpointError(f"{file}: model_type: found {kind}, which Transformers cannot generate with", final=True)
    return model


def _require_weights(model: Any, directory: Path) -> None:
    """Require the weights of the model, as far as they are stored under its own names, and as many numbers in each.

    Transformers renames, joins and transposes weights of some types while it loads them. If any name is not the
    model's, missing ones are therefore found only when it is loaded; and of shapes the number of elements is compared.
    """
    expected, stored = dict(model.named_parameters()), set()
    for file, header in zip(*read_weights(directory, "model"), strict=True):
        for name, tensor in header.content.items():
            stored.add(name)
            if name in expected and math.prod(tensor.shape) != expected[name].numel():
                raise CheckpointError(
                    f"{file}: {named(name, 200)}: found shape {list(tensor.shape)}; expected "
                    f"{list(expected[name].shape)}, as config.json says"
                )
    initialised = model._keys_to_ignore_on_load_missing or ()
    missing = [
        name for name in expected if name not in stored and not any(re.search(each, name) for each in initialised)
    ]
    if missing and stored <= expected.keys():
        raise CheckpointError(
            f"{directory} has no weights for {named(missing[0], 200)} ({len(missing)} missing in total); "
            "expected every weight that config.json requires"
        )


def _scoring(model: Any) -> str:
    architecture = architecture_of(model.config.get_text_config(decoder=True).to_dict())
    if architecture.batching == "whole":
        return f"whole sequences, one prompt at a time without a cache: {architecture.model_type} cannot be padded"
    if why := why_not_packed_family(model):
        return f"padded prompts, never packed: {why}"
    fused = " by fused kernels" if why_not_fused_family(model.config) is None else ""
    return f"padded prompts, packed{fused} on a GPU in 16 bits"


def _attention(text: Mapping[str, Any], wanted: str) -> str:
    needs = architecture_of(text)
    if needs.attention in (None, wanted):
        return wanted
    return f"{needs.attention}, because {needs.why}"


def _prompts(chat: Chat) -> str:
    role = "persona in the system role" if chat.system_role else "no system role: persona in the first user message"
    switches = ", ".join(chat.open_switches) or "none"
    return f"{role}; template switches that are not set: {switches}"


def _training(model: Any, lora: Lora) -> tuple[str, list[str]]:
    """Return the modules that a marker's adapter is trained on, and a warning if the model lacks some of a recipe's."""
    modules = modules_of(model, lora)
    if not modules.unmatched:
        return f"marker LoRA on {', '.join(modules.names)}", []
    lacking = f"marker.lora.modules: {', '.join(modules.unmatched)} match nothing in this model"
    linear = ", ".join(modules.names)
    return f"marker LoRA on all linear layers of the blocks: {linear}", [f"{lacking}, so {linear} are trained"]


def _text(error: Exception) -> str:
    return shortened(error, 500) or type(error).__name__


def _one_line(text: str) -> str:
    return " ".join(text.split())
