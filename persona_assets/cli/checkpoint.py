"""`persona-assets checkpoint`: register, show, list and remove checkpoints."""

from pathlib import Path
from typing import Annotated

import typer

from persona_assets.checkpoints import Checkpoint, CheckpointError, Identity, identify
from persona_assets.checkpoints.training_step import training_step
from persona_assets.cli.shared import absolute, digests, open_instance, open_registry, open_watched

checkpoint_app = typer.Typer(no_args_is_help=True, help="Register, show, list and remove checkpoints.")

Name = Annotated[str, typer.Argument(help="Name of a registered checkpoint.")]


@checkpoint_app.command("add")
def checkpoint_add(
    name: Annotated[str, typer.Argument(help="Name of the checkpoint: lower-case letters, digits, '_', '.', '-'.")],
    path: Annotated[Path | None, typer.Option(help="Local Hugging Face directory.")] = None,
    hub: Annotated[str | None, typer.Option(help="Hub repository, such as Qwen/Qwen2.5-7B-Instruct.")] = None,
    revision: Annotated[str | None, typer.Option(help="Commit of the hub repository, 40 hex digits.")] = None,
    adapter: Annotated[Path | None, typer.Option(help="Directory of a LoRA adapter to apply.")] = None,
    adapter_hub: Annotated[str | None, typer.Option(help="Hub repository of a LoRA adapter to apply.")] = None,
    adapter_revision: Annotated[str | None, typer.Option(help="Commit of the adapter's repository.")] = None,
    adapter_subfolder: Annotated[str | None, typer.Option(help="Folder of the adapter in its repository.")] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="Directory of the tokenizer and template, if the model was saved without.")
    ] = None,
    series: Annotated[str | None, typer.Option(help="Training run that the checkpoint belongs to.")] = None,
    step: Annotated[
        int | None, typer.Option(min=0, help="Training step. Default: the step saved by the trainer with the weights.")
    ] = None,
) -> None:
    """Inspect a local directory or a hub repository at a commit, and register it if it can be measured."""
    registry = open_registry()
    directory = adapter or path
    fields = {
        "path": absolute(path),
        "hub": hub,
        "revision": revision,
        "adapter": absolute(adapter),
        "adapter_hub": adapter_hub,
        "adapter_revision": adapter_revision,
        "adapter_subfolder": adapter_subfolder,
        "tokenizer": absolute(tokenizer),
        "series": series,
        "step": training_step(directory) if step is None and directory else step,
    }
    entry = {field: value for field, value in fields.items() if value is not None}
    registry.check_added(name, entry)
    checkpoint = registry.parsed(name, entry)
    lines = _inspected(checkpoint)
    if checkpoint.path is not None:
        lines.insert(0, f"{name}: {identify(checkpoint, digests()).digest}")
    registry.add(name, entry)
    print("\n".join(lines))
    print(f"added to {registry.file}; measure it with `persona-assets run --checkpoint {name}`")


@checkpoint_app.command("show")
def checkpoint_show(name: Name) -> None:
    """Show how a checkpoint is measured, where its files are, and their digests."""
    checkpoint = open_registry().get(name)
    print("\n".join([f"{name}: {_place(checkpoint)}", *(_inspected(checkpoint) if not checkpoint.imported else [])]))
    if checkpoint.path is not None and checkpoint.adapter_hub is None:
        for field, value in identify(checkpoint, digests()).record().items():
            print(f"{field:16}{value}")


@checkpoint_app.command("remove")
def checkpoint_remove(name: Name) -> None:
    """Remove a checkpoint from the registry and from Dagster's page. What was measured stays stored."""
    from persona_assets.graph.partitions import CHECKPOINT

    for watch in open_watched().all():
        if watch.base == name:
            raise CheckpointError(f"{name}: is the base of watch {watch.name} in watched.yaml; change that first")
    registry = open_registry()
    registry.remove(name)
    instance = open_instance()
    if name in instance.get_dynamic_partitions(CHECKPOINT):
        instance.delete_dynamic_partition(CHECKPOINT, name)
    print(f"removed from {registry.file}; what was measured stays in {registry.file.parent / 'artefacts'}")


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
        elif checkpoint.path is None or checkpoint.adapter_hub is not None:
            print(f"{name:32} {_place(checkpoint)}")
        else:
            print(f"{name:32} {_state(checkpoint, verify)}")


def _inspected(checkpoint: Checkpoint) -> list[str]:
    from persona_assets.inference.inspection import inspect  # imports PyTorch

    return inspect(checkpoint).lines()


def _state(checkpoint: Checkpoint, verify: bool) -> str:
    if gone := checkpoint.gone():
        return f"{gone} is gone; what was measured stays stored"
    try:
        identity: Identity = identify(checkpoint, digests(), recheck=verify)
    except CheckpointError as error:
        return f"cannot be measured: {error}"
    return f"{identity.digest[:16]} {_place(checkpoint)}"


def _place(checkpoint: Checkpoint) -> str:
    """Return where a checkpoint's files are."""
    base = checkpoint.path or checkpoint.imported or f"{checkpoint.hub} at {checkpoint.revision}"
    folder = f", folder {checkpoint.adapter_subfolder}" if checkpoint.adapter_subfolder else ""
    hub = f"{checkpoint.adapter_hub} at {checkpoint.adapter_revision}{folder}" if checkpoint.adapter_hub else None
    adapter = checkpoint.adapter or hub
    return f"{base} with adapter {adapter}" if adapter else str(base)
