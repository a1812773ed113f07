"""Responses: token ids in, token ids out. An engine is anything that has `Generator`'s one method."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch

from persona_assets.inference.loading import LoadedModel
from persona_assets.inference.out_of_memory import AdaptiveBatchSize
from persona_assets.inference.training.train import Example, label_log_prob
from persona_assets.study.settings import Decoding


@dataclass(frozen=True)
class Response:
    """What a model emitted after a prompt.

    Attributes:
        token_ids: every emitted token, the end-of-turn token included where the model emitted it.
        text: those ids decoded, special tokens left out.
        finish_reason: `stop` where the model ended its turn, `length` where max_new_tokens cut it.
    """

    token_ids: tuple[int, ...]
    text: str
    finish_reason: Literal["stop", "length"]


def row_seeds(seed: int, first: int, rows: int) -> list[int]:
    """Seeds of consecutive rows' random streams, the same whatever rows are beside them."""
    return [seed * 1_000_003 + row for row in range(first, first + rows)]


class Generator(Protocol):
    """Writes a response to each prompt.

    Attributes:
        engine: its name.
        takes_all: whether all prompts of a run belong into one call, since it batches them itself.
    """

    engine: str
    takes_all: bool

    @property
    def plan(self) -> dict[str, Any]:
        """What a person asks of it: which engine, and what it cost beside the writing."""
        ...

    def start(self, longest: int) -> None:
        """Makes ready for sequences of so many tokens, so that what follows measures writing alone."""
        ...

    def label_log_prob(self, example: Example) -> float:
        """Mean natural-log probability of an example's labels."""
        ...

    def generate(self, prompts: Sequence[Sequence[int]], decoding: Decoding) -> list[Response]:
        """One response a prompt, in order. The same prompts and decoding give the same responses on one device."""
        ...


class TransformersGenerator:
    """Transformers' own `generate`, on any device; prompts are left-padded into one batch."""

    engine = "transformers"
    takes_all = False

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded, self._rows = loaded, AdaptiveBatchSize("writing responses", "rows")

    @property
    def plan(self) -> dict[str, Any]:
        """See `Generator`."""
        return {"engine": self.engine}

    def start(self, longest: int) -> None:
        """See `Generator`; the model is in memory."""

    def label_log_prob(self, example: Example) -> float:
        """See `Generator`."""
        return label_log_prob(self.loaded.model, example, self.loaded.device)

    @torch.inference_mode()
    def generate(self, prompts: Sequence[Sequence[int]], decoding: Decoding) -> list[Response]:
        """See `Generator`. Sampling draws from one random stream a row, whatever rows are beside it."""
        longest = max(map(len, prompts)) + decoding.max_new_tokens
        batches = self._rows.slices(
            len(prompts),
            self.loaded.rows_at_once(longest),
            lambda rows: self._batch(prompts[rows], decoding, rows.start),
        )
        return list(itertools.chain.from_iterable(batches))

    def _batch(self, prompts: Sequence[Sequence[int]], decoding: Decoding, first: int) -> list[Response]:
        from transformers import GenerationConfig, LogitsProcessorList

        loaded, longest = self.loaded, max(map(len, prompts))
        stop = loaded.stop_ids
        # A configuration of our own; what it leaves open comes from the model's, which `load_model` has emptied.
        configuration = GenerationConfig(
            max_new_tokens=decoding.max_new_tokens, do_sample=False, eos_token_id=stop, pad_token_id=stop[0]
        )
        rows = [[stop[0]] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
        mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
        output = loaded.model.generate(
            torch.tensor(rows, device=loaded.device),
            attention_mask=torch.tensor(mask, device=loaded.device),
            generation_config=configuration,
            logits_processor=LogitsProcessorList(
                [_Sampler(decoding, first, len(prompts))] if decoding.method == "sampled" else []
            ),
        )
        return [self._response(row, stop) for row in output[:, longest:].tolist()]

    def _response(self, emitted: list[int], stop: list[int]) -> Response:
        end = next((position for position, token in enumerate(emitted) if token in stop), None)
        ids = emitted if end is None else emitted[: end + 1]
        text = self.loaded.chat.tokenizer.decode(ids, skip_special_tokens=True)
        return Response(tuple(ids), text, "length" if end is None else "stop")


class _Sampler:
    """Turns greedy decoding into sampling: all but a drawn token get −inf.

    Row n draws from a generator seeded with (seed, n), one number a token (the inverse of the distribution function),
    so its tokens do not depend on the rows beside it.
    """

    def __init__(self, decoding: Decoding, first: int, rows: int) -> None:
        from transformers import TemperatureLogitsWarper, TopPLogitsWarper

        self.warpers: list[Any] = [TemperatureLogitsWarper(decoding.temperature)]
        if decoding.top_p < 1:
            self.warpers.append(TopPLogitsWarper(decoding.top_p))
        self.streams = [torch.Generator().manual_seed(seed) for seed in row_seeds(decoding.seed, first, rows)]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        for warper in self.warpers:
            scores = warper(input_ids, scores)
        reached = scores.double().softmax(-1).cumsum(-1)
        drawn = torch.stack([torch.rand(1, generator=stream, dtype=torch.float64) for stream in self.streams])
        # Never beyond the last token that has mass, whatever rounding leaves of the sum.
        token = torch.searchsorted(reached, drawn.to(scores.device) * reached[:, -1:], right=True)
        only = torch.full_like(scores, -torch.inf)
        return only.scatter_(1, token.clamp_(max=scores.shape[-1] - 1), 0.0)
