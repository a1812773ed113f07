"""Labelled results: what one generator's responses give, the K×K matrix over all of them, and the cosines.

Dimensions are named once, here: persona and other are scorers (or the personas of a pair), generator is who wrote the
response, token counts along a response.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import xarray as xr

from persona_assets.metrics.averaging import GENERATOR_SUBSETS, average_over_responses, bootstrap_over_questions
from persona_assets.metrics.cosine import centred_cosine, cosine_pseudovalues
from persona_assets.metrics.landmarks import estimate_over_all
from persona_assets.metrics.response import ResponseDivergence

# The choice of generators that stands for `all` where only landmarks wrote.
ESTIMATED = "all_estimated"


def label_responses(
    responses: Sequence[ResponseDivergence], generator: str, personas: Sequence[str], questions: Sequence[str]
) -> xr.Dataset:
    """One generator's responses, one a question.

    Returns:
        js, kl (question, persona, other): means over a response's tokens, kl is KL(persona‖other); token_js, token_kl,
        token_kl_reverse (question, token, persona): generator against each scorer, token_kl is KL(generator‖persona),
        NaN beyond a response's end; tokens (question). All divergences in nats.
    """
    longest = max(len(response.token_js) for response in responses)

    def along_tokens(name: str) -> tuple[tuple[str, ...], np.ndarray]:
        padded = np.full((len(responses), longest, len(personas)), np.nan, dtype=np.float32)
        for row, response in zip(padded, responses, strict=True):
            values = getattr(response, name)
            row[: len(values)] = values
        return ("question", "token", "persona"), padded

    pairs = ("question", "persona", "other")
    return xr.Dataset(
        {
            "js": (pairs, np.stack([response.js for response in responses])),
            "kl": (pairs, np.stack([response.kl for response in responses])),
            "tokens": ("question", [len(response.token_js) for response in responses]),
            **{name: along_tokens(name) for name in ("token_js", "token_kl", "token_kl_reverse")},
        },
        coords={"question": list(questions), "persona": list(personas), "other": list(personas)},
        attrs={"generator": generator, "units": "nats"},
    )


def divergence_matrix(
    by_generator: Mapping[str, xr.Dataset], shown: str, design: str = "full", *, resamples: int, seed: int, level: float
) -> xr.Dataset:
    """K×K JS and KL under every choice of generators, with question-bootstrap intervals.

    Args:
        by_generator: generator → `label_responses` of its responses, every persona of the study once, or those that the
            design lets write. An imported run may lack KL of every response and have its mean over all of them as
            `kl_over_all` (persona, other).
        shown: the choice of generators that stands where one number is shown; one of `GENERATOR_SUBSETS`. Of another
            design than `full` it is `all_estimated` or `sources`.
        design: `full`; `landmarks`, a sample of the personas wrote; `sources`, some did, and pairs of none are missing.
        resamples, seed, level: of the bootstrap.

    Returns:
        js, js_low, js_high, kl, kl_low, kl_high over (generators, persona, other), and js_by_question (question,
        persona, other) of the choice that is shown; in nats, personas in the order of `by_generator`, or of a dataset
        where not all wrote; attributes say what was chosen. Of `kl_over_all` only kl of all generators can be known.
        generators: `GENERATOR_SUBSETS`; of `landmarks`: all_estimated (`estimate_over_all`, whose js_error is its
        standard error against having measured all), landmarks, source, target; of `sources`: sources, source, target.
        What nobody measured is NaN: source where the persona wrote nothing, pairs of two that did not.
    """
    personas = list(by_generator) if design == "full" else [str(n) for n in _first(by_generator).persona.values]
    measures = [name for name in ("js", "kl") if all(name in dataset for dataset in by_generator.values())]
    stacked = xr.concat(
        [
            dataset[measures].sel(persona=personas, other=personas).assign_coords(generator=name)
            for name, dataset in by_generator.items()
        ],
        dim="generator",
        join="exact",
    )
    matrices = []
    for generators in GENERATOR_SUBSETS if design == "full" else (design, "source", "target"):
        matrix: dict[str, xr.DataArray] = {}
        for name in measures:
            low, high = bootstrap_over_questions(stacked[name], generators, resamples, seed, level)
            average = average_over_responses(stacked[name], generators)
            matrix |= {name: average, f"{name}_low": low, f"{name}_high": high}
        matrices.append(xr.Dataset(matrix).assign_coords(generators=generators))
    if design == "landmarks":
        matrices.insert(0, _estimated(stacked[measures], level))
    result = xr.concat(matrices, dim="generators")
    if "kl" not in measures and "kl_over_all" in (first := _first(by_generator)):
        over_all = first.kl_over_all.sel(persona=personas, other=personas)
        result["kl"] = over_all.where(result.generators == "all").transpose("generators", "persona", "other")
    shown = {"full": shown, "landmarks": ESTIMATED, "sources": "sources"}[design]
    result["js_by_question"] = _by_question(stacked.js, shown, result)
    return result.assign_attrs(
        generators_shown=shown,
        **({} if design == "full" else {"generators_measured": ", ".join(by_generator)}),
        questions=stacked.sizes["question"],
        resamples=resamples,
        seed=seed,
        level=level,
        units="nats",
    )


def _first(by_generator: Mapping[str, xr.Dataset]) -> xr.Dataset:
    return next(iter(by_generator.values()))


def _estimated(stacked: xr.Dataset, level: float) -> xr.Dataset:
    """What all generators would have given, of each measure."""
    found: dict[str, xr.DataArray] = {}
    for name in stacked.data_vars:
        estimate = estimate_over_all(stacked[name], level)
        found |= {str(name): estimate.estimate, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
        found[f"{name}_error"] = estimate.error
    return xr.Dataset(found).assign_coords(generators=ESTIMATED)


def _by_question(js: xr.DataArray, shown: str, result: xr.Dataset) -> xr.DataArray:
    """JS of each question; where it is estimated, the landmarks' in proportion, so that their mean is the estimate."""
    measured = "landmarks" if shown == ESTIMATED else shown
    each = [average_over_responses(js.isel(question=[place]), measured) for place in range(js.sizes["question"])]
    by_question = xr.concat(each, dim="question").assign_coords(question=js.question)
    if shown != ESTIMATED:
        return by_question
    of_landmarks = result.js.sel(generators=measured, drop=True)
    estimate: xr.DataArray = result.js.sel(generators=shown, drop=True)
    proportioned: xr.DataArray = by_question * (estimate / of_landmarks).where(of_landmarks > 0, 1.0)
    return proportioned


