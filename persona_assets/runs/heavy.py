"""Materialisation of heavy assets: reuse stored personas, compute the missing ones, store each as soon as it is done.

One run covers many personas of a checkpoint and loads the model at most once. A killed run loses only the persona that
it was computing; the next run finds the finished ones by fingerprint.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import dagster as dg

from persona_assets.checkpoints import Checkpoint, CheckpointError, Identity, identify
from persona_assets.files.digest import digest_of
from persona_assets.graph import schemas
from persona_assets.graph.history import latest_artefacts
from persona_assets.graph.home import Home
from persona_assets.graph.io_managers import require_same_study_and_weights
from persona_assets.graph.page_urls import link_to_report, links_to_personas
from persona_assets.graph.partitions import partition_key, split_key
from persona_assets.graph.provenance import UPSTREAM, personas_of
from persona_assets.graph.resources import Gpu
from persona_assets.page.asset_metadata import rendered_prompt
from persona_assets.runs.heartbeat import heartbeat
from persona_assets.runs.requirements import require_layers, require_readable_files, require_system_role
from persona_assets.runs.self_check import require_self_check
from persona_assets.runs.units import MadeFrom, combined, partition_inputs, parts_of, reads_replies, unit_inputs
from persona_assets.store.artefacts import Artefact, ArtefactError
from persona_assets.study import Study
from persona_assets.workers.choice import choose_workers
from persona_assets.workers.tasks import Task

# Stored value → metadata for Dagster's page, shown above cost and provenance.
Show = Callable[[Any], dict[str, Any]]


def for_each_persona(context: dg.AssetExecutionContext, study: Study, gpu: Gpu, home: Home, show: Show) -> None:
    """Materialise all partitions of the run, from the store where possible, and attach metadata to each.

    Args:
        show: returns metadata of a stored value for Dagster's page.

    Raises:
        CheckpointError: the checkpoint's files changed since `model_checkpoint` was materialised, or are gone and
            something is not stored.
        StudyError: the model does not have one of the study's layers.
        LeakageError: a file that the study names cannot be used.
        ArtefactError: an upstream artefact is missing or belongs to another study.
        NonFiniteError: results of some personas contain NaN or infinity; all other personas are stored.
        SelfCheckError: the model is not computed as its own forward pass computes it.
        WorkerError: see `workers.tasks.Workers`.
    """
    from persona_assets.inference import NonFiniteError

    asset, keys = context.asset_key.to_user_string(), context.partition_keys
    require_readable_files(study)
    recorded = {
        name: recorded_checkpoint(context.instance, home, name)
        for name in dict.fromkeys(split_key(key)[0] for key in keys)
    }
    for name, (_, identity) in recorded.items():
        require_layers(study, identity)
        require_system_role(study, identity, name)
    inputs = _inputs(context, home, study, gpu, asset, recorded)
    units = {
        partition_key(split_key(key)[0], unit): (key, made) for key in keys for unit, made in inputs.units[key].items()
    }
    stored = {unit: home.store.find(asset, made_from) for unit, (_, made_from) in units.items()}
    wanted = [digest_of(made_from) for unit, (_, made_from) in units.items() if stored[unit] is None]
    failed: dict[str, NonFiniteError] = {}
    computed: set[str] = set()
    done = 0

    def report(unit: str, artefact: Artefact) -> None:
        nonlocal done
        done += 1
        what = _line(artefact) if unit in computed else "already stored"
        log.info(f"{asset} {done}/{len(units)} {split_key(unit)[1]}: {what}")
        key = units[unit][0]
        parts = {each: stored[each] for each, (whose, _) in units.items() if whose == key}
        found = {each: part for each, part in parts.items() if part is not None}
        if len(found) == len(parts):
            show_partition(key, found)

    def show_partition(key: str, parts: dict[str, Artefact]) -> None:
        name, persona = split_key(key)
        made_from = partition_inputs(study, asset, persona, inputs.units[key])
        artefact = combined(home.store, study, asset, made_from, parts)
        value = artefact.read()
        shown = links_to_personas(asset, name, personas_of(study, asset)) | link_to_report(name) | show(value)
        shown |= rendered_prompt(artefact.measured)
        facts = _metadata(artefact, bool(computed & set(parts))) | schemas.actual_schema(asset, value)
        context.add_asset_metadata(shown | facts | shown, partition_key=key)

    with (
        heartbeat(context.log, lambda: f"{asset} {done}/{len(units)} done") as log,
        home.store.locked(asset, wanted, context.log.info),
    ):
        # Another process may have stored missing personas while we waited for the lock.
        stored |= {unit: home.store.find(asset, units[unit][1]) for unit, found in stored.items() if found is None}
        for unit, artefact in list(stored.items()):
            if artefact is not None:
                report(unit, artefact)
        missing = [unit for unit, artefact in stored.items() if artefact is None]
        tasks = _tasks(study, asset, gpu, recorded, missing, inputs)
        for task in tasks:
            require_self_check(context.instance, home, study, gpu, task.checkpoint, task.identity, log)
        for result in choose_workers(gpu, home, log).make(tasks):
            unit = partition_key(result.checkpoint, result.persona)
            if result.error is not None or result.value is None:
                done += 1
                log.error(f"{asset} {done}/{len(units)} {result.persona}: {result.error}")
                failed[result.persona] = result.error or NonFiniteError("no value")
                continue
            now = datetime.now(UTC).isoformat(timespec="seconds")
            cost = {**result.cost, "finished": now, "run": context.run.run_id}
            computed.add(unit)
            stored[unit] = artefact = home.store.put(asset, units[unit][1], result.value, cost)
            report(unit, artefact)
    if failed:
        reasons = "; ".join(f"{persona}: {error}" for persona, error in failed.items())
        raise NonFiniteError(f"{asset}: {len(failed)} of {len(units)} failed, the others are stored: {reasons}")


class _Inputs(NamedTuple):
    """Inputs of the run's partitions.

    Attributes:
        units: partition key → unit → what it is made from.
        upstream: partition key of a unit → its upstream artefact, for assets that have one.
        replies: checkpoint → persona → its responses, for assets that read those of every target.
    """

    units: dict[str, dict[str, MadeFrom]]
    upstream: dict[str, Artefact]
    replies: dict[str, dict[str, Artefact]]


def _inputs(
    context: dg.AssetExecutionContext,
    home: Home,
    study: Study,
    gpu: Gpu,
    asset: str,
    recorded: Mapping[str, tuple[Checkpoint, Identity]],
) -> _Inputs:
    keys = context.partition_keys
    above = _latest(context, home, study, UPSTREAM[asset], keys) if asset in UPSTREAM else {}
    replies: dict[str, dict[str, Artefact]] = {}
    for name in recorded if reads_replies(study, asset) else ():
        of_targets = [partition_key(name, target) for target in study.targets]
        found = _latest(context, home, study, "generations", of_targets)
        replies[name] = {split_key(key)[1]: artefact for key, artefact in found.items()}
    upstream, units = {}, {}
    for key in keys:
        name, persona = split_key(key)
        parts = parts_of(persona, above[key].fingerprint, above[key].made_from) if above else {}
        for unit, fingerprint in parts.items():
            upstream[partition_key(name, unit)] = home.store.get(UPSTREAM[asset], fingerprint)
        spoken = {target: artefact.fingerprint for target, artefact in replies.get(name, {}).items()}
        units[key] = unit_inputs(study, asset, persona, recorded[name][1], gpu, parts, spoken)
    return _Inputs(units, upstream, replies)


def _tasks(
    study: Study,
    asset: str,
    gpu: Gpu,
    recorded: Mapping[str, tuple[Checkpoint, Identity]],
    missing: Sequence[str],
    inputs: _Inputs,
) -> list[Task]:
    """Return one task per checkpoint with its missing units."""
    tasks = []
    for name, (checkpoint, identity) in recorded.items():
        keys = [key for key in missing if split_key(key)[0] == name]
        upstream = {split_key(key)[1]: inputs.upstream[key] for key in keys if key in inputs.upstream}
        if keys:
            if gone := checkpoint.gone():
                raise CheckpointError(
                    f"{name}: {gone} is gone, so {asset} of {len(keys)} personas cannot be computed; "
                    "what was stored before stays"
                )
            units = tuple(split_key(key)[1] for key in keys)
            environment, replies = gpu.environment(asset, identity), inputs.replies.get(name, {})
            tasks.append(Task(asset, study, checkpoint, identity, environment, units, upstream, replies))
    return tasks


def _latest(
    context: dg.AssetExecutionContext, home: Home, study: Study, asset: str, keys: Sequence[str]
) -> dict[str, Artefact]:
    """Return an input's artefact of each partition, after checking that it belongs to the study."""
    found = latest_artefacts(context.instance, home.store, asset, keys)
    require_same_study_and_weights(study, asset, {split_key(key)[1]: artefact for key, artefact in found.items()})
    return found


