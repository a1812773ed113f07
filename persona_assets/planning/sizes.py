"""A study as it would be with other numbers of personas and questions, for planning."""

from persona_assets.study import Study, StudyError


def resized(study: Study, personas: int | None = None, questions: int | None = None) -> Study:
    """The study with so many personas and questions: its first ones, or its own repeated under other names.

    Prompts and questions keep their mean length; sources, recipe and decoding stay. For counting, never for measuring.

    Raises:
        StudyError: fewer personas than the study's sources and baseline are, or none.
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
