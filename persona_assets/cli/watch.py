"""`persona-assets watch`: where new checkpoints arrive."""

from pathlib import Path
from typing import Annotated

import typer

from persona_assets.checkpoints import CheckpointError
from persona_assets.checkpoints.scan import arrivals_in
from persona_assets.cli.shared import absolute, open_registry, open_watched

watch_app = typer.Typer(no_args_is_help=True, help="Say where checkpoints arrive by themselves, and see what is there.")


@watch_app.command("add")
def watch_add(
    name: Annotated[str, typer.Argument(help="Its name, and that of the series of what arrives there.")],
    directory: Annotated[Path | None, typer.Option(help="A folder that gets `checkpoint-*` folders.")] = None,
    hub: Annotated[str | None, typer.Option(help="A hub repository; each commit from now on is a checkpoint.")] = None,
    branch: Annotated[str | None, typer.Option(help="The repository's branch; without it main.")] = None,
    base: Annotated[
        str | None,
        typer.Option(help="A registered checkpoint: what adapters found there are measured on, step 0 of the series."),
    ] = None,
) -> None:
    """Have checkpoints registered as they arrive, in a directory or in a branch of a hub repository."""
    if base is not None:
        open_registry().get(base)
    place = {"directory": absolute(directory), "hub": hub, "branch": branch, "base": base}
    open_watched().add(name, {field: value for field, value in place.items() if value is not None})
    print(f"added to {open_watched().file}; `persona-assets watch list` says what is there now")


@watch_app.command("list")
def watch_list() -> None:
    """List the watches, and what is in each of them now: registered, complete, or waiting for what."""
    registry, watches = open_registry(), open_watched().all()
    if not watches:
        print(f"none in {open_watched().file}; add one with `persona-assets watch add`")
    for watch in watches:
        print(f"{watch.name}: {watch.directory or f'{watch.hub}, branch {watch.branch}'}")
        found = {each.name: "registered" for each in registry.all() if each.series == watch.name}
        try:
            for arrival in arrivals_in(watch, registry):
                state = "registered" if arrival.name in registry.names() else "complete"
                found[arrival.name] = f"waits: {arrival.waits}" if arrival.waits else state
        except CheckpointError as error:
            print(f"  cannot be looked into: {error}")
        for name, state in found.items():
            print(f"  {name:32} {state}")
