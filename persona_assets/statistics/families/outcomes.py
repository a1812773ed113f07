"""The other outcomes of the table: the same correlations and comparison as for the one that the verdict is about."""

from collections.abc import Sequence
from dataclasses import replace

from persona_assets.statistics.families.comparison import comparisons
from persona_assets.statistics.families.inputs import Inputs
from persona_assets.statistics.families.leakage import correlations
from persona_assets.statistics.statement import Statement


def other_outcomes(others: Sequence[Inputs]) -> list[Statement]:
    """Return Spearman of JS and every cosine, and the difference, for every other outcome; p is not adjusted."""
    return [
        replace(row, family="outcomes")
        for inputs in others
        for row in (*correlations(inputs, ("spearman",)), *comparisons(inputs, ("spearman",)))
    ]
