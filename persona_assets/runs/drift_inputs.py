"""Inputs of `checkpoint_drift`: which checkpoints are comparable, their order, and the tables to compare."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg
import pandas as pd

from persona_assets.checkpoints import Checkpoint
from persona_assets.graph.history import latest_fingerprints
from persona_assets.graph.home import Home
from persona_assets.graph.partitions import split_key
from persona_assets.graph.provenance import HEAVY, code_version, study_part
from persona_assets.store.artefacts import ArtefactError
from persona_assets.study import Study

DRIFT = "checkpoint_drift"
MATRIX, COSINE, LEAKAGE = "logit_js_matrix", "centroid_cosine", "leakage_table"


@dataclass(frozen=True)
class Compared:
    """Checkpoints that one study measured, and can therefore be compared.

    Attributes:
        checkpoints: one row per checkpoint, in display order: checkpoint, series ("" if none), step (NaN if unknown),
            previous (the checkpoint that it is compared with, or None).
        fingerprints: table → checkpoint → fingerprint.
        left_out: checkpoint → reason why it is not compared.
    """

    checkpoints: pd.DataFrame
    fingerprints: dict[str, dict[str, str]]
    left_out: dict[str, str]

    def made_from(self, study: Study) -> dict[str, Any]:
        """Return what the fingerprint of the comparison is the digest of."""
        order = self.checkpoints.astype({"step": object}).where(self.checkpoints.notna(), None)
        return {
            "asset": DRIFT,
            "code_version": code_version(study, DRIFT),
            "checkpoints": order.to_dict(orient="records"),
            "inputs": self.fingerprints,
        }

    def read(self, home: Home, asset: str) -> dict[str, Any]:
        """Read an asset's tables: checkpoint → table, in the order of `checkpoints`."""
        known = self.fingerprints.get(asset, {})
        return {
            name: home.store.get(asset, known[name]).read() for name in self.checkpoints.checkpoint if name in known
        }


def compare(
    instance: dg.DagsterInstance, home: Home, study: Study, soon: Mapping[str, Mapping[str, str]] | None = None
) -> Compared:
    """Return the registered checkpoints whose tables were computed for the study's current settings.

    Args:
        soon: checkpoint → asset → fingerprint of tables that are about to be computed; they replace the stored ones.
    """
    soon = soon or {}
    registered = {name: home.registry.get(name) for name in home.registry.names()}
    fingerprints: dict[str, dict[str, str]] = {}
    left_out: dict[str, str] = {}
    for asset in (MATRIX, COSINE, *([LEAKAGE] if study.has_leakage else [])):
        made = {name: soon[name][asset] for name in registered if name in soon}
        for name, fingerprint in latest_fingerprints(instance, asset, [*registered]).items():
            if name in soon:
                continue
            if reason := _not_of_this_study(home, study, asset, fingerprint):
                left_out[name] = reason
            else:
                made[name] = fingerprint
        fingerprints[asset] = made
    names = [name for name in registered if name in fingerprints[MATRIX] and name in fingerprints[COSINE]]
    kept = {asset: {name: made[name] for name in names if name in made} for asset, made in fingerprints.items()}
    bases = {watch.name: watch.base for watch in home.watched.all() if watch.base}
    order = in_order([registered[name] for name in names], bases)
    return Compared(order, kept, {name: reason for name, reason in left_out.items() if name not in names})


def in_order(checkpoints: Sequence[Checkpoint], bases: Mapping[str, str]) -> pd.DataFrame:
    """Sort checkpoints by series and training step, and name for each the one that it is compared with.

    A series starts with its base as step 0: the checkpoint that `bases` names for the series, or the base model of its
    adapters. A checkpoint is compared with its predecessor in the series, or with its base if steps are unknown.

    Args:
        bases: series → name of its base checkpoint.

    Returns:
        Columns checkpoint, series, step, previous; see `Compared.checkpoints`.
    """
    base = {each.name: _base(each, checkpoints, bases) for each in checkpoints}
    table = pd.DataFrame(
        {
            "checkpoint": [each.name for each in checkpoints],
            "series": [each.series or "" for each in checkpoints],
            "step": [math.nan if each.step is None else float(each.step) for each in checkpoints],
        }
    )
    for name in {name for name in base.values() if name}:
        users = {each.series or "" for each in checkpoints if base[each.name] == name}
        if len(users) == 1:  # a base shared by several series belongs to none of them
            begins = table.checkpoint == name
            table.loc[begins, "series"], table.loc[begins, "step"] = users.pop(), 0.0
    places = {series: place for place, series in enumerate(dict.fromkeys(table.series))}
    table = table.assign(place=table.series.map(places)).sort_values(
        ["place", "step"], kind="stable", na_position="first"
    )
    previous: list[str | None] = []
    for position, (name, series, step, _) in enumerate(table.itertuples(index=False)):
        before = table.iloc[position - 1] if position else None
        follows = before is not None and before.series == series and not math.isnan(before.step + step)
        previous.append(before.checkpoint if before is not None and follows else base[name])
    return (
        table.drop(columns="place")
        .assign(previous=pd.Series(previous, index=table.index, dtype=object))
        .reset_index(drop=True)
    )


def _base(checkpoint: Checkpoint, checkpoints: Sequence[Checkpoint], bases: Mapping[str, str]) -> str | None:
    """Return the name of the checkpoint's base model; None if it is unknown or not among `checkpoints`."""
    if (named := bases.get(checkpoint.series or "")) and named != checkpoint.name:
        return named if any(each.name == named for each in checkpoints) else None
    if not checkpoint.has_adapter:
        return None
    located = ("adapter", "adapter_hub", "adapter_revision", "adapter_subfolder", "series", "step")
    bare = dict.fromkeys(located)
    under = checkpoint.model_copy(update=bare)
    return next(
        (
            each.name
            for each in checkpoints
            if each.model_copy(update=bare | {"name": checkpoint.name}) == under and not each.has_adapter
        ),
        None,
    )


def _not_of_this_study(home: Home, study: Study, asset: str, fingerprint: str) -> str | None:
    """Return why a table was not computed for the study's current settings; None if it was."""
    try:
        made_from = home.store.get(asset, fingerprint).made_from
        if made_from["code_version"] != code_version(study, asset):
            return f"{asset} was computed with other settings or code"
        heavy = {name: inputs for name, inputs in made_from["inputs"].items() if name in HEAVY}
        for name, partitions in heavy.items():
            # Checking one persona is enough: tables are only built from personas that belong to the same study.
            partition, its = next(iter(partitions.items()))
            if home.store.get(name, its).made_from["study"] != study_part(study, name, split_key(partition)[1]):
                return f"{asset} was measured with other personas, prompts, questions or settings"
    except (ArtefactError, KeyError) as error:
        return str(error)
    return None