def cosine_dataset(centroids: Mapping[str, xr.Dataset], populations: Mapping[str, Sequence[str]]) -> xr.Dataset:
    """Centred cosine between personas, per centring population and layer.

    Args:
        centroids: persona → `centroid` (layer, hidden), and, where it was kept, `state` (question, layer, hidden), of
            which the centroid is the mean.
        populations: name → its personas.

    Returns:
        cosine (population, layer, persona, other); where every persona has its states, also cosine_by_question
        (population, question, layer, persona, other), the pseudo-values of `cosine_pseudovalues`.
    """

    def over_populations(cosine: Callable[[xr.DataArray, Sequence[str]], xr.DataArray], of: str) -> xr.DataArray:
        vectors = [dataset[of].assign_coords(persona=persona) for persona, dataset in centroids.items()]
        stacked = xr.concat(vectors, dim="persona", join="exact")
        each = [cosine(stacked, members).assign_coords(population=name) for name, members in populations.items()]
        return xr.concat(each, dim="population", combine_attrs="drop")

    variables = {"cosine": over_populations(centred_cosine, "centroid")}
    if all("state" in dataset for dataset in centroids.values()):
        variables["cosine_by_question"] = over_populations(cosine_pseudovalues, "state")
    attrs = {f"population_{name}": ", ".join(members) for name, members in populations.items()}
    return xr.Dataset(variables, attrs=attrs)
