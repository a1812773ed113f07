"""A published run: somebody's responses, JS, cosines and marker counts, read from files and checked as a whole.

K personas, Q questions. JSON unless it says otherwise; `docs/how-to/published-run.md` describes every field.

    DIR/generations.json            persona → question → [response], one greedy response each
    DIR/divergence_matrices.json    persona_names; per_prompt_js: "generator·Q + question" → "a__b" → JS in nats;
                                    js_matrix and kl_matrix, K×K, means over all responses
    DIR/cosine_<K>_l<N>.json        persona_names; cosine_matrix_l<N>, K×K, centred on these K personas
    DIR/dyads*.csv                  optional: source, target, cosine_l<N>_centred<P>: centred on P personas
    DIR/marker_eval/SOURCE.json     optional: target → found, total, rate
    DIR/coupling*.csv               optional: persona, source_rate, js_<baseline>, cosine_<baseline>_l<N>
    personas*.json, eval_questions.json, optional data_questions*.json: in DIR or in the folder above it

What the files lack is absent here too and is named in `PublishedRun.absent`.
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
    kind_of,
    mapping,
    matrix_of,
    number,
    persona_names,
    place_of,
    read_csv,
    read_json,
    same_names,
)

# A published mean was taken in float64 and written in full; a published cosine came out of float32.
MEAN_TOLERANCE, COSINE_TOLERANCE = 1e-9, 1e-5
_COSINE_FILE = re.compile(r"cosine_(?P<personas>[0-9]{1,6})_l(?P<layer>[0-9]{1,6})\.json")
_COSINE_COLUMN = re.compile(r"cosine_l(?P<layer>[0-9]{1,6})_centred(?P<personas>[0-9]{1,6})")
# What a response and a JS take in a file at most, names apart; a file that is larger than that is not read.
_BYTES_A_RESPONSE, _BYTES_A_JS = 32 * 1024, 64


@dataclass(frozen=True, eq=False)
class PublishedRun:
    """What the files of a run hold, in the order of its personas and questions.

    Attributes:
        personas: name → {prompt, category, related_to}.
        generations: persona, question, text.
        logit_js: generator → js (question, persona, other) and kl_over_all (persona, other), in nats.
        cosine: cosine (population, layer, persona, other), NaN where nobody published one.
        source_rates: persona, source_rate, js, cosine_layer<N> with the baseline; None where there is no such file.
        marker_eval: the folder of counts, None where there is none.
        about: what the files say of themselves: model, commit, time.
        files: what was read, by name: the file, or the folder of counts.
        absent: what a study holds and these files do not.
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
        """SHA-256 of every file that was read."""
        return {name: digest_of_path(path) for name, path in self.files.items()}

    @property
    def digest(self) -> str:
        """One digest of all of them."""
        return digest_of(self.digests)

    @property
    def layers(self) -> list[int]:
        """Blocks that any cosine is of."""
        return [int(layer) for layer in self.cosine.layer.values]


def read_published_run(directory: Path, baseline: str) -> PublishedRun:
    """Reads a run and checks that its files agree with one another.

    Raises:
        PublishedRunError: a file is missing, cut short, or of another shape; names an unknown persona; a JS outside
            [0, ln 2], a matrix that is not symmetric or not the mean of its responses, a cosine outside [−1, 1].
    """
    if not directory.is_dir():
        raise PublishedRunError(f"{directory}: is not there; expected the folder of a published run")
    files = {
        "personas": find_one(directory, "personas*.json"),
        "questions": find_one(directory, "eval_questions.json"),
        "generations": directory / "generations.json",
        "divergences": directory / "divergence_matrices.json",
    }
    personas = _personas(files["personas"])
    if baseline not in personas:
        raise PublishedRunError(
            f"{files['personas']}: no persona {shown(baseline)}; found {shown(list(personas))}; "
            "expected the baseline among them"
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
        "decoding settings, library versions, times of each stage",
        "marker adapters, the sampled replies behind the counts, the rate before training",
    )


def _absent_cosines(cosine: xr.Dataset) -> list[str]:
    """Layers of a centring population of which not every pair is known."""
    absent = []
    pairs = np.triu_indices(cosine.sizes["persona"], k=1)
    for population in cosine.population.values:
        for layer in cosine.layer.values:
            values = cosine.cosine.sel(population=population, layer=layer).to_numpy()[pairs]
            if known := int(np.isfinite(values).sum()):
                if known < len(values):
                    absent.append(f"cosine {population} layer {layer} of {len(values) - known} of {len(values)} pairs")
            else:
                absent.append(f"cosine {population} layer {layer}")
    return absent


def _personas(file: Path) -> dict[str, dict[str, Any]]:
    content = mapping(file, read_json(file), "name → prompt, category, related_to")
    for name, persona in content.items():
        if not isinstance(persona, dict) or not isinstance(persona.get("prompt"), str):
            raise PublishedRunError(f"{file}: {named(name)}: prompt is missing or no text; expected the system prompt")
    fields = ("prompt", "category", "related_to")
    return {name: {key: persona[key] for key in fields if key in persona} for name, persona in content.items()}


def _texts(file: Path) -> tuple[str, ...]:
    content = read_json(file)
    if not isinstance(content, list) or not content or not all(isinstance(text, str) for text in content):
        raise PublishedRunError(f"{file}: found {kind_of(content)}; expected a list of questions as text")
    return tuple(content)


