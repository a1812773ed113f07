"""Atomic writes of files and folders."""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(target: Path) -> Iterator[Path]:
    """Yield a temporary path next to `target`; when the block succeeds, flush it to disk and rename it to `target`.

    The block may write a file or a folder. Readers of `target` see the old content or the new content, never a partial
    write, even if the writer is killed. Replacing a folder takes two renames; between them `target` does not exist.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        yield partial
        for path in [partial, *(partial.rglob("*") if partial.is_dir() else ())]:
            _flush(path)
        replaced = partial.with_suffix(".replaced")
        if partial.is_dir() and target.is_dir():  # rename cannot replace a non-empty folder
            target.rename(replaced)
        partial.replace(target)
        _flush(target.parent)
        shutil.rmtree(replaced, ignore_errors=True)
    finally:
        if partial.is_dir():
            shutil.rmtree(partial)
        else:
            partial.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
