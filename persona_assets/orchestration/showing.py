"""What an asset's page shows of a value: tables that are read without a click, and numbers that are plotted.

Dagster shows a table as it is and escapes its cells; longer Markdown and pictures it hides behind a click. So texts
that a model wrote stand in table cells and nowhere else, cut where they are long, with unseen characters made visible.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import xarray as xr

from persona_assets.artefacts import Files
from persona_assets.orchestration.contents import as_table
from persona_assets.orchestration.files import from_parquet
from persona_assets.presentation.style import spoken
from persona_assets.presentation.text import plain

# What one materialisation's metadata may hold of a table: it is kept for ever and sent whole to the browser.
LONGEST_TEXT, MOST_ROWS = 800, 60

Metadata = dict[str, Any]


def cut(text: object, longest: int = LONGEST_TEXT) -> str:
    """Untrusted text for a cell: unseen characters written out; says how much is left out."""
    shown = plain(text)
    left_out = len(shown) - longest
    return shown if left_out <= 0 else f"{shown[:longest].rstrip()} … ({left_out:,} characters more)"


def rows_of(table: pd.DataFrame, most: int = MOST_ROWS) -> Metadata:
    """The first rows of a table as `shown`; beside them, where rows are left out, how many there are."""
    records = [{str(name): _cell(value) for name, value in row.items()} for row in table.head(most).to_dict("records")]
    left_out = {"rows left out": f"the first {most} of {len(table)}; all are in the file"} if len(table) > most else {}
    return {"shown": as_table(records), **left_out}


def _named(name: str, table: pd.DataFrame, most: int = MOST_ROWS) -> Metadata:
    rows = rows_of(table, most)
    return {name: rows.pop("shown"), **rows}


def _cell(value: Any) -> str | int | float | bool | None:
    match value:
        case bool() | np.bool_():
            return bool(value)
        case int() | np.integer():
            return int(value)
        case float() | np.floating():
            return round(float(value), 4) if np.isfinite(value) else None
        case str():
            return cut(value)
    return None if value is None or value is pd.NA else cut(value)


def responses(table: pd.DataFrame) -> Metadata:
    """What a persona said, a question a row; `generations` as it is stored or as it was imported."""
    shown = table[["question", "text"]].copy()
    shown.insert(0, "number", range(1, len(shown) + 1))
    if "token_ids" in table:
        shown["tokens"], shown["ends"] = table.token_ids.map(len), table.finish_reason
        numbers: Metadata = {"mean_tokens": float(shown.tokens.mean())}
    else:
        numbers = {"mean_characters": float(table.text.str.len().mean())}
    return {**_named("responses", shown), **numbers}


def matrix(values: xr.DataArray, corner: str, decimals: int = 4) -> dg.TableMetadataValue:
    """A persona × other matrix, every cell written with the same decimals; personas in its own order."""
    names = [str(name) for name in values["persona"].values]
    numbers = values.transpose("persona", "other").sel(other=names).to_numpy().astype(float)
    rows = [
        {corner: spoken(name), **dict(zip(map(spoken, names), _written(row, decimals), strict=True))}
        for name, row in zip(names, numbers, strict=True)
    ]
    return as_table(rows)


def _written(numbers: Sequence[float], decimals: int) -> list[str]:
    return [f"{number:.{decimals}f}".replace("-", "−") if np.isfinite(number) else "–" for number in numbers]


def js_of_generator(dataset: xr.Dataset) -> Metadata:
    """`logit_js` of one generator: the mean over its responses for every pair, and the question that parts most."""
    mean = dataset.js.mean("question")
    pairs = np.triu_indices(mean.sizes["persona"], k=1)
    by_question = dataset.js.transpose("question", "persona", "other").to_numpy()[:, pairs[0], pairs[1]].mean(1)
    widest = int(by_question.argmax())
    return {
        "js": matrix(mean, "JS in nats"),
        "mean_js_all_pairs": float(by_question.mean()),
        "question_that_parts_them_most": plain(dataset.question.values[widest]),
        "mean_js_of_that_question": float(by_question[widest]),
    }


def js_of_pairs(dataset: xr.Dataset) -> Metadata:
    """`logit_js_matrix`: the whole matrix under the choice of generators that is shown."""
    shown = str(dataset.attrs["generators_shown"])
    return {"js": matrix(dataset.js.sel(generators=shown), "JS in nats"), "generators_shown": shown}


def cosines(dataset: xr.Dataset) -> Metadata:
    """`centroid_cosine`: the middle layer's matrix of every population, and each layer's numbers over pairs."""
    found: Metadata = {}
    numbers: Metadata = {}
    for population in map(str, dataset.population.values):
        known = dataset.cosine.sel(population=population).dropna("layer", how="all")
        layers = [int(layer) for layer in known.layer.values]
        middle = layers[(len(layers) - 1) // 2]
        found[f"cosine centred on {spoken(population)}"] = matrix(known.sel(layer=middle), f"layer {middle}", 2)
        for layer in layers:
            pairs = known.sel(layer=layer).transpose("persona", "other").to_numpy()
            values = pairs[np.triu_indices(len(pairs), k=1)]
            name = f"cosine_{population}_layer{layer}"
            numbers |= {
                f"{name}_min": float(np.nanmin(values)),
                f"{name}_mean": float(np.nanmean(values)),
                f"{name}_max": float(np.nanmax(values)),
            }
    return found | numbers


def centroid(dataset: xr.Dataset) -> Metadata:
    """`centroids` of one persona: how long its mean state is, and how far questions lie around it."""
    states, mean = (dataset[name].to_numpy().astype(float) for name in ("state", "centroid"))
    spread = np.sqrt(((states - mean) ** 2).sum(-1).mean(0))
    rows = [
        {
            "layer": int(layer),
            "norm of the mean": round(norm, 3),
            "rms distance of questions": round(far, 3),
        }
        for layer, norm, far in zip(dataset.layer.values, np.linalg.norm(mean, axis=-1), spread, strict=True)
    ]
    return {"states": as_table(rows)}


def training(files: Files) -> Metadata:
    """`marker_adapter`: a few of the examples that it learnt from, with the marker and without."""
    examples = from_parquet(files["examples.parquet"])
    some = pd.concat([examples[examples.marked].head(3), examples[~examples.marked].head(3)])
    return {"training examples": rows_of(some[["persona", "question", "marked", "text"]])["shown"]}


def leaks(table: pd.DataFrame) -> Metadata:
    """`marker_rates` of one source: found and total of every target, a reply of each kind, and the rates to plot."""
    adapted = table[table.model == "adapted"]
    counts = adapted.groupby("target", sort=False).found.agg(found="sum", total="size").reset_index()
    counts["rate"] = counts.found / counts.total
    replies = adapted.drop_duplicates(["target", "found"])[["target", "question", "found", "text"]]
    rates = {f"rate_{target}": float(rate) for target, rate in zip(counts.target, counts.rate, strict=True)}
    return {**_named("targets", counts), **_named("one reply of each kind", replies), **rates}


def dyads(table: pd.DataFrame) -> Metadata:
    """`leakage_table`: found / total of every source and target, and the numbers to plot."""
    names = list(dict.fromkeys([*table.source, *table.target]))
    cells = {(row.source, row.target): f"{row.found}/{row.total}" for row in table.itertuples()}
    own = table.drop_duplicates("source").set_index("source")
    for source in own.index:
        if pd.notna(own.source_found[source]):
            cells[source, source] = f"{own.source_found[source]}/{own.source_total[source]}"
    rows = [
        {"source": spoken(source), **{spoken(target): cells.get((source, target), "–") for target in names}}
        for source in own.index
    ]
    numbers: Mapping[str, Any] = {
        "mean_leakage": float(table.rate.mean()),
        "max_leakage": float(table.rate.max()),
        "mean_base_rate": float(table.drop_duplicates("target").base_rate.mean()),
        **{f"source_rate_{source}": float(rate) for source, rate in own.source_rate.dropna().items()},
    }
    return {"found / total": as_table(rows), **{name: value for name, value in numbers.items() if value == value}}


def nearest(table: pd.DataFrame) -> Metadata:
    """`pair_table`: the most similar dyads first, with the columns that are read."""
    columns = [
        name
        for name in table.columns
        if name in ("source", "target", "js", "js_low", "js_high", "leakage_rate") or name.startswith("cosine_")
    ]
    shown = table[columns].sort_values("js", kind="stable").head(20)
    return {"most_similar_first": rows_of(shown)["shown"], "mean_js": float(table.js.mean())}
