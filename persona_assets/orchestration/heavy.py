"""How a heavy asset walks over the personas of a run: find what is stored, compute what is not, store each at once.

One run takes many personas of a checkpoint and loads the model at most once. A persona is on disk as soon as it is
done, so a killed run loses the persona in flight and nothing else; the next run finds the others by fingerprint.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import dagster as dg

from persona_assets.artefacts import Artefact, Value
from persona_assets.checkpoint import Checkpoint, CheckpointError, Identity, identify
from persona_assets.digest import digest_of
from persona_assets.orchestration import contents
from persona_assets.orchestration.history import latest_artefacts
from persona_assets.orchestration.home import Home
from persona_assets.orchestration.io_managers import refuse_strangers
from persona_assets.orchestration.page import link_to_report, links_to_personas
from persona_assets.orchestration.partitions import partition_key, split_key
from persona_assets.orchestration.provenance import CODE_VERSIONS, GENERATING, UPSTREAM, personas_of, study_part
from persona_assets.orchestration.resources import Gpu
from persona_assets.study import Study

T = TypeVar("T")

if TYPE_CHECKING:
    from persona_assets.inference import Chat, Generator, LoadedModel


@dataclass(frozen=True)
class Station:
    """One checkpoint of a run on the run's hardware.

    Attributes:
        pending: personas of it that the run has still to compute, in the study's order.
    """

    gpu: Gpu
    checkpoint: Checkpoint
    identity: Identity
    log: Any
    pending: tuple[str, ...]

    @cached_property
    def chat(self) -> "Chat":
        from persona_assets.inference import read_chat

        return read_chat(self.checkpoint)

    @cached_property
    def stop_ids(self) -> list[int]:
        from persona_assets.inference import read_stop_ids

        return read_stop_ids(self.checkpoint, self.chat)

    def load(self, alone: bool = False) -> "LoadedModel":
        """The model in memory; see `Gpu.load`."""
        loaded: LoadedModel = self.gpu.load(self.checkpoint, self.identity, self.log, alone=alone)
        return loaded

    def generator(self, marker_adapter: Path | None = None) -> "Generator":
        """What writes responses, with a marker's adapter if one is given; see `Gpu.generator`."""
        generator: Generator = self.gpu.generator(self, marker_adapter)
        return generator

    def together(self, generator: "Generator", persona: str) -> list[str]:
        """The personas whose prompts belong into one call with this one's."""
        return list(self.pending) if generator.takes_all else [persona]


def made_together(make: Callable[[Station, str], dict[str, T]]) -> Callable[[Station, str], T]:
    """What `make` gives for a persona, where it gives others of the same checkpoint too: each is made once."""
    made: dict[tuple[str, str], T] = {}

    def take(station: Station, persona: str) -> T:
        name = station.checkpoint.name
        if (name, persona) not in made:
            made.update({(name, each): value for each, value in make(station, persona).items()})
        return made.pop((name, persona))

    return take


# The persona's station, the persona, its upstream artefact if the asset has one → value, what it cost.
Compute = Callable[[Station, str, Artefact | None], tuple[Value, dict[str, Any]]]
# The stored value → what its page shows of it, before what it cost.
Show = Callable[[Any], dict[str, Any]]


