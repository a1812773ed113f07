"""What a piece of work cost: seconds and peak memory."""

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch


@dataclass
class Measurement:
    """Filled when the measured block ends. Peak memory is the card's on CUDA and the process's on a CPU."""

    seconds: float = 0.0
    peak_memory_gib: float = 0.0

    def with_tokens(self, tokens: int) -> dict[str, float | int]:
        """What a person asks of a stage: tokens, seconds, tokens a second, peak memory."""
        return {
            "tokens": tokens,
            "seconds": round(self.seconds, 3),
            "tokens_per_second": round(tokens / self.seconds, 1),
            "peak_memory_gib": round(self.peak_memory_gib, 3),
        }


@contextmanager
def measured(device: str) -> Iterator[Measurement]:
    """Measures the block; waits for the card where there is one."""
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
