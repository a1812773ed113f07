"""Attention among sequences that lie end to end in one row, computed by Transformers' own modules without padding.

A model that runs in the context `packed_attention` takes a `Packed` as keyword argument `packed` of its forward pass.
Transformers passes it on to the attention function registered here, which lets each sequence attend to itself and to
its own prompt only. On a GPU in 16 bits that is FlashAttention's variable-length kernel. Elsewhere, and for attention
that the kernel does not know (soft caps, sinks), sequences are computed one after another in plain PyTorch.
"""

import itertools
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AttentionInterface

from persona_assets.checkpoints.architecture import architecture_of
from persona_assets.inference.attention import attention_implementation

_NAME = "packed"
_WIDEST_HEAD = 256  # of FlashAttention's kernels
# Layers whose attention is causal, within a window or not; others need a mask that an attention function does not get.
_LAYERS = {"full_attention", "sliding_attention"}
# Options of attention functions that fused kernels do not know: soft caps and sinks.
_UNFUSED = {"softcap", "s_aux"}
# Difference of two distributions, in total variation, that rounding explains.
_ROUNDING = {torch.float32: 1e-3, torch.float16: 0.02, torch.bfloat16: 0.1}
# In a trial: positions compared at the end of each sequence, and the largest window that a sequence exceeds.
_COMPARED = 3
_LONGEST_TRIAL = {"cuda": 4096, "cpu": 256}
# What the trial of a loaded model gave.
_tried: WeakKeyDictionary[Any, str | None] = WeakKeyDictionary()


class Layout(NamedTuple):
    """Where the sequences of a row are. The keys of a sequence are those of its prompt, if that is cached, and its own.

    Attributes:
        positions: of the fed tokens within their sequences, (tokens,).
        own: rows of the keys of the fed tokens.
        before: rows of the keys of the cached prompts.
        query_ends: ends of the sequences in the row, from 0, (sequences + 1,), int32.
        key_ends: the same for the keys.
        longest: largest number of queries and of keys of a sequence.
        keys: number of all keys.
    """

    positions: Tensor
    own: Tensor
    before: Tensor
    query_ends: Tensor
    key_ends: Tensor
    longest: tuple[int, int]
    keys: int


def layout_of(lengths: Sequence[int], before: Sequence[int], device: torch.device) -> Layout:
    """Return the layout of sequences, given their numbers of fed tokens and of tokens cached before them."""
    fed, cached = torch.tensor(lengths), torch.tensor(before)
    ends = functional.pad((fed + cached).cumsum(0), (1, 0))
    starts = torch.repeat_interleave(ends[:-1], fed + cached)
    positions = torch.arange(int(ends[-1])) - starts
    is_own = positions >= torch.repeat_interleave(cached, fed + cached)
    return Layout(
        positions=positions[is_own].to(device),
        own=is_own.nonzero()[:, 0].to(device),
        before=(~is_own).nonzero()[:, 0].to(device),
        query_ends=functional.pad(fed.cumsum(0), (1, 0)).to(device, torch.int32),
        key_ends=ends.to(device, torch.int32),
        longest=(int(fed.max()), int((fed + cached).max())),
        keys=int(ends[-1]),
    )


