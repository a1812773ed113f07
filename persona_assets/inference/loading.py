"""A checkpoint in memory, on the hardware that the study chose or that is there."""

import platform
import shutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import torch

from persona_assets.checkpoints import Checkpoint, CheckpointError
from persona_assets.checkpoints.files import adapter_files, require_own_files
from persona_assets.files.reading import shortened
from persona_assets.inference.chat import Chat
from persona_assets.inference.cpu import has_onednn, keep_freed_memory, use_onednn
from persona_assets.study import StudyError
from persona_assets.study.settings import Inference


@dataclass(frozen=True)
class Hardware:
    """Where and in what arithmetic a model runs: chosen before anything is loaded.

    Attributes:
        tensor_parallel: cards that one copy of the model is spread over.
    """

    device: str
    device_name: str
    dtype: str
    attention: str
    matmul: str
    tensor_parallel: int = 1

    def environment(self) -> dict[str, str]:
        """What a number depends on beside its inputs; part of every fingerprint."""
        return {
            "device": self.device_name,
            "dtype": self.dtype,
            "attention": self.attention,
            "matmul": self.matmul,
            "torch": torch.__version__,  # says which build, which the package's metadata does not
            "transformers": version("transformers"),
            **({"tensor_parallel": str(self.tensor_parallel)} if self.tensor_parallel > 1 else {}),
        }


def choose_hardware(inference: Inference) -> Hardware:
    """CUDA in bfloat16 where there is a card, else the CPU in float32, unless the study says otherwise.

    Raises:
        StudyError: the study asks for CUDA and there is none, or for more cards than there are.
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
    """The processor's model name, as its maker writes it where the system tells."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@dataclass(frozen=True)
