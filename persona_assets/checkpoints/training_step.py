"""Training step at which a checkpoint was saved."""

import re
from pathlib import Path

from persona_assets.files.reading import UnreadableError, read_json

NUMBERED = re.compile(r"checkpoint-([0-9]{1,15})")


def training_step(directory: Path) -> int | None:
    """Return the training step of a checkpoint folder, or None if it is unknown.

    `global_step` in the trainer's `trainer_state.json` takes precedence over the folder's name (`checkpoint-500`),
    because folders can be renamed.
    """
    try:
        state = read_json(directory / "trainer_state.json", infinities=True)
    except UnreadableError:  # missing, still being written, or too large: use the folder's name
        state = None
    step = state.get("global_step") if isinstance(state, dict) else None
    if isinstance(step, int) and not isinstance(step, bool) and 0 <= step < 10**15:
        return step
    numbered = NUMBERED.fullmatch(directory.name)
    return int(numbered[1]) if numbered else None
