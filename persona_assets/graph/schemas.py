"""What is in each asset's artefact, in words for the page: columns of tables, variables of arrays, files of folders.

Before anything was made the page shows what to expect; with every materialisation the sizes and types that were found.
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
    "found": "replies that hold the marker",
    "total": "replies",
    "rate": "leakage rate: found / total",
    "rate_low": "lower end of its 95 % Wilson interval",
    "rate_high": "upper end of its 95 % Wilson interval",
}
_DYAD = {
    "source": "persona that the marker was trained into",
    "target": "persona that it is looked for in",
    "source_category": "category of the source, from the study",
    "target_category": "category of the target, from the study",
    "related": "whether the study calls the two related",
}

# Table → column → what it says. `<…>` stands for what differs from study to study.
COLUMNS: dict[str, dict[str, str]] = {
    "generations": {
        "persona": "persona under whose prompt the response was written",
        "question": "what was asked",
        "token_ids": "the response's own tokens: what is scored, never tokenised again",
        "text": "the response as text; untrusted, a model wrote it",
        "finish_reason": "stop: the model ended; length: cut at max_new_tokens",
        "engine": "what wrote it, with its version",
        "seed": "of the decoding, where it samples",
    },
    "marker_rates": {
        "target": _DYAD["target"],
        "question": "what was asked",
        "sample": "number of the reply among those to the same question",
        "text": "the reply as text; untrusted, a model wrote it",
        "tokens": "tokens of the reply",
        "finish_reason": "stop: the model ended; length: cut at max_new_tokens",
        "model": "adapted: with the source's adapter; base: without any",
        "found": "whether the marker is in the reply",
    },
    "leakage_table": {
        **_DYAD,
        **_FOUND,
        "base_found": "the target's replies without any adapter that hold the marker",
        "base_total": "the target's replies without any adapter",
        "base_rate": "base_found / base_total",
        "source_found": "the source's own replies under its adapter that hold the marker",
        "source_total": "the source's own replies under its adapter",
        "source_rate": "source_found / source_total",
        "source_base_found": "the source's own replies without its adapter that hold the marker",
        "source_base_total": "the source's own replies without its adapter",
        "source_base_rate": "source_base_found / source_base_total",
        "recipe": "recipe and digest, or the file that the counts came from",
    },
    "pair_table": {
        **_DYAD,
        "js": "Jensen–Shannon divergence in nats, over the study's choice of generators",
        "js_low": "lower end of its question-bootstrap interval",
        "js_high": "upper end of its question-bootstrap interval",
        "js_<generators>": "JS in nats over that choice of generators, as logit_js_matrix names them",
        "kl": "KL(source‖target) in nats",
        "kl_reverse": "KL(target‖source) in nats",
        "cosine_<population>_layer<N>": "cosine of the centroids, centred on that population, after decoder block N",
        "leakage_found": _FOUND["found"],
        "leakage_total": _FOUND["total"],
        "leakage_rate": _FOUND["rate"],
        "leakage_low": _FOUND["rate_low"],
        "leakage_high": _FOUND["rate_high"],
        "base_rate": "the target's rate without any adapter",
        "source_rate": "the source's rate onto itself",
    },
    "partial_correlations": {
        "family": "what it is about: leakage, comparison, models, pairs, coupling, noise, influence, looks, power",
        "name": "what the views of one statement share",
        "quantity": "such as spearman, partial spearman, difference of |spearman|",
        "outcome": "column of the pair table that is explained",
        "predictor": "column of the pair table that explains it",
        "given": "columns that are held constant",
        "view": "iid: every dyad counts as one; dyadic: as the dependence between dyads allows; check: another way",
        "estimate": "the number; missing where it cannot be answered, and the note says why",
        "low": "lower end of the interval",
        "high": "upper end of the interval",
        "level": "coverage of the interval",
        "p": "two-sided p",
        "p_adjusted": "p corrected for all looks; the note names the correction",
        "smallest_p": "the smallest p that the design could have given",
        "n": "observations",
        "n_effective": "how many independent ones would have given the interval's width",
        "method": "how interval and p were made",
        "structure": "what was taken as exchangeable, or as a cluster",
        "resamples": "how many",
        "seed": "of the resampling",
        "reference": "the paper",
        "note": "what a reader must know",
    },
}

# Array → variable → dimensions, what it says.
VARIABLES: dict[str, dict[str, tuple[str, str]]] = {
    "logit_js": {
        "js": ("question × persona × other", "JS of the pair in nats, mean over the response's tokens"),
        "kl": ("question × persona × other", "KL(persona‖other) in nats, mean over the response's tokens"),
        "tokens": ("question", "scored tokens of the response"),
        "token_js": ("question × token × persona", "JS of generator and persona at each token, in nats"),
        "token_kl": ("question × token × persona", "KL(generator‖persona) at each token, in nats"),
        "token_kl_reverse": ("question × token × persona", "KL(persona‖generator) at each token, in nats"),
        "kl_over_all": ("persona × other", "KL(persona‖other) in nats over all responses, as it was published"),
    },
    "logit_js_matrix": {
        "js": ("generators × persona × other", "JS in nats, mean over questions"),
        "js_error": ("generators × persona × other", "of all_estimated: standard error against having measured all"),
        "js_low": ("generators × persona × other", "lower end of its question-bootstrap interval"),
        "js_high": ("generators × persona × other", "upper end of its question-bootstrap interval"),
        "kl": ("generators × persona × other", "KL(persona‖other) in nats, mean over questions"),
        "kl_error": ("generators × persona × other", "of all_estimated: standard error against having measured all"),
        "kl_low": ("generators × persona × other", "lower end of its question-bootstrap interval"),
        "kl_high": ("generators × persona × other", "upper end of its question-bootstrap interval"),
        "js_by_question": ("question × persona × other", "JS in nats over the study's choice of generators"),
    },
    "centroids": {
        "state": ("question × layer × hidden", "hidden state at the last prompt token, after decoder block N"),
        "centroid": ("layer × hidden", "its mean over questions"),
    },
    "centroid_cosine": {
        "cosine": (
            "population × layer × persona × other",
            "cosine of centroids less the population's mean",
        ),
        "cosine_by_question": (
            "population × question × layer × persona × other",
            "jackknife pseudo-values of the cosine, one a question",
        ),
    },
}


def expected_schema(asset: str) -> dict[str, Any]:
    """What the page shows of an asset that was never made."""
    if asset in COLUMNS:
        columns = [dg.TableColumn(name, description=said) for name, said in COLUMNS[asset].items()]
        return {COLUMN_SCHEMA: dg.TableSchema(columns)}
    rows = [{"variable": name, "dimensions": dims, "says": said} for name, (dims, said) in VARIABLES[asset].items()]
    return {"variables": as_table(rows)}


def actual_schema(asset: str, value: Any) -> dict[str, Any]:
    """Sizes and types of what was made."""
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
    "What this was made from. The fingerprint is the SHA-256 of made_from as canonical JSON: the same inputs, "
    "settings and code give the same fingerprint and are not computed twice; where an input is another artefact, "
    "its fingerprint stands for it. The file at path holds the content, whose own SHA-256 is compared whenever it "
    "is read; the file beside it with the fingerprint's name and .json says what this record says, and what the "
    "work cost. Nothing there is overwritten, so what an earlier event names can still be read, unless a person had "
    "it pruned; then the record stays and says when. Open it with pandas.read_parquet, with xarray.open_dataset, or "
    "as a folder of files, as examples/reading_artefacts.py does."
)


def record(artefact: Artefact) -> dict[str, Any]:
    """Where an artefact is and all that it was made from.

    One value, which Dagster hides behind a click because it is long: digests and paths know no line break, and the page
    makes all values as wide as the longest word among them.
    """
    about = {"asset": artefact.asset, FINGERPRINT: artefact.fingerprint, "path": str(artefact.path)}
    content = {"sha256": artefact.sha256, "made_from": artefact.made_from, "about": _RECORD}
    return {RECORD: dg.MetadataValue.json(about | content)}


def column_description(asset: str, column: str) -> str | None:
    """What a table's column says; None where nobody wrote it down."""
    known: Mapping[str, str] = COLUMNS.get(asset, {})
    if column in known:
        return known[column]
    for name, said in known.items():
        pattern = re.sub("<[a-zA-Z]+>", ".+", name)
        if "<" in name and re.fullmatch(pattern, column):
            return said
    return None


def as_table(rows: Sequence[Mapping[str, Any]]) -> dg.TableMetadataValue:
    """Rows with the same keys as a table that the page shows as it is; it escapes every cell."""
    plain = [
        {name: cell.item() if isinstance(cell, np.generic) else cell for name, cell in row.items()} for row in rows
    ]
    columns = [dg.TableColumn(name, _kind([row[name] for row in plain])) for name in (plain[0] if plain else {})]
    return dg.MetadataValue.table([dg.TableRecord(row) for row in plain], dg.TableSchema(columns))


def _kind(cells: list[Any]) -> str:
    kinds = {type(cell) for cell in cells}
    return {int: "int", float: "float", bool: "bool"}.get(kinds.pop(), "string") if len(kinds) == 1 else "string"
