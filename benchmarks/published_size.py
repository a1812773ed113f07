"""The published comparison as shapes: Qwen2.5-7B's architecture with random weights, 220 responses, 11 personas.

Time depends on shapes and counts, not on the weights' values. Lengths follow the published ones: 20 questions answered
by 11 personas in at most 512 tokens, 416 on average, a quarter truncated at 512; prompts of 23 to 51 tokens.
"""

import numpy as np
import torch
from transformers import AutoModelForCausalLM, GenerationConfig, Qwen2Config

from persona_assets.inference.chat import Chat
from persona_assets.inference.loading import LoadedModel, choose_hardware
from persona_assets.inference.scoring.padded import Scored
from persona_assets.study.settings import Inference

SEED = 42
PERSONAS, QUESTIONS = 11, 20
RESPONSE_TOKENS, LONGEST, CUT = 91_611, 512, 55
QWEN_7B = {
    "hidden_size": 3584,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "intermediate_size": 18944,
    "vocab_size": 152064,
}


def random_model(chat: Chat | None = None, **shape: int) -> LoadedModel:
    """Return a random model of Qwen2.5-7B's shape, or another, on the hardware that `auto` selects."""
    hardware = choose_hardware(Inference())
    torch.manual_seed(SEED)
    with torch.device(hardware.device):
        model = AutoModelForCausalLM.from_config(
            Qwen2Config(**(QWEN_7B | shape)), dtype=getattr(torch, hardware.dtype), attn_implementation="sdpa"
        )
    # Qwen2.5 ends a turn with token 151645. Random weights hardly ever emit it, so all responses reach the limit.
    model.generation_config = GenerationConfig(eos_token_id=151645)
    model.eval().requires_grad_(False)
    return LoadedModel(model, chat, hardware)  # type: ignore[arg-type]


def response_lengths() -> list[int]:
    """Return 220 lengths with the published sum, maximum, and number at the maximum."""
    random = np.random.default_rng(SEED)
    free = PERSONAS * QUESTIONS - CUT
    mean = (RESPONSE_TOKENS - CUT * LONGEST) / free
    lengths = np.clip(random.normal(mean, 70, free).round().astype(int), 40, LONGEST - 1)
    while gap := RESPONSE_TOKENS - CUT * LONGEST - int(lengths.sum()):
        place = int(random.integers(free))
        lengths[place] = np.clip(lengths[place] + np.sign(gap), 40, LONGEST - 1)
    everything = np.concatenate([lengths, np.full(CUT, LONGEST)])
    return [int(length) for length in random.permutation(everything)]


def published_work(vocabulary: int) -> list[list[Scored]]:
    """Return, per generator, one response of random tokens per question, under every persona's prompt."""
    random = np.random.default_rng(SEED)
    lengths = iter(response_lengths())
    prompts = [
        [random.integers(vocabulary, size=random.integers(23, 52)).tolist() for _ in range(PERSONAS)]
        for _ in range(QUESTIONS)
    ]
    return [
        [Scored(of_question, random.integers(vocabulary, size=next(lengths)).tolist()) for of_question in prompts]
        for _ in range(PERSONAS)
    ]
