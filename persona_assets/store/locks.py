"""File locks that let one process at a time compute an artefact; the others wait and then find it in the store.

The operating system releases a lock when its process ends, even if the process is killed.
"""

import errno
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

# A lock is named after the first digits of a fingerprint, which limits an asset to 65,536 lock files.
_DIGITS = 4
# What a file system without locks answers: NFS without a lock daemon, some FUSE and parallel file systems.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


class LockError(RuntimeError):
    """The file system has no file locks; the message says where and what to do."""


def acquire(file: Path, wait: bool = True, **options: Any) -> AbstractContextManager[Any]:
    """Lock a file against other processes until the returned context ends.

    Args:
        wait: wait for another process that holds the lock.
        options: further arguments of `FileLock`.

    Raises:
        Timeout: another process holds the lock, and `wait` is False.
        LockError: the file system has no locks.
    """
    try:
        return FileLock(file, **options).acquire(timeout=-1 if wait else 0)
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
            raise
        raise LockError(
            f"{file}: this file system has no file locks ({error}); move DAGSTER_HOME to a local disk, "
            "or have the network file system mounted with locks (NFS: version 4, without `nolock`)"
        ) from None


@contextmanager
def locked(folder: Path, fingerprints: Iterable[str], say: Callable[[str], None] = lambda _: None) -> Iterator[None]:
    """Lock the artefacts with these fingerprints against other processes and threads.

    Locks are acquired in sorted order, which prevents deadlocks. A thread may acquire a lock that it already holds.

    Args:
        folder: folder of the lock files.
        say: called once with a message if another process holds a lock.

    Raises:
        LockError: the file system has no locks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    waited = False
    with ExitStack() as held:
        for name in sorted({fingerprint[:_DIGITS] for fingerprint in fingerprints}):
            file = folder / f"{name}.lock"
            try:
                held.enter_context(acquire(file, wait=False, is_singleton=True))
            except Timeout:
                if not waited:
                    say("another process is computing some of these; waiting for it")
                waited = True
                held.enter_context(acquire(file, is_singleton=True))
        yield
