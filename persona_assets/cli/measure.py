"""`persona-assets run`, `status` and `plan`: measure a checkpoint, or say what is left to do and what it costs."""

import time
from typing import Annotated

import typer

from persona_assets.cli.shared import CheckpointOption, StudyOption, open_registry, open_run
from persona_assets.study.files import load_study


def run(
    study: StudyOption = None,
    checkpoint: CheckpointOption = None,
) -> None:
    """Materialise everything that is missing or out of date for a checkpoint, and print the headline numbers."""
    session = open_run(study, checkpoint)
    for asset, why in session.stale_reasons().items():
        print(f"out of date: {asset}: {'; '.join(why)}")
    start = time.perf_counter()
    ran = session.materialise()
    seconds = time.perf_counter() - start
    from persona_assets.runs.summary import summary

    print(summary(session.instance, session.home, session.study, session.checkpoint))
    print(f"took      {seconds:.1f} s" if ran else "nothing to compute: everything was current")


def status(
    study: StudyOption = None,
    checkpoint: CheckpointOption = None,
) -> None:
    """Say which artefacts of a checkpoint are current, missing, or out of date, and what has changed since."""
    session = open_run(study, checkpoint)
    why = session.stale_reasons()
    for asset, partitions in session.staleness().items():
        counts = {kind: list(partitions.values()).count(kind) for kind in ("current", "out of date", "missing")}
        said = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
        print(f"{asset:16} {said}" + (f": {'; '.join(why[asset])}" if asset in why else ""))


def plan(
    study: StudyOption = None,
    checkpoint: Annotated[
        str | None, typer.Option(help="A registered checkpoint's name; only its shape is read.")
    ] = None,
    shape: Annotated[str | None, typer.Option(help="Instead: qwen2.5-7b, or the path of a config.json.")] = None,
    response_tokens: Annotated[int | None, typer.Option(help="Mean tokens of a response, where it is known.")] = None,
    personas: Annotated[int | None, typer.Option(help="As if the study had so many personas.")] = None,
    questions: Annotated[int | None, typer.Option(help="As if it asked so many questions.")] = None,
    cards: Annotated[
        int | None, typer.Option(help="Cards of one host, each with the whole model or its share of one.")
    ] = None,
) -> None:
    """Say what a run will take: passes, tokens, operations, memory, storage and time. Loads and starts nothing."""
    from persona_assets.checkpoints.shape import chosen_shape
    from persona_assets.planning import plan as planning
    from persona_assets.planning import sizes, text

    loaded = load_study(study)
    chosen = chosen_shape(loaded.name, open_registry(), checkpoint, shape)
    sized = sizes.resized(loaded, personas, questions)
    print(text.text(planning.plan(sized, chosen, response_tokens, cards), response_tokens is not None))
