"""Which weights are measured."""

from typing import Any

import dagster as dg

from persona_assets.checkpoint import identify
from persona_assets.orchestration.home import Home
from persona_assets.orchestration.partitions import STUDY, per_checkpoint
from persona_assets.orchestration.provenance import code_version

CHECKPOINTS = "checkpoints"


@dg.asset(
    partitions_def=per_checkpoint,
    group_name=CHECKPOINTS,
    kinds={"safetensors"},
    code_version=code_version(STUDY, "model_checkpoint"),
)
def model_checkpoint(context: dg.AssetExecutionContext, home: dg.ResourceParam[Home]) -> dg.Output[dict[str, Any]]:
    """Identity of a checkpoint's bytes: SHA-256 of weights, adapter, tokenizer, chat template and config.

    Its data version is that identity, so new weights behind a name make everything downstream out of date, and the same
    weights registered again make nothing so.
    """
    checkpoint = home.registry.get(context.partition_key)
    identity = identify(checkpoint, home.digests)
    return dg.Output(
        identity.model_dump(),
        data_version=dg.DataVersion(identity.digest),
        metadata={
            "digest": identity.digest,
            "files": str(checkpoint.path or f"{checkpoint.hub} at {checkpoint.revision}"),
            **{name: value for name, value in identity.model_dump().items() if value is not None},
        },
    )
