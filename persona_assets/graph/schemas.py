"""Descriptions of each asset's content for Dagster's page: table columns, array variables, files.

Before the first materialisation the page shows the expected schema; each materialisation adds actual sizes and types.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import xarray as xr

from persona_assets.graph.history import FINGERPRINT, RECORD
from persona_assets.store.artefacts import Artefact

COLUMN_SCHEMA, ROW_COUNT = "dagster/column_schema", "dagster/row_count"

_FOUND = {
    "found": "number of replies that contain the marker",
    "total": "number of replies",
    "rate": "leakage rate: found / total",
    "rate_low": "lower bound of its 95 % Wilson interval",
    "rate_high": "upper bound of its 95 % Wilson interval",
}
_EXPECTED = {
    "expected_rate": "mean probability of the marker after the target's own replies, with the source's adapter",
    "expected_rate_low": "lower bound of its interval: bootstrap over questions and, if there are several, seeds",
    "expected_rate_high": "upper bound of its interval",
    "base_expected_rate": "the same probability without an adapter",
    "log_prob_gain": "mean log-probability of the marker with the adapter minus without it, in nats",
    "log_prob_gain_low": "lower bound of its interval, as that of expected_rate",
    "log_prob_gain_high": "upper bound of its interval",
    "source_expected_rate": "expected rate of the source on itself",
    "source_log_prob_gain": "log_prob_gain of the source on itself, in nats",
}
_NEGATIVES = {
    "trained_negative": "whether the source's training set has unmarked replies of the target; missing if unknown",
    "negative_share": "share of the source's training examples that are the target's unmarked replies",
}
_DYAD = {
    "source": "persona that the marker was trained into",
    "target": "persona whose replies are searched for the marker",
    "source_category": "category of the source, from the study",
    "target_category": "category of the target, from the study",
    "related": "whether the study lists source and target as related",
}

_THOUGHTS = {
    "thought": "only if a reply has a thought: the thought, which `text` then lacks",
    "answered": "only if a reply has a thought: whether the reply reached an answer",
}

# Table → column → description. `<…>` is a placeholder for names that depend on the study.
COLUMNS: dict[str, dict[str, str]] = {
    "generations": {
        "persona": "persona whose system prompt generated the response",
        "question": "user message",
        "token_ids": "token ids of the response; these are scored, the text is never re-tokenised",
        "text": "response as text; model output, so do not trust it",
        "finish_reason": "stop: the model ended its turn; length: truncated at max_new_tokens",
        "engine": "engine that generated it, with its version",
        "seed": "random seed of the decoding, if it samples",
        **_THOUGHTS,
    },
    "marker_rates": {
        "target": _DYAD["target"],
        "question": "user message",
        "sample": "index of the reply among those to the same question",
        "text": "reply as text; model output, so do not trust it",
        "tokens": "number of tokens of the reply",
        "finish_reason": "stop: the model ended its turn; length: truncated at max_new_tokens",
        "model": "adapted: with the source's adapter; base: without an adapter",
        "found": "whether the reply contains the marker",
        **_THOUGHTS,
    },
    "marker_log_probs": {
        "target": _DYAD["target"],
        "question": "user message",
        "reply": "index of the reply among those to the same question; written by the base model as the target",
        "seed": "training seed of the adapter",
        "marker_log_prob": "log-probability of all tokens of the marker after the reply, with the adapter, in nats",
        "first_log_prob": "log-probability of the marker's first token",
        "end_log_prob": "log-probability of the end of turn in its place",
        "base_marker_log_prob": "marker_log_prob without an adapter",
        "base_first_log_prob": "first_log_prob without an adapter",
        "base_end_log_prob": "end_log_prob without an adapter",
        "reply_tokens": "number of tokens of the reply before the marker",
        "marker_tokens": "number of tokens of the marker",
        "ended": "whether the model ended the reply by itself; false if the limit of tokens cut it",
        "counted": "whether the reply enters the expected rate",
        "negative_share": _NEGATIVES["negative_share"],
    },
    "leakage_table": {
        **_DYAD,
        **_FOUND,
        "base_found": "number of the target's replies without an adapter that contain the marker",
        "base_total": "number of the target's replies without an adapter",
        "base_rate": "base_found / base_total",
        "source_found": "number of the source's own replies with its adapter that contain the marker",
        "source_total": "number of the source's own replies with its adapter",
        "source_rate": "source_found / source_total",
        "source_base_found": "number of the source's own replies without its adapter that contain the marker",
        "source_base_total": "number of the source's own replies without its adapter",
        "source_base_rate": "source_base_found / source_base_total",
        **_EXPECTED,
        "seeds": "number of training seeds behind the expected rate",
        "replies": "number of the target's replies behind the expected rate",
        **_NEGATIVES,
        "recipe": "name and digest of the marker recipe, or the file that the counts were imported from",
    },
    "pair_table": {
        **_DYAD,
        "js": "Jensen–Shannon divergence in nats, averaged over the generator subset that the study chose",
        "js_low": "lower bound of its question-bootstrap interval",
        "js_high": "upper bound of its question-bootstrap interval",
        "js_<generators>": "JS in nats, averaged over that generator subset of logit_js_matrix",
        "kl": "KL(source‖target) in nats",
        "kl_reverse": "KL(target‖source) in nats",
        "cosine_<population>_layer<N>": "cosine of the centroids after decoder block N, centred on that population",
        "leakage_found": _FOUND["found"],
        "leakage_total": _FOUND["total"],
        "leakage_rate": _FOUND["rate"],
        "leakage_low": _FOUND["rate_low"],
        "leakage_high": _FOUND["rate_high"],
        "base_rate": "leakage rate of the target without an adapter",
        "source_rate": "leakage rate of the source onto itself",
        **_EXPECTED,
        **_NEGATIVES,
    },
    "partial_correlations": {
        "family": "topic, such as leakage, comparison, outcomes, negatives, kinds, models, noise, influence, power",
        "name": "name of the statement, shared by its views",
        "quantity": "statistic, such as spearman, partial spearman or difference of |spearman|",
        "outcome": "column of the pair table that is predicted",
        "predictor": "column of the pair table that predicts it",
        "given": "columns that are controlled for",
        "view": "iid: dyads treated as independent; dyadic: dependence between dyads respected; check: another method",
        "estimate": "value of the statistic; missing if it could not be computed, with the reason in the note",
        "low": "lower bound of the interval",
        "high": "upper bound of the interval",
        "level": "coverage of the interval",
        "p": "two-sided p-value",
        "p_adjusted": "p-value corrected for all comparisons; the note names the correction",
        "smallest_p": "smallest p-value that the design can yield",
        "n": "number of observations",
        "n_effective": "number of independent observations that would give an interval of this width",
        "method": "method of the interval and the p-value",
        "structure": "units that were permuted or treated as clusters",
        "resamples": "number of resamples",
        "seed": "random seed of the resampling",
        "reference": "paper that describes the method",
        "note": "caveats, or why there is no estimate",
    },
}

# Array → variable → (dimensions, description).
VARIABLES: dict[str, dict[str, tuple[str, str]]] = {
    "logit_js": {
        "js": ("question × persona × other", "JS between persona and other in nats, mean over the response's tokens"),
        "kl": ("question × persona × other", "KL(persona‖other) in nats, mean over the response's tokens"),
        "tokens": ("question", "number of scored tokens of the response"),
        "token_js": ("question × token × persona", "JS between generator and persona at each token, in nats"),
        "token_kl": ("question × token × persona", "KL(generator‖persona) at each token, in nats"),
        "token_kl_reverse": ("question × token × persona", "KL(persona‖generator) at each token, in nats"),
        "kl_over_all": ("persona × other", "published runs only: KL(persona‖other) in nats, mean over all responses"),
    },
    "logit_js_matrix": {
        "js": ("generators × persona × other", "JS in nats, mean over questions"),
        "js_error": ("generators × persona × other", "all_estimated only: standard error relative to the full design"),
        "js_low": ("generators × persona × other", "lower bound of the question-bootstrap interval of js"),
        "js_high": ("generators × persona × other", "upper bound of the question-bootstrap interval of js"),
        "kl": ("generators × persona × other", "KL(persona‖other) in nats, mean over questions"),
        "kl_error": ("generators × persona × other", "all_estimated only: standard error relative to the full design"),
        "kl_low": ("generators × persona × other", "lower bound of the question-bootstrap interval of kl"),
        "kl_high": ("generators × persona × other", "upper bound of the question-bootstrap interval of kl"),
        "js_by_question": ("question × persona × other", "JS in nats per question, over the study's generator subset"),
    },
    "centroids": {
        "state": ("question × layer × hidden", "hidden state at the last prompt token, after decoder block N"),
        "centroid": ("layer × hidden", "mean of state over questions"),
    },
    "centroid_cosine": {
        "cosine": (
            "population × layer × persona × other",
            "cosine of the centroids after subtracting the population's mean centroid",
        ),
        "cosine_by_question": (
            "population × question × layer × persona × other",
            "jackknife pseudo-values of the cosine, one per question",
        ),
    },
}


def expected_schema(asset: str) -> dict[str, Any]:
    """Return the schema metadata of an asset's definition, shown before its first materialisation; empty for files."""
    if asset in COLUMNS:
        columns = [dg.TableColumn(name, description=text) for name, text in COLUMNS[asset].items()]
        return {COLUMN_SCHEMA: dg.TableSchema(columns)}
    described = VARIABLES.get(asset, {})
    rows = [{"variable": name, "dimensions": dims, "says": text} for name, (dims, text) in described.items()]
    return {"variables": as_table(rows)} if rows else {}


