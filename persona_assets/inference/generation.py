"""The generator interface, which maps prompt token ids to response token ids, and its Transformers implementation."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch

from persona_assets.inference.loading import LoadedModel
from persona_assets.inference.out_of_memory import AdaptiveBatchSize
from persona_assets.inference.training.train import Example, label_log_prob
from persona_assets.study.settings import Decoding


@dataclass(frozen=True)
class Response:
    """Text that a model generated for a prompt.

    Attributes:
        token_ids: every generated token, including the end-of-turn token if there was one.
        text: the decoded token ids, without special tokens.
        finish_reason: `stop` if the model ended its turn, `length` if it reached max_new_tokens.
    """

    token_ids: tuple[int, ...]
    text: str
    finish_reason: Literal["stop", "length"]


def row_seeds(seed: int, rows: Iterable[int]) -> list[int]:
    """Return one random seed per row, which does not depend on how rows are batched."""
    return [seed * 1_000_003 + row for row in rows]


class Generator(Protocol):
    """Inference engine that generates a response to each prompt.

    Attributes:
        engine: name of the engine.
        takes_all: whether to pass all prompts of a run in one call, because the engine batches them itself.
    """

    engine: str
    takes_all: bool

    @property
    def plan(self) -> dict[str, Any]:
        """Engine name and costs other than generation, for display."""
        ...

    def start(self, longest: int) -> None:
        """Prepare for sequences of up to `longest` tokens, so that start-up is not timed as generation."""
        ...

    def label_log_prob(self, example: Example) -> float:
        """Return the mean natural-log probability of an example's labels."""
        ...

    def generate(self, prompts: Sequence[Sequence[int]], decoding: Decoding) -> list[Response]:
        """Return one response per prompt, in order; deterministic for given prompts, decoding settings and device."""
        ...


class TransformersGenerator:
    """Generator that calls `generate` of Transformers, on any device.

    Batches are left-padded. Models that may not see padding get batches of prompts of one length.
    """

    engine = "transformers"
    takes_all = False

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded, self._rows = loaded, AdaptiveBatchSize("writing responses", "rows")

    @property
    def plan(self) -> dict[str, Any]:
        """See `Generator`."""
        return {"engine": self.engine}

    def start(self, longest: int) -> None:
        """Do nothing, since the model is already in memory; see `Generator`."""

    def label_log_prob(self, example: Example) -> float:
        """See `Generator`."""
        return label_log_prob(self.loaded.model, example, self.loaded.device)

    @torch.inference_mode()
    def generate(self, prompts: Sequence[Sequence[int]], decoding: Decoding) -> list[Response]:
        """See `Generator`. Each row samples from its own random stream, so batching does not affect results."""
        order = list(range(len(prompts)))
        groups = [order]
        if self.loaded.architecture.batching == "whole":
            groups = [
                [row for row in order if len(prompts[row]) == length] for length in sorted(set(map(len, prompts)))
            ]
        responses: dict[int, Response] = {}
        for group in groups:
            responses |= self._write(prompts, group, decoding)
        return [responses[row] for row in order]

    def _write(self, prompts: Sequence[Sequence[int]], group: Sequence[int], decoding: Decoding) -> dict[int, Response]:
        """Return the responses to the prompts with the numbers in `group`, in batches that fit in memory."""
        longest = max(len(prompts[row]) for row in group) + decoding.max_new_tokens
        batches = self._rows.slices(
            len(group), self.loaded.rows_at_once(longest), lambda part: self._batch(prompts, group[part], decoding)
        )
        return {row: response for batch in batches for row, response in batch.items()}

    def _batch(
        self, prompts: Sequence[Sequence[int]], chosen: Sequence[int], decoding: Decoding
    ) -> dict[int, Response]:
        """Return the responses to the prompts with the chosen numbers, by number."""
        from transformers import GenerationConfig, LogitsProcessorList

        asked = [prompts[row] for row in chosen]
        loaded, longest = self.loaded, max(map(len, asked))
        stop = loaded.stop_ids
        # Fields that are unset here come from the model's generation config, which `load_model` has cleared.
        configuration = GenerationConfig(
            max_new_tokens=decoding.max_new_tokens, do_sample=False, eos_token_id=stop, pad_token_id=stop[0]
        )
        rows = [[stop[0]] * (longest - len(prompt)) + list(prompt) for prompt in asked]
        mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in asked]
        output = loaded.model.generate(
            torch.tensor(rows, device=loaded.device),
            attention_mask=torch.tensor(mask, device=loaded.device),
            generation_config=configuration,
            logits_processor=LogitsProcessorList([_Sampler(decoding, chosen)] if decoding.method == "sampled" else []),
        )
        emitted = output[:, longest:].tolist()
        return {row: self._response(tokens, stop) for row, tokens in zip(chosen, emitted, strict=True)}

    def _response(self, emitted: list[int], stop: list[int]) -> Response:
        end = next((position for position, token in enumerate(emitted) if token in stop), None)
        ids = emitted if end is None else emitted[: end + 1]
        text = self.loaded.chat.tokenizer.decode(ids, skip_special_tokens=True)
        return Response(tuple(ids), text, "length" if end is None else "stop")


class _Sampler:
    """Logits processor that samples: it sets all tokens but the sampled one to −inf, before greedy decoding.

    Row n uses a random generator seeded with (seed, n) and one number per token (inverse transform sampling), so its
    tokens do not depend on the other rows of the batch.
    """

    def __init__(self, decoding: Decoding, rows: Sequence[int]) -> None:
        from transformers import TemperatureLogitsWarper, TopPLogitsWarper

        self.warpers: list[Any] = [TemperatureLogitsWarper(decoding.temperature)]
        if decoding.top_p < 1:
            self.warpers.append(TopPLogitsWarper(decoding.top_p))
        self.streams = [torch.Generator().manual_seed(seed) for seed in row_seeds(decoding.seed, rows)]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        for warper in self.warpers:
            scores = warper(input_ids, scores)
        reached = scores.double().softmax(-1).cumsum(-1)
        drawn = torch.stack([torch.rand(1, generator=stream, dtype=torch.float64) for stream in self.streams])
        # Scale by the actual total, which rounding may leave below 1, so that no token without probability is drawn.
        token = torch.searchsorted(reached, drawn.to(scores.device) * reached[:, -1:], right=True)
        only = torch.full_like(scores, -torch.inf)
        return only.scatter_(1, token.clamp_(max=scores.shape[-1] - 1), 0.0)
