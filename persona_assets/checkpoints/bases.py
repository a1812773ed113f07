"""Finds the base model of an adapter in a watched directory."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from persona_assets.checkpoints.checkpoint import Checkpoint, CheckpointError
from persona_assets.checkpoints.registry import COMMIT
from persona_assets.checkpoints.watched import Watch
from persona_assets.files.reading import shown


def base_of(
    watch: Watch, config_file: Path, config: dict[str, Any], registered: Mapping[str, Checkpoint]
) -> Checkpoint:
    """Return the checkpoint, without an adapter of its own, that the adapter is applied to.

    The watch's `base` takes precedence. Otherwise `base_model_name_or_path` of `config` is tried, in this order, as the
    name of a registered checkpoint, the path of a registered checkpoint, a local directory, and the hub repository of a
    registered checkpoint.

    Args:
        config_file: the adapter's adapter_config.json, for error messages.
        config: its content.

    Raises:
        CheckpointError: no base was found, or the base cannot take an adapter; the message says what to do.
    """
    if watch.base is not None:
        return registered_base(watch, registered)
    named = config.get("base_model_name_or_path")
    field = f"{config_file}: base_model_name_or_path"
    if not isinstance(named, str) or not named:
        raise CheckpointError(f"{field}: found {shown(named)}; expected the base model; {_advice(watch)}")
    if named in registered:
        return _bare(registered[named], field)
    try:
        directory = Path(named).expanduser().absolute()  # relative paths start at the working directory, as in PEFT
        place, there = directory.resolve(), directory.is_dir()
    except (RuntimeError, OSError, ValueError):  # unknown home folder, path too long, NUL byte: not a directory
        return _of_repository(watch, field, named, config.get("revision"), registered)
    for checkpoint in registered.values():
        if checkpoint.path is not None and checkpoint.path.resolve() == place:
            return Checkpoint(name=checkpoint.name, path=checkpoint.path)
    if there:
        return Checkpoint(name=directory.name, path=directory)
    return _of_repository(watch, field, named, config.get("revision"), registered)


def registered_base(watch: Watch, registered: Mapping[str, Checkpoint]) -> Checkpoint:
    """Return the watch's own base.

    Raises:
        CheckpointError: it is not registered, or cannot be a base.
    """
    if watch.base is None or watch.base not in registered:
        raise CheckpointError(
            f"watch {watch.name}: base: found {watch.base!r}; expected a registered checkpoint, one of "
            f"{list(registered)}; add it with `persona-assets checkpoint add`"
        )
    return _bare(registered[watch.base], f"watch {watch.name}: base")


def _bare(base: Checkpoint, field: str) -> Checkpoint:
    if base.has_adapter:
        raise CheckpointError(
            f"{field}: found {base.name}, which itself has an adapter ({base.adapter or base.adapter_hub}); "
            "expected a checkpoint without one, since stacked adapters are not supported; merge the first adapter"
        )
    if base.imported is not None:
        raise CheckpointError(
            f"{field}: found {base.name}, which is an imported run; expected a checkpoint with weights"
        )
    return base


def _of_repository(watch: Watch, field: str, repo: str, own: Any, registered: Mapping[str, Checkpoint]) -> Checkpoint:
    known = [checkpoint for checkpoint in registered.values() if checkpoint.hub == repo]
    if not known:
        raise CheckpointError(
            f"{field}: found {shown(repo)}, which is neither registered nor a local directory; {_advice(watch)}"
        )
    if isinstance(own, str) and COMMIT.fullmatch(own):  # trained on this commit, even if another one is registered
        return Checkpoint(name=known[0].name, hub=repo, revision=own)
    if len({checkpoint.revision for checkpoint in known}) > 1:
        names = [checkpoint.name for checkpoint in known]
        raise CheckpointError(
            f"{field}: found {shown(repo)}, which is registered at several commits, as {shown(names)}; "
            f"expected one; {_advice(watch)}"
        )
    return Checkpoint(name=known[0].name, hub=repo, revision=known[0].revision)


def _advice(watch: Watch) -> str:
    return (
        "register the base with `persona-assets checkpoint add` and set it as the base of watch "
        f"{watch.name} in watched.yaml"
    )
