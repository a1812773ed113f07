"""Measurement of wall-clock time and peak memory."""

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch


@dataclass
class Measurement:
    """Time and peak memory of a block, filled when it ends; the memory is the GPU's on CUDA, else the process's."""

    seconds: float = 0.0
    peak_memory_gib: float = 0.0

    def with_tokens(self, tokens: int) -> dict[str, float | int]:
        """Return tokens, seconds, tokens per second and peak memory, for display."""
        return {
            "tokens": tokens,
            "seconds": round(self.seconds, 3),
            "tokens_per_second": round(tokens / self.seconds, 1),
            "peak_memory_gib": round(self.peak_memory_gib, 3),
        }


@contextmanager
def measured(device: str) -> Iterator[Measurement]:
    """Measure the block, synchronising with the GPU if there is one."""
    measurement = Measurement()
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    yield measurement
    if device == "cuda":
        torch.cuda.synchronize()
        peak = torch.cuda.max_memory_allocated()
    else:
        unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes on macOS, KiB on Linux
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    measurement.seconds = time.perf_counter() - start
    measurement.peak_memory_gib = peak / (1 << 30)
