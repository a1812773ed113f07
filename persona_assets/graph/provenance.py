"""Single definition of what each artefact depends on.

It determines the fingerprint under which an artefact is stored, Dagster's code version (so that a changed setting shows
up as stale), and whether a stored artefact belongs to the current study.
"""

import json
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from persona_assets.files.digest import digest_of, digest_of_path
from persona_assets.study import Study
from persona_assets.study.recipe import Recipe

# Increase an asset's number whenever a code change alters its results for the same inputs.
CODE_VERSIONS = {
    "model_checkpoint": 1,
    "generations": 1,
    "logit_js": 3,
    "logit_js_matrix": 2,
    "centroids": 1,
    "centroid_cosine": 2,
    "pair_table": 1,
    "marker_adapter": 2,
    "marker_log_probs": 1,
    "marker_rates": 2,
    "leakage_table": 3,
    "partial_correlations": 4,
    "figures": 5,
    "report": 6,
    "checkpoint_drift": 1,
}


def _generations(study: Study, persona: str) -> dict[str, Any]:
    return {
        "prompt": study.prompts[persona],
        "questions": study.questions,
        "decoding": study.decoding.identity if study.decoding else None,
        **_chat(study),
    }


def _chat(study: Study, prompts_only: bool = False) -> dict[str, Any]:
    """Return the chat settings that differ from their defaults: leaving the others out keeps older digests valid."""
    changed = study.chat.identity(prompts_only)
    return {"chat": changed} if changed else {}


def _logit_js(study: Study, persona: str) -> dict[str, Any]:
    # The design only matters if it skips pairs, so that a landmark's artefact is shared with the full design.
    of_pairs = {} if study.paired_with is None else {"paired_with": sorted(study.paired_with)}
    return {
        **_generations(study, persona),
        **of_pairs,
        "generator": persona,
        "prompts": {name: study.prompts[name] for name in study.scoring},
        "scored_slice": study.scored_slice,
        "deterministic": study.deterministic,
    }


def _centroids(study: Study, persona: str) -> dict[str, Any]:
    prompt = {"prompt": study.prompts[persona], "questions": study.questions}
    return {**prompt, "layers": study.layers, **_chat(study, prompts_only=True)}


def _marker_adapter(study: Study, persona: str) -> dict[str, Any]:
    recipe = recipe_of(study)
    drawn = recipe.drawn_personas(persona, list(study.personas))
    spoken = {persona, *drawn, *([study.baseline] if recipe.replies.of == "generic" else [])}
    return {
        "source": persona,
        "prompts": {name: study.training_prompts[name] for name in sorted(spoken)},
        "training_questions": study.training_questions[: recipe.replies.questions],
        "recipe": recipe.model_dump(mode="json", exclude={"name", "evaluation", "log_probs"}),
        **(_base_replies(study) if recipe.training.follow else {}),
        **_chat(study),
    }


def _marker_log_probs(study: Study, persona: str) -> dict[str, Any]:
    return {**_marker_adapter(study, persona), **_base_replies(study), "deterministic": study.deterministic}


def _base_replies(study: Study) -> dict[str, Any]:
    """Return the settings of the replies behind which a marker is measured."""
    recipe = recipe_of(study)
    samples = recipe.base_samples
    decoding = recipe.evaluation.model_dump(mode="json", exclude={"targets", "samples"})
    return {
        "target_prompts": {name: study.prompts[name] for name in study.targets},
        "questions": study.questions,
        "replies": {"samples": samples, **decoding} if samples else "generations",
    }


def _marker_rates(study: Study, persona: str) -> dict[str, Any]:
    recipe = recipe_of(study)
    return {
        **_marker_adapter(study, persona),
        "target_prompts": {name: study.prompts[name] for name in study.targets},
        "questions": study.questions,
        "evaluation": recipe.evaluation.model_dump(mode="json", exclude={"targets"}),
    }


def recipe_of(study: Study) -> Recipe:
    """Return the study's marker recipe.

    Raises:
        ValueError: the study has none; assets that need a recipe are not defined for such a study.
    """
    if study.marker is None:
        raise ValueError(f"study {study.name}: marker is missing; expected a recipe")
    return study.marker


HEAVY: dict[str, Callable[[Study, str], dict[str, Any]]] = {
    "generations": _generations,
    "logit_js": _logit_js,
    "centroids": _centroids,
    "marker_adapter": _marker_adapter,
    "marker_log_probs": _marker_log_probs,
    "marker_rates": _marker_rates,
}
# Heavy assets that generate text with an engine (vLLM or Transformers).
GENERATING = ("generations", "marker_adapter", "marker_log_probs", "marker_rates")
# Heavy assets that are partitioned by source, and computed once per training seed.
OF_SOURCES = ("marker_adapter", "marker_log_probs", "marker_rates")
# Heavy assets that are partitioned by generator; some designs have fewer generators than personas.
OF_GENERATORS = ("generations", "logit_js")
# Assets that are imported, not computed, in a study of a published run.
IMPORTED_HEAVY, IMPORTED_LIGHT = ("generations", "logit_js"), ("model_checkpoint", "centroid_cosine")
# Heavy asset → the heavy asset whose artefact of the same persona it reads.
UPSTREAM = {"logit_js": "generations", "marker_log_probs": "marker_adapter", "marker_rates": "marker_adapter"}

