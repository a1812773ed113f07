"""Studies resized to other numbers of personas and questions, for planning."""

from persona_assets.study import Study, StudyError


def resized(study: Study, personas: int | None = None, questions: int | None = None) -> Study:
    """Return the study with this many personas and questions: its first ones, or its own repeated under new names.

    Prompts and questions keep their mean length; sources, recipe and decoding are unchanged. Use the result for
    planning only, because repeated questions are not valid in a real study.

    Raises:
        StudyError: there are fewer personas than baseline and sources, or no questions.
    """
    own, asked = dict(study.personas), list(study.questions)
    needed = list(dict.fromkeys([study.baseline, *study.sources]))
    least = max(2, len(needed))
    if personas is not None and personas < least:
        raise StudyError(
            f"study {study.name}: personas: found {personas}; expected at least {least}: baseline and sources"
        )
    if questions is not None and questions < 1:
        raise StudyError(f"study {study.name}: questions: found {questions}; expected at least 1")
    names = [*needed, *(name for name in own if name not in needed)]
    count = len(names) if personas is None else personas
    chosen = {
        name if turn == 0 else f"{name}.{turn}": own[name]
        for turn, name in ((index // len(names), names[index % len(names)]) for index in range(count))
    }
    wanted = len(asked) if questions is None else questions
    repeated = tuple(asked[index % len(asked)] for index in range(wanted))
    return study.model_copy(update={"personas": chosen, "questions": repeated})