def recorded_checkpoint(instance: dg.DagsterInstance, home: Home, name: str) -> tuple[Checkpoint, Identity]:
    """Return the registered checkpoint and its recorded identity, after checking that its files still have it.

    Files that are gone, because a trainer deletes old checkpoints, are not compared: what is stored stays usable.

    Raises:
        CheckpointError: the files changed since `model_checkpoint` was materialised.
    """
    recorded = latest_artefacts(instance, home.store, "model_checkpoint", [name])[name].read()
    known, checkpoint = Identity.model_validate(recorded), home.registry.get(name)
    if checkpoint.gone():
        return checkpoint, known
    identity = identify(checkpoint, home.digests)
    if identity != known:
        changed = [field for field in Identity.model_fields if getattr(identity, field) != getattr(known, field)]
        raise CheckpointError(
            f"{name}: {', '.join(changed)} changed since model_checkpoint was materialised; "
            "materialise model_checkpoint again, or register the new weights under a name of their own"
        )
    return checkpoint, identity


def current_identity(instance: dg.DagsterInstance, home: Home, name: str) -> Identity:
    """Return the identity of a checkpoint's files, or the recorded one if they are gone.

    Raises:
        CheckpointError: the checkpoint is not registered or cannot be measured, or it is gone and was never measured.
    """
    checkpoint = home.registry.get(name)
    if (gone := checkpoint.gone()) is None:
        return identify(checkpoint, home.digests)
    try:
        return recorded_checkpoint(instance, home, name)[1]
    except ArtefactError:
        raise CheckpointError(f"{name}: {gone} is gone, and nothing of this checkpoint was measured") from None


def key_range(study: Study, asset: str, checkpoint: str) -> dict[str, str]:
    """Return run tags that select all personas of a checkpoint. Dagster treats a reversed range as empty, silently."""
    personas = personas_of(study, asset)
    return {
        "dagster/asset_partition_range_start": partition_key(checkpoint, personas[0]),
        "dagster/asset_partition_range_end": partition_key(checkpoint, personas[-1]),
    }


def _metadata(artefact: Artefact, computed: bool) -> dict[str, Any]:
    environment = {name: value for name, value in artefact.made_from["environment"].items() if value}
    return {
        **{
            name: value for name, value in artefact.measured.items() if name not in ("recipe_digest", "rendered_prompt")
        },
        **environment,
        "computed": computed,
        **schemas.record(artefact),
    }


def _line(artefact: Artefact) -> str:
    cost = artefact.measured
    return f"{cost['tokens']} tokens in {cost['seconds']:.1f} s, {cost['tokens_per_second']:.0f} tokens/s"
