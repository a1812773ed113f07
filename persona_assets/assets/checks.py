"""Asset checks of responses, divergence and cosine. Each reports the numbers that it found, even if it passes."""

import math

import dagster as dg
import numpy as np
import pandas as pd
import xarray as xr

from persona_assets import presentation as draw
from persona_assets.graph.history import latest_artefacts
from persona_assets.graph.home import Home
from persona_assets.graph.partitions import per_checkpoint
from persona_assets.study import Study

# Tolerance for rounding in float64 means.
TOLERANCE = 1e-9


def run_partitions(context: dg.AssetCheckExecutionContext, asset: str) -> list[str]:
    """Return the partitions of the run, or all materialised ones if the check is executed on its own."""
    if context.has_partition_key or context.has_partition_key_range:
        return list(context.partition_keys)
    return sorted(context.instance.get_materialized_partitions(dg.AssetKey(asset)))


def _responses(context: dg.AssetCheckExecutionContext, home: Home) -> dict[str, pd.DataFrame]:
    keys = run_partitions(context, "generations")
    artefacts = latest_artefacts(context.instance, home.store, "generations", keys)
    return {key: artefact.read() for key, artefact in artefacts.items()}


@dg.asset_check(asset="generations")
def responses_are_not_empty(
    context: dg.AssetCheckExecutionContext, home: dg.ResourceParam[Home]
) -> dg.AssetCheckResult:
    """Every response contains at least one non-whitespace character."""
    tables = _responses(context, home)
    empty = {key: int((table.text.str.strip() == "").sum()) for key, table in tables.items()}
    return dg.AssetCheckResult(
        passed=not any(empty.values()),
        description=f"{sum(empty.values())} of {sum(map(len, tables.values()))} responses are empty",
        metadata={"personas_with_empty_responses": [key for key, count in empty.items() if count]},
    )


@dg.asset_check(asset="generations")
def some_responses_end_by_themselves(
    context: dg.AssetCheckExecutionContext, study: dg.ResourceParam[Study], home: dg.ResourceParam[Home]
) -> dg.AssetCheckResult:
    """At least one response is not truncated at max_new_tokens; otherwise JS only covers how responses begin."""
    reasons = pd.concat(_responses(context, home).values()).finish_reason
    cut, limit = int((reasons == "length").sum()), study.decoding.max_new_tokens if study.decoding else None
    return dg.AssetCheckResult(
        passed=cut < len(reasons),
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{cut} of {len(reasons)} responses are cut at {limit} tokens",
        metadata={"cut": cut, "responses": len(reasons), "max_new_tokens": limit},
    )


@dg.asset_check(asset="generations")
def every_question_is_answered(
    context: dg.AssetCheckExecutionContext, study: dg.ResourceParam[Study], home: dg.ResourceParam[Home]
) -> dg.AssetCheckResult:
    """Every persona has one response to each question of the study."""
    tables = _responses(context, home)
    lacking = {key: sorted(set(study.questions) - set(table.question)) for key, table in tables.items()}
    missing = {key: questions for key, questions in lacking.items() if questions}
    return dg.AssetCheckResult(
        passed=not missing and all(len(table) == len(study.questions) for table in tables.values()),
        description=f"{len(tables) - len(missing)} of {len(tables)} personas answer {len(study.questions)} questions",
        metadata={"missing": missing},
    )


@dg.asset_check(asset="logit_js_matrix", partitions_def=per_checkpoint)
def js_is_a_divergence(study: dg.ResourceParam[Study], logit_js_matrix: xr.Dataset) -> dg.AssetCheckResult:
    """JS is within [0, ln 2], symmetric, 0 on the diagonal, and finite for exactly the pairs that the design measures.

    Every persona and question of the study is included.
    """
    shown = logit_js_matrix.js.sel(generators=logit_js_matrix.attrs["generators_shown"])
    js, names = shown.to_numpy(), [str(name) for name in shown.persona.values]
    measured = np.array([[study.compares(persona, other) for other in names] for persona in names])
    faults = {
        "not a number": not np.isfinite(js[measured]).all(),
        "a number where nothing was measured": not np.isnan(js[~measured]).all(),
        "below 0 or above ln 2": bool((js < -TOLERANCE).any() or (js > math.log(2) + TOLERANCE).any()),
        "not symmetric": not np.allclose(js, js.T, rtol=0, atol=TOLERANCE, equal_nan=True),
        "diagonal not 0": bool(np.nanmax(np.abs(np.diag(js))) > TOLERANCE),
        "personas missing": set(logit_js_matrix.persona.values) != set(study.personas),
        "questions missing": logit_js_matrix.attrs["questions"] != len(study.questions),
    }
    return _verdict(faults, draw.js_extremes(logit_js_matrix))


@dg.asset_check(asset="centroid_cosine", partitions_def=per_checkpoint)
def cosine_is_a_cosine(study: dg.ResourceParam[Study], centroid_cosine: xr.Dataset) -> dg.AssetCheckResult:
    """Cosine is within [−1, 1], symmetric, 1 on the diagonal and finite, for every persona of the study."""
    cosine = centroid_cosine.cosine.transpose(..., "persona", "other").to_numpy()
    diagonal = np.diagonal(cosine, axis1=-2, axis2=-1)
    faults = {
        "not a number": not np.isfinite(cosine).all(),
        "outside [−1, 1]": bool((np.abs(cosine) > 1 + TOLERANCE).any()),
        "not symmetric": not np.allclose(cosine, cosine.swapaxes(-1, -2), rtol=0, atol=TOLERANCE, equal_nan=True),
        "diagonal not 1": bool(np.abs(diagonal - 1).max() > TOLERANCE),
        "personas missing": set(centroid_cosine.persona.values) != set(study.personas),
    }
    return _verdict(faults, draw.cosine_extremes(centroid_cosine))


def _verdict(faults: dict[str, bool], extremes: dict[str, str]) -> dg.AssetCheckResult:
    found = [fault for fault, present in faults.items() if present]
    return dg.AssetCheckResult(
        passed=not found,
        description=", ".join(found) or "; ".join(f"{name}: {pair}" for name, pair in extremes.items()),
        metadata=extremes,
    )


CHECKS = [
    responses_are_not_empty,
    some_responses_end_by_themselves,
    every_question_is_answered,
    js_is_a_divergence,
    cosine_is_a_cosine,
]
