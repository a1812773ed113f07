"""Arrays in, numbers out: how far personas' distributions and centroids lie apart, and what leaks between them.

divergence: JS and KL of logits; response: over one response's tokens; averaging: over responses, with intervals;
landmarks: over all of them from a few; cosine: between centroids; markers, leakage, leakage_files: what leaked, counted
or imported; pairs: all of it side by side; drift: from checkpoint to checkpoint. Torch, numpy, scipy, pandas and xarray
only: the folder can be taken away and used alone.
"""

from persona_assets.metrics.averaging import GENERATOR_SUBSETS, average_over_responses, bootstrap_over_questions
from persona_assets.metrics.cosine import centred_cosine, cosine_pseudovalues
from persona_assets.metrics.datasets import cosine_dataset, divergence_matrix, label_responses
from persona_assets.metrics.divergence import (
    NoDistributionError,
    compile_ahead,
    jensen_shannon,
    kullback_leibler,
    pairwise_divergence,
    pairwise_js,
)
from persona_assets.metrics.drift import Drift, measure_drift
from persona_assets.metrics.landmarks import estimate_over_all
from persona_assets.metrics.leakage import (
    LeakageError,
    build_leakage_table,
    check_leakage_table,
    count_markers,
    rates_by_target,
    spearman_over_dyads,
)
from persona_assets.metrics.leakage_files import (
    counts_of,
    imported_leakage_table,
    read_leakage_table,
    read_marker_eval,
    read_source_rates,
)
from persona_assets.metrics.markers import contains_marker
from persona_assets.metrics.pairs import build_pair_table
from persona_assets.metrics.response import ResponseDivergence, divergence_of_response

__all__ = [
    "GENERATOR_SUBSETS",
    "Drift",
    "LeakageError",
    "NoDistributionError",
    "ResponseDivergence",
    "average_over_responses",
    "bootstrap_over_questions",
    "build_leakage_table",
    "build_pair_table",
    "centred_cosine",
    "check_leakage_table",
    "compile_ahead",
    "contains_marker",
    "cosine_dataset",
    "cosine_pseudovalues",
    "count_markers",
    "counts_of",
    "divergence_matrix",
    "divergence_of_response",
    "estimate_over_all",
    "imported_leakage_table",
    "jensen_shannon",
    "kullback_leibler",
    "label_responses",
    "measure_drift",
    "pairwise_divergence",
    "pairwise_js",
    "rates_by_target",
    "read_leakage_table",
    "read_marker_eval",
    "read_source_rates",
    "spearman_over_dyads",
]