class LoadedModel:
    """A causal language model in memory, its tokenizer's chat template, and where it runs."""

    model: Any
    chat: Chat
    hardware: Hardware

    @property
    def device(self) -> torch.device:
        return torch.device(self.hardware.device)

    @property
    def stop_ids(self) -> list[int]:
        """Tokens that end a turn: the generation config's, and the tokenizer's own."""
        return _stop_ids(self.model.generation_config.eos_token_id, self.chat.tokenizer)

    @property
    def head_width(self) -> int:
        config = self.model.config.get_text_config()
        return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)

    @property
    def state_bytes_a_token(self) -> int:
        """Bytes of one token's keys and values in all layers."""
        config = self.model.config.get_text_config()
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        return int(2 * config.num_hidden_layers * heads * self.head_width * self.model.dtype.itemsize)

    @property
    def vocabulary(self) -> int:
        return int(self.model.config.get_text_config().vocab_size)

    def free_memory(self) -> int:
        """Bytes that are free on the device."""
        if self.hardware.device == "cuda":
            return int(torch.cuda.mem_get_info()[0])
        return int(psutil.virtual_memory().available)

    def rows_at_once(self, tokens: int) -> int:
        """Sequences of so many tokens whose keys and values fit a quarter of the memory that is free."""
        # Twice: a cache that grows is copied.
        rows = int(self.free_memory() // 4 // (2 * self.state_bytes_a_token * tokens))
        return max(1, min(256 if self.hardware.device == "cpu" else 1024, rows))

    def tokens_at_once(self, sequences: int, vocabulary_bytes: int = 12) -> int:
        """Positions whose full-vocabulary distributions of `sequences` scorers fit a tenth of the memory that is free.

        `vocabulary_bytes` are the bytes that one vocabulary entry costs while it is compared.
        """
        budget = min(self.free_memory() // 10, 2 << 30 if self.hardware.device == "cuda" else 512 << 20)
        return max(1, budget // (sequences * self.vocabulary * vocabulary_bytes))


def load_model(
    checkpoint: Checkpoint, hardware: Hardware, say: Callable[[str], None] = print, marker_adapter: Path | None = None
) -> LoadedModel:
    """Loads weights (safetensors only, no code of the checkpoint's) and merges its adapter, then a marker's, if any.

    Raises:
        CheckpointError: Transformers cannot load it, weights are missing, the adapter belongs to another model, or the
            chat template has no place for a persona.
    """
    from transformers import AutoModelForCausalLM, GenerationConfig
    from transformers.utils import logging

    logging.disable_progress_bar()  # loading is said in one line
    directory = checkpoint.directory()
    if hardware.device == "cpu":
        keep_freed_memory()
    say(f"loading {checkpoint.name} on {hardware.device_name} in {hardware.dtype}")
    chat = read_chat(checkpoint)
    try:
        model, found = AutoModelForCausalLM.from_pretrained(
            directory,
            dtype=getattr(torch, hardware.dtype),
            attn_implementation=hardware.attention,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            **_placed(hardware),
        )
    except Exception as error:  # whatever a configuration makes it stumble over
        problem = shortened(error) or type(error).__name__
        raise CheckpointError(f"{checkpoint.name}: {directory} cannot be loaded: {problem}") from error
    if missing := sorted(found["missing_keys"]):  # Transformers would make them up at random
        raise CheckpointError(
            f"{checkpoint.name}: {directory} has no weights for {missing[0]}, as for {len(missing)} in all; "
            "expected every weight that config.json asks for"
        )
    # generate() takes from here whatever a caller leaves open, and decoding is the study's: Qwen2.5's own configuration
    # carries a repetition penalty.
    model.generation_config = GenerationConfig(eos_token_id=model.generation_config.eos_token_id)
    for adapter in (checkpoint.adapter, marker_adapter):
        if adapter:
            model = _with_adapter(model, adapter, checkpoint.name)
    if hardware.tensor_parallel == 1:  # else it is where it belongs, and must not be moved
        model = model.to(hardware.device)
    model = model.eval().requires_grad_(False)
    if hardware.matmul == "onednn":
        use_onednn(model)
    loaded = LoadedModel(model, chat, hardware)
    _require_stop(loaded.stop_ids, checkpoint)
    return loaded


def _placed(hardware: Hardware) -> dict[str, Any]:
    """How Transformers is to place weights, from the files at once: on the card; or whole blocks on each of several."""
    if hardware.device == "cpu":
        return {}
    if hardware.tensor_parallel == 1:
        return {"device_map": hardware.device}
    room = {card: torch.cuda.mem_get_info(card)[0] for card in range(hardware.tensor_parallel)}
    return {"device_map": "balanced", "max_memory": room}


def save_merged(
    checkpoint: Checkpoint,
    hardware: Hardware,
    directory: Path,
    say: Callable[[str], None] = print,
    marker_adapter: Path | None = None,
) -> None:
    """Writes a checkpoint with its adapter, and a marker's, merged into it, for engines that take none beside it."""
    loaded = load_model(checkpoint, replace(hardware, matmul="torch"), say, marker_adapter)
    loaded.model.save_pretrained(directory)
    # As it was, for an engine that has the one to know that it can take the other's weights.
    shutil.copy(checkpoint.directory() / "config.json", directory)


def read_chat(checkpoint: Checkpoint) -> Chat:
    """A checkpoint's chat template and tokenizer, without its weights.

    Raises:
        CheckpointError: there is no tokenizer, or the chat template has no place for a persona.
    """
    from transformers import AutoTokenizer

    directory = checkpoint.directory()
    for place in filter(None, (directory, checkpoint.adapter)):
        require_own_files(place)  # Transformers and PEFT open whatever has the right name
    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=False)
    except Exception as error:  # whatever a damaged file makes it stumble over; `tokenizers` raises no class of its own
        raise CheckpointError(
            f"{checkpoint.name}: {directory} cannot be loaded: tokenizer: {shortened(error) or type(error).__name__}"
        ) from error
    return Chat(tokenizer, checkpoint.name)


def read_stop_ids(checkpoint: Checkpoint, chat: Chat) -> list[int]:
    """What `LoadedModel.stop_ids` are, without the weights.

    Raises:
        CheckpointError: the configuration cannot be read or names no such token.
    """
    from transformers import AutoConfig, GenerationConfig

    directory = checkpoint.directory()
    try:
        if (directory / "generation_config.json").is_file():
            generation = GenerationConfig.from_pretrained(directory)
        else:
            config = AutoConfig.from_pretrained(directory, trust_remote_code=False)  # by default it would ask
            generation = GenerationConfig.from_model_config(config)
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{checkpoint.name}: {directory} cannot be loaded: {error}") from error
    found = _stop_ids(generation.eos_token_id, chat.tokenizer)
    _require_stop(found, checkpoint)
    return found


def _stop_ids(configured: int | Sequence[int] | None, tokenizer: Any) -> list[int]:
    ids = [] if configured is None else [configured] if isinstance(configured, int) else list(configured)
    return sorted({*ids, tokenizer.eos_token_id} - {None})


def _require_stop(stop_ids: Sequence[int], checkpoint: Checkpoint) -> None:
    if not stop_ids:
        raise CheckpointError(
            f"{checkpoint.name}: {checkpoint.directory()} names no end-of-sequence token; no response would end"
        )


def _with_adapter(model: Any, adapter: Path, name: str) -> Any:
    from peft import PeftModel

    # PEFT takes pickled weights where there are no others, whatever it is asked for, and adapters of adapters.
    _, config = adapter_files(adapter)
    if config.get("peft_type") != "LORA":
        found = config.get("peft_type")
        raise CheckpointError(f"{name}: {adapter / 'adapter_config.json'}: peft_type: found {found!r}; expected 'LORA'")
    try:
        with warnings.catch_warnings():
            # PEFT only warns, and the base model would be measured as the adapter's.
            warnings.filterwarnings("error", message=".*missing adapter keys")
            return PeftModel.from_pretrained(model, str(adapter), use_safetensors=True).merge_and_unload()
    except Exception as error:  # whatever a configuration makes it stumble over
        problem = shortened(error) or type(error).__name__
        raise CheckpointError(f"{name}: adapter {adapter} cannot be put on this model: {problem}") from error
