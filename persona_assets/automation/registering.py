"""Job that registers a checkpoint from Dagster's launchpad."""

import dagster as dg
from pydantic import Field

from persona_assets.graph.home import Home
from persona_assets.graph.partitions import CHECKPOINT


class NewCheckpoint(dg.Config):
    """Registry entry: a path, or a hub repository and a commit; optionally an adapter."""

    name: str = Field(description="Its name: lower-case letters, digits, '_', '.', '-'.")
    path: str | None = Field(default=None, description="A local Hugging Face directory; give either this or hub.")
    hub: str | None = Field(default=None, description="A hub repository, such as Qwen/Qwen2.5-7B-Instruct.")
    revision: str | None = Field(default=None, description="A commit of the hub repository: 40 hex digits.")
    adapter: str | None = Field(default=None, description="Directory of a LoRA adapter to apply to the model.")
    series: str | None = Field(default=None, description="The training run that saved it.")
    step: int | None = Field(default=None, description="Its training step.")


def build_register_job(home: Home) -> dg.JobDefinition:
    """Return the job, which fails if the checkpoint cannot be measured."""

    @dg.op(description="Adds an entry to checkpoints.yaml and a Dagster partition.")
    def register(context: dg.OpExecutionContext, config: NewCheckpoint) -> None:
        fields = config.model_dump(exclude={"name"}, exclude_none=True)
        from persona_assets.inference.inspection import inspect  # imports PyTorch

        home.registry.check_added(config.name, fields)
        for line in inspect(home.registry.parsed(config.name, fields)).lines():
            context.log.info(line)
        home.registry.add(config.name, fields)
        context.instance.add_dynamic_partitions(CHECKPOINT, [config.name])
        context.log.info(f"registered {config.name}; launch measure_checkpoint to measure it")

    @dg.job(
        name="register_checkpoint",
        config={"ops": {"register": {"config": {"name": "my-model", "path": "/models/my-model"}}}},
        description="Registers a checkpoint: name and path, or name, hub and revision; optionally adapter.",
    )
    def register_checkpoint() -> None:
        register()

    return register_checkpoint
