"""Divergence of every pair of scorers on a card: the logits are read twice, and each pair costs one logarithm a token.

First pass, a row at a time: log₂ Z of each scorer's logits. Second pass, a block of tokens at a time, all pairs of up to
eleven scorers (more are cut into groups). What belongs to a scorer is made once for all its pairs: l = log₂ p and
g = √(p/ln 2) with one exponential, and s = p·(l + 1). Then with u = p + q, in units of ln 2, a token adds to 2·JS

    p·log₂ p + q·log₂ q − u·log₂(u/2)  =  s_p + s_q − u·log₂ u                                         (large differences)
    (√p − √q)²/ln 2 · (1 − O(h))       =  (g_p − g_q)²,    h = (√p − √q)²/u                            (small ones)

The first loses its digits where p ≈ q: about 1e-6·u is left of terms near 1. The second is relatively exact there: it is
the first term of JS in the squared Hellinger distance, and h/6 is the share that the next one would take off. Where √p and
√q differ by less than 4.5 % (h < 1e-3) the second stands: error below 1.7e-4 of the term, and where it is largest, 8e-8 of
JS. Above, rounding costs less than 0.5 % of a term, at random. KL is Σ p·(log p − log q) − p + q, which is flat where p = q.

float32 within a block's lane, float64 over blocks. The sums' order depends on the vocabulary's size alone: neither other
positions nor other runs change a bit.
"""

import math
import os
from itertools import combinations, product
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

# Triton's interpreter, which runs the kernels on a CPU, has no inline assembly.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
_INTERPRETED = tl.constexpr(INTERPRETED)
_BLOCK, _ROW_BLOCK, _SPLIT = 128, 4096, 16_384
# Pairs whose sums fit the registers of a program: with both KLs a pair has three sums.
_MOST_PAIRS, _MOST_PAIRS_WITH_KL = 64, 55


class _Tile(NamedTuple):
    """Programs of one shape: the scorers that each holds, and which of them are its pairs."""

    scorers: list[list[int]]
    first: tuple[int, ...]
    second: tuple[int, ...]


def pairwise(logits: Tensor, with_kl: bool) -> tuple[Tensor, Tensor | None, Tensor]:
    """JS, KL and normalisers of (K, T, V) logits.

    Returns:
        js, kl: as `metrics.divergence.pairwise_divergence` gives them; kl is finite here also where it should be +inf,
            and None if it was not asked for.
        rows: (2, K, T); log₂ Z, which is not finite where a row is no distribution, and the row's smallest logit.
    """
    if logits.stride(-1) != 1:
        logits = logits.contiguous()
    scorers, positions, vocabulary = logits.shape
    rows = torch.empty(2, scorers, positions, dtype=torch.float32, device=logits.device)
    js = torch.zeros(positions, scorers, scorers, dtype=torch.float64, device=logits.device)
    kl = torch.zeros_like(js) if with_kl else None
    if positions == 0:
        return js, kl, rows
    strides = logits.stride(0), logits.stride(1)
    _normaliser[(positions, scorers)](logits, rows, *strides, positions, vocabulary, BLOCK=_ROW_BLOCK, num_warps=8)
    splits = math.ceil(vocabulary / _SPLIT)
    width = math.ceil(vocabulary / splits / _BLOCK) * _BLOCK
    for tile in _tiles(scorers, _MOST_PAIRS_WITH_KL if with_kl else _MOST_PAIRS):
        held = torch.tensor(tile.scorers, dtype=torch.int32, device=logits.device)
        programs, pairs = len(tile.scorers), len(tile.first)
        sums = torch.empty(splits, positions, programs, 3 if with_kl else 1, pairs, device=logits.device)
        _pairs[(programs, splits, positions)](
            logits,
            rows,
            held,
            sums,
            *strides,
            positions,
            vocabulary,
            width,
            SCORERS=held.shape[1],
            FIRST=tile.first,
            SECOND=tile.second,
            WITH_KL=with_kl,
            BLOCK=_BLOCK,
            num_warps=4,
        )
        total = sums.sum(0, dtype=torch.float64)
        # A group that is not full holds its last scorer twice: what is written twice is the same.
        i, j = (held[:, list(places)].long() for places in (tile.first, tile.second))
        js[:, i, j] = js[:, j, i] = total[:, :, 0].mul(0.5 * math.log(2.0)).clamp_(0.0, math.log(2.0))
        if kl is not None:
            kl[:, i, j], kl[:, j, i] = total[:, :, 1].clamp_min(0.0), total[:, :, 2].clamp_min(0.0)
    return js, kl, rows


def _tiles(scorers: int, most: int) -> list[_Tile]:
    """All pairs of K scorers: one triangle, or groups of even size with a triangle each and a square for every two."""
    if scorers < 2:
        return []
    if scorers * (scorers - 1) // 2 <= most:
        size = scorers
    else:
        size = math.ceil(scorers / math.ceil(scorers / math.isqrt(most)))
    groups = [[min(k, scorers - 1) for k in range(start, start + size)] for start in range(0, scorers, size)]
    triangle = tuple(combinations(range(size), 2))
    square = tuple(product(range(size), range(size, 2 * size)))
    between = [one + other for one, other in combinations(groups, 2)]
    return [
        _Tile(held, *(tuple(pair[side] for pair in pairs) for side in (0, 1)))
        for held, pairs in ((groups, triangle), (between, square))
        if held and pairs
    ]


