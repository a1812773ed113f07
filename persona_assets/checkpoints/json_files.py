"""Reading of a checkpoint's JSON files."""

from pathlib import Path
from typing import Any

from persona_assets.checkpoints.errors import CheckpointError
from persona_assets.files.reading import LARGEST_JSON, UnreadableError, read_json


def json_object(file: Path, largest: int = LARGEST_JSON) -> dict[str, Any]:
    """Return the content of a JSON file of a checkpoint; infinities, which some configs contain, become text.

    Raises:
        CheckpointError: the file is missing, too large, truncated or damaged, or is not a JSON object.
    """
    try:
        content = read_json(file, largest, infinities=True)
    except UnreadableError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise CheckpointError(f"{file} does not exist; the checkpoint is incomplete") from None
        raise CheckpointError(
            f"{file} cannot be read as JSON: {error.problem}; it is still being written or is damaged"
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{file}: found {type(content).__name__}; expected a JSON object")
    return content
