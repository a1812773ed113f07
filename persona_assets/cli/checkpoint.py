"""`persona-assets checkpoint`: register and list checkpoints."""

from pathlib import Path
from typing import Annotated

import typer

from persona_assets.checkpoints import CheckpointError, identify
from persona_assets.checkpoints.training_step import training_step
from persona_assets.cli.shared import absolute, digests, open_registry

checkpoint_app = typer.Typer(no_args_is_help=True, help="Register and list checkpoints.")


@checkpoint_app.command("add")
def checkpoint_add(
    name: Annotated[str, typer.Argument(help="Name of the checkpoint: lower-case letters, digits, '_', '.', '-'.")],
    path: Annotated[Path | None, typer.Option(help="Local Hugging Face directory.")] = None,
    hub: Annotated[str | None, typer.Option(help="Hub repository, such as Qwen/Qwen2.5-7B-Instruct.")] = None,
    revision: Annotated[str | None, typer.Option(help="Commit of the hub repository, 40 hex digits.")] = None,
    adapter: Annotated[Path | None, typer.Option(help="Directory of a LoRA adapter to apply.")] = None,
    series: Annotated[str | None, typer.Option(help="Training run that the checkpoint belongs to.")] = None,
    step: Annotated[
        int | None, typer.Option(min=0, help="Training step. Default: the step saved by the trainer with the weights.")
    ] = None,
) -> None:
    """Register a local directory or a hub repository at a commit, optionally with a LoRA adapter."""
    registry = open_registry()
    directory = adapter or path
    fields = {
        "path": absolute(path),
        "hub": hub,
        "revision": revision,
        "adapter": absolute(adapter),
        "series": series,
        "step": training_step(directory) if step is None and directory else step,
    }
    checkpoint = registry.add(name, {field: value for field, value in fields.items() if value is not None})
    if checkpoint.path is not None:
        print(f"{name}: {identify(checkpoint, digests()).digest}")
    print(f"added to {registry.file}; measure it with `persona-assets run --checkpoint {name}`")


@checkpoint_app.command("list")
def checkpoint_list(
    verify: Annotated[bool, typer.Option("--verify", help="Recompute the digests of local weights.")] = False,
) -> None:
    """List the registered checkpoints with their digests."""
    registry = open_registry()
    if not registry.names():
        print(f"no checkpoints in {registry.file}; add one with `persona-assets checkpoint add`")
    for name in registry.names():
        checkpoint = registry.get(name)
        if checkpoint.imported is not None:
            print(f"{name:32} imported; select it with `--study {name}`")
            continue
        if checkpoint.path is None:
            print(f"{name:32} {checkpoint.hub} at {checkpoint.revision}")
            continue
        try:
            print(f"{name:32} {identify(checkpoint, digests(), recheck=verify).digest[:16]} {checkpoint.path}")
        except CheckpointError as error:
            print(f"{name:32} cannot be measured: {error}")
