"""Self-check of a loaded model: every way in which it is run gives what its own plain forward pass gives.

The reference is one forward pass over prompt and response: alone, unpadded, uncached. Two distributions are compared
by their Jensen–Shannon divergence, the quantity that is measured; a deviation is far below any divergence of interest
in 32 bits, and of the size of rounding in 16 bits.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from persona_assets.inference.attention import attention_implementation
from persona_assets.inference.generation import Response, TransformersGenerator
from persona_assets.inference.hidden_states import decoder_blocks, last_token_states
from persona_assets.inference.loading import LoadedModel
from persona_assets.inference.scoring.choice import choose_scorer
from persona_assets.inference.scoring.padded import Scored
from persona_assets.inference.scoring.whole import whole_logits
from persona_assets.inference.training.example import IGNORED, Example
from persona_assets.inference.training.losses import batch_loss
from persona_assets.study.settings import Decoding

# How the engine writes the responses that are checked.
GREEDY = Decoding(max_new_tokens=16)


class SelfCheckError(RuntimeError):
    """A model is not computed as its own forward pass computes it; says what is wrong and by how much."""


class Finding(NamedTuple):
    """One comparison.

    Attributes:
        part: what is compared with the plain forward pass.
        error: deviation found; `what` says in which unit.
        limit: largest deviation that rounding explains.
    """

    part: str
    error: float
    limit: float
    what: str

    @property
    def passed(self) -> bool:
        return self.error <= self.limit  # False for NaN


@dataclass(frozen=True)
class Limits:
    """Largest deviations explained by rounding: mean JS, log-probability of one token and loss in nats, hidden states.

    Hidden states are compared by their relative error.
    """

    js: float
    log_prob: float
    loss: float
    states: float


# Rounding in 16 bits moves a logit of 20 by 0.06; JS of such logits is about the square of that over eight.
LIMITS = {
    torch.float32: Limits(js=1e-7, log_prob=1e-4, loss=1e-4, states=1e-3),
    torch.float16: Limits(js=1e-3, log_prob=0.25, loss=0.02, states=0.02),
    torch.bfloat16: Limits(js=5e-3, log_prob=1.0, loss=0.1, states=0.25),
}


def self_check(
    loaded: LoadedModel,
    prompts: Sequence[Sequence[int]],
    response: Sequence[int],
    deterministic: bool = False,
    written: Sequence[Response] | None = None,
) -> list[Finding]:
    """Compare attention, scoring, hidden states, generation and training loss with plain forward passes.

    Args:
        prompts: two prompts of different length, as token ids.
        response: token ids; longer than the attention window if the study's sequences are.
        deterministic: whether the study scores in deterministic mode.
        written: the engine's greedy responses to the prompts; by default, written by Transformers now.
    """
    check = _Check(loaded, prompts, response, LIMITS[loaded.model.dtype])
    if written is None:
        written = TransformersGenerator(loaded).generate(prompts, GREEDY)
    return [
        *check.forward(),
        *check.scoring(deterministic),
        *check.states(),
        *check.generation(written),
        *check.training(),
    ]


def describe_failures(findings: Sequence[Finding], name: str, family: str) -> str | None:
    """Return a sentence that names every failed part and what to do, or None if all passed."""
    failed = [each for each in findings if not each.passed]
    if not failed:
        return None
    parts = "; ".join(
        f"{each.part}: {each.what} {each.error:.3g}, expected at most {each.limit:.3g}" for each in failed
    )
    return (
        f"{name}: the architecture {family} is not computed as its own forward pass computes it: {parts}; nothing is "
        "measured. Try `inference: {attention: eager}` in the study, and report the architecture"
    )


class _Check:
    def __init__(
        self, loaded: LoadedModel, prompts: Sequence[Sequence[int]], response: Sequence[int], limits: Limits
    ) -> None:
        self.loaded, self.prompts, self.response, self.limits = loaded, prompts, response, limits
        self.plain = self._plain()

    def _plain(self) -> list[Tensor]:
        tokens = len(self.response)
        return [whole_logits(self.loaded.model, prompt, self.response, 0, tokens) for prompt in self.prompts]

    def forward(self) -> Iterator[Finding]:
        """Check the plain pass itself: it is causal, and its attention is what plain attention gives."""
        half = max(1, len(self.response) // 2)
        shorter = whole_logits(self.loaded.model, self.prompts[0], self.response, 0, half)
        yield self._js("causality: logits without later tokens", [self.plain[0][:half]], [shorter])
        if self.loaded.architecture.batching == "padded" and self.loaded.model.config._attn_implementation == "sdpa":
            with attention_implementation(self.loaded.model, "eager"):
                eager = self._plain()
            yield self._js("attention: sdpa against eager", self.plain, eager)

    def scoring(self, deterministic: bool) -> Iterator[Finding]:
        scorer = choose_scorer(self.loaded, deterministic)
        (pieces,) = (list(each) for each in scorer.logits([Scored(self.prompts, self.response)]))
        yield self._js(f"scoring ({type(scorer).__name__})", self.plain, list(torch.cat(pieces, dim=1)))

    def states(self) -> Iterator[Finding]:
        """Compare hidden states read in one batch with those of each prompt alone."""
        last = [len(decoder_blocks(self.loaded.model)) - 1]
        together = last_token_states(self.loaded, self.prompts, last)
        alone = torch.cat([last_token_states(self.loaded, [prompt], last) for prompt in self.prompts])
        error = float((together - alone).norm() / alone.norm())
        yield Finding("hidden states", error, self.limits.states, "relative error")

    def generation(self, written: Sequence[Response]) -> Iterator[Finding]:
        """Check that greedy tokens are the most likely ones of a plain pass, up to ties within rounding."""
        worst = 0.0
        for prompt, reply in zip(self.prompts, written, strict=True):
            emitted = reply.token_ids
            log_probs = whole_logits(self.loaded.model, prompt, emitted, 0, len(emitted)).float().log_softmax(-1)
            taken = log_probs.gather(1, torch.tensor(emitted, device=log_probs.device)[:, None])[:, 0]
            worst = max(worst, float((log_probs.max(-1).values - taken).max()))
        yield Finding("generation", worst, self.limits.log_prob, "log-probability below the most likely token's")

    def training(self) -> Iterator[Finding]:
        """The loss of a batch is the mean over the positions of each example alone."""
        examples = [
            Example((*prompt, *self.response), (*[IGNORED] * len(prompt), *self.response)) for prompt in self.prompts
        ]
        with torch.no_grad(), batch_loss(self.loaded) as loss_of:
            batch = float(loss_of(examples))
        labels = torch.tensor(self.response, device=self.plain[0].device)
        alone = float(torch.stack([functional.cross_entropy(each.float(), labels) for each in self.plain]).mean())
        yield Finding("training loss", abs(batch - alone), self.limits.loss, "difference in nats")

    def _js(self, part: str, wanted: Sequence[Tensor], found: Sequence[Tensor]) -> Finding:
        error = max(float(_js(a, b).mean()) for a, b in zip(wanted, found, strict=True))
        return Finding(part, error, self.limits.js, "mean JS in nats")


def _js(a: Tensor, b: Tensor) -> Tensor:
    """Return the JS of each row of two logit matrices (t, V), in nats, float64."""
    log_p, log_q = (each.double().log_softmax(-1) for each in (a, b))
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    terms = [torch.where(each.exp() > 0, each.exp() * (each - log_m), 0.0) for each in (log_p, log_q)]
    return 0.5 * (terms[0] + terms[1]).sum(-1)