@dataclass
class Packed:
    """A packed row, and the keys and values of cached prompts.

    Attributes:
        prompts: keys and values of the row's prompts by layer, each (tokens of the prompts, heads, width).
        kept: filled with the fed tokens' keys and values by layer, unless it is None.
    """

    layout: Layout
    prompts: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    kept: dict[int, tuple[Tensor, Tensor]] | None = None

    def with_prompts(self, module: Any, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Return a module's keys and values (keys, heads, width), each sequence's after those of its prompt."""
        if self.kept is not None:
            self.kept[module.layer_idx] = (key.contiguous(), value.contiguous())
        if not self.prompts:
            return key, value
        own, before = self.layout.own, self.layout.before
        found = tuple(
            fed.new_empty(self.layout.keys, *fed.shape[1:]).index_copy_(0, own, fed).index_copy_(0, before, cached)
            for fed, cached in zip((key, value), self.prompts[module.layer_idx], strict=True)
        )
        return found[0], found[1]


def packed_attention(model: Any) -> AbstractContextManager[None]:
    """Let a model take packed rows until the context ends; see the module docstring."""
    return attention_implementation(model, _NAME)


def why_not_packed_rows(model: Any) -> str | None:
    """Return why a model cannot compute packed rows, or None if it can; tries it once for each loaded model."""
    if model not in _tried:
        _tried[model] = why_not_packed_family(model) or _try(model)
    return _tried[model]


def why_not_packed_family(model: Any) -> str | None:
    """Return why models of this family cannot compute packed rows, or None if that is worth trying; needs no weights.

    Transformers' flash attention sees no mask either. So a model that supports it, in layers whose attention is causal
    and at most limited to a window, should tell its attention function everything.
    """
    text = model.config.get_text_config(decoder=True)
    needs = architecture_of(text.to_dict())
    if needs.batching != "padded":
        return f"{needs.model_type} has layers other than attention, or counts positions from the start of the row"
    if other := set(getattr(text, "layer_types", None) or ()) - _LAYERS:
        return f"its layers are of type {', '.join(sorted(other))}"
    if not (model._supports_attention_backend and model._supports_flash_attn):
        return f"the attention of {needs.model_type} in Transformers cannot be replaced"
    return None


@torch.no_grad()
def _try(model: Any) -> str | None:
    """Compare two sequences in one row, whose first halves are cached, with each of them alone."""
    text, training = model.config.get_text_config(decoder=True), model.training
    windows = architecture_of(text.to_dict()).windows
    window = min(getattr(text, "sliding_window", None) or 0, _LONGEST_TRIAL[model.device.type]) if windows else 0
    rows = [(torch.arange(length, device=model.device) % 100 + 10)[None] for length in (window + 16, 6)]
    ends = [row.tensor_split([row.shape[1] // 2], dim=1) for row in rows]
    first, second = (torch.cat(part, dim=1) for part in zip(*ends, strict=True))
    before, after = ([part.shape[1] for part in parts] for parts in zip(*ends, strict=True))
    compared = torch.cat([end - torch.arange(_COMPARED, 0, -1) for end in torch.tensor(after).cumsum(0)])

    def probabilities(ids: Tensor, kept: Any, **packed: Any) -> Tensor:
        logits: Tensor = model(input_ids=ids, use_cache=False, logits_to_keep=kept, **packed).logits[0]
        return logits.float().softmax(-1)

    def feed(ids: Tensor, kept: Any, packed: Packed) -> Tensor:
        return probabilities(ids, kept, position_ids=packed.layout.positions[None], packed=packed)

    model.eval()
    try:
        with packed_attention(model):
            prompts = Packed(layout_of(before, [0, 0], model.device), kept={})
            feed(first, 1, prompts)
            responses = Packed(layout_of(after, before, model.device), prompts.kept or {})
            together = feed(second, compared.to(model.device), responses)
        alone = torch.cat([probabilities(row, _COMPARED) for row in rows])
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever a family does with an argument that it does not know
        return f"packed rows failed: {error}"
    finally:
        model.train(training)
    gap = 0.5 * (together - alone).abs().sum(-1).mean()
    if not gap <= _ROUNDING[model.dtype]:
        return f"packed rows give other probabilities than each sequence alone: {gap:.2g} in total variation"
    return None


def attend_packed(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: Layout,
    scale: float | None = None,
    window: int | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Return causal attention within each sequence: a query sees the keys of its sequence up to its own position.

    Args:
        query: (tokens, heads, head width).
        key, value: (keys, heads, head width).
        scale: of the attention logits; one over the root of the head width by default.
        window: number of keys that a query sees at most, its own included.
    """
    width, of_values = query.shape[-1], value.shape[-1]
    if not query.is_cuda or query.dtype == torch.float32 or width > _WIDEST_HEAD:
        attended = list[Tensor]()
        for q, k, v in _sequences(query, key, value, layout):
            causal = len(q) == len(k) and (window is None or len(k) <= window)
            one = functional.scaled_dot_product_attention(
                q.transpose(0, 1)[None],
                k.transpose(0, 1)[None],
                v.transpose(0, 1)[None],
                attn_mask=None if causal else _seen(len(q), len(k), window, q.device),
                dropout_p=dropout,
                is_causal=causal,
                scale=scale,
                enable_gqa=q.shape[1] != k.shape[1],
            )
            attended.append(one[0].transpose(0, 1))
        return torch.cat(attended)
    # torch.nn.attention.varlen calls this operator; its own signature has changed in every version so far.
    flash: Tensor = torch.ops.aten._flash_attention_forward(
        query,
        key,
        functional.pad(value, (0, width - of_values)) if of_values < width else value,
        layout.query_ends,
        layout.key_ends,
        *layout.longest,
        dropout,
        True,
        False,
        scale=scale,
        window_size_left=None if window is None else window - 1,
        window_size_right=None if window is None else 0,
    )[0]
    return flash[..., :of_values]


def _sequences(query: Tensor, key: Tensor, value: Tensor, layout: Layout) -> list[tuple[Tensor, Tensor, Tensor]]:
    ends = zip(*(itertools.pairwise(each.tolist()) for each in (layout.query_ends, layout.key_ends)), strict=True)
    return [(query[q0:q1], key[k0:k1], value[k0:k1]) for (q0, q1), (k0, k1) in ends]


def _seen(queries: int, keys: int, window: int | None, device: torch.device) -> Tensor:
    """Return which keys each of the last `queries` positions of a sequence sees, (queries, keys)."""
    seen = torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)
    return seen if window is None else seen.triu(keys - queries - window + 1)


def _attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    packed: Packed | None = None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attend within the sequences of a row; (1, heads, tokens, width) → (1, tokens, heads, width)."""
    if packed is None or attention_mask is not None or not getattr(module, "is_causal", True):
        raise NotImplementedError(f"{type(module).__name__} does not pass packed rows on to its attention")
    query, key, value = (states[0].transpose(0, 1) for states in (query, key, value))
    key, value = packed.with_prompts(module, key, value)
    other = {name: option for name, option in options.items() if name in _UNFUSED and option is not None}
    if not other:
        return attend_packed(query, key, value, packed.layout, scaling, sliding_window, dropout)[None], None
    # Soft caps and sinks: the family's own plain attention, one sequence after another.
    plain = sys.modules[type(module).__module__].eager_attention_forward
    attended = []
    for parts in _sequences(query, key, value, packed.layout):
        rows = [each.transpose(0, 1)[None] for each in parts]
        seen = _seen(len(parts[0]), len(parts[1]), sliding_window, query.device)
        mask = torch.zeros_like(seen, dtype=query.dtype).masked_fill(~seen, torch.finfo(query.dtype).min)
        attended.append(plain(module, *rows, mask[None, None], scaling=scaling, dropout=dropout, **other)[0])
    return torch.cat(attended, dim=1), None


# Where blocks are compiled, this is left out: on an H200, that compiled faster and ran as fast as with it.
AttentionInterface.register(_NAME, torch.compiler.disable(_attend))  # type: ignore[no-untyped-call]
