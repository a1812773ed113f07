"""Computes a decoder's parameter count, KV-cache size and FLOPs from config.json.

Exact for dense decoders of the Llama family (Llama, Mistral, Qwen2, Qwen3); approximate for others with a gated MLP.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from persona_assets.checkpoints.checkpoint import Checkpoint, CheckpointError
from persona_assets.checkpoints.files import json_object
from persona_assets.checkpoints.model_sizes import LARGEST_SIZE
from persona_assets.checkpoints.registry import Registry
from persona_assets.files.reading import shown
from persona_assets.files.redaction import redact, redact_hub_logs

EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")


@dataclass(frozen=True)
class Shape:
    """Dimensions from config.json; `bytes_a_parameter` is the size of a parameter on disk."""

    name: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    intermediate: int
    vocabulary: int
    tied_embeddings: bool
    attention_bias: bool
    bytes_a_parameter: int

    @property
    def projections(self) -> dict[str, tuple[int, int]]:
        """Return the input and output features of each matrix in one block."""
        queries, states = self.heads * self.head_width, self.kv_heads * self.head_width
        return {
            "q_proj": (self.hidden, queries),
            "k_proj": (self.hidden, states),
            "v_proj": (self.hidden, states),
            "o_proj": (queries, self.hidden),
            "gate_proj": (self.hidden, self.intermediate),
            "up_proj": (self.hidden, self.intermediate),
            "down_proj": (self.intermediate, self.hidden),
        }

    @property
    def block_parameters(self) -> int:
        """Return the number of matrix parameters in all blocks, which every token is multiplied with."""
        return self.layers * sum(rows * columns for rows, columns in self.projections.values())

    @property
    def parameters(self) -> int:
        """Return the number of all parameters: blocks, embeddings, norms, and query, key and value biases."""
        biases = (self.heads + 2 * self.kv_heads) * self.head_width if self.attention_bias else 0
        embeddings = self.vocabulary * self.hidden * (1 if self.tied_embeddings else 2)
        return self.block_parameters + self.layers * (biases + 2 * self.hidden) + self.hidden + embeddings

    def state_bytes(self, width: int = 2) -> int:
        """Return the KV-cache size of one token over all blocks, in bytes, with `width` bytes per number."""
        return 2 * self.layers * self.kv_heads * self.head_width * width

    def forward_flops(self, tokens: float, before: float = 0.0, with_logits: bool = True) -> float:
        """Return the FLOPs of a forward pass over `tokens` tokens that follow `before` cached ones.

        Counts matrix products and attention, with two operations per parameter and token, as
        `benchmarks.scoring.flops` does.
        """
        head = self.hidden * self.vocabulary if with_logits else 0
        attention = 4 * self.layers * self.heads * self.head_width * tokens * (before + tokens / 2)
        return 2 * tokens * (self.block_parameters + head) + attention


QWEN_7B = Shape("qwen2.5-7b", 3584, 28, 28, 4, 128, 18944, 152_064, False, True, 2)
SMOLLM_135M = Shape("smollm2-135m-instruct", 576, 30, 9, 3, 64, 1536, 49_152, True, False, 4)
SHIPPED = {shape.name: shape for shape in (QWEN_7B, SMOLLM_135M)}


def chosen_shape(study: str, registry: Registry, checkpoint: str | None, shape: str | None) -> Shape:
    """Return the shape given on the command line, or the default of the study.

    The default is Qwen2.5-7B for the study `published` and the embedded model for all others.

    Raises:
        CheckpointError: both `checkpoint` and `shape` are given, or the given one does not exist or is invalid.
    """
    if shape is not None and checkpoint is not None:
        raise CheckpointError(f"found both --shape {shape} and --checkpoint {checkpoint}; expected only one of them")
    if shape is not None:
        return named_shape(shape)
    if checkpoint is None and study == "published":
        return QWEN_7B
    name = checkpoint or SMOLLM_135M.name
    if name == SMOLLM_135M.name and name not in registry.names():
        return SMOLLM_135M
    return checkpoint_shape(registry.get(name))


def named_shape(name_or_path: str) -> Shape:
    """Return a built-in shape by name, or the shape of a config.json or of the directory that contains it.

    Raises:
        CheckpointError: there is no such shape or file, or a field of the file is invalid.
    """
    if name_or_path in SHIPPED:
        return SHIPPED[name_or_path]
    path = Path(name_or_path)
    file = path / "config.json" if path.is_dir() else path
    if not file.is_file():
        raise CheckpointError(f"shape {name_or_path!r}: no such file; expected a config.json or one of {list(SHIPPED)}")
    return shape_of_config(file, name_or_path)


def checkpoint_shape(checkpoint: Checkpoint) -> Shape:
    """Return the shape of a registered checkpoint; for a hub repository only config.json is downloaded.

    Raises:
        CheckpointError: the checkpoint has no weights, or its config.json is missing or invalid.
    """
    if checkpoint.hub is None:
        return shape_of_config(checkpoint.directory() / "config.json", checkpoint.name)
    import httpx2
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HFValidationError

    redact_hub_logs()
    try:
        file = hf_hub_download(checkpoint.hub, "config.json", revision=checkpoint.revision)
    except (httpx2.HTTPError, HFValidationError, OSError) as error:
        place = f"{checkpoint.name}: config.json of {checkpoint.hub} at {checkpoint.revision}"
        raise CheckpointError(redact(f"{place} could not be downloaded: {error}")) from None
    return shape_of_config(Path(file), checkpoint.name)


def shape_of_config(file: Path, name: str) -> Shape:
    """Return the shape described by a config.json.

    Args:
        name: the model's name, for display.

    Raises:
        CheckpointError: names the file, the field, what was found and what was expected.
    """
    whole = json_object(file)
    config = whole.get("text_config") or whole
    if not isinstance(config, dict):
        raise CheckpointError(f"{file}: text_config: found {shown(config)}; expected a JSON object")
    for field in EXPERTS:
        if config.get(field):
            raise CheckpointError(
                f"{file}: {field}: found {shown(config[field])}; expected a dense model, not a mixture of experts"
            )

    def size(field: str, otherwise: int | None = None) -> int:
        found: Any = config.get(field)
        if found is None and otherwise is not None:
            return otherwise
        if type(found) is not int or not 0 < found <= LARGEST_SIZE:
            raise CheckpointError(
                f"{file}: {field}: found {shown(found)}; expected a whole number from 1 to {LARGEST_SIZE}"
            )
        return found

    hidden, heads = size("hidden_size"), size("num_attention_heads")
    dtype = str(config.get("dtype") or config.get("torch_dtype") or whole.get("dtype") or "bfloat16")
    return Shape(
        name,
        hidden=hidden,
        layers=size("num_hidden_layers"),
        heads=heads,
        kv_heads=size("num_key_value_heads", heads),
        head_width=size("head_dim", hidden // heads),
        intermediate=size("intermediate_size"),
        vocabulary=size("vocab_size"),
        tied_embeddings=bool(config.get("tie_word_embeddings", False)),
        attention_bias=config.get("model_type") == "qwen2" or bool(config.get("attention_bias", False)),
        bytes_a_parameter=4 if dtype.endswith("float32") else 2,
    )
