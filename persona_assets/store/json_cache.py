"""What is remembered to save work, and may be lost at any time: a JSON file."""

import json
from pathlib import Path
from typing import Any

from persona_assets.files.atomic import atomic_write


class JsonCache:
    """A mapping in a file; a file that is not there or holds something else is an empty memory."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def read(self) -> dict[str, Any]:
        """What was written last."""
        try:
            found = json.loads(self.file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def write(self, content: dict[str, Any]) -> None:
        """Replaces the content, if it is another."""
        if content != self.read():
            with atomic_write(self.file) as partial:
                partial.write_text(json.dumps(content), encoding="utf-8")
