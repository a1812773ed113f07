"""The generator interface, which maps prompt token ids to response token ids, and its Transformers implementation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol

import torch

from persona_assets.inference.decoding import write_rows
from persona_assets.inference.loading import LoadedModel
from persona_assets.inference.out_of_memory import AdaptiveBatchSize
from persona_assets.inference.sampling import TokenChooser
from persona_assets.inference.training.example import Example
from persona_assets.inference.training.losses import label_log_prob
from persona_assets.study.settings import Decoding

# Told how much is done, and how much there is.
Progress = Callable[[int, int], None]


def no_progress(done: int, total: int) -> None:
    """Tell nobody."""


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

    def generate(
        self, prompts: Sequence[Sequence[int]], decoding: Decoding, progress: Progress = no_progress
    ) -> list[Response]:
        """Return one response per prompt, in order; deterministic for given prompts, decoding settings and device.

        Args:
            progress: called now and then with the number of tokens written and the most that can be; an ended response
                counts as `max_new_tokens`.
        """
        ...


class TransformersGenerator:
    """Generator that runs a model of Transformers token by token, on any device.

    Batches are left-padded, repeated prompts are read once, and ended rows leave the batch (see `decoding`). Models
    that may not see padding get batches of prompts of one length, and `generate` of Transformers.
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
    def generate(
        self, prompts: Sequence[Sequence[int]], decoding: Decoding, progress: Progress = no_progress
    ) -> list[Response]:
        """See `Generator`. Each row samples from its own random stream, so batching does not affect results."""
        order = list(range(len(prompts)))
        groups = [order]
        if self.loaded.architecture.batching == "whole":
            groups = [
                [row for row in order if len(prompts[row]) == length] for length in sorted(set(map(len, prompts)))
            ]
        from persona_assets.inference.grouped_attention import grouped_attention  # imports Transformers

        responses: dict[int, Response] = {}

        def tell(tokens: int) -> None:
            progress(len(responses) * decoding.max_new_tokens + tokens, len(prompts) * decoding.max_new_tokens)

        with grouped_attention(self.loaded):
            for group in groups:
                longest = max(len(prompts[row]) for row in group) + decoding.max_new_tokens
                for batch in self._rows.slices(
                    len(group),
                    self.loaded.rows_at_once(longest),
                    partial(self._batch, prompts, group, decoding, tell),
                ):
                    responses |= batch
        return [responses[row] for row in order]

    def _batch(
        self,
        prompts: Sequence[Sequence[int]],
        group: Sequence[int],
        decoding: Decoding,
        progress: Callable[[int], None],
        part: slice,
    ) -> dict[int, Response]:
        """Return the responses to a part of the prompts with the numbers in `group`, by number."""
        chosen = group[part]
        asked, choose = [prompts[row] for row in chosen], TokenChooser(decoding, chosen)
        write = write_rows if self.loaded.architecture.batching == "padded" else _write_whole
        written = write(self.loaded, asked, choose, decoding.max_new_tokens, progress)
        return {row: self._response(tokens) for row, tokens in zip(chosen, written, strict=True)}

    def _response(self, ids: Sequence[int]) -> Response:
        text = self.loaded.chat.tokenizer.decode(ids, skip_special_tokens=True)
        return Response(tuple(ids), text, "stop" if ids[-1] in self.loaded.stop_ids else "length")


def _write_whole(
    loaded: LoadedModel,
    prompts: Sequence[Sequence[int]],
    choose: TokenChooser,
    max_new_tokens: int,
    progress: Callable[[int], None],
) -> list[list[int]]:
    """Do what `write_rows` does with Transformers' own loop, which knows every kind of cache.

    Args:
        prompts: of one length.
    """
    from transformers import GenerationConfig, LogitsProcessorList

    length, stop = len(prompts[0]), loaded.stop_ids
    every = torch.arange(len(prompts))

    def choose_only(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Set all tokens but the chosen ones to −inf, before greedy decoding."""
        step = ids.shape[1] - length
        progress(step * len(prompts))
        return torch.full_like(scores, -torch.inf).scatter_(1, choose(scores, step, every)[:, None], 0.0)

    # Fields that are unset here come from the model's generation config, which `load_model` has cleared.
    configuration = GenerationConfig(
        max_new_tokens=max_new_tokens, do_sample=False, eos_token_id=stop, pad_token_id=stop[0]
    )
    asked = torch.tensor([list(prompt) for prompt in prompts], device=loaded.device)
    output = loaded.model.generate(
        asked,
        attention_mask=torch.ones_like(asked),
        generation_config=configuration,
        logits_processor=LogitsProcessorList([choose_only]),
    )
    emitted = output[:, length:].tolist()
    ends = [next((place for place, token in enumerate(ids) if token in stop), len(ids)) for ids in emitted]
    return [ids[: end + 1] for ids, end in zip(emitted, ends, strict=True)]
