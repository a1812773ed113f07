"""Builds the metadata that Dagster shows on an asset's page: tables, and numbers that it plots over time.

Dagster displays tables inline and escapes their cells, but hides longer Markdown and images behind a click. Untrusted
model output is therefore only placed in table cells, truncated and with invisible characters escaped. Tables are about
400 pixels wide, so they have few columns and many rows.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import xarray as xr

from persona_assets import metrics, presentation
from persona_assets.graph.parquet import from_parquet
from persona_assets.graph.schemas import as_table
from persona_assets.store.artefacts import Files

# Metadata of a materialisation is stored permanently and sent to the browser in full.
LONGEST_TEXT, MOST_ROWS = 500, 120

Metadata = dict[str, Any]


def cut(text: object, longest: int = LONGEST_TEXT) -> str:
    """Return untrusted text for a table cell, truncated and with invisible characters escaped."""
    shown = presentation.plain(text)
    left_out = len(shown) - longest
    return shown if left_out <= 0 else f"{shown[:longest].rstrip()} … ({left_out:,} characters more)"


def rows(name: str, records: Iterable[dict[str, Any]]) -> Metadata:
    """Return a table under that name; of a long table the first rows and the number of rows left out."""
    every = list(records)
    more = {f"{name}_left_out": f"{len(every) - MOST_ROWS} of {len(every)}"} if len(every) > MOST_ROWS else {}
    return {name: as_table(every[:MOST_ROWS]), **more}


def generations(table: pd.DataFrame) -> Metadata:
    """Return the metadata of `generations`, computed or imported: one row per question, with the response."""
    records = (
        {"question": f"{number}. {cut(row['question'])}", "answer": _answer(row)}
        for number, row in enumerate(table.to_dict("records"), start=1)
    )
    numbers: Metadata = {"mean_characters": _number(table.text.str.len().mean())}
    if "token_ids" in table:
        numbers["mean_tokens"] = _number(table.token_ids.map(len).mean())
    return {**rows("responses", records), **numbers}


def _answer(row: Mapping[Any, Any]) -> str:
    """Return a reply for a table cell; of one that ends within a thought, the thought."""
    if row.get("answered", True):
        return cut(row["text"])
    return f"(no answer: the reply ends in a thought) {cut(row['thought'])}"


def rendered_prompt(measured: Mapping[str, Any]) -> Metadata:
    """Return the prompt of the first question as the chat template renders it, one click away on Dagster's page."""
    prompt = measured.get("rendered_prompt")
    return {"rendered_prompt": dg.MetadataValue.md(presentation.fenced(prompt))} if prompt else {}


def _pairs(matrix: xr.DataArray) -> dict[str, float]:
    """Return pair → value for a symmetric persona × other matrix; unknown values are NaN."""
    names = [str(name) for name in matrix["persona"].values]
    values = matrix.transpose("persona", "other").sel(other=names).to_numpy().astype(float)
    places = zip(*np.triu_indices(len(names), k=1), strict=True)
    return {
        f"{presentation.display_name(names[i])} – {presentation.display_name(names[j])}": float(values[i, j])
        for i, j in places
    }


def _known(matrix: xr.DataArray) -> dict[str, float]:
    """Return `_pairs` without unknown values."""
    return {pair: value for pair, value in _pairs(matrix).items() if not np.isnan(value)}


def _number(value: Any) -> float:
    """Return a value rounded for display."""
    return round(float(value), 6)


def _written(value: float, decimals: int) -> str:
    return f"{value:.{decimals}f}".replace("-", "−") if np.isfinite(value) else "–"


def logit_js(dataset: xr.Dataset) -> Metadata:
    """Return the metadata of `logit_js` of one generator.

    Contains the mean JS of every pair over the generator's responses, and the question with the largest mean JS.
    """
    js = _known(dataset.js.mean("question"))
    by_question = {
        str(each): np.mean([*known.values()])
        for each in dataset.question.values
        if (known := _known(dataset.js.sel(question=each)))  # empty for a response that reaches no answer
    }
    widest = max(by_question, key=lambda question: by_question[question])
    pairs = ({"JS": _written(js[pair], 4), "pair": pair} for pair in sorted(js, key=lambda pair: js[pair]))
    return {
        "mean_js_all_pairs": _number(np.mean([*js.values()])),
        "question that parts them most": cut(widest),
        "mean_js_of_that_question": _number(by_question[widest]),
        **rows("js_in_nats", pairs),
    }


