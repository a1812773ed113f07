"""Memory that a card needs for a study: weights, and what stands beside them while they are used.

Peaks at Qwen2.5-7B's shape on an H200, which tests hold these formulas to: scoring 17.3 GiB (benchmarks/results/
scoring.md), training `marker_only` 102.0 GiB with activations kept and 21.2 with them recomputed (marker_training.md).
"""

from dataclasses import dataclass

from persona_assets.model_shape import Shape
from persona_assets.recipe import Recipe

GIB = 2**30
CHUNK = 16_384  # tokens that the packed scorer feeds at once
LOGITS = 2 * GIB  # at most so much for the logits of one piece
LEAST = GIB  # what the smallest chunks, and CUDA itself, take


@dataclass(frozen=True)
class Need:
    """Bytes that one use of the model takes on a card.

    Attributes:
        working: beside the weights, at full speed; `least` is what it can do with, slower.
        words: what to say where the whole fits, where only the least does, and where nothing does.
    """

    name: str
    weights: int
    working: int
    least: int
    words: tuple[str, str, str] = ("fits", "tight", "no")

    def on(self, usable: float) -> str:
        """The word for a card of which so many bytes may be used."""
        if self.weights + self.working <= usable:
            return self.words[0]
        return self.words[1] if self.weights + self.least <= usable else self.words[2]


def scoring_need(shape: Shape, scorers: int, questions: int, prompt: float, longest: int, width: int) -> Need:
    """The packed scorer: all prompts' keys and values, a chunk's activations or a piece's logits.

    Activations: twice the gate's width and what is left of it after the gate, query, key and value twice, four hidden
    states. Where less is free it takes smaller chunks and keeps one question's prompts.
    """
    kept = scorers * prompt * shape.state_bytes(width)
    projected = (shape.heads + 2 * shape.kv_heads) * shape.head_width
    tokens = min(CHUNK, scorers * questions * longest)
    activations = tokens * width * (3 * shape.intermediate + 2 * projected + 4 * shape.hidden)
    logits = min(LOGITS, scorers * longest * shape.vocabulary * width)
    working = round(questions * kept + max(activations, logits))
    return Need("scoring", shape.parameters * width, working, min(working, LEAST + round(kept)))


def generation_need(shape: Shape, rows: int, prompt: float, longest: int, width: int) -> Need:
    """Keys and values of all rows at once; where less is free, fewer rows are written at a time."""
    row = (prompt + longest) * shape.state_bytes(width)
    working = round(rows * row)
    return Need("generation", shape.parameters * width, working, min(working, LEAST + round(row)))


def training_need(shape: Shape, recipe: Recipe, prompt: float, width: int) -> Need:
    """LoRA on frozen weights: adapter with its gradient and AdamW's two moments (float32), and activations.

    A batch of the longest replies. Activations as `inference.training.needs_checkpointing` counts them; recomputed, the
    hidden states between blocks and one block's. Trained positions also have logits, in 16 and 32 bits, and a gradient.
    """
    length = min(recipe.training.max_length, prompt + recipe.replies.max_new_tokens)
    tokens = recipe.training.batch_size * length
    adapted = sum(shape.projections[module][0] for module in recipe.lora.modules if module in shape.projections)
    block = tokens * (17 * width * shape.hidden + 2 * width * adapted)
    logits = tokens * shape.vocabulary * (3 * 4 + width) if recipe.loss.where == "completion" else 0
    optimised = 16 * lora_parameters(shape, recipe)
    kept = shape.layers * block + optimised + logits
    recomputed = block + shape.layers * tokens * shape.hidden * width + optimised + logits
    return Need("training", shape.parameters * width, round(kept), round(recomputed), ("kept", "recomputed", "no"))


def lora_parameters(shape: Shape, recipe: Recipe) -> int:
    """Parameters of one adapter: r × (inputs + outputs) of every matrix that it is on."""
    sizes = (shape.projections[module] for module in recipe.lora.modules if module in shape.projections)
    return shape.layers * recipe.lora.r * sum(map(sum, sizes))
