"""How a task is cut into what one worker takes at a time."""

from collections.abc import Sequence
from dataclasses import replace

from persona_assets.graph.resources import Gpu
from persona_assets.workers.tasks import Task

# Stages in which an engine that takes all prompts gets those of many personas.
_WRITTEN_TOGETHER = ("generations", "marker_adapter")


def split_task(task: Task, workers: int, gpu: Gpu) -> list[Task]:
    """The task in pieces for so many workers: a persona each, those with the longest upstream first.

    Where vLLM writes, it writes what belongs together. All responses of `generations` are one piece: they take seconds,
    and what is in a batch decides their last bits, so they are those that one card gives; meanwhile the other workers
    load the model. Training sets, whose sources then train for minutes, are a share a worker.
    """
    if task.stage in _WRITTEN_TOGETHER and gpu.chosen_engine.name == "vllm":
        if task.stage == "generations":
            return [task, *[replace(task, personas=())] * (workers - 1)]
        shares = [task.personas[start::workers] for start in range(workers)]
        return [replace(task, personas=share) for share in shares if share]
    return [replace(task, personas=(persona,)) for persona in longest_first(task)]


def longest_first(task: Task) -> Sequence[str]:
    """Its personas by the tokens of what they are made from, where that is known; else in its order."""

    def tokens(persona: str) -> int:
        return int(task.upstream[persona].measured.get("tokens", 0)) if persona in task.upstream else 0

    return sorted(task.personas, key=tokens, reverse=True)
