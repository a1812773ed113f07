"""Inference over dyads: a pair table in, statements out. No Dagster, no model, no file.

`infer` makes every statement twice, as the field reports it and as the dependence between dyads allows; `verdict` says
in words what they come to. pingouin, SciPy and statsmodels do what they do; the rest has its formula and its paper.
"""

import lazy_loader

# The names are listed in `__init__.pyi`; each module is imported when a name of it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
