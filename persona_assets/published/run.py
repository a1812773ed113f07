"""Reads a published run: responses, JS, cosines and marker counts, and checks that they agree with each other.

K personas, Q questions; `docs/how-to/published-run.md` describes every field.

    DIR/generations.json            persona → question → [response], one greedy response each
    DIR/divergence_matrices.json    persona_names; per_prompt_js: "generator·Q + question" → "a__b" → JS in nats;
                                    js_matrix and kl_matrix, K×K, means over all responses
    DIR/cosine_<K>_l<N>.json        persona_names; cosine_matrix_l<N>, K×K, centred on these K personas
    DIR/dyads*.csv                  optional: source, target, cosine_l<N>_centred<P>: centred on P personas
    DIR/marker_eval/SOURCE.json     optional: target → found, total, rate
    DIR/coupling*.csv               optional: persona, source_rate, js_<baseline>, cosine_<baseline>_l<N>
    personas*.json, eval_questions.json, optional data_questions*.json: in DIR or its parent folder

Data missing from the files is listed in `PublishedRun.absent`.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from persona_assets.files.digest import digest_of, digest_of_path
from persona_assets.files.reading import LARGEST_JSON, named, shown
from persona_assets.published.files import (
    Floats,
    PublishedRunError,
    find,
    find_one,
    index_of,
    kind_of,
    mapping,
    matrix_of,
    number,
    persona_names,
    read_csv,
    read_json,
    require_names,
)

# Published means were computed and written in float64, published cosines in float32.
MEAN_TOLERANCE, COSINE_TOLERANCE = 1e-9, 1e-5
_COSINE_FILE = re.compile(r"cosine_(?P<personas>[0-9]{1,6})_l(?P<layer>[0-9]{1,6})\.json")
_COSINE_COLUMN = re.compile(r"cosine_l(?P<layer>[0-9]{1,6})_centred(?P<personas>[0-9]{1,6})")
# Largest plausible size of a response and of a JS value in a file, without names; larger files are rejected.
_BYTES_A_RESPONSE, _BYTES_A_JS = 32 * 1024, 64


@dataclass(frozen=True, eq=False)
class PublishedRun:
    """Content of a published run, in the order of its personas and questions.

    Attributes:
        personas: name → {prompt, category, related_to}.
        generations: columns persona, question, text.
        logit_js: generator → js (question, persona, other) and kl_over_all (persona, other), in nats.
        cosine: cosine (population, layer, persona, other), NaN where none was published.
        source_rates: columns persona, source_rate, js and cosine_layer<N> with the baseline; None if not published.
        marker_eval: the folder of marker counts; None if not published.
        about: metadata from the files: model, commit, time.
        files: the files that were read (or the folder of counts), by name.
        absent: data that a computed checkpoint has and these files lack.
    """

    personas: dict[str, dict[str, Any]]
    questions: tuple[str, ...]
    training_questions: tuple[str, ...]
    generations: pd.DataFrame
    logit_js: dict[str, xr.Dataset]
    cosine: xr.Dataset
    source_rates: pd.DataFrame | None
    marker_eval: Path | None
    about: dict[str, Any]
    files: dict[str, Path]
    absent: tuple[str, ...]

    @property
    def digests(self) -> dict[str, str]:
        """Return the SHA-256 of every file that was read, by name."""
        return {name: digest_of_path(path) for name, path in self.files.items()}

    @property
    def digest(self) -> str:
        """Return one digest over all files."""
        return digest_of(self.digests)

    @property
    def layers(self) -> list[int]:
        """Return the layers that have cosines."""
        return [int(layer) for layer in self.cosine.layer.values]


def read_published_run(directory: Path, baseline: str) -> PublishedRun:
    """Read a run and check that its files agree with each other.

    Raises:
        PublishedRunError: a file is missing, truncated or has the wrong shape; a persona is unknown; a JS is outside
            [0, ln 2] or a cosine outside [−1, 1]; a matrix is not symmetric or not the mean of its responses.
    """
    if not directory.is_dir():
        raise PublishedRunError(f"{directory}: does not exist; expected the folder of a published run")
    files = {
        "personas": find_one(directory, "personas*.json"),
        "questions": find_one(directory, "eval_questions.json"),
        "generations": directory / "generations.json",
        "divergences": directory / "divergence_matrices.json",
    }
    personas = _personas(files["personas"])
    if baseline not in personas:
        raise PublishedRunError(
            f"{files['personas']}: baseline {shown(baseline)} is unknown; found {shown(list(personas))}; "
            "expected one of these"
        )
    questions = _texts(files["questions"])
    names = list(personas)
    logit_js, about = _divergences(files["divergences"], names, questions)
    cosine, of_cosines = _cosines(directory, names, logit_js)
    files |= of_cosines
    training = find(directory, "data_questions*.json")
    coupling = find(directory, "coupling*.csv")
    marker_eval = directory / "marker_eval"
    files |= {"training_questions": training} if training else {}
    files |= {"coupling": coupling} if coupling else {}
    if marker_eval.is_dir():
        files["marker_eval"] = marker_eval
    return PublishedRun(
        personas=personas,
        questions=questions,
        training_questions=_texts(training) if training else (),
        generations=_generations(files["generations"], names, questions),
        logit_js=logit_js,
        cosine=cosine,
        source_rates=_source_rates(coupling, baseline, names, logit_js) if coupling else None,
        marker_eval=marker_eval if marker_eval.is_dir() else None,
        about=about,
        files=files,
        absent=(*_always_absent(), *_absent_cosines(cosine), *([] if marker_eval.is_dir() else ["marker counts"])),
    )


def _always_absent() -> tuple[str, ...]:
    return (
        "token ids and finish reasons of the responses",
        "JS per token, KL per response",
        "centroids",
        "decoding settings, library versions, duration of each stage",
        "marker adapters, the sampled replies that were counted, the rate before training",
    )


def _absent_cosines(cosine: xr.Dataset) -> list[str]:
    """Return the layers and centring populations whose cosine is missing for some or all pairs."""
    absent = []
    pairs = np.triu_indices(cosine.sizes["persona"], k=1)
    for population in cosine.population.values:
        for layer in cosine.layer.values:
            values = cosine.cosine.sel(population=population, layer=layer).to_numpy()[pairs]
            if known := int(np.isfinite(values).sum()):
                if known < len(values):
                    absent.append(f"cosine {population} layer {layer} for {len(values) - known} of {len(values)} pairs")
            else:
                absent.append(f"cosine {population} layer {layer}")
    return absent


def _personas(file: Path) -> dict[str, dict[str, Any]]:
    content = mapping(file, read_json(file), "name → prompt, category, related_to")
    for name, persona in content.items():
        if not isinstance(persona, dict) or not isinstance(persona.get("prompt"), str):
            raise PublishedRunError(f"{file}: {named(name)}: prompt is missing or not text; expected the system prompt")
    fields = ("prompt", "category", "related_to")
    return {name: {key: persona[key] for key in fields if key in persona} for name, persona in content.items()}


def _texts(file: Path) -> tuple[str, ...]:
    content = read_json(file)
    if not isinstance(content, list) or not content or not all(isinstance(text, str) for text in content):
        raise PublishedRunError(f"{file}: found {kind_of(content)}; expected a list of question texts")
    return tuple(content)


def _generations(file: Path, names: Sequence[str], questions: Sequence[str]) -> pd.DataFrame:
    largest = max(LARGEST_JSON, len(names) * len(questions) * _BYTES_A_RESPONSE)
    content = mapping(file, read_json(file, largest), "persona → question → [response]")
    require_names(file, "personas", content, names)
    rows = []
    for name in names:
        answered = mapping(file, content[name], "question → [response]", name)
        require_names(file, f"{name}: questions", answered, questions)
        for question in questions:
            responses = answered[question]
            if not isinstance(responses, list) or len(responses) != 1 or not isinstance(responses[0], str):
                raise PublishedRunError(
                    f"{file}: {name}: {shown(question)}: found {kind_of(responses)}; "
                    "expected a list with one response text"
                )
            rows.append((name, question, responses[0]))
    return pd.DataFrame(rows, columns=["persona", "question", "text"])


def _divergences(
    file: Path, names: Sequence[str], questions: Sequence[str]
) -> tuple[dict[str, xr.Dataset], dict[str, Any]]:
    n_pairs, n_responses = len(names) * (len(names) - 1) // 2, len(names) * len(questions)
    largest = max(LARGEST_JSON, n_responses * n_pairs * (2 * max(map(len, names), default=0) + _BYTES_A_JS))
    content = mapping(file, read_json(file, largest), "persona_names, per_prompt_js, js_matrix, kl_matrix")
    order = persona_names(file, content, names)
    per_response = mapping(file, content.get("per_prompt_js"), "response → pair → JS", "per_prompt_js")
    if len(per_response) != n_responses:
        raise PublishedRunError(f"{file}: per_prompt_js: responses: found {len(per_response)}; expected {n_responses}")
    require_names(file, "per_prompt_js: responses", per_response, [str(place) for place in range(n_responses)])
    pairs = {f"{a}__{b}": (names.index(a), names.index(b)) for a, b in combinations(order, 2)}
    if len(pairs) < n_pairs:
        raise PublishedRunError(
            f"{file}: persona_names: two pairs have the same key, as (a__b, c) and (a, b__c) do; expected unique keys"
        )
    for response, values in per_response.items():  # check all keys before allocating the array
        place = f"per_prompt_js: {response}"
        require_names(file, f"{place}: pairs", mapping(file, values, "pair → JS", place), list(pairs))
    js = np.zeros((len(names), len(questions), len(names), len(names)))
    for response, values in per_response.items():
        generator, question = divmod(int(response), len(questions))
        for pair, (i, j) in pairs.items():
            value = number(file, f"per_prompt_js: {response}: {pair}", values[pair], 0.0, math.log(2))
            of_generator = js[names.index(order[generator]), question]
            of_generator[i, j] = of_generator[j, i] = value
    matrix = matrix_of(file, content, "js_matrix", order, names, (0.0, math.log(2)), symmetric=MEAN_TOLERANCE)
    _require_mean(file, matrix, js.mean(axis=(0, 1)), names)
    kl = matrix_of(file, content, "kl_matrix", order, names, (0.0, math.inf))
    coords = {"question": list(questions), "persona": list(names), "other": list(names)}
    datasets = {
        name: xr.Dataset(
            {"js": (("question", "persona", "other"), js[place]), "kl_over_all": (("persona", "other"), kl)},
            coords=coords,
            attrs={"generator": name, "units": "nats"},
        )
        for place, name in enumerate(names)
    }
    about = content.get("metadata")
    return datasets, dict(about) if isinstance(about, dict) else {}


def _require_mean(file: Path, matrix: Floats, means: Floats, names: Sequence[str]) -> None:
    """Check that the published matrix is the mean over the published responses."""
    for i, j in np.ndindex(matrix.shape):
        _require_equal(
            file,
            f"js_matrix: {names[i]} – {names[j]} as the mean of per_prompt_js",
            float(matrix[i, j]),
            float(means[i, j]),
        )


def _require_equal(file: Path, place: str, found: float, expected: float, tolerance: float = MEAN_TOLERANCE) -> None:
    """Check that a value published in two places is the same in both."""
    if abs(found - expected) > tolerance:
        raise PublishedRunError(f"{file}: {place}: found {found:.9g}; expected {expected:.9g}, as elsewhere in the run")


def _cosines(
    directory: Path, names: Sequence[str], logit_js: dict[str, xr.Dataset]
) -> tuple[xr.Dataset, dict[str, Path]]:
    matrices: dict[tuple[str, int], Floats] = {}
    files: dict[str, Path] = {}
    for file in sorted(directory.glob("cosine_*_l*.json")):
        if not (match := _COSINE_FILE.fullmatch(file.name)):
            continue
        if int(match["personas"]) != len(names):
            raise PublishedRunError(
                f"{file}: centred on {match['personas']} personas; expected all {len(names)} personas of the run"
            )
        content = mapping(file, read_json(file), "persona_names and a matrix")
        order, layer = persona_names(file, content, names), int(match["layer"])
        bounds = (-1 - COSINE_TOLERANCE, 1 + COSINE_TOLERANCE)
        matrix = matrix_of(file, content, f"cosine_matrix_l{layer}", order, names, bounds, symmetric=COSINE_TOLERANCE)
        matrix = np.clip((matrix + matrix.T) / 2, -1, 1)
        np.fill_diagonal(matrix, 1.0)
        matrices["study", layer] = matrix
        files[f"cosine_l{layer}"] = file
    if not matrices:
        raise PublishedRunError(f"{directory}: no cosine_{len(names)}_l<layer>.json found; expected at least one")
    if dyads := find(directory, "dyads*.csv", below_only=True):
        matrices |= _cosines_of_dyads(dyads, names, matrices, logit_js)
        files["dyads"] = dyads
    populations = list(dict.fromkeys(population for population, _ in matrices))
    layers = sorted({layer for _, layer in matrices})
    nowhere = np.full((len(names),) * 2, np.nan)
    values = [[matrices.get((population, layer), nowhere) for layer in layers] for population in populations]
    cosine = xr.Dataset(
        {"cosine": (("population", "layer", "persona", "other"), np.array(values))},
        coords={"population": populations, "layer": layers, "persona": list(names), "other": list(names)},
        attrs={
            f"population_{population}": ", ".join(names) if population == "study" else "as published, not in the files"
            for population in populations
        },
    )
    return cosine, files


def _cosines_of_dyads(
    file: Path, names: Sequence[str], known: dict[tuple[str, int], Floats], logit_js: dict[str, xr.Dataset]
) -> dict[tuple[str, int], Floats]:
    """Return cosines published for some dyads only; check those that are also in a matrix."""
    table = read_csv(file, ["source", "target"], len(names) ** 2)
    found: dict[tuple[str, int], Floats] = {}
    js = np.mean([dataset.js.mean("question").to_numpy() for dataset in logit_js.values()], axis=0)
    for line, row in enumerate(table.to_dict("records"), start=1):
        place = f"row {line} ({named(row['source'], 60)} → {named(row['target'], 60)})"
        i, j = (index_of(file, f"{place}: {side}", row[side], names) for side in ("source", "target"))
        if "js" in row and abs(number(file, f"{place}: js", row["js"], 0.0, math.log(2)) - js[i, j]) > MEAN_TOLERANCE:
            raise PublishedRunError(
                f"{file}: {place}: js: found {shown(row['js'])}; expected {js[i, j]:.9g}, as in js_matrix"
            )
        for column, value in row.items():
            if not (match := _COSINE_COLUMN.fullmatch(str(column))):
                continue
            cosine = number(file, f"{place}: {column}", value, -1 - COSINE_TOLERANCE, 1 + COSINE_TOLERANCE)
            population = "study" if int(match["personas"]) == len(names) else f"{match['personas']}_personas"
            key = (population, int(match["layer"]))
            matrix = known.get(key)
            if matrix is None:
                matrix = found.setdefault(key, np.where(np.eye(len(names)), 1.0, np.nan))
            if np.isfinite(matrix[i, j]):
                _require_equal(file, f"{place}: {column}", cosine, float(matrix[i, j]), COSINE_TOLERANCE)
            if key in found:
                matrix[i, j] = matrix[j, i] = cosine
    return found


def _source_rates(file: Path, baseline: str, names: Sequence[str], logit_js: dict[str, xr.Dataset]) -> pd.DataFrame:
    """Return each source's own leakage rate and its published JS and cosine with the baseline."""
    table = read_csv(file, ["persona", "source_rate"], len(names))
    js = np.mean([dataset.js.mean("question").to_numpy() for dataset in logit_js.values()], axis=0)
    rows = []
    for line, row in enumerate(table.to_dict("records"), start=1):
        place = f"row {line} ({named(row['persona'], 60)})"
        persona = index_of(file, place, row["persona"], names)
        kept: dict[str, Any] = {
            "persona": row["persona"],
            "source_rate": number(file, f"{place}: source_rate", row["source_rate"], 0.0, 1.0),
        }
        if (column := f"js_{baseline}") in row:
            kept["js"] = number(file, f"{place}: {column}", row[column], 0.0, math.log(2))
            _require_equal(file, f"{place}: {column}", kept["js"], js[persona, names.index(baseline)])
        for field, value in row.items():
            if match := re.fullmatch(rf"cosine_{re.escape(baseline)}_l([0-9]{{1,6}})", str(field)):
                kept[f"cosine_layer{match[1]}"] = number(file, f"{place}: {field}", value, -1.0, 1.0)
        rows.append(kept)
    if repeated := table["persona"][table["persona"].duplicated()].tolist():
        raise PublishedRunError(f"{file}: {repeated[0]} appears twice; expected each persona once")
    return pd.DataFrame(rows)
