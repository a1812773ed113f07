"""Generation of responses: for one persona, or in one batch for all pending personas if the engine supports it."""

from typing import Any

import pandas as pd

from persona_assets import inference
from persona_assets.stages.answers import take_answers, unanswered
from persona_assets.stages.progress import ProgressLines
from persona_assets.stages.session import ModelSession
from persona_assets.study import Study

# Warnings that this process has logged, which concern every persona of a checkpoint.
_warned: set[tuple[str, str]] = set()


def write_responses(
    session: ModelSession, study: Study, persona: str
) -> dict[str, tuple[pd.DataFrame, dict[str, Any]]]:
    """Generate responses to every question, for this persona and possibly for other pending ones in the same batch.

    Returns:
        persona → table with columns persona, question, token_ids, text, finish_reason, engine, seed, and those of
        `take_answers` if a response has a thought; and cost. The seconds of a batch are divided among its personas in
        proportion to their tokens.
    """
    decoding = study.decoding
    assert decoding is not None  # only imported studies have none, and they generate nothing
    generator = session.generator()
    personas = session.batch_with(persona, generator)
    chat = session.chat_of(study)
    for warning in inference.prompt_warnings(chat, {each: study.prompts[each] for each in personas}):
        if (about := (session.checkpoint.name, warning)) not in _warned:
            _warned.add(about)
            session.log.warning(f"{session.checkpoint.name}: {warning}")
    prompts = [chat.prompt_ids(study.prompts[each], question) for each in personas for question in study.questions]
    generator.start(max(map(len, prompts)) + decoding.max_new_tokens)
    progress = ProgressLines(session.log, f"{', '.join(personas)}: generating responses", "tokens")
    with inference.measured(session.gpu.hardware.device) as cost:
        responses = generator.generate(prompts, decoding, progress)
    seconds, every = cost.seconds, sum(len(response.token_ids) for response in responses)
    table = pd.DataFrame([vars(response) for response in responses])
    table.insert(0, "persona", [each for each in personas for _ in study.questions])
    table.insert(1, "question", [*study.questions] * len(personas))
    table = take_answers(chat, table.assign(engine=generator.engine, seed=decoding.seed))
    written = {}
    for each in personas:
        own = table[table.persona == each].reset_index(drop=True)
        tokens = int(own.token_ids.map(len).sum())
        cost.seconds = seconds * tokens / every
        written[each] = (
            own,
            {
                **cost.with_tokens(tokens),
                **generator.plan,
                "engine_chosen_because": session.gpu.chosen_engine.why,
                "written_together": len(responses),
                "cut_at_max_new_tokens": int((own.finish_reason == "length").sum()),
                **unanswered(own),
                "rendered_prompt": chat.prompt_text(study.prompts[each], study.questions[0]),
            },
        )
    return written
