"""Models: token ids in; token ids, log-probabilities and hidden states out. Imports no Dagster.

`LoadedModel` is a checkpoint in memory. A `Generator` writes responses, a `Scorer` teacher-forces them, and
`last_token_states` reads the residual stream at the end of a prompt.
"""

import lazy_loader

# The names are listed in `__init__.pyi`; each module is imported when a name of it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
