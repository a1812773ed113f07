from .agreement import RateAgreement, rate_agreement
from .averaging import GENERATOR_SUBSETS, average_over_responses, bootstrap_over_questions
from .cosine import centred_cosine, cosine_pseudovalues
from .datasets import cosine_dataset, divergence_matrix, label_responses
from .divergence import (
    NoDistributionError,
    compile_ahead,
    jensen_shannon,
    kullback_leibler,
    pairwise_divergence,
    pairwise_js,
)
from .drift import Drift, measure_drift
from .expected_leakage import expected_rates
from .imported_counts import LeakageError, check_leakage_table
from .landmarks import estimate_over_all
from .leakage import (
    build_leakage_table,
    count_markers,
    rates_by_target,
    spearman_over_dyads,
)
from .leakage_files import (
    counts_of,
    imported_leakage_table,
    read_leakage_table,
    read_marker_eval,
    read_source_rates,
)
from .markers import contains_marker
from .negatives import negative_shares
from .pairs import build_pair_table
from .response import ResponseDivergence, divergence_of_response

__all__ = [
    "GENERATOR_SUBSETS",
    "Drift",
    "LeakageError",
    "NoDistributionError",
    "RateAgreement",
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
    "expected_rates",
    "imported_leakage_table",
    "jensen_shannon",
    "kullback_leibler",
    "label_responses",
    "measure_drift",
    "negative_shares",
    "pairwise_divergence",
    "pairwise_js",
    "rate_agreement",
    "rates_by_target",
    "read_leakage_table",
    "read_marker_eval",
    "read_source_rates",
    "spearman_over_dyads",
]
