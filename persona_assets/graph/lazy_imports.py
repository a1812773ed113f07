"""The rooms of the science, each imported when something of it is first used.

The page and the sensors' ticks load the definitions and compute nothing; PyTorch, SciPy and Matplotlib would be three
of their four seconds. So assets and orchestration take `inference`, `metrics`, `presentation` and `statistics` from
here and name what they use as `metrics.divergence_matrix`: a name that is imported from a room loads it.
"""

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from persona_assets import inference, metrics, presentation, statistics
else:

    class _Room:
        """Stands for a module; no module itself, for whoever looks through `sys.modules` would load it.

        `inspect` does, and PyTorch asks it while it is imported: importlib's LazyLoader had Matplotlib and SciPy loaded
        with PyTorch, four seconds of every run.
        """

        def __init__(self, load: Callable[[], Any]) -> None:
            self._load = load

        def __getattr__(self, attribute: str) -> Any:
            if attribute.startswith("__"):  # what inspectors ask everything for
                raise AttributeError(attribute)
            return getattr(self._load(), attribute)

    inference = _Room(lambda: import_module("persona_assets.inference"))
    metrics = _Room(lambda: import_module("persona_assets.metrics"))
    presentation = _Room(lambda: import_module("persona_assets.presentation"))
    statistics = _Room(lambda: import_module("persona_assets.statistics"))

__all__ = ["inference", "metrics", "presentation", "statistics"]
