"""`persona-assets watch`: register new checkpoints automatically."""

from pathlib import Path
from typing import Annotated

import typer

from persona_assets.checkpoints import CheckpointError
from persona_assets.checkpoints.scan import PATTERN, scan_watch
from persona_assets.checkpoints.watched import Watch
from persona_assets.cli.shared import absolute, open_registry, open_watched

watch_app = typer.Typer(no_args_is_help=True, help="Watch a directory or hub branch for new checkpoints.")


@watch_app.command("add")
def watch_add(
    name: Annotated[str, typer.Argument(help="Name of the watch, and of the series of its checkpoints.")],
    directory: Annotated[Path | None, typer.Option(help="Directory in which a trainer saves its checkpoints.")] = None,
    pattern: Annotated[
        str | None, typer.Option(help="Names of the folders, such as 'epoch_*'. Default: checkpoint-*.")
    ] = None,
    hub: Annotated[str | None, typer.Option(help="Hub repository; every future commit is a checkpoint.")] = None,
    branch: Annotated[str | None, typer.Option(help="Branch of the repository. Default: main.")] = None,
    base: Annotated[
        str | None,
        typer.Option(
            help="Registered base checkpoint: base of the adapters found, tokenizer of models saved without, step 0."
        ),
    ] = None,
) -> None:
    """Register new checkpoints of a directory or of a hub branch automatically."""
    if base is not None:
        open_registry().get(base)
    place = {"directory": absolute(directory), "pattern": pattern, "hub": hub, "branch": branch, "base": base}
    watch = open_watched().add(name, {field: value for field, value in place.items() if value is not None})
    if watch.directory is not None:  # a branch would have to be asked for over the network
        print(_first_look(watch))
    print(f"added to {open_watched().file}; run `persona-assets watch list` to see its checkpoints")


def _first_look(watch: Watch) -> str:
    """Return what a watched directory holds now, because a wrong folder or pattern would otherwise stay unnoticed."""
    try:
        found = scan_watch(watch, open_registry())
    except CheckpointError as error:
        return f"nothing to measure yet: {error}"
    if not found:
        return f"nothing to measure yet: {watch.directory} contains no {watch.pattern or PATTERN}"
    waiting = [each for each in found if each.problem]
    first = f"; {waiting[0].name}: {waiting[0].problem}" if waiting else ""
    return f"complete checkpoints found: {len(found) - len(waiting)} of {len(found)}{first}"


@watch_app.command("list")
def watch_list() -> None:
    """List the watches and their checkpoints: registered, removed, complete, or waiting and why."""
    registry, watches = open_registry(), open_watched().all()
    if not watches:
        print(f"no watches in {open_watched().file}; add one with `persona-assets watch add`")
    for watch in watches:
        print(f"{watch.name}: {watch.directory or f'{watch.hub}, branch {watch.branch}'}")
        found = {each.name: "registered" for each in registry.all() if each.series == watch.name}
        try:
            for candidate in scan_watch(watch, registry):
                state = "registered" if candidate.name in registry.names() else "complete"
                state = "removed" if candidate.name in registry.removed() else state
                waiting = "cannot be measured" if candidate.final else "waiting"
                found[candidate.name] = f"{waiting}: {candidate.problem}" if candidate.problem else state
        except CheckpointError as error:
            print(f"  cannot be read: {error}")
        for name, state in found.items():
            print(f"  {name:32} {state}")
