"""Cache in a JSON file, which may be deleted at any time."""

import json
from pathlib import Path
from typing import Any

from persona_assets.files.atomic import atomic_write


class JsonCache:
    """Mapping stored in a JSON file; a missing or invalid file counts as an empty cache."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def read(self) -> dict[str, Any]:
        """Return the cached mapping."""
        try:
            found = json.loads(self.file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def write(self, content: dict[str, Any]) -> None:
        """Replace the content, if it has changed."""
        if content != self.read():
            with atomic_write(self.file) as partial:
                partial.write_text(json.dumps(content, indent=1), encoding="utf-8")
