"""Statistical inference over dyads, from a pair table to a table of statements; without Dagster, models or files.

`infer` makes every statement in two versions: assuming independent dyads, as is common, and accounting for the
dependence between dyads. `verdict` summarises the statements in words. Methods come from pingouin, SciPy and
statsmodels where available; the others cite their formula and paper.
"""

import lazy_loader

# The names are listed in `__init__.pyi`; a module is imported when one of its names is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
