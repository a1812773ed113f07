"""Arrays in, numbers out: how far personas' distributions and centroids lie apart, and what leaks between them.

divergence: JS and KL of logits; response: over one response's tokens; averaging: over responses, with intervals;
landmarks: over all of them from a few; cosine: between centroids; markers, leakage, leakage_files: what leaked, counted
or imported; pairs: all of it side by side; drift: from checkpoint to checkpoint. Torch, numpy, scipy, pandas and xarray
only: the folder can be taken away and used alone.
"""

import lazy_loader

# The names are listed in `__init__.pyi`; each module is imported when a name of it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