def actual_schema(asset: str, value: Any) -> dict[str, Any]:
    """Return the schema metadata of a materialised value: its columns, variables or files, with types and sizes."""
    match value:
        case pd.DataFrame():
            columns = [
                dg.TableColumn(str(name), str(t), column_description(asset, str(name)))
                for name, t in value.dtypes.items()
            ]
            return {COLUMN_SCHEMA: dg.TableSchema(columns), ROW_COUNT: len(value)}
        case xr.Dataset():
            rows = [
                {
                    "variable": str(name),
                    "dimensions": " × ".join(f"{dimension} {size}" for dimension, size in variable.sizes.items()),
                    "type": str(variable.dtype),
                    "says": VARIABLES.get(asset, {}).get(str(name), ("", ""))[1],
                }
                for name, variable in value.data_vars.items()
            ]
            return {"variables": as_table(rows)}
        case dict() if value and all(isinstance(content, bytes) for content in value.values()):
            return {"files": as_table([{"file": name, "bytes": len(content)} for name, content in value.items()])}
    return {}


_RECORD = (
    "Provenance of the artefact. made_from lists everything that it depends on: settings, code version, and the "
    "fingerprints of input artefacts. The fingerprint is the SHA-256 of made_from as canonical JSON, so the same "
    "inputs, settings and code are never computed twice. path is the stored content; sha256 is its checksum, which is "
    "verified on every read. A JSON file next to it, named after the fingerprint, repeats this record and adds the "
    "cost of the computation. Artefacts are never overwritten: those of earlier events stay readable until they are "
    "pruned, and the record of a pruned artefact remains and says when. Open the content with pandas.read_parquet or "
    "xarray.open_dataset, or as a folder of files; examples/reading_artefacts.py shows how."
)


