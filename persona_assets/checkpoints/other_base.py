"""Whether an adapter is used on the base model that it was trained on."""

from pathlib import Path

from persona_assets.checkpoints.adapters import adapter_files
from persona_assets.checkpoints.checkpoint import Checkpoint
from persona_assets.files.reading import shown


def other_base(checkpoint: Checkpoint) -> str | None:
    """Return a sentence if a checkpoint's adapter was made for another base model, as far as its config tells.

    Two directories whose last parts are equal are taken for the same model.

    Raises:
        CheckpointError: the adapter cannot be read.
    """
    if (directory := checkpoint.adapter_directory()) is None:
        return None
    named = adapter_files(directory).config.get("base_model_name_or_path")
    if not isinstance(named, str) or not named:
        return None
    used = checkpoint.hub or str(checkpoint.path)
    if named == used or _last(named) == _last(used):
        return None
    return f"the adapter was made for {shown(named)} and is used on {used}"


def _last(place: str) -> str:
    """Return the model's own name: the last part of a path or of a repository's name, also within the hub's cache."""
    cached = next((part for part in Path(place).parts if part.startswith("models--")), None)
    return (cached.rpartition("--")[2] if cached else Path(place.rstrip("/")).name).casefold()
