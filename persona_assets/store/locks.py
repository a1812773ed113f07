"""File locks that let one process at a time compute an artefact; the others wait and then find it in the store.

The operating system releases a lock when its process ends, even if the process is killed.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

# A lock is named after the first digits of a fingerprint, which limits an asset to 65,536 lock files.
_DIGITS = 4


@contextmanager
def locked(folder: Path, fingerprints: Iterable[str], say: Callable[[str], None] = lambda _: None) -> Iterator[None]:
    """Lock the artefacts with these fingerprints against other processes and threads.

    Locks are acquired in sorted order, which prevents deadlocks. A thread may acquire a lock that it already holds.

    Args:
        folder: folder of the lock files.
        say: called once with a message if another process holds a lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    waited = False
    with ExitStack() as held:
        for name in sorted({fingerprint[:_DIGITS] for fingerprint in fingerprints}):
            lock = FileLock(folder / f"{name}.lock", is_singleton=True)
            try:
                held.enter_context(lock.acquire(timeout=0))
            except Timeout:
                if not waited:
                    say("another process is computing some of these; waiting for it")
                waited = True
                held.enter_context(lock.acquire())
        yield
