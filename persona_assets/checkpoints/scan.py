"""What is in a watched place now: checkpoints that can be registered, and those that are waited for.

Looking costs little (headers, small files, a few requests) and changes nothing; to register and measure is the work of
whoever looks. A folder that is complete can still be written to: two equal stamps some time apart tell.
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
class Arrival:
    """A checkpoint that is there, complete or not.

    Attributes:
        name: `<watch>.<folder>`, such as `run7.checkpoint-500`; of a hub `<watch>.<first 12 hex digits of the commit>`.
        entry: what the registry is to hold; None while it waits.
        stamp: as `checkpoint.stamp`; empty where it cannot be taken yet.
        waits: why it is not measured yet, one sentence that names the file; None when it is complete.
    """

    name: str
    entry: Fields | None
    stamp: str
    waits: str | None


def arrivals_in(watch: Watch, registry: Registry) -> list[Arrival]:
    """What is in a watched place: of a directory every `checkpoint-*` folder by training step, registered or not; of a
    hub's branch the commits after the newest registered one, oldest first.

    Raises:
        CheckpointError: the directory is not there, the hub does not answer, the registry cannot be read.
    """
    registered = {checkpoint.name: checkpoint for checkpoint in registry.all()}
    if watch.hub is not None:
        return _in_branch(watch, watch.hub, registered)
    assert watch.directory is not None
    directory = watch.directory.absolute()
    if not directory.is_dir():
        raise CheckpointError(
            f"watch {watch.name}: directory: {directory} is not there; expected the folder of a training run"
        )
    folders = [folder for folder in directory.glob("checkpoint-*") if folder.is_dir()]
    steps = {folder: training_step(folder) for folder in folders}
    folders.sort(key=lambda folder: (steps[folder] is None, steps[folder] or 0, folder.name))
    return [_in_folder(watch, folder, steps[folder], registered) for folder in folders]


def _in_folder(watch: Watch, folder: Path, step: int | None, registered: Mapping[str, Checkpoint]) -> Arrival:
    name, stamped = f"{watch.name}.{folder.name}", ""
    try:
        entry = _placed(watch, folder, registered) | _ordered(watch, step)
        checkpoint = Checkpoint.model_validate({"name": _free(name, folder, registered), **entry})
        stamped = stamp(checkpoint)
        check_complete(checkpoint)
    except CheckpointError as error:
        return Arrival(name, None, stamped, str(error))
    except OSError as error:  # not ours to read, or gone in this moment: its neighbours are none the worse
        return Arrival(name, None, stamped, f"{folder} cannot be read: {error}")
    return Arrival(name, entry, stamped, None)


def _placed(watch: Watch, folder: Path, registered: Mapping[str, Checkpoint]) -> Fields:
    """Where the weights are: the folder, or the folder as an adapter of its base."""
    file = folder / "adapter_config.json"
    if not file.is_file():
        return {"path": str(folder)}
    base = base_of(watch, file, adapter_files(folder)[1], registered)
    if base.path is not None:
        return {"path": str(base.path.absolute()), "adapter": str(folder)}
    return {"hub": str(base.hub), "revision": str(base.revision), "adapter": str(folder)}


def _ordered(watch: Watch, step: int | None) -> Fields:
    return {"series": watch.name} if step is None else {"series": watch.name, "step": step}


def _free(name: str, folder: Path, registered: Mapping[str, Checkpoint]) -> str:
    """The name, if it is one and stands for no other folder."""
    try:
        checked_name(name)
    except ValueError as error:
        raise CheckpointError(f"{folder}: {error}") from None
    if (taken := registered.get(name)) is not None:
        place = taken.adapter or taken.path
        if place is None or place.resolve() != folder.resolve():
            raise CheckpointError(
                f"{folder}: {name} is registered already, for {place or taken.hub or taken.imported}; "
                "expected a name of its own: watch this directory under another name"
            )
    return name


def _in_branch(watch: Watch, repo: str, registered: Mapping[str, Checkpoint]) -> list[Arrival]:
    known = {str(each.revision) for each in registered.values() if each.series == watch.name and each.revision}
    arrivals = []
    for commit in hub.commits_of(repo, watch.branch or "main", known):
        name = f"{watch.name}.{commit.revision[:12]}"
        entry = {"hub": repo, "revision": commit.revision} | _ordered(watch, commit.step)
        waits = hub.lacking(repo, commit.revision)
        stamped = stamp(Checkpoint.model_validate({"name": name, **entry}))
        arrivals.append(Arrival(name, None if waits else entry, stamped, waits))
    return arrivals
