"""Dagster events for changes outside of Dagster: prompts in the study's file, checkpoints in the registry."""

import dagster as dg

from persona_assets.files.digest import digest_of
from persona_assets.graph.history import DATA_VERSION, latest_events
from persona_assets.graph.home import Home
from persona_assets.graph.partitions import CHECKPOINT
from persona_assets.study import Study

ASSET = "persona_prompts"


def prompt_events(instance: dg.DagsterInstance, study: Study) -> list[dg.AssetObservation | dg.AssetMaterialization]:
    """Return events for the personas whose prompt differs from the one in Dagster's event log.

    Each persona needs an observation followed by a materialisation. With a materialisation alone Dagster never notices
    a changed prompt; in the opposite order the last persona stays stale forever.
    """
    events_now = latest_events(instance, ASSET, list(study.personas))
    known = {name: (event.tags or {}).get(DATA_VERSION) for name, event in events_now.items()}
    events: list[dg.AssetObservation | dg.AssetMaterialization] = []
    for name, persona in study.personas.items():
        digest = digest_of(persona.prompt)
        if known.get(name) == digest:
            continue
        about = {"prompt": persona.prompt, "category": persona.category, "digest": digest, "study": study.name}
        kinds = (dg.AssetObservation, dg.AssetMaterialization)
        events += [kind(ASSET, partition=name, metadata=about, tags={DATA_VERSION: digest}) for kind in kinds]
    return events


def report_study(instance: dg.DagsterInstance, study: Study, home: Home) -> None:
    """Update the instance from the study's file and the registry: changed prompts, new checkpoints."""
    for event in prompt_events(instance, study):
        instance.report_runless_asset_event(event)
    if new := new_checkpoints(instance, home):
        instance.add_dynamic_partitions(CHECKPOINT, new)


def new_checkpoints(instance: dg.DagsterInstance, home: Home) -> list[str]:
    """Return the registered checkpoints that have no partition yet."""
    present = set(instance.get_dynamic_partitions(CHECKPOINT))
    return [name for name in home.registry.names() if name not in present]
