"""SHA-256 digests of JSON-like values, files and folders."""

import hashlib
import json
from pathlib import Path
from typing import Any


def digest_of(value: Any) -> str:
    """Return the SHA-256 (64 hex digits) of a JSON-like value in canonical form: sorted keys, no spaces, no NaN."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def digest_of_path(path: Path) -> str:
    """Return the digest of a file, or of a folder's files and their names."""
    if path.is_dir():
        return digest_of({file.name: digest_of_file(file) for file in sorted(path.iterdir()) if file.is_file()})
    return digest_of_file(path)


def digest_of_file(path: Path) -> str:
    """Return the SHA-256 (64 hex digits) of a file's bytes, read in chunks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
