"""Adaptive batch size that halves when memory runs out, keeping finished work."""

import gc
import logging
import sys
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")

_log = logging.getLogger(__name__)

# Error messages of libraries that do not raise torch.OutOfMemoryError: CUDA drivers, Triton, CPU allocator, cuBLAS.
_OOM_MESSAGES = ("out of memory", "can't allocate memory", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED")


class AdaptiveBatchSize:
    """Batch size that starts at the caller's estimate and halves each time memory runs out.

    Attributes:
        size: current number of items per batch; 0 before the first batch.
    """

    def __init__(self, doing: str, items: str, fixed: bool = False) -> None:
        """Create the batch size.

        Args:
            doing: the activity, for messages, such as "scoring".
            items: what is batched, for messages, such as "positions".
            fixed: never reduce the size, because a deterministic study must not depend on the free memory.
        """
        self.size = 0
        self._doing, self._items, self._fixed = doing, items, fixed
        self._limit = sys.maxsize

    def at_most(self, estimate: int) -> int:
        """Set `size` to `estimate`, or to the limit found when memory ran out if that is lower, and return it."""
        self.size = min(estimate, self._limit)
        return self.size

    def attempt(self, items: int, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R | None:
        """Return the result of `work`, or None if memory ran out; `size` has then been halved for the caller's retry.

        Args:
            items: number of items passed to `work`; if lower than `size`, the new size is half of it.

        Raises:
            torch.OutOfMemoryError: a single item does not fit, or the size is fixed.
        """
        tried = min(items, self.size)
        try:
            return work(*args, **kwargs)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if self._fixed or tried == 1:
                raise torch.OutOfMemoryError(self._explain(tried, error)) from error
        # Outside the `except` block, because there the traceback keeps the failed call's tensors alive.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if self._limit == sys.maxsize:  # log only the first time; the plan reports the final size
            _log.warning(
                f"{self._doing}: out of memory with {tried} {self._items} at once; "
                f"continuing with {tried // 2}, and halving again if that is still too many"
            )
        self._limit = self.size = tried // 2
        return None

    def slices(self, count: int, estimate: int, work: Callable[[slice], R]) -> Iterator[R]:
        """Apply `work` to consecutive slices of `count` items; slices that do not fit are retried in smaller parts.

        Args:
            estimate: number of items expected to fit in memory.
            work: must not return None.

        Raises:
            torch.OutOfMemoryError: see `attempt`.
        """
        start = 0
        while start < count:
            part = slice(start, min(start + self.at_most(estimate), count))
            done = self.attempt(part.stop - start, work, part)
            if done is not None:
                yield done
                del done  # free the result before the next slice is computed, unless the caller keeps it
                start = part.stop

    def _explain(self, tried: int, error: RuntimeError) -> str:
        if self._fixed:
            advice = "a size fixed by `deterministic: true`; remove it from the study, or free memory on the device"
        else:
            advice = "the minimum; free memory on the device, or use a smaller model or shorter texts"
        return f"{self._doing}: out of memory with {self._items} at once: {tried}, {advice} ({error})"


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return whether the error means that a device or the CPU ran out of memory."""
    return isinstance(error, torch.OutOfMemoryError) or any(message in str(error) for message in _OOM_MESSAGES)