def _generations(file: Path, names: Sequence[str], questions: Sequence[str]) -> pd.DataFrame:
    largest = max(LARGEST_JSON, len(names) * len(questions) * _BYTES_A_RESPONSE)
    content = mapping(file, read_json(file, largest), "persona → question → [response]")
    same_names(file, "personas", content, names)
    rows = []
    for name in names:
        answered = mapping(file, content[name], "question → [response]", name)
        same_names(file, f"{name}: questions", answered, questions)
        for question in questions:
            responses = answered[question]
            if not isinstance(responses, list) or len(responses) != 1 or not isinstance(responses[0], str):
                raise PublishedRunError(
                    f"{file}: {name}: {shown(question)}: found {kind_of(responses)}; "
                    "expected a list of one response as text"
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
    same_names(file, "per_prompt_js: responses", per_response, [str(place) for place in range(n_responses)])
    pairs = {f"{a}__{b}": (names.index(a), names.index(b)) for a, b in combinations(order, 2)}
    if len(pairs) < n_pairs:
        raise PublishedRunError(f"{file}: persona_names: two pairs have one name, as a__b and c, a and b__c would")
    for response, values in per_response.items():  # every pair is there before there is room for as many numbers
        place = f"per_prompt_js: {response}"
        same_names(file, f"{place}: pairs", mapping(file, values, "pair → JS", place), list(pairs))
    js = np.zeros((len(names), len(questions), len(names), len(names)))
    for response, values in per_response.items():
        generator, question = divmod(int(response), len(questions))
        for pair, (i, j) in pairs.items():
            value = number(file, f"per_prompt_js: {response}: {pair}", values[pair], 0.0, math.log(2))
            of_generator = js[names.index(order[generator]), question]
            of_generator[i, j] = of_generator[j, i] = value
    matrix = matrix_of(file, content, "js_matrix", order, names, (0.0, math.log(2)), symmetric=MEAN_TOLERANCE)
    _is_mean(file, matrix, js.mean(axis=(0, 1)), names)
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


def _is_mean(file: Path, matrix: Floats, means: Floats, names: Sequence[str]) -> None:
    """The matrix must be the plain mean of the responses that stand beside it."""
    for i, j in np.ndindex(matrix.shape):
        _agrees(
            file,
            f"js_matrix: {names[i]} – {names[j]} as the mean of per_prompt_js",
            float(matrix[i, j]),
            float(means[i, j]),
        )


def _agrees(file: Path, place: str, found: float, expected: float, tolerance: float = MEAN_TOLERANCE) -> None:
    """What a run says twice must be the same."""
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
                f"{file}: is centred on {match['personas']} personas; expected all {len(names)} of the run"
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
        raise PublishedRunError(f"{directory}: no cosine_{len(names)}_l<layer>.json; expected at least one")
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
    """Cosines that were published for some dyads only; those that are known already must agree."""
    table = read_csv(file, ["source", "target"], len(names) ** 2)
    found: dict[tuple[str, int], Floats] = {}
    js = np.mean([dataset.js.mean("question").to_numpy() for dataset in logit_js.values()], axis=0)
    for line, row in enumerate(table.to_dict("records"), start=1):
        place = f"row {line} ({named(row['source'], 60)} → {named(row['target'], 60)})"
        i, j = (place_of(file, f"{place}: {side}", row[side], names) for side in ("source", "target"))
        if "js" in row and abs(number(file, f"{place}: js", row["js"], 0.0, math.log(2)) - js[i, j]) > MEAN_TOLERANCE:
            raise PublishedRunError(
                f"{file}: {place}: js: found {shown(row['js'])}; expected {js[i, j]:.9g}, as js_matrix has it"
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
                _agrees(file, f"{place}: {column}", cosine, float(matrix[i, j]), COSINE_TOLERANCE)
            if key in found:
                matrix[i, j] = matrix[j, i] = cosine
    return found


def _source_rates(file: Path, baseline: str, names: Sequence[str], logit_js: dict[str, xr.Dataset]) -> pd.DataFrame:
    """Rates of a marker onto its own source, and the baseline's likeness with that source as it was published."""
    table = read_csv(file, ["persona", "source_rate"], len(names))
    js = np.mean([dataset.js.mean("question").to_numpy() for dataset in logit_js.values()], axis=0)
    rows = []
    for line, row in enumerate(table.to_dict("records"), start=1):
        place = f"row {line} ({named(row['persona'], 60)})"
        persona = place_of(file, place, row["persona"], names)
        kept: dict[str, Any] = {
            "persona": row["persona"],
            "source_rate": number(file, f"{place}: source_rate", row["source_rate"], 0.0, 1.0),
        }
        if (column := f"js_{baseline}") in row:
            kept["js"] = number(file, f"{place}: {column}", row[column], 0.0, math.log(2))
            _agrees(file, f"{place}: {column}", kept["js"], js[persona, names.index(baseline)])
        for field, value in row.items():
            if match := re.fullmatch(rf"cosine_{re.escape(baseline)}_l([0-9]{{1,6}})", str(field)):
                kept[f"cosine_layer{match[1]}"] = number(file, f"{place}: {field}", value, -1.0, 1.0)
        rows.append(kept)
    if repeated := table["persona"][table["persona"].duplicated()].tolist():
        raise PublishedRunError(f"{file}: {repeated[0]} stands twice; expected each persona once")
    return pd.DataFrame(rows)
