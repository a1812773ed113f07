"""The leakage table of a study that trains a marker, from the log-probabilities and sampled replies of every source."""

from collections.abc import Mapping

import pandas as pd

from persona_assets import metrics
from persona_assets.graph.provenance import recipe_of
from persona_assets.study import Study


def measured_leakage(
    study: Study, marker_log_probs: Mapping[str, pd.DataFrame], marker_rates: Mapping[str, pd.DataFrame] | None = None
) -> pd.DataFrame:
    """Build the leakage table.

    Args:
        marker_log_probs: source → its table.
        marker_rates: source → its table; None if nothing was sampled.
    """
    recipe = recipe_of(study)

    def counts(table: pd.DataFrame, model: str) -> pd.DataFrame:
        return metrics.count_markers(table[table.model == model], recipe.marker.detect)

    adapted, base = None, None
    if marker_rates:
        adapted = {source: counts(table, "adapted") for source, table in marker_rates.items()}
        first = next(iter(marker_rates.values()))
        if "seed" in first:  # every training seed's table repeats the replies without an adapter
            first = first[first.seed == first.seed.iloc[0]]
        base = counts(first, "base")
    return metrics.build_leakage_table(
        adapted,
        base=base,
        personas=study.categories,
        related=study.related,
        recipe=f"{recipe.name} {recipe.digest[:12]}",
        log_probs=marker_log_probs,
        negatives={source: _shares(table) for source, table in marker_log_probs.items()},
        resamples=study.bootstrap.resamples,
        random_seed=study.bootstrap.seed,
    )


def _shares(log_probs: pd.DataFrame) -> dict[str, float]:
    """Return target → share of the training examples that are its unmarked replies, for trained negatives alone."""
    shares = log_probs.groupby("target", sort=False).negative_share.mean()
    return {str(target): float(share) for target, share in shares.items() if share > 0}
