"""Check that a checkpoint directory contains no links to unrelated files.

A symbolic link may point inside the directory, to a file of the same name (shared weights), or to a file named by its
digest (the blobs of the Hugging Face cache). Any other link could leak a local file into a prompt.
"""

import re
import stat
from collections.abc import Sequence
from pathlib import Path

from persona_assets.files.reading import UnreadableError

DIGEST_NAME = re.compile(r"[0-9a-f]{30,64}")
MORE_TEMPLATES = "additional_chat_templates"  # Transformers also reads this folder
MAX_LINKS = 40


def require(directory: Path, patterns: Sequence[str]) -> None:
    """Require that every file matching these glob patterns belongs to the directory and is a regular file.

    Subdirectories are not checked.

    Raises:
        UnreadableError: a file is a link to an unrelated file, a FIFO or a device. It is not opened.
    """
    try:
        files = {file for pattern in patterns for file in directory.glob(pattern)}
        files |= set((directory / MORE_TEMPLATES).glob("*"))
        for file in sorted(files):
            if not file.is_dir():
                _require_own(file, directory.resolve())
    except OSError as error:
        place = Path(error.filename or directory)
        raise UnreadableError(place, f"cannot be inspected: {error.strerror}") from error


def _require_own(file: Path, directory: Path) -> None:
    place, links = file, 0
    while place.is_symlink():
        target = place.parent / place.readlink()
        target = target.parent.resolve() / target.name
        shared = target.name == place.name or DIGEST_NAME.fullmatch(target.name)
        links += 1
        if links > MAX_LINKS or not (shared or target.is_relative_to(directory)):
            raise UnreadableError(
                file,
                f"is a link to {target}; expected a target within its directory, with the same name, or named by its "
                "digest as in the Hugging Face cache; copy the file if it belongs there",
            )
        place = target
    if place.exists() and not stat.S_ISREG(place.stat().st_mode):  # missing files are reported elsewhere
        raise UnreadableError(file, "is a FIFO or a device; expected a regular file; it was not read")
