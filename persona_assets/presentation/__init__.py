"""Figures and reports from tables and labelled arrays. Does not import Dagster or any other subpackage."""

import lazy_loader

# `__init__.pyi` lists the names; a module is imported when one of its names is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