@triton.jit
def _normaliser(logits, rows, stride_k, stride_t, positions, vocabulary, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: N803
    """log₂ Z of one row, and its smallest logit."""
    t = tl.program_id(0).to(tl.int64)
    k = tl.program_id(1).to(tl.int64)
    start = logits + k * stride_k + t * stride_t
    top = -1e38
    lowest = float("inf")
    total = tl.zeros((BLOCK,), tl.float32)
    for v in range(0, vocabulary, BLOCK):
        at = v + tl.arange(0, BLOCK)
        logit = tl.load(start + at, mask=at < vocabulary, other=float("-inf")).to(tl.float32)
        lowest = tl.minimum(lowest, tl.min(tl.where(at < vocabulary, logit, float("inf"))))
        logit *= 1.4426950408889634
        peak = tl.maximum(top, tl.max(logit))
        total = total * tl.exp2(top - peak) + tl.exp2(logit - peak)
        top = peak
    row = rows + k * positions + t
    tl.store(row, top + tl.log2(tl.sum(total)))
    tl.store(row + tl.num_programs(1) * positions, lowest)


@triton.jit
def _pairs(  # type: ignore[no-untyped-def]
    logits,
    rows,
    held,
    sums,
    stride_k,
    stride_t,
    positions,
    vocabulary,
    width,
    SCORERS: tl.constexpr,  # noqa: N803
    FIRST: tl.constexpr,  # noqa: N803
    SECOND: tl.constexpr,  # noqa: N803
    WITH_KL: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr,  # noqa: N803
):
    """Sums over one part of the vocabulary at one position, for the pairs of the scorers that this program holds."""
    program = tl.program_id(0)
    split = tl.program_id(1)
    t = tl.program_id(2).to(tl.int64)
    PAIRS: tl.constexpr = len(FIRST)  # noqa: N806
    start = ()
    log_z = ()
    for r in tl.static_range(SCORERS):
        k = tl.load(held + program * SCORERS + r).to(tl.int64)
        start = start + (logits + k * stride_k + t * stride_t,)
        log_z = log_z + (tl.load(rows + k * positions + t),)
    js = ()
    forth = ()
    back = ()
    for n in tl.static_range(PAIRS):
        js = js + (tl.zeros((BLOCK,), tl.float32),)
        if WITH_KL:
            forth = forth + (tl.zeros((BLOCK,), tl.float32),)
            back = back + (tl.zeros((BLOCK,), tl.float32),)
    for v in range(split * width, tl.minimum(split * width + width, vocabulary), BLOCK):
        at = v + tl.arange(0, BLOCK)
        log_p = ()
        p = ()
        root = ()
        entropy = ()
        for r in tl.static_range(SCORERS):
            logit = tl.load(start[r] + at, mask=at < vocabulary, other=float("-inf")).to(tl.float32)
            # −inf becomes a number so large that it shows, and so small that p·log p of nothing is nothing.
            exact = tl.maximum(logit * 1.4426950408889634 - log_z[r], -1e20)
            # 2⁻¹⁰⁰ counts as no mass; it keeps u > 0.
            floored = tl.maximum(exact, -100.0)
            g = _exp2(floored * 0.5 + 0.26438318276397)  # ½·log₂(1/ln 2)
            mass = g * g * 0.6931471805599453
            log_p = log_p + (exact,)
            p = p + (mass,)
            root = root + (g,)
            entropy = entropy + (mass * (floored + 1.0),)
        for n in tl.static_range(PAIRS):
            u = p[FIRST[n]] + p[SECOND[n]]
            far = entropy[FIRST[n]] + entropy[SECOND[n]] - u * _log2(u)
            gap = root[FIRST[n]] - root[SECOND[n]]
            term = tl.where(tl.abs(gap) < 0.045 * root[FIRST[n]], gap * gap, far)
            js = js[:n] + (js[n] + term,) + js[n + 1 :]
            if WITH_KL:
                ratio = (log_p[FIRST[n]] - log_p[SECOND[n]]) * 0.6931471805599453
                more = p[SECOND[n]] - p[FIRST[n]]
                forth = forth[:n] + (forth[n] + (p[FIRST[n]] * ratio + more),) + forth[n + 1 :]
                back = back[:n] + (back[n] - (p[SECOND[n]] * ratio + more),) + back[n + 1 :]
    out = sums + ((split * positions + t) * tl.num_programs(0) + program) * (3 * PAIRS if WITH_KL else PAIRS)
    for n in tl.static_range(PAIRS):
        tl.store(out + n, tl.sum(js[n]))
        if WITH_KL:
            tl.store(out + PAIRS + n, tl.sum(forth[n]))
            tl.store(out + 2 * PAIRS + n, tl.sum(back[n]))


@triton.jit
def _exp2(x):  # type: ignore[no-untyped-def]
    if _INTERPRETED:
        y = tl.exp2(x)
    else:
        y = tl.inline_asm_elementwise("ex2.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1)
    return y


@triton.jit
def _log2(x):  # type: ignore[no-untyped-def]
    if _INTERPRETED:
        y = tl.log2(x)
    else:
        y = tl.inline_asm_elementwise("lg2.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1)
    return y
