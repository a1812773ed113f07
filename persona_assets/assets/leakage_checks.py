"""Asset checks of marker training and leakage: training worked, the base is silent, dyads are informative."""

from typing import Any

import dagster as dg
import pandas as pd

from persona_assets import metrics
from persona_assets.assets.checks import run_partitions
from persona_assets.graph.history import latest_artefacts
from persona_assets.graph.home import Home
from persona_assets.graph.partitions import per_checkpoint, split_key
from persona_assets.graph.provenance import recipe_of
from persona_assets.store.artefacts import Artefact
from persona_assets.study import Study

# Tolerance of the mean log-probability of the labels: rounding error from a different order of operations.
TOLERANCE = {"float32": 0.01, "bfloat16": 0.25, "float16": 0.1}
SIGNIFICANT = 0.05
INFORMATIVE_SHARE = 0.2
# Rate below which a marker is considered absent, and the gain in nats above which it is considered trained in.
SILENT, TRAINED = 0.01, 3.0


def _measured(context: dg.AssetCheckExecutionContext, home: Home, asset: str) -> dict[str, Artefact]:
    found = latest_artefacts(context.instance, home.store, asset, run_partitions(context, asset))
    return {split_key(key)[1]: artefact for key, artefact in found.items()}


def _by_seed(artefact: Artefact, source: str) -> dict[str, dict[str, Any]]:
    """Return the cost of each training seed, named after the source and, if there are several, the seed."""
    seeds: dict[str, dict[str, Any]] = artefact.measured.get("by_seed", {})
    return {f"{source} ({seed})": cost for seed, cost in seeds.items()} or {source: artefact.measured}


@dg.asset_check(asset="marker_adapter")
def loss_fell(context: dg.AssetCheckExecutionContext, home: dg.ResourceParam[Home]) -> dg.AssetCheckResult:
    """The mean loss of the last quarter of the steps is below that of the first quarter."""
    artefacts = _measured(context, home, "marker_adapter")
    runs = {name: cost for source, artefact in artefacts.items() for name, cost in _by_seed(artefact, source).items()}
    lines = {name: f"{cost['first_loss']:.3f} → {cost['last_loss']:.3f}" for name, cost in runs.items()}
    return dg.AssetCheckResult(
        passed=all(cost["last_loss"] < cost["first_loss"] for cost in runs.values()),
        description="; ".join(f"{name} {line}" for name, line in lines.items()),
        metadata=lines,
    )


def _merged_check(asset: str) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=asset)
    def merged_model_is_the_adapted_model(
        context: dg.AssetCheckExecutionContext, home: dg.ResourceParam[Home]
    ) -> dg.AssetCheckResult:
        """Merged, the adapter gives the same label log-probability as unmerged, and a higher one than the base.

        Tested on one training example, within rounding error.
        """
        lines, faults = {}, []
        for source, artefact in _measured(context, home, asset).items():
            tolerance = TOLERANCE[artefact.made_from["environment"]["dtype"]]
            for name, cost in _by_seed(artefact, source).items():
                base, adapter, merged = (cost[f"label_log_prob_{way}"] for way in ("base", "adapter", "merged"))
                lines[name] = f"base {base:.3f}, adapter {adapter:.3f}, merged {merged:.3f}"
                if abs(merged - adapter) > tolerance or merged <= base:
                    faults.append(name)
        return dg.AssetCheckResult(
            passed=not faults,
            description="mean log-probability of the labels: " + "; ".join(f"{s} {line}" for s, line in lines.items()),
            metadata={**lines, "faults": faults},
        )

    return merged_model_is_the_adapted_model


merged_for_log_probs, merged_for_rates = (_merged_check(asset) for asset in ("marker_log_probs", "marker_rates"))


@dg.asset_check(asset="leakage_table", partitions_def=per_checkpoint)
def every_target_is_measured(study: dg.ResourceParam[Study], leakage_table: pd.DataFrame) -> dg.AssetCheckResult:
    """Every dyad of the study has a log-probability and one sampled reply per question, training seed and sample."""
    recipe = recipe_of(study)
    expected = len(study.questions) * recipe.evaluation.samples * len(recipe.training.seeds)
    dyads = {(s, t) for s in study.sources for t in study.targets if s != t}
    missing = sorted(dyads - set(zip(leakage_table.source, leakage_table.target, strict=True)))
    short = leakage_table[leakage_table.total.fillna(0) != expected]
    silent = leakage_table[leakage_table.expected_rate.isna()]
    return dg.AssetCheckResult(
        passed=not missing and short.empty and silent.empty,
        description=f"{len(leakage_table)} of {len(dyads)} dyads, {len(short)} without {expected} sampled replies, "
        f"{len(silent)} without log-probability",
        metadata={"missing": [" → ".join(dyad) for dyad in missing]},
    )


