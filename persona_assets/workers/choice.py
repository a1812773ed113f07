"""Who makes a run's personas: said of the instance, or of one run; a study's numbers are the same everywhere."""

import os
from typing import Any

from persona_assets.graph.home import Home
from persona_assets.graph.resources import Gpu
from persona_assets.workers.cards import visible_cards
from persona_assets.workers.in_process import InProcess
from persona_assets.workers.tasks import WorkerError, Workers

# 1, a number of processes, `cards` for one a card, or `ray`.
VARIABLE = "PERSONA_ASSETS_WORKERS"


def choose_workers(gpu: Gpu, home: Home, log: Any) -> Workers:
    """This process, where it has one card or none and nobody asks for more; else processes, or Ray's actors.

    Raises:
        WorkerError: it was not said as a number, `cards` or `ray`; or more cards than there are.
    """
    asked = gpu.workers or os.environ.get(VARIABLE, "1")
    if asked == "ray":
        from persona_assets.workers.ray_actors import RayWorkers

        return RayWorkers(gpu, home, log)
    cards = visible_cards() if gpu.hardware.device == "cuda" else []
    each = gpu.tensor_parallel if cards else 0
    if asked == "cards":
        count = max(1, len(cards) // each) if cards else 1
    elif asked.isascii() and asked.isdigit() and int(asked) > 0:
        count = int(asked)
    else:
        raise WorkerError(f"{VARIABLE}: found {asked!r}; expected a number of workers, 'cards' or 'ray'")
    if count * each > len(cards):
        raise WorkerError(
            f"{VARIABLE}: {count} worker(s) of {each} card(s) are asked for, and {len(cards)} card(s) are visible"
        )
    # A single one of several cards goes to a process too: there it is a free one, and not always the first.
    if count == 1 and len(cards) <= each:
        return InProcess(gpu, home, log)
    from persona_assets.workers.processes import ProcessWorkers

    return ProcessWorkers(gpu, home, log, count, each)
