"""Language models: generation, teacher-forced scoring, hidden states and LoRA training. Does not import Dagster.

`LoadedModel` is a checkpoint in memory. A `Generator` generates responses, a `Scorer` teacher-forces them, and
`last_token_states` reads the residual stream at the end of a prompt.
"""

import lazy_loader

# Names are listed in `__init__.pyi`; accessing one imports its module.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
