"""GPU memory that a study needs: weights and working memory of each stage.

Tests compare these formulas with peaks measured at Qwen2.5-7B's shape on an H200: scoring 17.3 GiB (benchmarks/results/
scoring.md), training `marker_only` 102.0 GiB with activations kept and 21.2 with them recomputed (marker_training.md).
"""

from dataclasses import dataclass, replace

from persona_assets.checkpoints.shape import Shape
from persona_assets.study.recipe import Recipe

GIB = 2**30
CHUNK = 16_384  # tokens per forward pass of the packed scorer
LOGITS = 2 * GIB  # upper bound for the logits of one chunk of positions
CPU_LOGITS = GIB // 2  # the same on a CPU, with 12 bytes per entry for logits and intermediate values
PART = 4_096  # vocabulary entries summed by one kernel instance
LEAST = GIB  # memory of the smallest chunks and of CUDA itself


@dataclass(frozen=True)
class Need:
    """Memory of one stage on a GPU, in bytes.

    Attributes:
        weights: bytes of the model's weights.
        working: working memory in addition to the weights, at full speed.
        least: minimum working memory, at lower speed.
        words: labels for three cases: `working` fits, only `least` fits, neither fits.
    """

    name: str
    weights: int
    working: int
    least: int
    words: tuple[str, str, str] = ("fits", "tight", "no")

    def per_card(self, cards: int, working: int = 1) -> "Need":
        """Return the need per GPU with the weights split over `cards` GPUs and the working memory over `working`."""
        return replace(
            self, weights=self.weights // cards, working=self.working // working, least=self.least // working
        )

    def on(self, usable: float) -> str:
        """Return the label for a GPU with this many usable bytes."""
        if self.weights + self.working <= usable:
            return self.words[0]
        return self.words[1] if self.weights + self.least <= usable else self.words[2]


def scoring_need(shape: Shape, scorers: int, questions: int, prompt: float, longest: int, width: int) -> Need:
    """Return the memory of the packed scorer: keys and values of all prompts, plus activations or logits.

    Activations per token: three times the width of the feed-forward layer, query, key and value twice, and four hidden
    states. Logits are computed for chunks of positions of at most 2 GiB, at least one position, whatever the length of
    the response. A chunk also needs the response's last hidden states twice and the memory of the pairs (`pair_bytes`).
    So with K scorers and T positions, the logits of all positions (T·K·V) and all their pairs (T·K²) are never in
    memory at once: memory grows with K·T·hidden. With less free memory the scorer uses smaller chunks and keeps the
    prompts of one question only.

    Args:
        prompt, longest: tokens of the mean prompt and of the longest response.
        width: bytes per number.
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
    """Return the memory of the padded scorer on a CPU in float32: the same terms, for one response at a time.

    Prompts are padded, so `prompt` should be the longest. The response's keys and values are appended to a copy of the
    prompts'. A chunk of positions is at most 512 MiB at 12 bytes per entry, at least one position. Its positions are
    compared one by one, at 20 bytes per entry (`pairwise_divergence`).
    """
    width, entries = 4, scorers * shape.vocabulary
    states = scorers * shape.state_bytes(width) * (questions * prompt + prompt + longest)
    at_once = min(longest, max(1, CPU_LOGITS // (12 * entries)))
    fed = scorers * max(prompt, at_once)
    working = round(states + _activations(shape, fed, width) + entries * (at_once * width + 20))
    return Need("scoring", shape.parameters * width, working, working)


def pair_bytes(scorers: int, vocabulary: int) -> int:
    """Return the bytes per position for comparing all pairs on a GPU: JS, both KLs, and partial sums.

    For K = 111 and 152,064 vocabulary entries these are 2.1 MB, compared with 33.8 MB of logits.
    """
    pairs = scorers * (scorers - 1) // 2
    return 16 * scorers**2 + 8 * pairs * -(-vocabulary // PART)


def matrix_bytes(scorers: int, generators: int, questions: int) -> int:
    """Return the host memory for `logit_js_matrix`: six K×K float64 arrays per response, copies included."""
    return 6 * 8 * generators * questions * scorers**2


def _activations(shape: Shape, tokens: float, width: int) -> float:
    projected = (shape.heads + 2 * shape.kv_heads) * shape.head_width
    return tokens * width * (3 * shape.intermediate + 2 * projected + 4 * shape.hidden)


def generation_need(shape: Shape, rows: int, prompt: float, longest: int, width: int) -> Need:
    """Return the memory for the keys and values of all rows in one batch; batches shrink if less is free."""
    row = (prompt + longest) * shape.state_bytes(width)
    working = round(rows * row)
    return Need("generation", shape.parameters * width, working, min(working, LEAST + round(row)))


def training_need(shape: Shape, recipe: Recipe, prompt: float, width: int) -> Need:
    """Return the memory of LoRA training on frozen weights, for a batch of the longest replies.

    It comprises the adapter with its gradient and AdamW's two moments (float32), and the activations as counted by
    `needs_checkpointing`. With recomputed activations, these are the hidden states between blocks and one block's
    activations. Trained positions also need logits, in 16 and 32 bits, and their gradient.
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
    """Return the parameters of one adapter: r × (inputs + outputs), summed over the adapted matrices."""
    sizes = (shape.projections[module] for module in recipe.lora.modules if module in shape.projections)
    return shape.layers * recipe.lora.r * sum(map(sum, sizes))
