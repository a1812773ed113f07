"""Log-probability of a marker behind replies, teacher-forced.

For a prompt x, a reply y without its end-of-turn token, and a marker that the tokenizer spells as m_1 … m_M behind it:

    ln P(marker | x, y) = Σ_i ln P(m_i | x, y, m_1, …, m_(i−1))

This is what training with the marker raises, and nothing is sampled. The end-of-turn token competes with the marker's
first token for the same place, so its log-probability there is computed as well. Log-probabilities are natural
logarithms of a softmax in 32 bits, at temperature 1 and without top-p.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from persona_assets.inference.loading import LoadedModel
from persona_assets.inference.nan_checks import NonFiniteError, where_not_finite
from persona_assets.inference.scoring.choice import choose_scorer
from persona_assets.inference.scoring.padded import Scored
from persona_assets.inference.training.marker_tokens import marker_ids


class Reply(NamedTuple):
    """A reply that a marker may follow, as token ids.

    Attributes:
        prompt: everything before the reply: the rendered prompt and, if the model thinks, the thought.
        reply: the reply, cut as in training and without end-of-turn token; may be empty.
    """

    prompt: Sequence[int]
    reply: Sequence[int]


class MarkerLogProbs(NamedTuple):
    """Natural-log probabilities of the tokens that may follow a reply.

    Attributes:
        marker: of all tokens of the marker, their sum; −inf if the model forbids one.
        first: of the marker's first token.
        end: of the end-of-turn token in the same place.
        tokens: number of tokens of the marker.
    """

    marker: float
    first: float
    end: float
    tokens: int


def marker_log_probs(
    loaded: LoadedModel,
    replies: Sequence[Reply],
    marker: str,
    deterministic: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[MarkerLogProbs]:
    """Return the log-probability of a marker behind each reply.

    The model may have an adapter, merged or not. The head runs on the marker's positions only.

    Args:
        replies: those to the same prompt should be neighbours, because its keys and values are shared.
        marker: the text that training appends to a reply.
        deterministic: make results bit-identical regardless of the other replies; slower.
        progress: called with the number of finished replies and that of all.

    Raises:
        StudyError: the tokenizer cannot spell the marker behind a reply.
        NonFiniteError: logits are not finite; names the reply and the first affected layer.
        torch.OutOfMemoryError: a single reply does not fit in memory.
    """
    if not replies:
        return []
    chat = loaded.chat
    spelled = [marker_ids(chat, [*prompt, *reply], marker) for prompt, reply in replies]
    work = [
        Scored([prompt], [*reply, *ids], first=len(reply))
        for (prompt, reply), ids in zip(replies, spelled, strict=True)
    ]
    end, found = chat.turn_end_id, list[MarkerLogProbs]()
    for scored, ids, pieces in zip(work, spelled, choose_scorer(loaded, deterministic).logits(work), strict=True):
        found.append(_of_reply(pieces, ids, end))
        if math.isnan(found[-1].marker + found[-1].end):
            raise NonFiniteError(
                f"reply {len(found)} of {len(work)}: the log-probability of the marker {marker!r} is not a number; "
                f"{where_not_finite(loaded, [*scored.prompts[0], *scored.response])}"
            )
        progress(len(found), len(work))
    return found


def _of_reply(pieces: Iterator[Tensor], ids: Sequence[int], end: int) -> MarkerLogProbs:
    """Return the log-probabilities behind one reply.

    Args:
        pieces: logits (1, t, V) at the M positions of the marker, in pieces.
    """
    tokens = list[float]()
    end_of_turn = math.nan
    for logits in pieces:
        log_probs = logits[0].float().log_softmax(-1)
        if not tokens:
            end_of_turn = float(log_probs[0, end])
        wanted = torch.tensor(ids[len(tokens) : len(tokens) + len(log_probs)], device=log_probs.device)
        tokens += log_probs.gather(1, wanted[:, None])[:, 0].tolist()
    return MarkerLogProbs(math.fsum(tokens), tokens[0], end_of_turn, len(tokens))
