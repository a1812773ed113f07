"""How vLLM is started: what it is given of a card, and what it is told about a study."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from persona_assets.inference.loading import Hardware
from persona_assets.study import StudyError

# Batch sizes whose decoding is recorded as a graph; each costs a tenth of a second at the start.
_GRAPHS = (1, 2, 4, 8, 16, 32, 64, 96, 128, 160, 192, 224, 256, 320, 384, 448, 512, 768, 1024)
# Activations, graphs and what CUDA itself takes.
_ACTIVATIONS = 4 << 30


class EngineError(RuntimeError):
    """vLLM ended or did not answer; says what it printed last."""


@dataclass(frozen=True)
class Room:
    """Memory of a card: the share of it that must be free at the start, and bytes of keys and values."""

    share: float
    kv_bytes: int


def find_room(directory: Path, hardware: Hardware, memory_share: float) -> tuple[bool, Room | None]:
    """Whether the same model may be in this process beside the engine, and what is then the engine's.

    What PyTorch holds in this process counts as free: the model can be let go. On a CPU nothing is beside the engine.

    Raises:
        EngineError: the weights do not fit the card.
    """
    if hardware.device == "cpu":
        return False, None
    require_divisible(directory, hardware)
    free, total = torch.cuda.mem_get_info()
    usable = free + torch.cuda.memory_reserved() - (1 - memory_share) * total
    # Of one card; all that share a model are alike.
    weights = 1.05 * sum(file.stat().st_size for file in directory.glob("*.safetensors")) / hardware.tensor_parallel
    beside = usable - weights - _ACTIVATIONS
    is_beside = beside >= weights + 2 * _ACTIVATIONS
    kv = (beside if is_beside else usable) - weights - _ACTIVATIONS
    if kv <= 0:
        raise EngineError(
            f"vLLM needs {(weights + _ACTIVATIONS) / 2**30:.1f} GiB and some for keys and values; "
            f"{usable / 2**30:.1f} GiB of {total / 2**30:.1f} GiB are free"
        )
    return is_beside, Room(weights / total, int(kv))


def require_divisible(directory: Path, hardware: Hardware) -> None:
    """vLLM gives each card as many attention heads.

    Raises:
        StudyError: they cannot be shared out.
    """
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    heads = config.get("text_config", config).get("num_attention_heads", 0)
    if heads % hardware.tensor_parallel:
        raise StudyError(
            f"study: inference.tensor_parallel: found {hardware.tensor_parallel}, but {directory} has {heads} "
            f"attention heads; expected a number that divides {heads}"
        )


@dataclass(frozen=True)
class VllmSettings:
    """What the engine's process is started with.

    Attributes:
        directory: a Hugging Face checkpoint, adapters merged into it: it samples a third faster than with one served.
        longest: tokens of prompt and response together; a longer batch starts the engine anew.
        room: on a card, the memory that is the engine's.
        timeout: seconds without an answer, after which the process is ended.
    """

    directory: Path
    hardware: Hardware
    longest: int = 2048
    room: Room | None = None
    timeout: float = 1800.0

    def for_worker(self) -> dict[str, Any]:
        on_cpu = self.hardware.device == "cpu"
        engine: dict[str, Any] = {
            "model": str(self.directory),
            "dtype": self.hardware.dtype,
            "max_model_len": self.longest,
            "enable_prefix_caching": True,
            "skip_tokenizer_init": True,
            "generation_config": "vllm",  # decoding is the study's; Qwen2.5's own carries a repetition penalty
            "trust_remote_code": False,
            "load_format": "safetensors",
        }
        if on_cpu:
            # Seeded sampling crashed with chunked prefill beyond 4,096 prompt tokens in a batch.
            engine |= {"enforce_eager": True, "enable_chunked_prefill": False}
            engine["max_num_batched_tokens"] = max(4096, self.longest)
        else:
            assert self.room is not None
            if self.hardware.tensor_parallel > 1:
                engine["tensor_parallel_size"] = self.hardware.tensor_parallel
            engine |= {"gpu_memory_utilization": self.room.share, "kv_cache_memory_bytes": self.room.kv_bytes}
            # Graphs of decoding alone: compiling the model as well takes longer than it saves in one run.
            engine["compilation_config"] = {
                "mode": 0,
                "cudagraph_mode": "FULL_DECODE_ONLY",
                "cudagraph_capture_sizes": list(_GRAPHS),
            }
            engine["max_num_seqs"] = _GRAPHS[-1]
        return {"on_cpu": on_cpu, "engine": engine}
