"""Scans a watched directory or hub branch for checkpoints.

A scan is cheap (headers, small files, a few requests) and changes nothing; callers register and measure what it finds.
A complete folder may still be written to: callers compare its stamp at two times to find out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from persona_assets.checkpoints import hub
from persona_assets.checkpoints.adapters import adapter_files
from persona_assets.checkpoints.bases import base_of, registered_base
from persona_assets.checkpoints.checkpoint import Checkpoint, CheckpointError, check_complete, stamp
from persona_assets.checkpoints.files import has_vocabulary, stored_template
from persona_assets.checkpoints.registry import Registry
from persona_assets.checkpoints.training_step import training_step
from persona_assets.checkpoints.watched import Watch
from persona_assets.study import checked_name

Fields = dict[str, str | int]


# Pattern of a watch that has none.
PATTERN = "checkpoint-*"
MOST_NAMED = 5  # other folders that are named if none matches


@dataclass(frozen=True)
class FoundCheckpoint:
    """A checkpoint found by a scan, complete or not.

    Attributes:
        name: `<watch>.<folder>`, such as `run7.checkpoint-500`; for a hub `<watch>.<first 12 digits of the commit>`.
        entry: the fields of its registry entry; None while it is incomplete.
        stamp: see `checkpoint.stamp`; empty if it cannot be computed yet.
        problem: why it cannot be measured yet, in one sentence that names the file; None if it is complete.
        final: whether waiting does not solve the problem; see `CheckpointError`.
    """

    name: str
    entry: Fields | None
    stamp: str
    problem: str | None
    final: bool = False


def scan_watch(watch: Watch, registry: Registry) -> list[FoundCheckpoint]:
    """Return the checkpoints at a watched location.

    For a directory these are all folders that match its pattern by training step, registered or not; for a hub branch,
    the commits after the newest registered one, oldest first.

    Raises:
        CheckpointError: the directory does not exist or holds other folders only, the hub does not respond, or the
            registry cannot be read.
    """
    return Scan({checkpoint.name: checkpoint for checkpoint in registry.all()}, registry.removed()).all(watch)


@dataclass(frozen=True)
class Scan:
    """Scans of watched locations against one reading of the registry.

    Attributes:
        registered: registered checkpoints by name.
        removed: entries of removed checkpoints by name.
        until: time (`time.monotonic`) at which requests to a hub end.
    """

    registered: Mapping[str, Checkpoint]
    removed: Mapping[str, Any] = field(default_factory=dict)
    until: float | None = None

    def all(self, watch: Watch) -> list[FoundCheckpoint]:
        """Return all checkpoints of a watch; see `scan_watch`."""
        if watch.hub is not None:
            return self._branch(watch, watch.hub)
        return [self._folder(watch, folder, step) for folder, step in _folders(watch)]

    def new(self, watch: Watch) -> list[FoundCheckpoint]:
        """Return the checkpoints of a watch that are neither registered nor removed; opens no others."""
        if watch.hub is not None:
            return [each for each in self._branch(watch, watch.hub) if each.name not in self.removed]
        return [
            self._folder(watch, folder, step)
            for folder, step in _folders(watch)
            if (name := _name(watch, folder)) not in self.removed and not self._is_registered(name, folder)
        ]

    def _is_registered(self, name: str, folder: Path) -> bool:
        known = self.registered.get(name)
        return known is not None and folder in (known.adapter or known.path, known.path)

    def _folder(self, watch: Watch, folder: Path, step: int | None) -> FoundCheckpoint:
        name, stamped = _name(watch, folder), ""
        try:
            entry = self._location(watch, folder) | _series(watch, step)
            checkpoint = Checkpoint.model_validate({"name": self._available(name, folder), **entry})
            stamped = stamp(checkpoint)
            check_complete(checkpoint)
        except CheckpointError as error:
            return FoundCheckpoint(name, None, stamped, str(error), error.final)
        except OSError as error:  # permission denied, or deleted meanwhile: the other folders are still scanned
            return FoundCheckpoint(name, None, stamped, f"{folder} cannot be read: {error}")
        return FoundCheckpoint(name, entry, stamped, None)

    def _location(self, watch: Watch, folder: Path) -> Fields:
        """Return the registry fields that locate the weights: the folder itself, or its base model and the adapter."""
        file = folder / "adapter_config.json"
        if not file.is_file():
            return {"path": str(folder)} | self._tokenizer(watch, folder)
        base = base_of(watch, file, adapter_files(folder).config, self.registered)
        if base.path is not None:
            return {"path": str(base.path.absolute()), "adapter": str(folder)}
        return {"hub": str(base.hub), "revision": str(base.revision), "adapter": str(folder)}

    def _tokenizer(self, watch: Watch, folder: Path) -> Fields:
        """Return the field `tokenizer`, which is that of the watch's base, if the folder was saved without its own."""
        if watch.base is None or (has_vocabulary(folder) and stored_template(folder)):
            return {}
        return {"tokenizer": str(registered_base(watch, self.registered).texts().absolute())}

    def _available(self, name: str, folder: Path) -> str:
        """Return the name, after checking that it is valid and not used for another folder."""
        try:
            checked_name(name)
        except ValueError as error:
            raise CheckpointError(f"{folder}: {error}", final=True) from None
        if (taken := self.registered.get(name)) is not None:
            place = taken.adapter or taken.path
            if place is None or place.resolve() != folder.resolve():
                raise CheckpointError(
                    f"{folder}: {name} is already registered for {place or taken.hub or taken.imported}; "
                    "expected an unused name; watch this directory under another name"
                )
        return name

    def _branch(self, watch: Watch, repo: str) -> list[FoundCheckpoint]:
        known = {str(each.revision) for each in self.registered.values() if each.series == watch.name and each.revision}
        gone = [
            entry for entry in self.removed.values() if isinstance(entry, dict) and entry.get("series") == watch.name
        ]
        known |= {str(entry.get("revision")) for entry in gone}
        found = []
        for commit in hub.new_commits(repo, watch.branch or "main", known, self.until):
            name = f"{watch.name}.{commit.revision[:12]}"
            entry = {"hub": repo, "revision": commit.revision} | _series(watch, commit.step)
            problem = hub.commit_problem(repo, commit.revision, self.until)
            stamped = stamp(Checkpoint.model_validate({"name": name, **entry}))
            # A commit never changes, so nothing is waited for.
            found.append(FoundCheckpoint(name, None if problem else entry, stamped, problem, final=problem is not None))
        return found


