"""Loading of checkpoints onto the hardware that the study names or that is available."""

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import torch

from persona_assets.checkpoints import Checkpoint, CheckpointError
from persona_assets.checkpoints.adapters import adapter_files
from persona_assets.checkpoints.architecture import Architecture, architecture_of
from persona_assets.checkpoints.files import chat_template, require_own_files, tokenizer_directory
from persona_assets.checkpoints.json_files import json_object
from persona_assets.checkpoints.other_base import other_base
from persona_assets.files.reading import shortened
from persona_assets.inference.adapters import merge_adapter
from persona_assets.inference.chat import Chat
from persona_assets.inference.chat.tokenizer_check import check_tokenizer, read_tokenizer
from persona_assets.inference.cpu import has_onednn, keep_freed_memory, use_onednn
from persona_assets.inference.weights import load_weights
from persona_assets.study import StudyError
from persona_assets.study.settings import Inference


@dataclass(frozen=True)
class Hardware:
    """Device and numerics that a model runs with, chosen before anything is loaded.

    Attributes:
        tensor_parallel: number of GPUs that one copy of the model is spread over.
    """

    device: str
    device_name: str
    dtype: str
    attention: str
    matmul: str
    tensor_parallel: int = 1

    def environment(self) -> dict[str, str]:
        """Return what results depend on besides their inputs; part of every fingerprint."""
        return {
            "device": self.device_name,
            "dtype": self.dtype,
            "attention": self.attention,
            "matmul": self.matmul,
            "torch": torch.__version__,  # includes the build, unlike the package metadata
            "transformers": version("transformers"),
            **({"tensor_parallel": str(self.tensor_parallel)} if self.tensor_parallel > 1 else {}),
        }


def choose_hardware(inference: Inference) -> Hardware:
    """Return the hardware to use: by default CUDA in bfloat16 if available, else the CPU in float32.

    Raises:
        StudyError: the study asks for CUDA where there is none, or for more GPUs than there are.
    """
    has_cuda = torch.cuda.is_available()
    if inference.device == "cuda" and not has_cuda:
        raise StudyError(
            "study: inference.device: found 'cuda', but PyTorch sees no CUDA device; expected 'auto' or 'cpu'"
        )
    device = "cuda" if has_cuda and inference.device != "cpu" else "cpu"
    dtype = inference.dtype if inference.dtype != "auto" else {"cuda": "bfloat16", "cpu": "float32"}[device]
    cards, asked = torch.cuda.device_count() if device == "cuda" else 0, inference.tensor_parallel
    if asked > 1 and asked > cards:
        where = f"PyTorch sees {cards} CUDA device(s)" if cards else "the model runs on the CPU"
        raise StudyError(
            f"study: inference.tensor_parallel: found {asked}, but {where}; expected at most {max(1, cards)}"
        )
    name = torch.cuda.get_device_name() if device == "cuda" else cpu_name()
    matmul = "onednn" if device == "cpu" and dtype == "float32" and has_onednn() else "torch"
    return Hardware(device, name, dtype, inference.attention, matmul, asked)


