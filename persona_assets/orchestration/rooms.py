"""The rooms of the science, each imported when something of it is first used.

The page and the sensors' ticks load the definitions and compute nothing; PyTorch, SciPy and Matplotlib would be three
of their four seconds. So assets and orchestration take `inference`, `metrics`, `presentation` and `statistics` from
here and name what they use as `metrics.divergence_matrix`: a name that is imported from a room loads it, and so does
whoever looks through a module for what it holds.
"""

import sys
from importlib.util import LazyLoader, find_spec, module_from_spec
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from persona_assets import inference, metrics, presentation, statistics
else:

    def _late(name: str) -> ModuleType:
        """The module, which runs its file when an attribute of it is asked for."""
        if name in sys.modules:
            return sys.modules[name]
        spec = find_spec(name)
        assert spec is not None
        assert spec.loader is not None
        spec.loader = LazyLoader(spec.loader)
        module = module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        package, _, room = name.rpartition(".")
        setattr(sys.modules[package], room, module)  # as an import does; persona_assets.metrics is else no attribute
        return module

    inference = _late("persona_assets.inference")
    metrics = _late("persona_assets.metrics")
    presentation = _late("persona_assets.presentation")
    statistics = _late("persona_assets.statistics")

__all__ = ["inference", "metrics", "presentation", "statistics"]
