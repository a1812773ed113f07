"""Decorators that declare assets: heavy ones, which need the model, and light ones, which are made from them."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dagster as dg

from persona_assets.graph.groups import ANALYSIS_TEAM, MEASUREMENT_TEAM
from persona_assets.graph.home import Home
from persona_assets.graph.partitions import STUDY, per_checkpoint
from persona_assets.graph.provenance import code_version
from persona_assets.graph.resources import Gpu
from persona_assets.graph.schemas import expected_schema
from persona_assets.runs.heartbeat import heartbeat
from persona_assets.runs.heavy import Show, for_each_persona
from persona_assets.study import Study


def heavy_asset(
    group_name: str,
    partitions_def: dg.PartitionsDefinition[Any],
    kinds: set[str],
    deps: Sequence[str | dg.AssetDep],
    op_tags: Mapping[str, str] | None = None,
) -> Callable[[Show], dg.AssetsDefinition]:
    """Declare an asset that the checkpoint's model computes, one artefact per persona.

    The asset takes its name and description from the decorated function, which returns the metadata of a stored value
    for Dagster's page. `stages` contains the computation.

    Args:
        deps: upstream assets in addition to `model_checkpoint`.
    """

    def declare(show: Show) -> dg.AssetsDefinition:
        name = show.__name__

        @dg.asset(
            name=name,
            description=inspect.getdoc(show),
            group_name=group_name,
            partitions_def=partitions_def,
            kinds=kinds,
            deps=["model_checkpoint", *deps],
            pool="gpu",
            backfill_policy=dg.BackfillPolicy.single_run(),
            owners=MEASUREMENT_TEAM,
            metadata=expected_schema(name),
            code_version=code_version(STUDY, name),
            op_tags=op_tags,
        )
        def compute(
            context: dg.AssetExecutionContext, study: dg.ResourceParam[Study], gpu: Gpu, home: dg.ResourceParam[Home]
        ) -> None:
            for_each_persona(context, study, gpu, home, show)

        return compute

    return declare


def light_asset(
    group_name: str, kinds: set[str], ins: Mapping[str, dg.AssetIn] | None = None
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """Declare an asset that the decorated function computes from other assets, one artefact per checkpoint.

    The function need not log that it is still working; see `heartbeat`.
    """

    def declare(compute: Callable[..., Any]) -> dg.AssetsDefinition:
        name = compute.__name__

        @functools.wraps(compute)
        def never_silent(*inputs: Any, **named: Any) -> Any:
            with heartbeat(dg.AssetExecutionContext.get().log, lambda: name):
                return compute(*inputs, **named)

        return dg.asset(
            group_name=group_name,
            partitions_def=per_checkpoint,
            kinds=kinds,
            owners=ANALYSIS_TEAM,
            metadata=expected_schema(name),
            code_version=code_version(STUDY, name),
            ins=ins,
        )(never_silent)

    return declare
