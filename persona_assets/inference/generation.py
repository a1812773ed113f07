"""Responses: token ids in, token ids out. An engine is anything that has `Generator`'s one method."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch

from persona_assets.inference.loading import LoadedModel
from persona_assets.study import Decoding


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


class Generator(Protocol):
    """Writes a response to each prompt."""

    engine: str

    def generate(self, prompts: Sequence[Sequence[int]], decoding: Decoding) -> list[Response]:
        """One response a prompt, in order. The same prompts and decoding give the same responses on one device."""
        ...


class TransformersGenerator:
    """Transformers' own `generate`, on any device; prompts are left-padded into one batch."""

    engine = "transformers"

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded = loaded

    @torch.inference_mode()
    def generate(self, prompts: Sequence[Sequence[int]], decoding: Decoding) -> list[Response]:
        """See `Generator`. Sampling draws from one random stream a row, whatever rows are beside it."""
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
                [_Sampler(decoding, len(prompts))] if decoding.method == "sampled" else []
            ),
        )
        return [self._response(row, stop) for row in output[:, longest:].tolist()]

    def _response(self, emitted: list[int], stop: list[int]) -> Response:
        end = next((position for position, token in enumerate(emitted) if token in stop), None)
        ids = emitted if end is None else emitted[: end + 1]
        text = self.loaded.chat.tokenizer.decode(ids, skip_special_tokens=True)
        return Response(tuple(ids), text, "length" if end is None else "stop")


class _Sampler:
    """Turns greedy decoding into sampling: the arg max of logits plus Gumbel noise is a sample of the softmax.

    Row n draws its noise from a generator seeded with (seed, n), so its tokens do not depend on the rows beside it
    (Gumbel-max: Maddison, Tarlow & Minka 2014).
    """

    def __init__(self, decoding: Decoding, rows: int) -> None:
        from transformers import TemperatureLogitsWarper, TopPLogitsWarper

        self.warpers: list[Any] = [TemperatureLogitsWarper(decoding.temperature)]
        if decoding.top_p < 1:
            self.warpers.append(TopPLogitsWarper(decoding.top_p))
        self.streams = [torch.Generator().manual_seed(decoding.seed * 1_000_003 + row) for row in range(rows)]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        for warper in self.warpers:
            scores = warper(input_ids, scores)
        uniform = torch.stack([torch.rand(scores.shape[-1], generator=stream) for stream in self.streams])
        noise = -torch.log(-torch.log(uniform.clamp_(1e-30, 1 - 1e-7)))
        return scores.float() + noise.to(scores.device)
