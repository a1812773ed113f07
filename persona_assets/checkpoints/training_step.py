"""How far a training run was when it saved a checkpoint."""

import re
from pathlib import Path

from persona_assets.files.reading import UnreadableError, read_json

NUMBERED = re.compile(r"checkpoint-([0-9]{1,15})")


def training_step(directory: Path) -> int | None:
    """The training step of a checkpoint's folder; None where nothing says it.

    The trainer's own `trainer_state.json` (`global_step`) is believed before the folder's name (`checkpoint-500`), for
    folders are renamed.
    """
    try:
        state = read_json(directory / "trainer_state.json", infinities=True)
    except UnreadableError:  # not there, still being written, or very long: the name says the same
        state = None
    step = state.get("global_step") if isinstance(state, dict) else None
    if isinstance(step, int) and not isinstance(step, bool) and 0 <= step < 10**15:
        return step
    numbered = NUMBERED.fullmatch(directory.name)
    return int(numbered[1]) if numbered else None
