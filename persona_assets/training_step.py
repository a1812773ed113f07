"""How far a training run was when it saved a checkpoint."""

import json
import re
from pathlib import Path

NUMBERED = re.compile(r"checkpoint-(\d+)")


def training_step(directory: Path) -> int | None:
    """The training step of a checkpoint's folder; None where nothing says it.

    The trainer's own `trainer_state.json` (`global_step`) is believed before the folder's name (`checkpoint-500`), for
    folders are renamed.
    """
    try:
        state = json.loads((directory / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not there, or still being written: the name says the same
        state = None
    step = state.get("global_step") if isinstance(state, dict) else None
    if isinstance(step, int) and not isinstance(step, bool) and step >= 0:
        return step
    numbered = NUMBERED.fullmatch(directory.name)
    return int(numbered[1]) if numbered else None
