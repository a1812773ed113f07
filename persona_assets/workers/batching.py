"""Splitting of tasks into pieces that workers take one at a time."""

from collections.abc import Sequence
from dataclasses import replace

from persona_assets.graph.resources import Gpu
from persona_assets.workers.tasks import Task

# Stages in which vLLM generates the text of many personas in one batch.
_BATCHED_STAGES = ("generations", "marker_adapter")


def split_task(task: Task, workers: int, gpu: Gpu) -> list[Task]:
    """Split a task for a number of workers: one persona per piece, those with the longest input first.

    With vLLM some stages need larger pieces. All responses of `generations` are one piece, because the composition of a
    batch affects rounding and the result must be the same as on one GPU; it takes seconds, and the other workers load
    the model meanwhile. `marker_adapter`, which trains for minutes per source, is split evenly among the workers.
    """
    if task.stage in _BATCHED_STAGES and gpu.chosen_engine.name == "vllm":
        if task.stage == "generations":
            return [task, *[replace(task, personas=())] * (workers - 1)]
        shares = [task.personas[start::workers] for start in range(workers)]
        return [replace(task, personas=share) for share in shares if share]
    return [replace(task, personas=(persona,)) for persona in longest_first(task)]


def longest_first(task: Task) -> Sequence[str]:
    """Return the task's personas, those with most upstream tokens first; unknown token counts keep the task's order."""

    def tokens(persona: str) -> int:
        return int(task.upstream[persona].measured.get("tokens", 0)) if persona in task.upstream else 0

    return sorted(task.personas, key=tokens, reverse=True)
