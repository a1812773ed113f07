"""The host's cards, and which of them a run has: a card belongs to one run of an instance at a time."""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from persona_assets.graph.home import Home
from persona_assets.workers.tasks import WorkerError

_VISIBLE = "CUDA_VISIBLE_DEVICES"
# Seconds between two looks for a card that has become free.
_LOOK = 1.0


def visible_cards() -> list[str]:
    """The cards that this process may use, as CUDA names them; PyTorch is asked where nobody has chosen."""
    if (chosen := os.environ.get(_VISIBLE)) is not None:
        return [name.strip() for name in chosen.split(",") if name.strip() not in ("", "-1")]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


@dataclass(frozen=True)
class Cards:
    """Cards that are held until they are given back, or the process ends, however it does."""

    names: Sequence[str]
    _locks: ExitStack

    @classmethod
    def take(cls, home: Home, count: int, say: Callable[[str], None] = print) -> "Cards":
        """So many free cards; waits until there are.

        Raises:
            WorkerError: the host has fewer.
        """
        there = visible_cards()
        if count > len(there):
            raise WorkerError(
                f"{count} cards are asked for, and {len(there)} are visible: {', '.join(there) or 'none'}"
            )
        folder = home.root / "cards"
        folder.mkdir(exist_ok=True)
        held, names = ExitStack(), list[str]()
        # One run at a time collects cards: two that each have half of what they want would wait for ever.
        with FileLock(folder / "collecting.lock"):
            waited = False
            while len(names) < count:
                for name in there:
                    if name not in names and len(names) < count and _taken(folder / f"{name}.lock", held):
                        names.append(name)
                if len(names) < count:
                    if not waited:
                        say(f"waiting for {count - len(names)} of {count} cards, which other runs have")
                    waited = True
                    time.sleep(_LOOK)
        return cls([name for name in there if name in names], held)

    def give_back(self) -> None:
        """Lets others have them."""
        self._locks.close()


def _taken(path: Path, held: ExitStack) -> bool:
    try:
        held.enter_context(FileLock(path).acquire(timeout=0))
    except Timeout:
        return False
    return True
