"""Memory that a card needs for a study: weights, and what stands beside them while they are used.

Peaks at Qwen2.5-7B's shape on an H200, which tests hold these formulas to: scoring 17.3 GiB (benchmarks/results/
scoring.md), training `marker_only` 102.0 GiB with activations kept and 21.2 with them recomputed (marker_training.md).
"""

from dataclasses import dataclass, replace

from persona_assets.checkpoints.shape import Shape
from persona_assets.study.recipe import Recipe

GIB = 2**30
CHUNK = 16_384  # tokens that the packed scorer feeds at once
LOGITS = 2 * GIB  # at most so much for the logits of one piece
CPU_LOGITS = GIB // 2  # on a CPU, with 12 bytes an entry, for logits and what is made of them
PART = 4_096  # entries of the vocabulary that a kernel sums by itself
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

    def over(self, cards: int, working: int = 1) -> "Need":
        """Of each of the cards that one model is spread over, where what stands beside its weights is on `working`."""
        return replace(
            self, weights=self.weights // cards, working=self.working // working, least=self.least // working
        )

    def on(self, usable: float) -> str:
        """The word for a card of which so many bytes may be used."""
        if self.weights + self.working <= usable:
            return self.words[0]
        return self.words[1] if self.weights + self.least <= usable else self.words[2]


def scoring_need(shape: Shape, scorers: int, questions: int, prompt: float, longest: int, width: int) -> Need:
    """The packed scorer: all prompts' keys and values, a chunk's activations or a piece's logits.

    Activations: twice the gate's width and what is left of it after the gate, query, key and value twice, four hidden
    states. A piece is as many positions as have 2 GiB of logits, one at least, whatever the response's length; beside
    it stand the response's last hidden states, twice, and what the pairs take (`pair_bytes`). So with K scorers the
    logits of all positions, T·K·V, and all their pairs, T·K², are in memory never: it grows with K·T·hidden. Where less
    is free it takes smaller chunks and keeps one question's prompts.
    """
    kept = scorers * prompt * shape.state_bytes(width)
    tokens = min(CHUNK, scorers * questions * longest)
    position = scorers * shape.vocabulary * width
    at_once = min(longest, max(1, LOGITS // position))
    piece = at_once * (position + pair_bytes(scorers, shape.vocabulary))
    hidden = 2 * scorers * longest * shape.hidden * width
    working = round(questions * kept + max(_activations(shape, tokens, width), hidden + piece))
    return Need("scoring", shape.parameters * width, working, min(working, LEAST + round(kept)))


def cpu_scoring_need(shape: Shape, scorers: int, questions: int, prompt: float, longest: int) -> Need:
    """The generic scorer on a CPU, in float32: the same terms, a response at a time.

    Prompts are padded to the longest, which `prompt` should be. The response's keys and values stand behind a copy of
    theirs; a piece is 512 MiB at 12 bytes an entry, one
    position at least; its positions are compared one by one, at 20 bytes an entry (`pairwise_divergence`).
    """
    width, entries = 4, scorers * shape.vocabulary
    states = scorers * shape.state_bytes(width) * (questions * prompt + prompt + longest)
    at_once = min(longest, max(1, CPU_LOGITS // (12 * entries)))
    fed = scorers * max(prompt, at_once)
    working = round(states + _activations(shape, fed, width) + entries * (at_once * width + 20))
    return Need("scoring", shape.parameters * width, working, working)


def pair_bytes(scorers: int, vocabulary: int) -> int:
    """Bytes a position while all pairs are compared on a card: JS, both KLs, and sums over the vocabulary.

    At K = 111 and 152,064 entries 2.1 MB beside 33.8 MB of logits.
    """
    pairs = scorers * (scorers - 1) // 2
    return 16 * scorers**2 + 8 * pairs * -(-vocabulary // PART)


def matrix_bytes(scorers: int, generators: int, questions: int) -> int:
    """Bytes while `logit_js_matrix` is made: JS and KL of every response, K×K in float64, joined, one copied twice."""
    return 6 * 8 * generators * questions * scorers**2


def _activations(shape: Shape, tokens: float, width: int) -> float:
    projected = (shape.heads + 2 * shape.kv_heads) * shape.head_width
    return tokens * width * (3 * shape.intermediate + 2 * projected + 4 * shape.hidden)


def generation_need(shape: Shape, rows: int, prompt: float, longest: int, width: int) -> Need:
    """Keys and values of all rows at once; where less is free, fewer rows are written at a time."""
    row = (prompt + longest) * shape.state_bytes(width)
    working = round(rows * row)
    return Need("generation", shape.parameters * width, working, min(working, LEAST + round(row)))


def training_need(shape: Shape, recipe: Recipe, prompt: float, width: int) -> Need:
    """LoRA on frozen weights: adapter with its gradient and AdamW's two moments (float32), and activations.

    A batch of the longest replies. Activations as `needs_checkpointing` counts them; recomputed, the
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
