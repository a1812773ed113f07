"""Training step at which a checkpoint was saved."""

import re
from pathlib import Path

from persona_assets.files.reading import UnreadableError, read_json

NUMBERED = re.compile(r"(?:checkpoint|epoch|global_step|step|iter)[-_]?([0-9]{1,15})")


def training_step(directory: Path) -> int | None:
    """Return the training step of a checkpoint folder, or None if it is unknown.

    `global_step` in the trainer's `trainer_state.json` takes precedence over the folder's name (`checkpoint-500`,
    `epoch_2`, `global_step_200/huggingface`), because folders can be renamed.
    """
    try:
        state = read_json(directory / "trainer_state.json", infinities=True)
    except UnreadableError:  # missing, still being written, or too large: use the folder's name
        state = None
    step = state.get("global_step") if isinstance(state, dict) else None
    if isinstance(step, int) and not isinstance(step, bool) and 0 <= step < 10**15:
        return step
    # The step may be in the name of a folder above: global_step_200/actor/huggingface.
    for name in (directory.name, directory.parent.name, directory.parent.parent.name):
        if numbered := NUMBERED.fullmatch(name):
            return int(numbered[1])
    return None
