"""Refuses to store what is not a number, and says where it came from."""

from __future__ import annotations

from collections.abc import Sequence
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
) -> list[ResponseDivergence]:
    """Divergence of every response in `work`, which `generator` gave, under the prompts of `personas`.

    `among`: as `pairwise_divergence` takes it.

    Raises:
        NonFiniteError: names the response, the scorer and the token, and the layer where it began.
    """
    found = []
    for number, (scored, logits) in enumerate(zip(work, scorer.logits(work), strict=True), start=1):
        try:
            found.append(metrics.divergence_of_response(logits, personas.index(generator), among))
        except metrics.NoDistributionError as error:
            began = inference.where_not_finite(loaded, [*scored.prompts[error.scorer], *scored.response])
            raise inference.NonFiniteError(
                f"response {number} of {generator}, token {error.position + 1} under {personas[error.scorer]}: "
                f"{error}; {began}"
            ) from error
    return found


def require_finite(
    loaded: LoadedModel, prompts: Sequence[Sequence[int]], questions: Sequence[str], states: np.ndarray
) -> None:
    """`states`: shape (prompts, layers, hidden).

    Raises:
        NonFiniteError: names the question and the layer where it began.
    """
    for prompt, question, of_prompt in zip(prompts, questions, states, strict=True):
        if not np.isfinite(of_prompt).all():
            began = inference.where_not_finite(loaded, prompt)
            raise inference.NonFiniteError(f"the hidden state after {question!r} is not finite; {began}")