def _folders(watch: Watch) -> list[tuple[Path, int | None]]:
    """Return the folders of a directory watch with their training steps, in that order.

    Raises:
        CheckpointError: the directory does not exist, or holds other folders or a model, but none that matches.
    """
    assert watch.directory is not None
    directory, pattern = watch.directory.absolute(), watch.pattern or PATTERN
    place = f"watch {watch.name}: directory: {directory}"
    if not directory.is_dir():
        raise CheckpointError(f"{place} does not exist; expected the folder of a training run")
    steps = {folder: training_step(folder) for folder in directory.glob(pattern) if folder.is_dir()}
    others = [] if steps else sorted(each.name for each in directory.iterdir() if each.is_dir())
    own = (directory / "config.json").is_file() or (directory / "adapter_config.json").is_file()
    if not steps and (others or own):
        found = (
            f"; found {', '.join(others[:MOST_NAMED])}" + (", …" if len(others) > MOST_NAMED else "") if others else ""
        )
        advice = "; set the watch's pattern to the names of the folders" if others else ""
        final = "; the model in the folder itself is not watched, add it with `persona-assets checkpoint add`"
        raise CheckpointError(f"{place} contains no {pattern} yet{found}{advice}{final if own else ''}")
    return sorted(steps.items(), key=lambda each: (each[1] is None, each[1] or 0, str(each[0])))


def _name(watch: Watch, folder: Path) -> str:
    assert watch.directory is not None
    name = ".".join((watch.name, *folder.relative_to(watch.directory.absolute()).parts))
    return name.lower().replace("=", "-")  # `epoch=3-step=100`, as Lightning names folders


def _series(watch: Watch, step: int | None) -> Fields:
    return {"series": watch.name} if step is None else {"series": watch.name, "step": step}
