"""Computes a decoder's parameter count, KV-cache size and FLOPs from config.json.

Exact for dense decoders of the Llama family (Llama, Mistral, Qwen2, Qwen3) and for mixtures of experts of theirs;
approximate for others with a gated MLP. `Shape.unsure` says what is only estimated.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from persona_assets.checkpoints.architecture import Architecture, architecture_of
from persona_assets.checkpoints.checkpoint import Checkpoint, CheckpointError
from persona_assets.checkpoints.json_files import json_object
from persona_assets.checkpoints.model_sizes import LARGEST_SIZE, text_config
from persona_assets.checkpoints.registry import Registry
from persona_assets.files.reading import shown
from persona_assets.files.redaction import redact, redact_hub_logs

EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
EXPERTS_USED = ("num_experts_per_tok", "experts_per_token", "moe_topk", "moe_top_k", "top_k_experts")


@dataclass(frozen=True)
class Shape:
    """Dimensions from config.json.

    Attributes:
        bytes_a_parameter: size of a parameter on disk.
        experts, experts_used: experts of a block in a mixture of experts, and how many of them compute a token; 0 for
            a dense model.
        expert_width, shared_width: intermediate sizes of one expert, and of the experts that compute every token.
        dense_layers: blocks of a mixture of experts that have a plain MLP.
        scored_whole: whether responses are scored without cached prompts; see `architecture.Architecture.batching`.
        unsure: what is only estimated, one sentence each.
    """

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
    experts: int = 0
    experts_used: int = 0
    expert_width: int = 0
    shared_width: int = 0
    dense_layers: int = 0
    scored_whole: bool = False
    unsure: tuple[str, ...] = ()

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
        """Return the number of matrix parameters in all blocks that a token is multiplied with."""
        return self._block_parameters(self.experts_used)

    @property
    def parameters(self) -> int:
        """Return the number of all parameters: blocks, embeddings, norms, and query, key and value biases."""
        biases = (self.heads + 2 * self.kv_heads) * self.head_width if self.attention_bias else 0
        embeddings = self.vocabulary * self.hidden * (1 if self.tied_embeddings else 2)
        norms = self.layers * (biases + 2 * self.hidden) + self.hidden
        return self._block_parameters(self.experts) + norms + embeddings

    @property
    def active_parameters(self) -> int:
        """Return the number of parameters that compute a token; all of them in a dense model."""
        return self.parameters - self._block_parameters(self.experts) + self.block_parameters

    def _block_parameters(self, experts: int) -> int:
        sizes = {name: rows * columns for name, (rows, columns) in self.projections.items()}
        mlp = sizes["gate_proj"] + sizes["up_proj"] + sizes["down_proj"]
        attention = sum(sizes.values()) - mlp
        if not self.experts:
            return self.layers * (attention + mlp)
        mixed = 3 * self.hidden * (experts * self.expert_width + self.shared_width) + self.hidden * self.experts
        return self.layers * attention + self.dense_layers * mlp + (self.layers - self.dense_layers) * mixed

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
# Architectures whose parameters are counted exactly.
EXACT = ("llama", "mistral", "qwen2", "qwen3", "mixtral", "qwen3_moe")
NEEDED = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
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
    if any(config.get(field) is None for field in NEEDED):  # left out because it equals a default, or named otherwise
        read = text_config(file)
        config = {**read, **{field: value for field, value in config.items() if value is not None}}

    def size(field: str, otherwise: int | None = None) -> int:
        found: Any = config.get(field)
        if found is None and otherwise is not None:
            return otherwise
        if type(found) is not int or not 0 < found <= LARGEST_SIZE:
            raise CheckpointError(
                f"{file}: {field}: found {shown(found)}; expected a whole number from 1 to {LARGEST_SIZE}"
            )
        return found

    def first(fields: tuple[str, ...], otherwise: int = 0) -> int:
        return next((size(field) for field in fields if config.get(field)), otherwise)

    hidden, heads = size("hidden_size"), size("num_attention_heads")
    dtype = str(config.get("dtype") or config.get("torch_dtype") or whole.get("dtype") or "bfloat16")
    needs, experts = architecture_of(config), first(EXPERTS)
    intermediate = size("intermediate_size", 4 * hidden)
    width = size("moe_intermediate_size", intermediate) if experts else 0
    shared = config.get("n_shared_experts")
    return Shape(
        name,
        hidden=hidden,
        layers=size("num_hidden_layers"),
        heads=heads,
        kv_heads=size("num_key_value_heads", heads),
        head_width=size("head_dim", hidden // heads),
        intermediate=intermediate,
        vocabulary=size("vocab_size"),
        tied_embeddings=bool(config.get("tie_word_embeddings", whole.get("tie_word_embeddings", False))),
        attention_bias=config.get("model_type") == "qwen2" or bool(config.get("attention_bias", False)),
        bytes_a_parameter=4 if dtype.endswith("float32") else 2,
        experts=experts,
        experts_used=min(experts, first(EXPERTS_USED, experts)),
        expert_width=width,
        shared_width=size("shared_expert_intermediate_size", shared * width if type(shared) is int else 0)
        if experts and (shared or config.get("shared_expert_intermediate_size"))
        else 0,
        dense_layers=min(size("num_hidden_layers"), first(("first_k_dense_replace",))),
        scored_whole=needs.batching == "whole",
        unsure=tuple(_unsure(config, needs, experts)),
    )


def _unsure(config: Mapping[str, Any], needs: Architecture, experts: int) -> Iterator[str]:
    if needs.batching == "whole":
        yield f"{needs.model_type}: every block is counted as full attention; memory and FLOPs are upper bounds"
    elif needs.windows:
        yield "windows: attention and cache are counted over the whole sequence, so both are upper bounds"
    if experts and (config.get("mlp_only_layers") or config.get("decoder_sparse_step", 1) != 1):
        yield "experts: blocks without experts are counted as if they had some"
    if experts:
        yield "experts: times are scaled by the active parameters from dense models; generation of few rows is slower"
    if config.get("kv_lora_rank"):
        yield "attention: latent keys and values are counted as full ones, so the cache is smaller than shown"
    if needs.model_type not in EXACT:
        yield f"{needs.model_type}: counted as a decoder with a gated MLP; the parameters may differ"
