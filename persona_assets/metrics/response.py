"""Divergence over one response: per token, and its mean over the tokens."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from persona_assets.metrics.divergence import NoDistributionError, pairwise_divergence


@dataclass(frozen=True, eq=False)
class ResponseDivergence:
    """Divergence between K scorers over the T tokens of one response; float64, in nats.

    Attributes:
        js, kl: shape (K, K), means over the response's tokens; kl[i, j] = KL(i‖j).
        token_js: shape (T, K), JS of generator and scorer at each token.
        token_kl: shape (T, K), KL(generator‖scorer).
        token_kl_reverse: shape (T, K), KL(scorer‖generator).
    """

    js: NDArray[np.float64]
    kl: NDArray[np.float64]
    token_js: NDArray[np.float64]
    token_kl: NDArray[np.float64]
    token_kl_reverse: NDArray[np.float64]


def divergence_of_response(chunks: Iterable[Tensor], generator: int) -> ResponseDivergence:
    """Divergence between every pair of scorers over one response.

    Args:
        chunks: the response's logits in order, each of shape (K scorers, t tokens, V), as `pairwise_divergence` takes
            them. One is held at a time; how the response is cut does not change a bit of the result.
        generator: index among the K scorers of the persona that generated the response.

    Raises:
        ValueError: the response has no token, chunks differ in K, `generator` is not one of the K, or logits are not a
            distribution.
    """
    js_parts: list[Tensor] = []
    kl_parts: list[Tensor] = []
    tokens = 0
    scorers: int | None = None
    for chunk in chunks:
        try:
            js, kl = pairwise_divergence(chunk)
        except NoDistributionError as error:
            where = f"chunk {len(js_parts)}, which starts at token {tokens}"
            raise NoDistributionError(f"{where}: {error}", error.scorer, tokens + error.position) from error
        except ValueError as error:
            raise ValueError(f"chunk {len(js_parts)}, which starts at token {tokens}: {error}") from error
        scorers = chunk.shape[0] if scorers is None else scorers
        if chunk.shape[0] != scorers:
            raise ValueError(
                f"chunk {len(js_parts)} has {chunk.shape[0]} scorers; expected {scorers}, as the first has"
            )
        if not 0 <= generator < scorers:
            raise ValueError(f"generator is {generator}; expected an index among {scorers} scorers")
        # K² numbers a token against K·V logits: keeping them all is what makes the mean independent of the chunks.
        js_parts.append(js.cpu())
        kl_parts.append(kl.cpu())
        tokens += chunk.shape[1]
    if tokens == 0:
        raise ValueError("the response has no tokens; expected at least one")
    token_js, token_kl = torch.cat(js_parts).numpy(), torch.cat(kl_parts).numpy()
    return ResponseDivergence(
        js=token_js.mean(axis=0),
        kl=token_kl.mean(axis=0),
        token_js=token_js[:, generator, :].copy(),
        token_kl=token_kl[:, generator, :].copy(),
        token_kl_reverse=token_kl[:, :, generator].copy(),
    )
