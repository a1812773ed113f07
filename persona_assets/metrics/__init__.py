"""Metrics on arrays and tables: distances between personas' distributions and centroids, leakage, and drift.

`divergence`: JS and KL of logits; `response`: the same over the tokens of one response; `averaging`: over responses,
with intervals; `landmarks`: estimates over all generators from a few; `cosine`: between centroids; `markers`,
`leakage`, `leakage_files`: leakage, counted or imported; `expected_leakage`: leakage by log-probability; `agreement`:
of the two; `negatives`: targets in a source's training set; `pairs`: the table that joins them; `drift`: changes
between checkpoints. The package depends only on torch, numpy, scipy, pandas and xarray, so it can be used on its own.
"""

import lazy_loader

# The names are listed in `__init__.pyi`; a module is imported when one of its names is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
