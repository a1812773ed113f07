"""Files that are either whole or not there."""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(target: Path) -> Iterator[Path]:
    """A path beside `target` to write a file or a folder to; flushed to disk and renamed when the block ends well.

    Whoever reads `target` sees the old content or the new, never a part, whatever kills the writer. Where a folder
    takes another's place there is none for the moment between two renames.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        yield partial
        for path in [partial, *(partial.rglob("*") if partial.is_dir() else ())]:
            _flush(path)
        replaced = partial.with_suffix(".replaced")
        if partial.is_dir() and target.is_dir():  # a rename replaces a file, but no folder that holds anything
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
