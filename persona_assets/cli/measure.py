"""`persona-assets run`, `status` and `plan`: measure a checkpoint, show what is left to do, estimate the cost."""

import time
from typing import Annotated

import typer

from persona_assets.cli.shared import CheckpointOption, StudyOption, choose_study, open_registry, open_run
from persona_assets.inference.vllm.process import import_early
from persona_assets.study.files import load_study


def run(
    study: StudyOption = None,
    checkpoint: CheckpointOption = None,
) -> None:
    """Materialise everything that is missing or out of date for a checkpoint, and print the main results."""
    chosen = choose_study(study)
    if chosen.decoding:  # an imported run has its responses
        import_early(chosen.inference)
    session = open_run(study, checkpoint)
    compared = session.compare()
    for asset, why in session.stale_reasons(compared).items():
        print(f"out of date: {asset}: {'; '.join(why)}")
    start = time.perf_counter()
    ran = session.materialise(compared.statuses)
    seconds = time.perf_counter() - start
    from persona_assets.runs.summary import summary

    print(summary(session.instance, session.home, session.study, session.checkpoint))
    print(f"took      {seconds:.1f} s" if ran else "nothing to compute: everything was current")


def status(
    study: StudyOption = None,
    checkpoint: CheckpointOption = None,
) -> None:
    """Show which artefacts of a checkpoint are current, missing or out of date, and which inputs changed."""
    session = open_run(study, checkpoint)
    compared = session.compare()
    why = session.stale_reasons(compared)
    for asset, partitions in compared.statuses.items():
        counts = {kind: list(partitions.values()).count(kind) for kind in ("current", "out of date", "missing")}
        totals = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
        print(f"{asset:16} {totals}" + (f": {'; '.join(why[asset])}" if asset in why else ""))
    if gone := session.home.registry.get(session.checkpoint).gone():
        print(f"{gone} is gone: what is current stays stored, what is missing cannot be computed")


def plan(
    study: StudyOption = None,
    checkpoint: Annotated[str | None, typer.Option(help="Registered checkpoint; only its shape is read.")] = None,
    shape: Annotated[str | None, typer.Option(help="Shape to use instead: qwen2.5-7b, or a config.json.")] = None,
    response_tokens: Annotated[int | None, typer.Option(help="Mean tokens per response, if known.")] = None,
    personas: Annotated[int | None, typer.Option(help="Plan for this number of personas.")] = None,
    questions: Annotated[int | None, typer.Option(help="Plan for this number of questions.")] = None,
    cards: Annotated[
        int | None, typer.Option(help="GPUs of one host; each has a copy of the model, or a share of one.")
    ] = None,
) -> None:
    """Estimate passes, tokens, FLOPs, memory, storage and time of a run, without loading a model."""
    from persona_assets.checkpoints.shape import chosen_shape
    from persona_assets.planning import plan as planning
    from persona_assets.planning import sizes, text

    loaded = load_study(study)
    chosen = chosen_shape(loaded.name, open_registry(), checkpoint, shape)
    sized = sizes.resized(loaded, personas, questions)
    print(text.text(planning.plan(sized, chosen, response_tokens, cards), response_tokens is not None))
