"""Tables and labelled arrays in, figures and pages out. Imports no Dagster and no other room."""

import lazy_loader

# The names are listed in `__init__.pyi`; each module is imported when a name of it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
