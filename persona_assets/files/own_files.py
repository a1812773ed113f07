"""Which files of a directory are its own.

A link may lead within the directory, to a file of the same name (weights that are shared), or to one that is named by
its digest, as the blobs of a hub's cache are. Any other could make a text of this machine part of a prompt.
"""

import re
import stat
from collections.abc import Sequence
from pathlib import Path

from persona_assets.files.reading import UnreadableError

DIGEST_NAME = re.compile(r"[0-9a-f]{30,64}")
MORE_TEMPLATES = "additional_chat_templates"  # a folder that Transformers reads too
MOST_LINKS = 40


def require(directory: Path, patterns: Sequence[str]) -> None:
    """Whether every file of these patterns is the directory's own and a regular one; folders are nobody's concern.

    Raises:
        UnreadableError: a link that leads elsewhere, a FIFO or a device; it is not opened.
    """
    try:
        files = {file for pattern in patterns for file in directory.glob(pattern)}
        files |= set((directory / MORE_TEMPLATES).glob("*"))
        for file in sorted(files):
            if not file.is_dir():
                _require_own(file, directory.resolve())
    except OSError as error:
        place = Path(error.filename or directory)
        raise UnreadableError(place, f"cannot be looked at: {error.strerror}") from error


def _require_own(file: Path, directory: Path) -> None:
    place, links = file, 0
    while place.is_symlink():
        target = place.parent / place.readlink()
        target = target.parent.resolve() / target.name
        shared = target.name == place.name or DIGEST_NAME.fullmatch(target.name)
        links += 1
        if links > MOST_LINKS or not (shared or target.is_relative_to(directory)):
            raise UnreadableError(
                file,
                f"is a link to {target}; expected one within its directory, to a file of the same name or to one named "
                "by its digest, as in a hub's cache; copy the file if it belongs there",
            )
        place = target
    if place.exists() and not stat.S_ISREG(place.stat().st_mode):  # what is not there is missed elsewhere
        raise UnreadableError(file, "is a FIFO or a device; expected a regular file; it was not read")
