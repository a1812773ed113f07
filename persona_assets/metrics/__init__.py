"""Arrays in, numbers out: how far personas' next-token distributions and centroids lie apart.

divergence: JS and KL of logits; response: over one response's tokens; averaging: over responses, with intervals;
cosine: between centroids. Torch, numpy and xarray only: the folder can be taken away and used alone.
"""

from persona_assets.metrics.averaging import GENERATOR_SUBSETS, average_over_responses, bootstrap_over_questions
from persona_assets.metrics.cosine import centred_cosine
from persona_assets.metrics.datasets import cosine_dataset, divergence_matrix, label_responses
from persona_assets.metrics.divergence import jensen_shannon, kullback_leibler, pairwise_divergence
from persona_assets.metrics.pairs import build_pair_table
from persona_assets.metrics.response import ResponseDivergence, divergence_of_response

__all__ = [
    "GENERATOR_SUBSETS",
    "ResponseDivergence",
    "average_over_responses",
    "bootstrap_over_questions",
    "build_pair_table",
    "centred_cosine",
    "cosine_dataset",
    "divergence_matrix",
    "divergence_of_response",
    "jensen_shannon",
    "kullback_leibler",
    "label_responses",
    "pairwise_divergence",
]
