"""Materialisation of heavy assets: reuse stored personas, compute the missing ones, store each as soon as it is done.

One run covers many personas of a checkpoint and loads the model at most once. A killed run loses only the persona that
it was computing; the next run finds the finished ones by fingerprint.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from persona_assets.checkpoints import Checkpoint, CheckpointError, Identity, identify
from persona_assets.checkpoints.linear_layers import USUAL_LAYERS, trained_modules
from persona_assets.files.digest import digest_of
from persona_assets.graph import schemas
from persona_assets.graph.history import latest_artefacts
from persona_assets.graph.home import Home
from persona_assets.graph.io_managers import require_same_study_and_weights
from persona_assets.graph.page_urls import link_to_report, links_to_personas
from persona_assets.graph.partitions import partition_key, split_key
from persona_assets.graph.provenance import CODE_VERSIONS, OF_SOURCES, UPSTREAM, personas_of, recipe_of, study_part
from persona_assets.graph.resources import Gpu
from persona_assets.page.asset_metadata import rendered_prompt
from persona_assets.runs.heartbeat import heartbeat
from persona_assets.runs.requirements import require_layers, require_readable_files, require_system_role
from persona_assets.runs.self_check import require_self_check
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
    sources = _upstream(context, home, study, UPSTREAM[asset], keys) if asset in UPSTREAM else {}
    made_from = {}
    for key in keys:
        name, persona = split_key(key)
        above = sources[key].fingerprint if sources else None
        made_from[key] = heavy_made_from(study, asset, persona, recorded[name][1], gpu, above)
    stored = {key: home.store.find(asset, made_from[key]) for key in keys}
    wanted = [digest_of(made_from[key]) for key in keys if stored[key] is None]
    failed: dict[str, NonFiniteError] = {}
    done = 0

    def report(key: str, artefact: Artefact, computed: bool) -> None:
        nonlocal done
        done += 1
        name, persona = split_key(key)
        value = artefact.read()
        shown = links_to_personas(asset, name, personas_of(study, asset)) | link_to_report(name) | show(value)
        shown |= rendered_prompt(artefact.measured)
        facts = _metadata(artefact, computed) | schemas.actual_schema(asset, value)
        context.add_asset_metadata(shown | facts | shown, partition_key=key)
        what = _line(artefact) if computed else "already stored"
        log.info(f"{asset} {done}/{len(keys)} {persona}: {what}")

    with (
        heartbeat(context.log, lambda: f"{asset} {done}/{len(keys)} done") as log,
        home.store.locked(asset, wanted, context.log.info),
    ):
        # Another process may have stored missing personas while we waited for the lock.
        stored = {key: found or home.store.find(asset, made_from[key]) for key, found in stored.items()}
        for key, artefact in stored.items():
            if artefact is not None:
                report(key, artefact, computed=False)
        missing = [key for key, artefact in stored.items() if artefact is None]
        tasks = _tasks(study, asset, gpu, recorded, missing, sources)
        for task in tasks:
            require_self_check(context.instance, home, study, gpu, task.checkpoint, task.identity, log)
        for result in choose_workers(gpu, home, log).make(tasks):
            key = partition_key(result.checkpoint, result.persona)
            if result.error is not None or result.value is None:
                done += 1
                log.error(f"{asset} {done}/{len(keys)} {result.persona}: {result.error}")
                failed[result.persona] = result.error or NonFiniteError("no value")
                continue
            now = datetime.now(UTC).isoformat(timespec="seconds")
            cost = {**result.cost, "finished": now, "run": context.run.run_id}
            report(key, home.store.put(asset, made_from[key], result.value, cost), computed=True)
    if failed:
        reasons = "; ".join(f"{persona}: {error}" for persona, error in failed.items())
        raise NonFiniteError(f"{asset}: {len(failed)} of {len(keys)} failed, the others are stored: {reasons}")


def _tasks(
    study: Study,
    asset: str,
    gpu: Gpu,
    recorded: Mapping[str, tuple[Checkpoint, Identity]],
    missing: Sequence[str],
    sources: Mapping[str, Artefact],
) -> list[Task]:
    """Return one task per checkpoint with its missing personas."""
    tasks = []
    for name, (checkpoint, identity) in recorded.items():
        keys = [key for key in missing if split_key(key)[0] == name]
        upstream = {split_key(key)[1]: sources[key] for key in keys if key in sources}
        if keys:
            if gone := checkpoint.gone():
                raise CheckpointError(
                    f"{name}: {gone} is gone, so {asset} of {len(keys)} personas cannot be computed; "
                    "what was stored before stays"
                )
            personas = tuple(split_key(key)[1] for key in keys)
            environment = gpu.environment(asset, identity)
            tasks.append(Task(asset, study, checkpoint, identity, environment, personas, upstream))
    return tasks


def _upstream(
    context: dg.AssetExecutionContext, home: Home, study: Study, upstream: str, keys: Sequence[str]
) -> dict[str, Artefact]:
    """Return the upstream asset's artefact of each partition."""
    sources = latest_artefacts(context.instance, home.store, upstream, keys)
    for key, source in sources.items():
        require_same_study_and_weights(study, upstream, {split_key(key)[1]: source})
    return sources


def heavy_made_from(
    study: Study, asset: str, persona: str, identity: Identity, gpu: Gpu, upstream: str | None
) -> dict[str, Any]:
    """Return what the fingerprint of a heavy artefact is the digest of.

    Args:
        upstream: fingerprint of the upstream artefact, for assets that have one.
    """
    return {
        "asset": asset,
        "code": CODE_VERSIONS[asset],
        "checkpoint": identity.digest,
        "study": study_part(study, asset, persona),
        "environment": gpu.environment(asset, identity),
        "upstream": upstream,
        **(_trained_modules(study, identity) if asset in OF_SOURCES else {}),
    }


def _trained_modules(study: Study, identity: Identity) -> dict[str, Any]:
    """Return the modules that a marker is trained on if they are not simply those of the recipe that exist."""
    wanted = recipe_of(study).lora.modules
    linear = identity.linear_layers.split(", ") if identity.linear_layers else sorted(USUAL_LAYERS)
    names, unmatched = trained_modules(wanted, linear)
    same = not unmatched or set(names) == set(wanted) - set(unmatched)
    return {} if same else {"trained_modules": names}


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
