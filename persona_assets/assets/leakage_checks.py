"""Asset checks of marker training and leakage: training worked, the base is silent, dyads are informative."""

import dagster as dg
import pandas as pd

from persona_assets.assets.checks import run_partitions
from persona_assets.graph.history import latest_artefacts
from persona_assets.graph.home import Home
from persona_assets.graph.partitions import per_checkpoint, split_key
from persona_assets.store.artefacts import Artefact
from persona_assets.study import Study

# Tolerance of the mean log-probability of the labels: rounding error from a different order of operations.
TOLERANCE = {"float32": 0.01, "bfloat16": 0.25, "float16": 0.1}
SIGNIFICANT = 0.05
INFORMATIVE_SHARE = 0.2


def _measured(context: dg.AssetCheckExecutionContext, home: Home, asset: str) -> dict[str, Artefact]:
    found = latest_artefacts(context.instance, home.store, asset, run_partitions(context, asset))
    return {split_key(key)[1]: artefact for key, artefact in found.items()}


@dg.asset_check(asset="marker_adapter")
def loss_fell(context: dg.AssetCheckExecutionContext, home: dg.ResourceParam[Home]) -> dg.AssetCheckResult:
    """The mean loss of the last quarter of the steps is below that of the first quarter."""
    runs = {source: artefact.measured for source, artefact in _measured(context, home, "marker_adapter").items()}
    lines = {source: f"{cost['first_loss']:.3f} → {cost['last_loss']:.3f}" for source, cost in runs.items()}
    return dg.AssetCheckResult(
        passed=all(cost["last_loss"] < cost["first_loss"] for cost in runs.values()),
        description="; ".join(f"{source} {line}" for source, line in lines.items()),
        metadata=lines,
    )


@dg.asset_check(asset="marker_rates")
def merged_model_is_the_adapted_model(
    context: dg.AssetCheckExecutionContext, home: dg.ResourceParam[Home]
) -> dg.AssetCheckResult:
    """The merged model gives the same label log-probability as the unmerged adapter, and a higher one than the base.

    Tested on one training example, within rounding error.
    """
    lines, faults = {}, []
    for source, artefact in _measured(context, home, "marker_rates").items():
        base, adapter, merged = (artefact.measured[f"label_log_prob_{name}"] for name in ("base", "adapter", "merged"))
        lines[source] = f"base {base:.3f}, adapter {adapter:.3f}, merged {merged:.3f}"
        if abs(merged - adapter) > TOLERANCE[artefact.made_from["environment"]["dtype"]] or merged <= base:
            faults.append(source)
    return dg.AssetCheckResult(
        passed=not faults,
        description="mean log-probability of the labels: " + "; ".join(f"{s} {line}" for s, line in lines.items()),
        metadata={**lines, "faults": faults},
    )


@dg.asset_check(asset="leakage_table", partitions_def=per_checkpoint)
def every_target_is_sampled(study: dg.ResourceParam[Study], leakage_table: pd.DataFrame) -> dg.AssetCheckResult:
    """Every dyad of the study is present, with one reply per question and sample index."""
    assert study.marker is not None
    expected = len(study.questions) * study.marker.evaluation.samples
    dyads = {(s, t) for s in study.sources for t in study.targets if s != t}
    missing = sorted(dyads - set(zip(leakage_table.source, leakage_table.target, strict=True)))
    short = leakage_table[leakage_table.total != expected]
    return dg.AssetCheckResult(
        passed=not missing and short.empty,
        description=f"{len(leakage_table)} of {len(dyads)} dyads, {len(short)} without {expected} replies",
        metadata={"missing": [" → ".join(dyad) for dyad in missing]},
    )


@dg.asset_check(asset="leakage_table", partitions_def=per_checkpoint)
def base_is_silent(leakage_table: pd.DataFrame) -> dg.AssetCheckResult:
    """The checkpoint without an adapter never produces the marker."""
    base = leakage_table.drop_duplicates("target")
    found, total = int(base.base_found.sum()), int(base.base_total.sum())
    return dg.AssetCheckResult(passed=found == 0, description=f"{found} of {total}", metadata={"found": found})


@dg.asset_check(asset="leakage_table", partitions_def=per_checkpoint)
def sources_say_the_marker(leakage_table: pd.DataFrame) -> dg.AssetCheckResult:
    """Each source's own rate is above the base rate (Fisher's exact test, one-sided, p < 0.05)."""
    from scipy.stats import fisher_exact  # imported here because it would slow down loading the definitions by 0.5 s

    lines, faults = {}, []
    base = leakage_table.drop_duplicates("target")
    silent = [int(base.base_found.sum()), int((base.base_total - base.base_found).sum())]
    for row in leakage_table.drop_duplicates("source").to_dict("records"):
        said = [int(row["source_found"]), int(row["source_total"] - row["source_found"])]
        p = float(fisher_exact([said, silent], alternative="greater").pvalue)
        lines[str(row["source"])] = f"{said[0]}/{sum(said)}, p = {p:.2g}"
        if not p < SIGNIFICANT:
            faults.append(row["source"])
    return dg.AssetCheckResult(
        passed=not faults, description="; ".join(f"{s} {line}" for s, line in lines.items()), metadata=lines
    )


@dg.asset_check(asset="leakage_table", partitions_def=per_checkpoint)
def dyads_are_off_floor_and_ceiling(leakage_table: pd.DataFrame) -> dg.AssetCheckResult:
    """At least a fifth of the dyads have a rate strictly between 0 and 1, and every source leaks to some target."""
    between = (leakage_table.found > 0) & (leakage_table.found < leakage_table.total)
    silent = leakage_table.groupby("source", sort=False).found.sum()
    floor = [str(source) for source, found in silent.items() if found == 0]
    return dg.AssetCheckResult(
        passed=bool(between.mean() >= INFORMATIVE_SHARE) and not floor,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{int(between.sum())} of {len(leakage_table)} dyads between floor and ceiling; "
        f"{len(floor)} sources at the floor{': ' + ', '.join(floor) if floor else ''}",
        metadata={"sources_at_the_floor": floor},
    )


CHECKS = [
    loss_fell,
    merged_model_is_the_adapted_model,
    every_target_is_sampled,
    base_is_silent,
    sources_say_the_marker,
    dyads_are_off_floor_and_ceiling,
]