LIGHT: dict[str, Callable[[Study], dict[str, Any]]] = {
    "model_checkpoint": lambda study: {},
    "logit_js_matrix": lambda study: {
        "generators": study.generators,
        "bootstrap": study.bootstrap.model_dump(),
        **({} if study.design == "full" else {"design": study.design}),
    },
    "centroid_cosine": lambda study: {
        "populations": {name: study.population(name) for name in study.centring_populations}
    },
    "leakage_table": lambda study: {
        "bootstrap": study.bootstrap.model_dump(),
        "categories": study.categories,
        "related": study.related,
        "imported": digest_of_path(study.leakage) if study.leakage else None,
    },
    "pair_table": lambda study: {"categories": study.categories},
    "partial_correlations": lambda study: {
        "statistics": study.statistics.model_dump(),
        "baseline": study.baseline,
        "source_rates": digest_of_path(study.source_rates) if study.source_rates else None,
    },
    "figures": lambda study: {"baseline": study.baseline},
    "checkpoint_drift": lambda study: {"bootstrap": study.bootstrap.model_dump()},
    "report": lambda study: study.model_dump(
        mode="json",
        # prompts and imported files are covered by the fingerprints of the report's inputs
        exclude={
            "personas": {name: {"prompt"} for name in study.personas},
            "leakage": True,
            "source_rates": True,
            "inference": _omitted_settings(study),
            **({"design": True, "landmarks": True} if study.design == "full" else {}),
            **({} if study.chat.model_dump(exclude_defaults=True) else {"chat": True}),
        },
    ),
}


def _omitted_settings(study: Study) -> set[str]:
    """Return later additions to `inference` that have their default: leaving them out keeps older digests valid."""
    return {"tensor_parallel"} if study.inference.tensor_parallel == 1 else set()


def of_sources(study: Study) -> tuple[str, ...]:
    """Return the study's heavy assets that are partitioned by source; without samples there are no `marker_rates`."""
    if not study.sources:
        return ()
    sampled = recipe_of(study).evaluation.samples > 0
    return tuple(asset for asset in OF_SOURCES if sampled or asset != "marker_rates")


def personas_of(study: Study, asset: str) -> list[str]:
    """Return the personas that a heavy asset has partitions for, in the study's order."""
    if asset in OF_SOURCES:
        return list(study.sources if asset in of_sources(study) else ())
    return list(study.generating if asset in OF_GENERATORS else study.personas)


def study_part(study: Study, asset: str, persona: str) -> dict[str, Any]:
    """Return the settings of the study that a heavy asset depends on for one persona, as plain JSON."""
    return dict(json.loads(json.dumps(HEAVY[asset](study, persona))))


def units_of(study: Study, asset: str, persona: str) -> dict[str, tuple[str, int | None]]:
    """Return the units in which a heavy asset is computed and stored for one persona: name → persona, training seed.

    Assets of sources have one per training seed, so that a killed run loses one seed of one source; they are named
    after the source alone if there is one seed. Other assets have one unit, without a seed.
    """
    if asset not in OF_SOURCES:
        return {persona: (persona, None)}
    seeds = recipe_of(study).training.seeds
    return {persona if len(seeds) == 1 else f"{persona}@{seed}": (persona, seed) for seed in seeds}


def study_of_unit(study: Study, asset: str, unit: str) -> tuple[Study, str]:
    """Return the study as one unit sees it, with its training seed alone, and the unit's persona."""
    persona, seed = units_of(study, asset, unit.partition("@")[0])[unit]
    return (study if seed is None else study.for_seed(persona, seed)), persona


def code_version(study: Study, asset: str) -> str:
    """Return Dagster's code version: the number in CODE_VERSIONS and a digest of the settings the asset depends on.

    Prompts are excluded because `persona_prompts` versions them per persona. Heavy assets also include the versions of
    PyTorch and Transformers.
    """
    if asset in HEAVY:
        prompts = ("prompt", "prompts", "target_prompts", "generator", "source")
        personas = personas_of(study, asset)  # empty if the study has no sources; the asset is not defined then
        part = study_part(study, asset, personas[0]) if personas else {}
        settings: dict[str, Any] = {key: value for key, value in part.items() if key not in prompts}
        settings["inference"] = study.inference.model_dump(exclude={"timeout", *_omitted_settings(study)})
        settings["libraries"] = {library: version(library) for library in ("torch", "transformers")}
    else:
        settings = LIGHT[asset](study)
    return f"{CODE_VERSIONS[asset]}.{digest_of(settings)[:12]}"
