"""Checks that reject NaN and infinity before results are stored, and locate where they first occurred."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from persona_assets import inference, metrics

if TYPE_CHECKING:
    from persona_assets.inference import LoadedModel, Scored, Scorer
    from persona_assets.metrics import ResponseDivergence


def divergences(
    loaded: LoadedModel,
    scorer: Scorer,
    work: Sequence[Scored],
    generator: str,
    personas: Sequence[str],
    among: Sequence[int] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[ResponseDivergence]:
    """Compute the divergence of each response in `work`, scored under the prompts of all personas.

    Args:
        generator: persona that generated the responses.
        among: restricts the pairs; see `metrics.pairwise_divergence`.
        progress: called with the number of responses done and that of all.

    Raises:
        NonFiniteError: logits are not finite; names the response, the scorer, the token, and the first affected layer.
    """
    found = []
    for number, (scored, logits) in enumerate(zip(work, scorer.logits(work), strict=True), start=1):
        try:
            found.append(metrics.divergence_of_response(logits, personas.index(generator), among))
        except metrics.NoDistributionError as error:
            origin = inference.where_not_finite(loaded, [*scored.prompts[error.scorer], *scored.response])
            raise inference.NonFiniteError(
                f"response {number} of {generator}, token {error.position + 1} under {personas[error.scorer]}: "
                f"{error}; {origin}"
            ) from error
        progress(number, len(work))
    return found


def require_finite(
    loaded: LoadedModel, prompts: Sequence[Sequence[int]], questions: Sequence[str], states: np.ndarray
) -> None:
    """Check that hidden states are finite.

    Args:
        states: shape (prompts, layers, hidden).

    Raises:
        NonFiniteError: names the question and the first affected layer.
    """
    for prompt, question, state in zip(prompts, questions, states, strict=True):
        if not np.isfinite(state).all():
            origin = inference.where_not_finite(loaded, prompt)
            raise inference.NonFiniteError(f"the hidden state after {question!r} is not finite; {origin}")
