"""Triton kernels for the norm, rotary embedding and MLP gate of a decoder block, each one pass over memory.

They round where the Transformers modules round (the normalised state before the weight, each product of the rotation,
SiLU before the gate), so that a 16-bit model gives the same numbers.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor


def norm(hidden: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """Return the root-mean-square norm of `hidden` (rows, width), multiplied by `weight` (width)."""
    out = torch.empty_like(hidden)
    width = hidden.shape[1]
    _norm[(len(hidden),)](
        hidden, weight, out, hidden.stride(0), width, epsilon, BLOCK=triton.next_power_of_2(width), num_warps=8
    )
    return out


def rotate(qkv: Tensor, cos: Tensor, sin: Tensor, states: Tensor, rows: Tensor, heads: int) -> Tensor:
    """Return the rotated queries (tokens, heads, width); write the rotated keys and the values to `states`.

    Args:
        qkv: (tokens, heads + 2·kv_heads, width).
        cos, sin: (tokens, width), with two equal halves.
        states: output for keys and values, (2, ·, kv_heads, width), of which `rows` are written.
    """
    tokens, every, width = qkv.shape
    query = qkv.new_empty(tokens, heads, width)
    _rotate[(tokens, triton.cdiv(every, 8))](
        qkv,
        cos,
        sin,
        rows,
        query,
        states,
        states.stride(0),
        heads,
        states.shape[2],
        HEADS=8,
        HALF=width // 2,
        HALF_BLOCK=triton.next_power_of_2(width // 2),
        num_warps=2,
    )
    return query


def gate(gate_up: Tensor) -> Tensor:
    """Return SiLU(gate)·up, given the concatenation of gate and up (tokens, 2·width)."""
    tokens, both = gate_up.shape
    out = gate_up.new_empty(tokens, both // 2)
    _gate[(tokens, triton.cdiv(both // 2, 2048))](gate_up, out, both // 2, BLOCK=2048, num_warps=8)
    return out


@triton.jit
def _norm(hidden, weight, out, stride, width, epsilon, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    inside = at < width
    wide = tl.load(hidden + row * stride + at, mask=inside, other=0.0).to(tl.float32)
    scale = tl.rsqrt(tl.sum(wide * wide) / width + epsilon)
    normed = _round(wide * scale, out) * tl.load(weight + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * width + at, normed, mask=inside)


@triton.jit
def _rotate(
    qkv,
    cos,
    sin,
    rows,
    query,
    states,
    values_at,
    heads,
    kv_heads,
    HEADS: tl.constexpr,
    HALF: tl.constexpr,
    HALF_BLOCK: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64)
    row = tl.load(rows + token)
    head = (tl.program_id(1) * HEADS + tl.arange(0, HEADS))[:, None]
    at = tl.arange(0, HALF_BLOCK)[None, :]
    inside = (head < heads + 2 * kv_heads) & (at < HALF)
    source = qkv + (token * (heads + 2 * kv_heads) + head) * (2 * HALF) + at
    first = tl.load(source, mask=inside, other=0.0).to(tl.float32)
    second = tl.load(source + HALF, mask=inside, other=0.0).to(tl.float32)
    c = tl.load(cos + token * (2 * HALF) + at, mask=at < HALF, other=0.0).to(tl.float32)
    s = tl.load(sin + token * (2 * HALF) + at, mask=at < HALF, other=0.0).to(tl.float32)
    turned_first = _round(first * c, query) - _round(second * s, query)
    turned_second = _round(second * c, query) + _round(first * s, query)
    is_query = inside & (head < heads)
    is_key = inside & (head >= heads) & (head < heads + kv_heads)
    is_value = inside & (head >= heads + kv_heads)
    to_query = query + (token * heads + head) * (2 * HALF) + at
    tl.store(to_query, turned_first, mask=is_query)
    tl.store(to_query + HALF, turned_second, mask=is_query)
    to_key = states + (row * kv_heads + head - heads) * (2 * HALF) + at
    tl.store(to_key, turned_first, mask=is_key)
    tl.store(to_key + HALF, turned_second, mask=is_key)
    to_value = states + values_at + (row * kv_heads + head - heads - kv_heads) * (2 * HALF) + at
    tl.store(to_value, first, mask=is_value)
    tl.store(to_value + HALF, second, mask=is_value)


@triton.jit
def _gate(gate_up, out, width, BLOCK: tl.constexpr):
    token = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < width
    gates = tl.load(gate_up + token * (2 * width) + at, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(gate_up + token * (2 * width) + width + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + token * width + at, _round(gates / (1.0 + tl.exp(-gates)), out) * up, mask=inside)


@triton.jit
def _round(wide, like):
    """Round to the dtype that `like` points to, and return as float32."""
    return wide.to(like.dtype.element_ty).to(tl.float32)
