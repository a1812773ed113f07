"""Asset `model_checkpoint`: identity of the weights that are measured."""

from typing import Any

import dagster as dg

from persona_assets.checkpoints import identify
from persona_assets.checkpoints.other_base import other_base
from persona_assets.graph.groups import CHECKPOINT, STUDY_TEAM
from persona_assets.graph.home import Home
from persona_assets.graph.partitions import STUDY, per_checkpoint
from persona_assets.graph.provenance import code_version
from persona_assets.runs.heartbeat import heartbeat
from persona_assets.runs.same_weights import same_as


@dg.asset(
    partitions_def=per_checkpoint,
    group_name=CHECKPOINT,
    owners=STUDY_TEAM,
    kinds={"safetensors"},
    code_version=code_version(STUDY, "model_checkpoint"),
)
def model_checkpoint(context: dg.AssetExecutionContext, home: dg.ResourceParam[Home]) -> dg.Output[dict[str, Any]]:
    """Identity of a checkpoint: SHA-256 digests of its weights, adapter, tokenizer, chat template and config.

    The identity is also the data version: if the files behind a registered name change, everything downstream becomes
    stale; if the same weights are registered again, nothing does.
    """
    from persona_assets.inference.inspection import inspect  # imports PyTorch

    checkpoint = home.registry.get(context.partition_key)
    with heartbeat(context.log, lambda: f"reading the files of {checkpoint.name}"):
        identity = identify(checkpoint, home.digests)
    inspection = inspect(checkpoint, STUDY)  # refuses what cannot be measured before anything is generated
    twin = same_as(context.instance, home, checkpoint.name, identity.digest)
    about = {"same_as": dg.MetadataValue.md(f"same as **{twin}**: identical weights under both names")} if twin else {}
    return dg.Output(
        identity.record(),
        data_version=dg.DataVersion(identity.digest),
        metadata={
            **about,
            "inspection": dg.MetadataValue.md("\n".join(f"- {line}" for line in inspection.lines())),
            "digest": identity.digest,
            "files": str(checkpoint.path or f"{checkpoint.hub} at {checkpoint.revision}"),
            **({"adapter_base": warning} if (warning := other_base(checkpoint)) else {}),
            **{field: value for field in ("series", "step") if (value := getattr(checkpoint, field)) is not None},
            **{name: value for name, value in identity.record().items() if value is not None},
        },
    )
