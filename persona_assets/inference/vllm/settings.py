"""Settings of the vLLM engine: its share of GPU memory and its arguments."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from persona_assets.checkpoints.files import weight_names
from persona_assets.inference.loading import Hardware
from persona_assets.inference.vllm.process import EngineError
from persona_assets.study import StudyError

# Batch sizes with a CUDA graph for decoding; capturing each one takes 0.1 s at start-up.
_GRAPHS = (1, 2, 4, 8, 16, 32, 64, 96, 128, 160, 192, 224, 256, 320, 384, 448, 512, 768, 1024)
# Memory for activations, CUDA graphs and the CUDA context.
_ACTIVATIONS = 4 << 30


@dataclass(frozen=True)
class EngineMemory:
    """GPU memory of the engine.

    Attributes:
        share: share of the GPU's memory that must be free at start-up.
        kv_bytes: size of the KV cache.
    """

    share: float
    kv_bytes: int


def plan_engine_memory(directory: Path, hardware: Hardware, memory_share: float) -> tuple[bool, EngineMemory | None]:
    """Return whether this process can keep the same model in GPU memory next to the engine, and the engine's memory.

    Memory that PyTorch has reserved in this process counts as free, because the model can be unloaded. On a CPU the
    engine never shares memory with the model.

    Raises:
        EngineError: the weights do not fit on the GPU.
    """
    if hardware.device == "cpu":
        return False, None
    require_divisible(directory, hardware)
    free, total = torch.cuda.mem_get_info()
    usable = free + torch.cuda.memory_reserved() - (1 - memory_share) * total
    # Per GPU; all GPUs that share a model are assumed to be alike.
    stored = sum((directory / name).stat().st_size for name in weight_names(directory, "model"))
    weights = 1.05 * stored / hardware.tensor_parallel
    beside = usable - weights - _ACTIVATIONS
    is_beside = beside >= weights + 2 * _ACTIVATIONS
    kv = (beside if is_beside else usable) - weights - _ACTIVATIONS
    if kv <= 0:
        raise EngineError(
            f"vLLM does not fit on the GPU: {usable / 2**30:.1f} GiB of {total / 2**30:.1f} GiB are free; "
            f"expected {(weights + _ACTIVATIONS) / 2**30:.1f} GiB plus memory for the KV cache"
        )
    return is_beside, EngineMemory(weights / total, int(kv))


def require_divisible(directory: Path, hardware: Hardware) -> None:
    """Require that the attention heads can be split evenly over the GPUs, as vLLM does.

    Raises:
        StudyError: the number of GPUs does not divide the number of attention heads.
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
    """Settings for the engine's process.

    Attributes:
        directory: Hugging Face checkpoint with adapters merged, which samples a third faster than a separate adapter.
        longest: maximum tokens of prompt and response together; a longer batch restarts the engine.
        memory: GPU memory of the engine; None on a CPU.
        timeout: seconds without an answer after which the process is killed.
    """

    directory: Path
    hardware: Hardware
    longest: int = 2048
    memory: EngineMemory | None = None
    timeout: float = 1800.0

    @property
    def on_cpu(self) -> bool:
        return self.hardware.device == "cpu"

    def for_worker(self) -> dict[str, Any]:
        """Return the arguments of vLLM's engine."""
        engine: dict[str, Any] = {
            "model": str(self.directory),
            "dtype": self.hardware.dtype,
            "max_model_len": self.longest,
            "enable_prefix_caching": True,
            "skip_tokenizer_init": True,
            "generation_config": "vllm",  # not the checkpoint's: Qwen2.5's contains a repetition penalty
            "trust_remote_code": False,
            "load_format": "safetensors",
        }
        if self.on_cpu:
            # With chunked prefill, seeded sampling crashed on batches of more than 4,096 prompt tokens.
            engine |= {"enforce_eager": True, "enable_chunked_prefill": False}
            engine["max_num_batched_tokens"] = max(4096, self.longest)
        else:
            assert self.memory is not None
            if self.hardware.tensor_parallel > 1:
                engine["tensor_parallel_size"] = self.hardware.tensor_parallel
            engine |= {"gpu_memory_utilization": self.memory.share, "kv_cache_memory_bytes": self.memory.kv_bytes}
            # CUDA graphs for decoding only, because compiling the model takes longer than it saves in one run.
            engine["compilation_config"] = {
                "mode": 0,
                "cudagraph_mode": "FULL_DECODE_ONLY",
                "cudagraph_capture_sizes": list(_GRAPHS),
            }
            engine["max_num_seqs"] = _GRAPHS[-1]
        return engine