def logit_js_matrix(dataset: xr.Dataset) -> Metadata:
    """Return the metadata of `logit_js_matrix`: every pair, smallest JS first, for the displayed generators."""
    generators = str(dataset.attrs["generators_shown"])
    js, low, high = (_known(dataset[name].sel(generators=generators)) for name in ("js", "js_low", "js_high"))
    interval = f"{100 * dataset.attrs['level']:g} % interval"
    pairs = (
        {"JS": _written(js[pair], 4), "pair": pair, interval: f"{_written(low[pair], 4)} to {_written(high[pair], 4)}"}
        for pair in sorted(js, key=lambda pair: js[pair])
    )
    measured = dataset.attrs.get("generators_measured")
    named = {"generators_measured": measured} if measured else {}
    if left_out := dataset.attrs.get("without_answer"):
        named["responses_without_an_answer"] = left_out
    return {"generators": generators, **named, **rows("js_in_nats", pairs)}


def centroid_cosine(dataset: xr.Dataset) -> Metadata:
    """Return the metadata of `centroid_cosine`.

    Contains one table of pairs and layers per centring population, and each layer's minimum, mean and maximum.
    """
    tables: Metadata = {}
    numbers: Metadata = {}
    for population in map(str, dataset.population.values):
        known = dataset.cosine.sel(population=population).dropna("layer", how="all")
        by_layer = {int(layer): _pairs(known.sel(layer=layer)) for layer in known.layer.values}
        middle = [*by_layer.values()][(len(by_layer) - 1) // 2]
        records = (
            {"pair": pair, **{f"layer {layer}": _written(values[pair], 2) for layer, values in by_layer.items()}}
            for pair in sorted(middle, key=lambda pair: -middle[pair])
        )
        tables |= rows(f"cosine_centred_on_{population}", records)
        for layer, values in by_layer.items():
            for name, of in (("min", np.nanmin), ("mean", np.nanmean), ("max", np.nanmax)):
                numbers[f"cosine_{population}_layer{layer}_{name}"] = _number(of([*values.values()]))
    return numbers | tables


def centroids(dataset: xr.Dataset) -> Metadata:
    """Return the metadata of `centroids` of one persona: norm of the centroid, spread of the questions around it."""
    states, mean = (dataset[name].to_numpy().astype(float) for name in ("state", "centroid"))
    spread = np.sqrt(((states - mean) ** 2).sum(-1).mean(0))
    records = (
        {
            "layer": int(layer),
            "norm of the mean": round(float(norm), 3),
            "rms distance of questions": round(float(far), 3),
        }
        for layer, norm, far in zip(dataset.layer.values, np.linalg.norm(mean, axis=-1), spread, strict=True)
    )
    return rows("states", records)


def marker_adapter(files: Files) -> Metadata:
    """Return the metadata of `marker_adapter`: a few training examples with and without the marker."""
    examples = from_parquet(files["examples.parquet"])
    some = pd.concat([examples[examples.marked].head(3), examples[~examples.marked].head(3)])
    records = (
        {
            "persona": presentation.display_name(row["persona"]),
            "marked": bool(row["marked"]),
            # The text after the system prompt and the question.
            "reply": cut(str(row["text"]).partition(str(row["question"]))[2] or row["text"]),
        }
        for row in some.to_dict("records")
    )
    return rows("training_examples", records)


def marker_rates(table: pd.DataFrame) -> Metadata:
    """Return the metadata of `marker_rates` of one source.

    Contains found / total of every target, one reply per target with and one without the marker, and rates to plot.
    """
    adapted = table[table.model == "adapted"]
    found = adapted.groupby("target", sort=False).found
    targets = (
        {
            "target": presentation.display_name(str(target)),
            "found": f"{marked.sum()}/{len(marked)}",
            "rate": _written(marked.mean(), 2),
        }
        for target, marked in found
    )
    replies = (
        {"target": presentation.display_name(row["target"]), "found": bool(row["found"]), "reply": _answer(row)}
        for row in adapted.drop_duplicates(["target", "found"]).to_dict("records")
    )
    rates = {f"rate_{target}": _number(marked.mean()) for target, marked in found}
    return {**rows("targets", targets), **rates, **rows("one_reply_of_each_kind", replies)}


def marker_log_probs(table: pd.DataFrame) -> Metadata:
    """Return the metadata of `marker_log_probs` of one source.

    Contains expected rate, gain and number of replies of every target, and expected rates to plot.
    """
    rates = metrics.expected_rates(table, resamples=2).to_dict("records")
    replies = table.drop_duplicates(["target", "question", "reply"]).groupby("target").size()
    targets = (
        {
            "target": presentation.display_name(row["target"]),
            "expected rate": _written(row["expected_rate"], 3),
            "gain (nats)": _written(row["log_prob_gain"], 2),
            "replies": f"{row['replies']}/{replies[row['target']]}",
        }
        for row in rates
    )
    numbers = {f"expected_rate_{row['target']}": _number(row["expected_rate"]) for row in rates}
    return {
        **rows("targets", targets),
        "training_seeds": ", ".join(str(seed) for seed in dict.fromkeys(table.seed)),
        **numbers,
    }


# Column of the leakage table → heading of the page's table, decimals.
_OUTCOMES = {"expected_rate": ("expected rate", 3), "log_prob_gain": ("gain (nats)", 2), "rate": ("rate", 2)}


def leakage_table(table: pd.DataFrame) -> Metadata:
    """Return the metadata of `leakage_table`: every dyad, by source and falling leakage, and numbers to plot.

    Outcomes that were not measured are left out. A target that was a trained negative of the source is marked.
    """
    measured = [name for name in _OUTCOMES if name in table and table[name].notna().any()]
    ordered = table.assign(place=table.source.map({name: n for n, name in enumerate(table.source.unique())}))
    sampled = "rate" in measured
    if measured:
        ordered = ordered.sort_values(["place", measured[0]], ascending=[True, False], kind="stable")
    records = (
        {
            **_outcomes(row, measured[:1]),
            "source → target": presentation.display_name(f"{row['source']} → {row['target']}")
            + (" (trained negative)" if row.get("trained_negative") is True else ""),
            **_outcomes(row, measured[1:]),
            **({"found": "–" if pd.isna(row["total"]) else f"{row['found']}/{row['total']}"} if sampled else {}),
        }
        for row in ordered.to_dict("records")
    )
    numbers = {
        "mean_expected_rate": _mean(table, "expected_rate"),
        "mean_log_prob_gain": _mean(table, "log_prob_gain"),
        "mean_leakage": _mean(table, "rate"),
        "max_leakage": float(table.rate.max()),
        "mean_base_rate": _mean(table.drop_duplicates("target"), "base_rate"),
    }
    of_source = table.drop_duplicates("source").set_index("source")
    for name in ("source_expected_rate", "source_rate"):
        numbers |= {f"{name}_{source}": rate for source, rate in of_source.get(name, pd.Series(dtype=float)).items()}
    plotted = {name: _number(value) for name, value in numbers.items() if np.isfinite(value)}
    return {**plotted, **rows("leakage", records)}


def _mean(table: pd.DataFrame, column: str) -> float:
    return float(table[column].mean()) if column in table else math.nan


def _outcomes(row: Mapping[Any, Any], names: list[str]) -> dict[str, str]:
    return {heading: _written(row[name], decimals) for name in names for heading, decimals in [_OUTCOMES[name]]}


def pair_table(table: pd.DataFrame) -> Metadata:
    """Return the metadata of `pair_table`: every dyad, smallest JS first, with one population's cosines and leakage."""
    cosine = [name for name in table.columns if name.startswith("cosine_")]
    first = [name for name in cosine if name.rpartition("_layer")[0] == cosine[0].rpartition("_layer")[0]][:3]
    short = {name: f"cos L{name.rpartition('_layer')[2]}" for name in first}
    leakage = next((n for n in ("expected_rate", "leakage_rate") if n in table and table[n].notna().any()), None)
    records = (
        {
            "JS": _written(row["js"], 4),
            "source → target": presentation.display_name(f"{row['source']} → {row['target']}"),
            **{heading: _written(row[name], 2) for name, heading in short.items()},
            **({"leakage": _written(row[leakage], 2)} if leakage else {}),
        }
        for row in table.dropna(subset="js").sort_values("js", kind="stable").to_dict("records")
    )
    return {"mean_js": _number(table.js.mean()), **rows("closest_first", records)}