def for_each_persona(
    context: dg.AssetExecutionContext, study: Study, gpu: Gpu, home: Home, compute: Compute, show: Show
) -> None:
    """Materialises every partition of the run from the store or by `compute`, each with metadata of its own.

    Args:
        compute: is handed the checkpoint's station, the persona, and the upstream artefact if there is one.
        show: what the page shows of a value.

    Raises:
        CheckpointError: the weights behind the name are not those that `model_checkpoint` recorded.
        ArtefactError: the upstream artefact is missing or belongs to another study.
        NonFiniteError: numbers of some personas were none; those of all others are stored.
    """
    from persona_assets.inference import NonFiniteError

    asset, keys = context.asset_key.to_user_string(), context.partition_keys
    recorded = {
        name: recorded_checkpoint(context.instance, home, name)
        for name in dict.fromkeys(split_key(key)[0] for key in keys)
    }
    sources = _upstream(context, home, study, UPSTREAM[asset], keys) if asset in UPSTREAM else {}
    made_from = {}
    for key in keys:
        name, persona = split_key(key)
        above = sources[key].fingerprint if sources else None
        made_from[key] = heavy_made_from(study, asset, persona, recorded[name][1], gpu, above)
    stored = {key: home.store.find(asset, made_from[key]) for key in keys}
    wanted = [digest_of(made_from[key]) for key in keys if stored[key] is None]
    failed: dict[str, NonFiniteError] = {}
    with home.store.claimed(asset, wanted, context.log.info):
        # What was missing may have been stored by a process that was waited for.
        stored = {key: found or home.store.find(asset, made_from[key]) for key, found in stored.items()}
        missing = [split_key(key) for key in keys if stored[key] is None]
        stations = {
            name: Station(gpu, *recorded[name], context.log, tuple(persona for of, persona in missing if of == name))
            for name in recorded
        }
        for position, key in enumerate(keys, start=1):
            name, persona = split_key(key)
            artefact = stored[key]
            computed = artefact is None
            if artefact is None:
                try:
                    value, cost = compute(stations[name], persona, sources.get(key))
                except NonFiniteError as error:
                    context.log.error(f"{asset} {position}/{len(keys)} {persona}: {error}")
                    failed[persona] = error
                    continue
                cost |= {"finished": datetime.now(UTC).isoformat(timespec="seconds"), "run": context.run.run_id}
                artefact = home.store.put(asset, made_from[key], value, cost)
            value = artefact.read()
            shown = links_to_personas(asset, name, personas_of(study, asset)) | link_to_report(name) | show(value)
            facts = _metadata(artefact, computed) | contents.found(asset, value)
            context.add_asset_metadata(shown | facts | shown, partition_key=key)
            context.log.info(
                f"{asset} {position}/{len(keys)} {persona}: {_line(artefact) if computed else 'in the store already'}"
            )
    if failed:
        reasons = "; ".join(f"{persona}: {error}" for persona, error in failed.items())
        raise NonFiniteError(f"{asset}: {len(failed)} of {len(keys)} failed, the others are stored: {reasons}")


def _upstream(
    context: dg.AssetExecutionContext, home: Home, study: Study, upstream: str, keys: Sequence[str]
) -> dict[str, Artefact]:
    """Each partition's artefact of the asset that it is made from."""
    sources = latest_artefacts(context.instance, home.store, upstream, keys)
    for key, source in sources.items():
        refuse_strangers(study, upstream, {split_key(key)[1]: source})
    return sources


def heavy_made_from(
    study: Study, asset: str, persona: str, identity: Identity, gpu: Gpu, upstream: str | None
) -> dict[str, Any]:
    """Everything that a heavy artefact is the digest of; `upstream`: fingerprint of what it starts from."""
    return {
        "asset": asset,
        "code": CODE_VERSIONS[asset],
        "checkpoint": identity.digest,
        "study": study_part(study, asset, persona),
        "environment": gpu.environment(writes=asset in GENERATING),
        "upstream": upstream,
    }


def recorded_checkpoint(instance: dg.DagsterInstance, home: Home, name: str) -> tuple[Checkpoint, Identity]:
    """The registered checkpoint and the identity that `model_checkpoint` recorded, after comparing the two.

    Raises:
        CheckpointError: the files have changed since.
    """
    recorded = latest_artefacts(instance, home.store, "model_checkpoint", [name])[name].read()
    checkpoint = home.registry.get(name)
    identity = identify(checkpoint, home.digests)
    if identity != (known := Identity.model_validate(recorded)):
        changed = [field for field in Identity.model_fields if getattr(identity, field) != getattr(known, field)]
        raise CheckpointError(
            f"{name}: {', '.join(changed)} changed since model_checkpoint was materialised; "
            "materialise model_checkpoint again, or register the new weights under a name of their own"
        )
    return checkpoint, identity


def key_range(study: Study, asset: str, checkpoint: str) -> dict[str, str]:
    """Run tags that put all personas of a checkpoint into one run; a reversed range would silently be empty."""
    personas = personas_of(study, asset)
    return {
        "dagster/asset_partition_range_start": partition_key(checkpoint, personas[0]),
        "dagster/asset_partition_range_end": partition_key(checkpoint, personas[-1]),
    }


def _metadata(artefact: Artefact, computed: bool) -> dict[str, Any]:
    environment = {name: value for name, value in artefact.made_from["environment"].items() if value}
    return {
        **{name: value for name, value in artefact.measured.items() if name != "recipe_digest"},
        **environment,
        "computed": computed,
        **contents.record(artefact),
    }


def _line(artefact: Artefact) -> str:
    cost = artefact.measured
    return f"{cost['tokens']} tokens in {cost['seconds']:.1f} s, {cost['tokens_per_second']:.0f} tokens/s"