def record(artefact: Artefact) -> dict[str, Any]:
    """Return metadata with an artefact's path, checksum and provenance.

    It is a single JSON value, which Dagster collapses because it is long. Shown as separate values, the unbreakable
    digests and paths would widen the whole metadata table.
    """
    about = {"asset": artefact.asset, FINGERPRINT: artefact.fingerprint, "path": str(artefact.path)}
    content = {"sha256": artefact.sha256, "made_from": artefact.made_from, "about": _RECORD}
    return {RECORD: dg.MetadataValue.json(about | content)}


def column_description(asset: str, column: str) -> str | None:
    """Return the description of a table's column; None if there is none."""
    known: Mapping[str, str] = COLUMNS.get(asset, {})
    if column in known:
        return known[column]
    for name, text in known.items():
        pattern = re.sub("<[a-zA-Z]+>", ".+", name)
        if "<" in name and re.fullmatch(pattern, column):
            return text
    return None


def as_table(rows: Sequence[Mapping[str, Any]]) -> dg.TableMetadataValue:
    """Convert rows with equal keys to table metadata, which Dagster shows as a table with every cell escaped."""
    plain = [
        {name: cell.item() if isinstance(cell, np.generic) else cell for name, cell in row.items()} for row in rows
    ]
    columns = [dg.TableColumn(name, _kind([row[name] for row in plain])) for name in (plain[0] if plain else {})]
    return dg.MetadataValue.table([dg.TableRecord(row) for row in plain], dg.TableSchema(columns))


def _kind(cells: list[Any]) -> str:
    kinds = {type(cell) for cell in cells}
    return {int: "int", float: "float", bool: "bool"}.get(kinds.pop(), "string") if len(kinds) == 1 else "string"
