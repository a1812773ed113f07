"""Trained negatives: targets whose unmarked replies were in a source's training set."""

import pandas as pd


def negative_shares(examples: pd.DataFrame) -> dict[str, float]:
    """Return the share of a source's training examples that are a persona's unmarked replies.

    Args:
        examples: a source's training set, one row per example: persona (whose system prompt is used), marked (bool).
            Training sets of several seeds may be concatenated.

    Returns:
        Persona → share of all examples, within (0, 1]; personas without unmarked replies are left out.

    Raises:
        ValueError: a column is missing, or there are no examples.
    """
    if examples.empty or not {"persona", "marked"} <= set(examples.columns):
        found = f"{len(examples)} examples with the columns {list(examples.columns)}"
        raise ValueError(f"examples: found {found}; expected at least one, with persona and marked")
    unmarked = examples[~examples["marked"].astype(bool)]
    counts = unmarked.groupby("persona", sort=False).size()
    return {str(persona): int(count) / len(examples) for persona, count in counts.items()}
