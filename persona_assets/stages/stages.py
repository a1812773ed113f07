"""One function per heavy asset, which returns the computation of one persona. It may run in any worker."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pandas as pd
import xarray as xr

from persona_assets import inference, metrics
from persona_assets.graph.home import Home
from persona_assets.graph.provenance import recipe_of, study_of_unit
from persona_assets.stages.answers import share_of
from persona_assets.stages.following import Following
from persona_assets.stages.log_probs import log_probs_of_source
from persona_assets.stages.nan_checks import divergences, require_finite
from persona_assets.stages.progress import ProgressLines
from persona_assets.stages.rates import rate_source
from persona_assets.stages.responses import write_responses
from persona_assets.stages.self_check import self_check
from persona_assets.stages.session import Compute, ModelSession, cache_batch
from persona_assets.stages.training import train_source, training_sets
from persona_assets.store.artefacts import Artefact, Files
from persona_assets.study import Study, StudyError

if TYPE_CHECKING:
    from persona_assets.inference import Scorer, Step


def generations(study: Study, home: Home) -> Compute:
    written = cache_batch(lambda session, persona: write_responses(session, study, persona))

    def generate(session: ModelSession, persona: str, _: Artefact | None) -> tuple[pd.DataFrame, dict[str, Any]]:
        return written(session, persona)

    return generate


def logit_js(study: Study, home: Home) -> Compute:
    personas = list(study.scoring)
    prompts = [study.prompts[name] for name in personas]
    among = None if study.paired_with is None else [personas.index(name) for name in study.paired_with]
    scorers: dict[int, Scorer] = {}

    def score(session: ModelSession, generator: str, generated: Artefact | None) -> tuple[xr.Dataset, dict[str, Any]]:
        assert generated is not None
        loaded = session.load()
        if id(loaded) not in scorers:
            metrics.compile_ahead(len(personas), loaded.vocabulary, loaded.model.dtype, loaded.device)
            scorers[id(loaded)] = inference.choose_scorer(loaded, study.deterministic)
        scorer, chat = scorers[id(loaded)], session.chat_of(study)
        with inference.measured(loaded.hardware.device) as cost:
            rows = list(generated.read().itertuples())
            answers = [chat.scored_answer(row.token_ids, study.scored_slice) for row in rows]
            work = [
                inference.Scored([chat.prompt_ids(prompt, row.question) for prompt in prompts], *answer)
                for row, answer in zip(rows, answers, strict=True)
                if answer is not None
            ]
            if not work:
                raise StudyError(
                    f"study {study.name}: none of the {len(rows)} responses of {generator} reaches an answer, so that "
                    "nothing can be scored; expected larger decoding.max_new_tokens, or chat.thinking: keep or suppress"
                )
            progress = ProgressLines(session.log, f"{generator}: scoring", "responses")
            scored = iter(divergences(loaded, scorer, work, generator, personas, among, progress))
            responses = [None if answer is None else next(scored) for answer in answers]
        dataset = metrics.label_responses(responses, generator, personas, study.questions)
        tokens = int(dataset.tokens.sum())
        return dataset, {
            **cost.with_tokens(tokens * len(personas)),
            **scorer.plan,
            "response_tokens": tokens,
            "scorers": len(personas),
            "mean_js": float(dataset.js.sel(persona=generator).mean()),
            **({"without_answer": share_of(responses.count(None), len(responses))} if None in responses else {}),
        }

    return score


def centroids(study: Study, home: Home) -> Compute:
    def collect(session: ModelSession, persona: str, _: Artefact | None) -> tuple[xr.Dataset, dict[str, Any]]:
        loaded = session.load()
        blocks = study.blocks(loaded.model.config.get_text_config().num_hidden_layers)
        chat, prompt = session.chat_of(study), study.prompts[persona]
        prompts = [chat.prompt_ids(prompt, question) for question in study.questions]
        with inference.measured(loaded.hardware.device) as cost:
            states = inference.last_token_states(loaded, prompts, blocks).numpy()
        require_finite(loaded, prompts, study.questions, states)
        dataset = xr.Dataset(
            {"state": (("question", "layer", "hidden"), states), "centroid": (("layer", "hidden"), states.mean(0))},
            coords={"question": list(study.questions), "layer": blocks},
            attrs={"persona": persona},
        )
        return dataset, {
            **cost.with_tokens(sum(map(len, prompts))),
            "layers": blocks,
            "hidden": states.shape[-1],
            "rendered_prompt": chat.prompt_text(prompt, study.questions[0]),
        }

    return collect


def marker_adapter(study: Study, home: Home) -> Compute:
    training_set = cache_batch(lambda session, unit: training_sets(session, study, unit))

    def train(session: ModelSession, unit: str, _: Artefact | None) -> tuple[Files, dict[str, Any]]:
        def say(step: Step, total: int) -> None:
            session.log.info(f"{unit}: step {step.step}/{total}, loss {step.loss:.3f}")

        alone, _source = study_of_unit(study, "marker_adapter", unit)
        examples = training_set(session, unit)
        follow = Following(home.store, alone, session) if recipe_of(alone).training.follow else None
        return train_source(session, alone, examples, say, follow)

    return train


def marker_log_probs(study: Study, home: Home) -> Compute:
    def measure(session: ModelSession, unit: str, adapter: Artefact | None) -> tuple[pd.DataFrame, dict[str, Any]]:
        assert adapter is not None
        alone, _ = study_of_unit(study, "marker_log_probs", unit)
        return log_probs_of_source(home.store, alone, session, adapter)

    return measure


def marker_rates(study: Study, home: Home) -> Compute:
    def rate(session: ModelSession, _: str, adapter: Artefact | None) -> tuple[pd.DataFrame, dict[str, Any]]:
        assert adapter is not None
        return rate_source(home.store, study, session, adapter)

    return rate


STAGES: dict[str, Callable[[Study, Home], Compute]] = {
    "self_check": self_check,
    "generations": generations,
    "logit_js": logit_js,
    "centroids": centroids,
    "marker_adapter": marker_adapter,
    "marker_log_probs": marker_log_probs,
    "marker_rates": marker_rates,
}
