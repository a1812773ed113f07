"""Reservation of the host's GPUs: within an instance, a GPU belongs to one run at a time."""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from filelock import Timeout

from persona_assets.graph.home import Home
from persona_assets.store.locks import acquire
from persona_assets.workers.tasks import WorkerError

_VISIBLE = "CUDA_VISIBLE_DEVICES"
# Seconds between two attempts to lock a GPU.
_POLL_INTERVAL = 1.0


def visible_cards() -> list[str]:
    """Return the GPUs that this process may use: those of CUDA_VISIBLE_DEVICES, or all that PyTorch finds."""
    if (chosen := os.environ.get(_VISIBLE)) is not None:
        return [name.strip() for name in chosen.split(",") if name.strip() not in ("", "-1")]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


@dataclass(frozen=True)
class Cards:
    """Reserved GPUs, locked until `give_back` or the end of the process, even if that is killed."""

    names: Sequence[str]
    _locks: ExitStack

    @classmethod
    def take(cls, home: Home, count: int, say: Callable[[str], None] = print) -> "Cards":
        """Reserve a number of free GPUs, waiting until that many are free.

        Raises:
            WorkerError: fewer GPUs are visible.
        """
        visible = visible_cards()
        if count > len(visible):
            raise WorkerError(
                f"the run needs {count} cards, but only {len(visible)} are visible: {', '.join(visible) or 'none'}"
            )
        folder = home.root / "cards"
        folder.mkdir(exist_ok=True)
        locks, names = ExitStack(), list[str]()
        # Only one run at a time collects GPUs, otherwise two runs that each hold half of what they need would deadlock.
        with acquire(folder / "collecting.lock"):
            waited = False
            while len(names) < count:
                for name in visible:
                    if name not in names and len(names) < count and _try_lock(folder / f"{name}.lock", locks):
                        names.append(name)
                if len(names) < count:
                    if not waited:
                        say(f"waiting for {count - len(names)} of {count} cards, which other runs are using")
                    waited = True
                    time.sleep(_POLL_INTERVAL)
        return cls([name for name in visible if name in names], locks)

    def give_back(self) -> None:
        """Release the GPUs."""
        self._locks.close()


def _try_lock(path: Path, locks: ExitStack) -> bool:
    try:
        locks.enter_context(acquire(path, wait=False))
    except Timeout:
        return False
    return True
