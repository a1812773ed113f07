"""The job by which a person registers a checkpoint from the page's launchpad."""

import dagster as dg

from persona_assets.checkpoint import Checkpoint, check_complete
from persona_assets.orchestration.home import Home
from persona_assets.orchestration.partitions import CHECKPOINT


class NewCheckpoint(dg.Config):
    """An entry of the registry: a path, or a hub repository and a commit of it; optionally an adapter."""

    name: str
    path: str | None = None
    hub: str | None = None
    revision: str | None = None
    adapter: str | None = None
    series: str | None = None
    step: int | None = None


def build_register_job(home: Home) -> dg.JobDefinition:
    """The job; it fails with the reason where the checkpoint cannot be measured."""

    @dg.op(description="Adds an entry to checkpoints.yaml and a partition to the page.")
    def register(context: dg.OpExecutionContext, config: NewCheckpoint) -> None:
        fields = config.model_dump(exclude={"name"}, exclude_none=True)
        if config.path is not None:
            places = {field: home.root / fields[field] for field in ("path", "adapter") if field in fields}
            check_complete(Checkpoint.model_validate({**fields, **places, "name": config.name}))
        home.registry.add(config.name, fields)
        context.instance.add_dynamic_partitions(CHECKPOINT, [config.name])
        context.log.info(f"{config.name} is registered; measure_checkpoint measures it")

    @dg.job(
        name="register_checkpoint",
        description="Registers a checkpoint: name and path, or name, hub and revision; optionally adapter.",
    )
    def register_checkpoint() -> None:
        register()

    return register_checkpoint
