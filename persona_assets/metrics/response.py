"""Divergence over one response: the mean over tokens for every pair, and per token between generator and scorers.

The number of pairs grows as K², so per-token K×K matrices are discarded with their chunk: only the K×K sums and 3·K
numbers per token are kept. With K scorers, T tokens and t positions per chunk that takes 8·(2·K² + 3·T·K) bytes, plus
16·t·K² while a chunk is added: 3.2 MB, plus 0.2 MB per position, at K = 111 and T = 512. Keeping every token's pairs
took 101 MB.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from persona_assets.metrics.divergence import NoDistributionError, pairwise_divergence

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ResponseDivergence:
    """Divergence between K scorers over the T tokens of one response; float64, in nats.

    Attributes:
        js, kl: shape (K, K), means over the response's tokens; kl[i, j] = KL(i‖j).
        token_js: shape (T, K), JS of generator and scorer at each token.
        token_kl: shape (T, K), KL(generator‖scorer).
        token_kl_reverse: shape (T, K), KL(scorer‖generator).
    """

    js: Floats
    kl: Floats
    token_js: Floats
    token_kl: Floats
    token_kl_reverse: Floats


def divergence_of_response(
    chunks: Iterable[Tensor], generator: int, among: Sequence[int] | None = None
) -> ResponseDivergence:
    """Return the divergence between every pair of scorers over one response.

    Args:
        chunks: the response's logits in order, each of shape (K scorers, t tokens, V), as for `pairwise_divergence`.
            Only one chunk is in memory at a time; the chunk boundaries do not change a bit of the result.
        generator: index among the K scorers of the persona that generated the response.
        among: as in `pairwise_divergence`; pairs that include none of these scorers are NaN.

    Raises:
        ValueError: the response has no tokens, chunks differ in K, `generator` is not one of the K, or logits do not
            define a distribution.
    """
    total = _Total(generator)
    for chunk in chunks:  # enumerate() would keep a reference to a chunk while the next one is computed
        try:
            js, kl = pairwise_divergence(chunk, among=among)
        except NoDistributionError as error:
            where = f"chunk {total.chunks}, which starts at token {total.tokens}"
            raise NoDistributionError(f"{where}: {error}", error.scorer, total.tokens + error.position) from error
        except ValueError as error:
            raise ValueError(f"chunk {total.chunks}, which starts at token {total.tokens}: {error}") from error
        scorers = total.scorers or chunk.shape[0]
        if chunk.shape[0] != scorers:
            raise ValueError(f"chunk {total.chunks} has {chunk.shape[0]} scorers; expected {scorers}, as in chunk 0")
        if not 0 <= generator < scorers:
            raise ValueError(f"generator is {generator}; expected an index among {scorers} scorers")
        total.add(js.cpu().numpy(), kl.cpu().numpy())
        del chunk
    if total.tokens == 0:
        raise ValueError("the response has no tokens; expected at least one")
    return total.response()


class _Total:
    """Running sums and per-token values of a response."""

    def __init__(self, generator: int) -> None:
        self.chunks, self.tokens, self.scorers = 0, 0, 0
        self._generator = generator
        self._js: Floats = np.zeros(0)
        self._kl: Floats = np.zeros(0)
        self._along: list[tuple[Floats, Floats, Floats]] = []

    def add(self, js: Floats, kl: Floats) -> None:
        """Add a chunk's (t, K, K) matrices."""
        if not self.scorers:
            self.scorers = js.shape[1]
            self._js, self._kl = np.zeros(js.shape[1:]), np.zeros(js.shape[1:])
        for js_of_token, kl_of_token in zip(js, kl, strict=True):  # in order, so that chunk boundaries change no bit
            self._js += js_of_token
            self._kl += kl_of_token
        own = self._generator
        self._along.append((js[:, own, :].copy(), kl[:, own, :].copy(), kl[:, :, own].copy()))
        self.chunks += 1
        self.tokens += len(js)

    def response(self) -> ResponseDivergence:
        along = (np.concatenate(parts) for parts in zip(*self._along, strict=True))
        return ResponseDivergence(self._js / self.tokens, self._kl / self.tokens, *along)
