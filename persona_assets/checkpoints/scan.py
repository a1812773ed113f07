"""Scans a watched directory or hub branch for checkpoints.

A scan is cheap (headers, small files, a few requests) and changes nothing; callers register and measure what it finds.
A complete folder may still be written to: callers compare its stamp at two times to find out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from persona_assets.checkpoints import hub
from persona_assets.checkpoints.bases import base_of
from persona_assets.checkpoints.checkpoint import Checkpoint, CheckpointError, check_complete, stamp
from persona_assets.checkpoints.files import adapter_files
from persona_assets.checkpoints.registry import Registry
from persona_assets.checkpoints.training_step import training_step
from persona_assets.checkpoints.watched import Watch
from persona_assets.study import checked_name

Fields = dict[str, str | int]


@dataclass(frozen=True)
class FoundCheckpoint:
    """A checkpoint found by a scan, complete or not.

    Attributes:
        name: `<watch>.<folder>`, such as `run7.checkpoint-500`; for a hub `<watch>.<first 12 digits of the commit>`.
        entry: the fields of its registry entry; None while it is incomplete.
        stamp: see `checkpoint.stamp`; empty if it cannot be computed yet.
        problem: why it cannot be measured yet, in one sentence that names the file; None if it is complete.
    """

    name: str
    entry: Fields | None
    stamp: str
    problem: str | None


def scan_watch(watch: Watch, registry: Registry) -> list[FoundCheckpoint]:
    """Return the checkpoints at a watched location.

    For a directory these are all `checkpoint-*` folders by training step, registered or not; for a hub branch, the
    commits after the newest registered one, oldest first.

    Raises:
        CheckpointError: the directory does not exist, the hub does not respond, or the registry cannot be read.
    """
    registered = {checkpoint.name: checkpoint for checkpoint in registry.all()}
    if watch.hub is not None:
        return _scan_branch(watch, watch.hub, registered)
    assert watch.directory is not None
    directory = watch.directory.absolute()
    if not directory.is_dir():
        raise CheckpointError(
            f"watch {watch.name}: directory: {directory} does not exist; expected the folder of a training run"
        )
    folders = [folder for folder in directory.glob("checkpoint-*") if folder.is_dir()]
    steps = {folder: training_step(folder) for folder in folders}
    folders.sort(key=lambda folder: (steps[folder] is None, steps[folder] or 0, folder.name))
    return [_scan_folder(watch, folder, steps[folder], registered) for folder in folders]


def _scan_folder(watch: Watch, folder: Path, step: int | None, registered: Mapping[str, Checkpoint]) -> FoundCheckpoint:
    name, stamped = f"{watch.name}.{folder.name}", ""
    try:
        entry = _location(watch, folder, registered) | _series(watch, step)
        checkpoint = Checkpoint.model_validate({"name": _available(name, folder, registered), **entry})
        stamped = stamp(checkpoint)
        check_complete(checkpoint)
    except CheckpointError as error:
        return FoundCheckpoint(name, None, stamped, str(error))
    except OSError as error:  # permission denied, or deleted meanwhile: the other folders are still scanned
        return FoundCheckpoint(name, None, stamped, f"{folder} cannot be read: {error}")
    return FoundCheckpoint(name, entry, stamped, None)


def _location(watch: Watch, folder: Path, registered: Mapping[str, Checkpoint]) -> Fields:
    """Return the registry fields that locate the weights: the folder itself, or its base model and the adapter."""
    file = folder / "adapter_config.json"
    if not file.is_file():
        return {"path": str(folder)}
    base = base_of(watch, file, adapter_files(folder)[1], registered)
    if base.path is not None:
        return {"path": str(base.path.absolute()), "adapter": str(folder)}
    return {"hub": str(base.hub), "revision": str(base.revision), "adapter": str(folder)}


def _series(watch: Watch, step: int | None) -> Fields:
    return {"series": watch.name} if step is None else {"series": watch.name, "step": step}


def _available(name: str, folder: Path, registered: Mapping[str, Checkpoint]) -> str:
    """Return the name, after checking that it is valid and not used for another folder."""
    try:
        checked_name(name)
    except ValueError as error:
        raise CheckpointError(f"{folder}: {error}") from None
    if (taken := registered.get(name)) is not None:
        place = taken.adapter or taken.path
        if place is None or place.resolve() != folder.resolve():
            raise CheckpointError(
                f"{folder}: {name} is already registered for {place or taken.hub or taken.imported}; "
                "expected an unused name; watch this directory under another name"
            )
    return name


def _scan_branch(watch: Watch, repo: str, registered: Mapping[str, Checkpoint]) -> list[FoundCheckpoint]:
    known = {str(each.revision) for each in registered.values() if each.series == watch.name and each.revision}
    found = []
    for commit in hub.new_commits(repo, watch.branch or "main", known):
        name = f"{watch.name}.{commit.revision[:12]}"
        entry = {"hub": repo, "revision": commit.revision} | _series(watch, commit.step)
        problem = hub.commit_problem(repo, commit.revision)
        stamped = stamp(Checkpoint.model_validate({"name": name, **entry}))
        found.append(FoundCheckpoint(name, None if problem else entry, stamped, problem))
    return found
