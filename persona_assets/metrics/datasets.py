"""Labelled datasets: divergence per response of one generator, the K×K matrix over all generators, and the cosines.

Dimension names: persona and other are scorers (or the two personas of a pair), generator is the persona that
generated the response, token is the position in a response.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import xarray as xr

from persona_assets.metrics.averaging import GENERATOR_SUBSETS, average_over_responses, bootstrap_over_questions
from persona_assets.metrics.cosine import centred_cosine, cosine_pseudovalues
from persona_assets.metrics.landmarks import estimate_over_all
from persona_assets.metrics.response import ResponseDivergence

# The generator subset that estimates `all` when only landmarks generated responses.
ESTIMATED = "all_estimated"


def label_responses(
    responses: Sequence[ResponseDivergence | None], generator: str, personas: Sequence[str], questions: Sequence[str]
) -> xr.Dataset:
    """Label the divergences of one generator's responses, one response per question.

    Args:
        responses: None for a response that was not scored, because it reaches no answer: its values are NaN and its
            length is 0.

    Returns:
        js, kl (question, persona, other): means over a response's tokens, kl is KL(persona‖other); token_js, token_kl,
        token_kl_reverse (question, token, persona): generator against each scorer, token_kl is KL(generator‖persona),
        NaN after the end of a response; tokens (question): response lengths. All divergences in nats.
    """
    lengths = [0 if response is None else len(response.token_js) for response in responses]
    unscored = np.full((len(personas), len(personas)), np.nan)

    def along_tokens(name: str) -> tuple[tuple[str, ...], np.ndarray]:
        padded = np.full((len(responses), max(lengths), len(personas)), np.nan, dtype=np.float32)
        for row, response, length in zip(padded, responses, lengths, strict=True):
            if response is not None:
                row[:length] = getattr(response, name)
        return ("question", "token", "persona"), padded

    pairs = ("question", "persona", "other")
    return xr.Dataset(
        {
            "js": (pairs, np.stack([unscored if each is None else each.js for each in responses])),
            "kl": (pairs, np.stack([unscored if each is None else each.kl for each in responses])),
            "tokens": ("question", lengths),
            **{name: along_tokens(name) for name in ("token_js", "token_kl", "token_kl_reverse")},
        },
        coords={"question": list(questions), "persona": list(personas), "other": list(personas)},
        attrs={"generator": generator, "units": "nats"},
    )


def divergence_matrix(
    by_generator: Mapping[str, xr.Dataset], shown: str, design: str = "full", *, resamples: int, seed: int, level: float
) -> xr.Dataset:
    """Return K×K JS and KL under every generator subset, with question-bootstrap intervals.

    Args:
        by_generator: generator → `label_responses` of its responses, for every persona of the study or, in a partial
            design, those that generate. An imported run may lack KL per response and have its mean over all responses
            as `kl_over_all` (persona, other) instead.
        shown: the generator subset to show where a single number is shown; one of `GENERATOR_SUBSETS`. In designs other
            than `full` it is ignored: `all_estimated` or `sources` is shown.
        design: `full`; `landmarks`: a sample of the personas generated responses; `sources`: some personas did, and
            pairs of two that did not are missing.
        resamples, seed, level: settings of the bootstrap.

    Responses of no tokens, which reach no answer, are left out; the attribute `without_answer` says how many.

    Returns:
        js, js_low, js_high, kl, kl_low, kl_high over (generators, persona, other), and js_by_question (question,
        persona, other) of the shown subset; in nats. Personas are in the order of `by_generator`, or in that of its
        datasets in a partial design; attributes record the choices. From `kl_over_all` only kl of `all` is known.
        generators: `GENERATOR_SUBSETS`; for `landmarks`: all_estimated (`estimate_over_all`; js_error is its standard
        error relative to measuring all generators), landmarks, source, target; for `sources`: sources, source, target.
        Unmeasured values are NaN: source where the persona generated nothing, pairs of two that generated nothing.
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
    # Responses without tokens were not scored; an imported run says nothing about tokens.
    lengths = [dataset.tokens for dataset in by_generator.values() if "tokens" in dataset]
    without_answer = sum(int((each == 0).sum()) for each in lengths)
    unscored = without_answer > 0
    matrices = []
    for generators in GENERATOR_SUBSETS if design == "full" else (design, "source", "target"):
        matrix: dict[str, xr.DataArray] = {}
        for name in measures:
            low, high = bootstrap_over_questions(stacked[name], generators, resamples, seed, level, unscored)
            average = average_over_responses(stacked[name], generators, unscored)
            matrix |= {name: average, f"{name}_low": low, f"{name}_high": high}
        matrices.append(xr.Dataset(matrix).assign_coords(generators=generators))
    if design == "landmarks":
        matrices.insert(0, _estimated(stacked[measures], level))
    result = xr.concat(matrices, dim="generators")
    if "kl" not in measures and "kl_over_all" in (first := _first(by_generator)):
        over_all = first.kl_over_all.sel(persona=personas, other=personas)
        result["kl"] = over_all.where(result.generators == "all").transpose("generators", "persona", "other")
    shown = {"full": shown, "landmarks": ESTIMATED, "sources": "sources"}[design]
    result["js_by_question"] = _by_question(stacked.js, shown, result, unscored)
    return result.assign_attrs(
        generators_shown=shown,
        **({} if design == "full" else {"generators_measured": ", ".join(by_generator)}),
        questions=stacked.sizes["question"],
        **({"without_answer": f"{without_answer} of {sum(each.size for each in lengths)}"} if unscored else {}),
        resamples=resamples,
        seed=seed,
        level=level,
        units="nats",
    )


def _first(by_generator: Mapping[str, xr.Dataset]) -> xr.Dataset:
    return next(iter(by_generator.values()))


def _estimated(stacked: xr.Dataset, level: float) -> xr.Dataset:
    """Estimate each measure's mean over all generators from the landmarks."""
    found: dict[str, xr.DataArray] = {}
    for name in stacked.data_vars:
        estimate = estimate_over_all(stacked[name], level)
        found |= {str(name): estimate.estimate, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
        found[f"{name}_error"] = estimate.error
    return xr.Dataset(found).assign_coords(generators=ESTIMATED)


def _by_question(js: xr.DataArray, shown: str, result: xr.Dataset, unscored: bool) -> xr.DataArray:
    """Return JS per question; for estimates, the landmarks' values scaled so that their mean is the estimate."""
    measured = "landmarks" if shown == ESTIMATED else shown
    questions = range(js.sizes["question"])
    each = [average_over_responses(js.isel(question=[place]), measured, unscored) for place in questions]
    by_question = xr.concat(each, dim="question").assign_coords(question=js.question)
    if shown != ESTIMATED:
        return by_question
    of_landmarks = result.js.sel(generators=measured, drop=True)
    estimate: xr.DataArray = result.js.sel(generators=shown, drop=True)
    proportioned: xr.DataArray = by_question * (estimate / of_landmarks).where(of_landmarks > 0, 1.0)
    return proportioned


def cosine_dataset(centroids: Mapping[str, xr.Dataset], populations: Mapping[str, Sequence[str]]) -> xr.Dataset:
    """Return the centred cosine between personas, per centring population and layer.

    Args:
        centroids: persona → `centroid` (layer, hidden) and optionally `state` (question, layer, hidden), whose mean is
            the centroid.
        populations: name → its personas.

    Returns:
        cosine (population, layer, persona, other); if every persona has its states, also cosine_by_question
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
