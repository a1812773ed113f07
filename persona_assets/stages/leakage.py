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
        marker_log_probs: source → its table; empty in an instance of 0.1.0, which has sampled rates alone.
        marker_rates: source → its table; None if nothing was sampled.
    """
    recipe = recipe_of(study)
    adapted = sampled_counts(study, marker_rates) if marker_rates else None
    base = _counts(study, next(iter(marker_rates.values())), "base") if marker_rates else None
    return metrics.build_leakage_table(
        adapted,
        base=base,
        personas=study.categories,
        related=study.related,
        recipe=f"{recipe.name} {recipe.digest[:12]}",
        log_probs=marker_log_probs or None,
        negatives={source: _shares(table) for source, table in marker_log_probs.items()},
        resamples=study.bootstrap.resamples,
        random_seed=study.bootstrap.seed,
    )


def sampled_counts(study: Study, marker_rates: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Return source → marked replies by target and question, and by training seed if there are several."""
    return {source: _counts(study, table, "adapted") for source, table in marker_rates.items()}


def _counts(study: Study, replies: pd.DataFrame, model: str) -> pd.DataFrame:
    detect, replies = recipe_of(study).marker.detect, replies[replies.model == model]
    if "seed" not in replies:
        return metrics.count_markers(replies, detect)
    if model == "base":  # the table of every training seed repeats the replies without an adapter
        return metrics.count_markers(replies[replies.seed == replies.seed.iloc[0]], detect)
    by_seed = replies.groupby("seed", sort=False)
    return pd.concat([metrics.count_markers(rows, detect).assign(seed=seed) for seed, rows in by_seed])


def _shares(log_probs: pd.DataFrame) -> dict[str, float]:
    """Return target → share of the training examples that are its unmarked replies, for trained negatives alone."""
    shares = log_probs.groupby("target", sort=False).negative_share.mean()
    return {str(target): float(share) for target, share in shares.items() if share > 0}
