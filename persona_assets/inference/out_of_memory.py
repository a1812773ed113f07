"""Out of memory: the batch halves and the work goes on; what is done is kept."""

import gc
import logging
import sys
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")

_log = logging.getLogger(__name__)

# How libraries say it that do not raise PyTorch's own error: drivers and Triton, the CPU's allocator, cuBLAS.
_SAID = ("out of memory", "can't allocate memory", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED")


class AdaptiveBatchSize:
    """How many items are worked on at once: as many as are thought to fit, and fewer from when they did not.

    Attributes:
        size: how many there are at once now; 0 before any work.
    """

    def __init__(self, doing: str, items: str, fixed: bool = False) -> None:
        """`doing` and `items` are for messages: "scoring", "positions".

        `fixed`: the study asks for the same bits every time, so no size may depend on what memory is free.
        """
        self.size = 0
        self._doing, self._items, self._fixed = doing, items, fixed
        self._limit = sys.maxsize

    def at_most(self, estimate: int) -> int:
        """`estimate`, or less since memory ran out; the size from now on."""
        self.size = min(estimate, self._limit)
        return self.size

    def attempt(self, items: int, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R | None:
        """What `work` returns, or None where memory ran out: `size` has halved, and the caller tries that.

        Args:
            items: how many `work` is given; where they are fewer than `size`, they are what is halved.

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
                raise torch.OutOfMemoryError(self._explained(tried, error)) from error
        # Not within `except`: the error's traceback holds every frame of the work, and so its tensors.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if self._limit == sys.maxsize:  # once is enough; the plan has the size
            _log.warning(
                f"{self._doing}: out of memory with {tried} {self._items} at once; "
                f"going on with {tried // 2}, and with half as many again wherever that is too many"
            )
        self._limit = self.size = tried // 2
        return None

    def slices(self, count: int, estimate: int, work: Callable[[slice], R]) -> Iterator[R]:
        """`work` over consecutive slices of `count` items; one that did not fit is cut anew, none is done twice.

        Args:
            estimate: how many are thought to fit.
            work: must not return None.

        Raises:
            torch.OutOfMemoryError: as `attempt`.
        """
        start = 0
        while start < count:
            part = slice(start, min(start + self.at_most(estimate), count))
            done = self.attempt(part.stop - start, work, part)
            if done is not None:
                yield done
                del done  # the reader's alone while the next slice is worked on
                start = part.stop

    def _explained(self, tried: int, error: RuntimeError) -> str:
        if self._fixed:
            advice = (
                "a size that `deterministic: true` fixes; leave it out of the study, or free the device of other work"
            )
        else:
            advice = "and fewer there are not; free the device of other work, or take a smaller model or shorter texts"
        return f"{self._doing}: out of memory with {self._items} at once: {tried}, {advice} ({error})"


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a device or the CPU's allocator had no memory left."""
    return isinstance(error, torch.OutOfMemoryError) or any(said in str(error) for said in _SAID)
