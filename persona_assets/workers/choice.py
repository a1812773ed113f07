"""Choice of the workers of a run, from its config or the environment. The choice does not affect results."""

from typing import Any

from persona_assets.graph.home import Home
from persona_assets.graph.resources import WORKERS, Gpu
from persona_assets.workers.cards import visible_cards
from persona_assets.workers.in_process import InProcess
from persona_assets.workers.tasks import WorkerError, Workers


def choose_workers(gpu: Gpu, home: Home, log: Any) -> Workers:
    """Return the workers that the run config or PERSONA_ASSETS_WORKERS asks for; by default this process.

    Raises:
        WorkerError: the setting is not a number, `cards` or `ray`, or needs more GPUs than are visible.
    """
    setting = gpu.chosen_workers
    if setting == "ray":
        from persona_assets.workers.ray_actors import RayWorkers

        return RayWorkers(gpu, home, log)
    cards = visible_cards() if gpu.hardware.device == "cuda" else []
    each = gpu.tensor_parallel if cards else 0
    if setting == "cards":
        count = max(1, len(cards) // each) if cards else 1
    elif setting.isascii() and setting.isdigit() and int(setting) > 0:
        count = int(setting)
    else:
        raise WorkerError(f"{WORKERS}: found {setting!r}; expected a number of workers, 'cards' or 'ray'")
    if count * each > len(cards):
        raise WorkerError(
            f"{WORKERS}: {count} worker(s) with {each} card(s) each need {count * each} cards, "
            f"but only {len(cards)} are visible"
        )
    # With several GPUs a single worker gets its own process too, so that it can use any free GPU, not only the first.
    if count == 1 and len(cards) <= each:
        return InProcess(gpu, home, log)
    from persona_assets.workers.processes import ProcessWorkers

    return ProcessWorkers(gpu, home, log, count, each)