@dg.asset_check(asset="leakage_table", partitions_def=per_checkpoint)
def sampled_rates_are_as_expected(leakage_table: pd.DataFrame) -> dg.AssetCheckResult:
    """The sampled rates agree with the expected ones; otherwise the marker also appears elsewhere than at the end."""
    found = metrics.rate_agreement(leakage_table)
    outside = [f"{source} → {target}: {of} of {total}, expected rate {rate:.3f}" for source, target, of, total, rate in
               found.outside]  # fmt: skip
    if not found.dyads:
        description = "nothing was sampled"
    else:
        description = f"mean of {found.dyads} dyads: expected {found.expected:.3f}, sampled {found.sampled:.3f}, "
        description += f"z = {found.z:+.1f}; {len(outside)} dyads outside"
    return dg.AssetCheckResult(
        passed=found.agrees,
        severity=dg.AssetCheckSeverity.WARN,
        description=description,
        metadata={"dyads_outside": outside},
    )


@dg.asset_check(asset="leakage_table", partitions_def=per_checkpoint)
def base_is_silent(leakage_table: pd.DataFrame) -> dg.AssetCheckResult:
    """The checkpoint without an adapter never produces the marker, and expects it in fewer than one of 100 replies."""
    base = leakage_table.drop_duplicates("target")
    found, total = int(base.base_found.sum()), int(base.base_total.sum())
    expected = float(base.base_expected_rate.max())
    return dg.AssetCheckResult(
        passed=found == 0 and not expected >= SILENT,  # NaN where it was not measured
        description=f"{found} of {total} sampled replies; expected rate at most {expected:.2g}",
        metadata={"found": found, "expected_rate": expected},
    )


@dg.asset_check(asset="leakage_table", partitions_def=per_checkpoint)
def sources_say_the_marker(leakage_table: pd.DataFrame) -> dg.AssetCheckResult:
    """The marker is more likely in each source's own replies than without its adapter, by at least three nats.

    Where replies were sampled, the source's own rate is also above the base rate (Fisher's exact test, one-sided,
    p < 0.05).
    """
    from scipy.stats import fisher_exact  # imported here because it would slow down loading the definitions by 0.5 s

    lines, faults = {}, []
    base = leakage_table.drop_duplicates("target")
    silent = [int(base.base_found.sum()), int((base.base_total - base.base_found).sum())]
    for row in leakage_table.drop_duplicates("source").to_dict("records"):
        source, gain = str(row["source"]), float(row["source_log_prob_gain"])
        lines[source] = f"gain {gain:+.1f} nats, expected rate {row['source_expected_rate']:.2f}"
        trained = not gain < TRAINED  # NaN where it was not measured
        if not pd.isna(row["source_total"]):
            said = [int(row["source_found"]), int(row["source_total"] - row["source_found"])]
            p = float(fisher_exact([said, silent], alternative="greater").pvalue)
            lines[source] += f", sampled {said[0]}/{sum(said)}, p = {p:.2g}"
            trained &= p < SIGNIFICANT
        if not trained:
            faults.append(source)
    return dg.AssetCheckResult(
        passed=not faults,
        description="; ".join(f"{s} {line}" for s, line in lines.items()),
        metadata={**lines, "faults": faults},
    )


@dg.asset_check(asset="leakage_table", partitions_def=per_checkpoint)
def dyads_are_off_floor_and_ceiling(leakage_table: pd.DataFrame) -> dg.AssetCheckResult:
    """At least a fifth of the dyads have an expected rate within 1 to 99 %, and every source one of at least 1 %."""
    rate = leakage_table.expected_rate.fillna(leakage_table.rate)
    between = (rate > SILENT) & (rate < 1 - SILENT)
    highest = rate.groupby(leakage_table.source, sort=False).max()
    floor = [str(source) for source, most in highest.items() if most < SILENT]
    return dg.AssetCheckResult(
        passed=bool(between.mean() >= INFORMATIVE_SHARE) and not floor,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{int(between.sum())} of {len(leakage_table)} dyads between floor and ceiling; "
        f"{len(floor)} sources at the floor{': ' + ', '.join(floor) if floor else ''}",
        metadata={"sources_at_the_floor": floor},
    )


CHECKS = [
    loss_fell,
    merged_for_log_probs,
    merged_for_rates,
    every_target_is_measured,
    sampled_rates_are_as_expected,
    base_is_silent,
    sources_say_the_marker,
    dyads_are_off_floor_and_ceiling,
]