def cpu_name() -> str:
    """Return the processor's model name from /proc/cpuinfo, or what Python reports where that is missing."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@dataclass(frozen=True)
class LoadedModel:
    """Causal language model in memory, with its chat template and hardware."""

    model: Any
    chat: Chat
    hardware: Hardware

    @property
    def device(self) -> torch.device:
        return torch.device(self.hardware.device)

    @property
    def stop_ids(self) -> list[int]:
        """Tokens that end a turn, from the generation config, the tokenizer and the chat template."""
        return _stop_ids(self.model.generation_config.eos_token_id, self.chat)

    @property
    def head_width(self) -> int:
        config = self.model.config.get_text_config()
        return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)

    @property
    def state_bytes_a_token(self) -> int:
        """Return the bytes of one token's keys and values in all layers, or an upper estimate.

        Where heads vary by layer, or there are none, a token is taken to keep two vectors of the hidden size.
        """
        config = self.model.config.get_text_config()
        fields = config.to_dict()
        heads, width = fields.get("num_attention_heads"), fields.get("head_dim")
        kept = fields.get("num_key_value_heads") or heads
        if isinstance(kept, int) and isinstance(heads, int):
            kept *= width if isinstance(width, int) else config.hidden_size // heads
        else:
            kept = config.hidden_size
        return int(2 * config.num_hidden_layers * kept * self.model.dtype.itemsize)

    @cached_property
    def architecture(self) -> Architecture:
        """Return how this architecture must be run."""
        return architecture_of(self.model.config.get_text_config().to_dict())

    @property
    def vocabulary(self) -> int:
        return int(self.model.config.get_text_config().vocab_size)

    def free_memory(self) -> int:
        """Return the free memory of the device in bytes."""
        if self.hardware.device == "cuda":
            return int(torch.cuda.mem_get_info()[0])
        return int(psutil.virtual_memory().available)

    def rows_at_once(self, tokens: int) -> int:
        """Return how many sequences of `tokens` tokens have keys and values that fit a quarter of the free memory."""
        # Factor 2: a growing KV cache is copied.
        rows = int(self.free_memory() // 4 // (2 * self.state_bytes_a_token * tokens))
        return max(1, min(256 if self.hardware.device == "cpu" else 1024, rows))

    def tokens_at_once(self, sequences: int, vocabulary_bytes: int = 12) -> int:
        """Return how many positions have distributions, for all sequences, that fit a tenth of the free memory.

        Args:
            sequences: number of scorers, each with a distribution over the full vocabulary per position.
            vocabulary_bytes: memory per vocabulary entry while distributions are compared.
        """
        budget = min(self.free_memory() // 10, 2 << 30 if self.hardware.device == "cuda" else 512 << 20)
        return max(1, budget // (sequences * self.vocabulary * vocabulary_bytes))


def load_model(
    checkpoint: Checkpoint, hardware: Hardware, say: Callable[[str], None] = print, marker_adapter: Path | None = None
) -> LoadedModel:
    """Load a checkpoint and merge its adapter, then a marker's, if any.

    Only safetensors weights are read, and no code from the checkpoint runs.

    Raises:
        CheckpointError: Transformers cannot load the checkpoint, weights are missing, an adapter does not fit the
            model, or the chat template has no system role.
    """
    from transformers import GenerationConfig
    from transformers.utils import logging

    logging.disable_progress_bar()  # a single log line reports loading
    directory = checkpoint.directory()
    needs = architecture_of(json_object(directory / "config.json"))
    if needs.attention not in (None, hardware.attention):
        hardware = replace(hardware, attention=needs.attention)
        say(f"attention: {needs.attention}, because {needs.why}")
    if hardware.device == "cpu":
        keep_freed_memory()
    say(f"loading {checkpoint.name} on {hardware.device_name} in {hardware.dtype}")
    if warning := other_base(checkpoint):
        say(f"warning: {warning}")
    chat = read_chat(checkpoint)
    model = load_weights(checkpoint.name, directory, hardware)
    # Reset the defaults of generate(), since only the study may set decoding parameters; Qwen2.5's configuration
    # contains a repetition penalty.
    model.generation_config = GenerationConfig(eos_token_id=model.generation_config.eos_token_id)
    for adapter in (checkpoint.adapter_directory(), marker_adapter):
        if adapter:
            model, _ = merge_adapter(model, adapter, checkpoint.name, chat, say)
    _require_rows(checkpoint, model, chat)
    if hardware.tensor_parallel == 1:  # otherwise device_map has placed it, and it must not be moved
        model = model.to(hardware.device)
    model = model.eval().requires_grad_(False)
    if hardware.matmul == "onednn":
        use_onednn(model)
    loaded = LoadedModel(model, chat, hardware)
    _require_stop(loaded.stop_ids, checkpoint)
    return loaded


def read_chat(checkpoint: Checkpoint) -> Chat:
    """Read a checkpoint's chat template and tokenizer, without its weights; the adapter's own if it has them.

    Raises:
        CheckpointError: there is no tokenizer, it reads its tokenizer.json differently than that says, or the chat
            template fails.
    """
    directory, adapter = checkpoint.directory(), checkpoint.adapter_directory()
    for place in filter(None, (directory, adapter, checkpoint.tokenizer)):
        require_own_files(place)  # Transformers and PEFT open any file with the right name
    own = adapter_files(adapter) if adapter else None
    try:
        template = (own.chat_template if own else None) or chat_template(directory, checkpoint.tokenizer)
    except CheckpointError as error:
        raise CheckpointError(f"{checkpoint.name}: {error}") from None
    directory = tokenizer_directory(directory, checkpoint.tokenizer)
    if adapter and own and own.tokenizer:
        directory = adapter
    try:
        tokenizer = read_tokenizer(directory)
    except Exception as error:  # a damaged file can raise any exception; `tokenizers` has no exception class
        raise CheckpointError(
            f"{checkpoint.name}: {directory} cannot be loaded: tokenizer: {shortened(error) or type(error).__name__}"
        ) from error
    tokenizer.chat_template = template
    chat = Chat(tokenizer, checkpoint.name)
    check_tokenizer(tokenizer, directory, chat.prompt_text(None, "What makes a good leader?"))
    return chat


def read_stop_ids(checkpoint: Checkpoint, chat: Chat) -> list[int]:
    """Read `LoadedModel.stop_ids` without loading the weights.

    Raises:
        CheckpointError: the configuration cannot be read or names no end-of-sequence token.
    """
    from transformers import AutoConfig, GenerationConfig

    directory = checkpoint.directory()
    try:
        if (directory / "generation_config.json").is_file():
            generation = GenerationConfig.from_pretrained(directory)
        else:
            config = AutoConfig.from_pretrained(directory, trust_remote_code=False)  # the default asks interactively
            generation = GenerationConfig.from_model_config(config)
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{checkpoint.name}: {directory} cannot be loaded: {error}") from error
    found = _stop_ids(generation.eos_token_id, chat)
    _require_stop(found, checkpoint)
    return found


def _require_rows(checkpoint: Checkpoint, model: Any, chat: Chat) -> None:
    """Require an embedding for every token of an adapter's own tokenizer."""
    tokens, rows = len(chat.tokenizer), model.get_input_embeddings().weight.shape[0]
    if checkpoint.has_adapter and tokens > rows:
        raise CheckpointError(
            f"{checkpoint.name}: the tokenizer has {tokens} tokens, but the model only {rows} embeddings; expected an "
            "adapter that stores the embeddings of its additional tokens (save_embedding_layers=True in PEFT)"
        )


def _stop_ids(configured: int | Sequence[int] | None, chat: Chat) -> list[int]:
    ids = [] if configured is None else [configured] if isinstance(configured, int) else list(configured)
    return sorted({*ids, chat.tokenizer.eos_token_id, chat.turn_end_stop} - {None})


def _require_stop(stop_ids: Sequence[int], checkpoint: Checkpoint) -> None:
    if not stop_ids:
        raise CheckpointError(
            f"{checkpoint.name}: {checkpoint.directory()} names no end-of-sequence token, so no response would end; "
            "expected eos_token_id in generation_config.json, config.json or the tokenizer"
        )
