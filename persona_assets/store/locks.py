"""One process at a time makes an artefact: whoever comes later waits, and then finds it.

A claim is a lock of the operating system: it ends with its process, however that ends.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

# Digits of a fingerprint that name a lock: 65,536 of them an asset, so that their files do not become ever more.
_DIGITS = 4


@contextmanager
def locked(folder: Path, fingerprints: Iterable[str], say: Callable[[str], None] = lambda _: None) -> Iterator[None]:
    """Holds the artefacts with these fingerprints against other processes and threads.

    Locks are taken in one order, so that no two processes wait for each other, and a thread that holds some may take
    them again.

    Args:
        folder: where the locks' files are.
        say: is told, once, that another process is waited for.
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
                    say("another process is making some of these; waiting for it")
                waited = True
                held.enter_context(lock.acquire())
        yield
