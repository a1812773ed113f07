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
from functools import cache
from itertools import combinations, product
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

# Triton's interpreter, which runs the kernels on a CPU, has no inline assembly.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
_INTERPRETED = tl.constexpr(INTERPRETED)
# A warp is a program of its own: nothing waits for anything, and registers decide how many are in flight.
_BLOCK, _WARPS = 32, 1
_ROW_BLOCK, _ROW_WARPS = 2048, 4
# Tokens of the vocabulary that a program sums in float32.
_SPLIT = 16_384
# Pairs whose sums, one for JS and two for KL, fit the registers of a program.
_MOST_JS, _MOST_KL = 64, 64


class _Tile(NamedTuple):
    """Programs of one shape: the scorers that each holds, and which two of them make each of its pairs."""

    scorers: Tensor  # (programs, scorers), int32
    first: tuple[int, ...]
    second: tuple[int, ...]
    forth: Tensor  # (programs × pairs), place of (first, second) in a flat K×K matrix
    back: Tensor  # of (second, first)


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
    js = torch.zeros(positions, scorers * scorers, dtype=torch.float64, device=logits.device)
    kl = torch.zeros_like(js) if with_kl else None
    splits = math.ceil(vocabulary / _SPLIT)
    width = math.ceil(vocabulary / splits / _BLOCK) * _BLOCK
    at = (logits.stride(0), logits.stride(1), positions, vocabulary)
    if positions:
        _normaliser[(positions, scorers)](logits, rows, *at, BLOCK=_ROW_BLOCK, num_warps=_ROW_WARPS)
    for matrix, kernel, each, most in ((js, _js_pairs, 1, _MOST_JS), (kl, _kl_pairs, 2, _MOST_KL)):
        for tile in _tiles(scorers, most, logits.device) if matrix is not None and positions else ():
            (programs, held), pairs = tile.scorers.shape, len(tile.first)
            shape = {"SCORERS": held, "FIRST": tile.first, "SECOND": tile.second, "BLOCK": _BLOCK, "num_warps": _WARPS}
            sums = torch.empty(splits, positions, programs, each, pairs, device=logits.device)
            kernel[(programs, splits, positions)](logits, rows, tile.scorers, sums, *at, width, **shape)
            total = sums.sum(0, dtype=torch.float64).movedim(2, 0).flatten(2)
            # Where a group is not full its last scorer stands twice: what is written twice is the same.
            matrix[:, tile.forth], matrix[:, tile.back] = total[0], total[-1]
    js.mul_(0.5 * math.log(2.0)).clamp_(0.0, math.log(2.0))
    square = (positions, scorers, scorers)
    return js.view(square), None if kl is None else kl.clamp_min_(0.0).view(square), rows


@cache
def _tiles(scorers: int, most: int, device: torch.device) -> list[_Tile]:
    """All pairs of K scorers: one triangle, or groups of even size with a triangle each and a square for every two."""
    size = scorers
    if scorers * (scorers - 1) // 2 > most:
        size = math.ceil(scorers / math.ceil(scorers / math.isqrt(most)))
    groups = [[min(k, scorers - 1) for k in range(start, start + size)] for start in range(0, scorers, size)]
    triangle = list(combinations(range(size), 2))
    square = list(product(range(size), range(size, 2 * size)))
    tiles = []
    for held, pairs in ((groups, triangle), ([one + other for one, other in combinations(groups, 2)], square)):
        if held and pairs:
            each = torch.tensor(held, dtype=torch.int32, device=device)
            first, second = (tuple(pair[side] for pair in pairs) for side in (0, 1))
            i, j = each[:, list(first)].long().flatten(), each[:, list(second)].long().flatten()
            tiles.append(_Tile(each, first, second, i * scorers + j, j * scorers + i))
    return tiles


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
def _js_pairs(  # type: ignore[no-untyped-def]
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
    BLOCK: tl.constexpr,  # noqa: N803
):
    """2·JS/ln 2 over one part of the vocabulary at one position, for the pairs of the scorers that a program holds."""
    PAIRS: tl.constexpr = len(FIRST)  # noqa: N806
    start, log_z = _held_rows(logits, rows, held, stride_k, stride_t, positions, SCORERS)
    js = ()
    for n in tl.static_range(PAIRS):
        js = js + (tl.zeros((BLOCK,), tl.float32),)
    begin = tl.program_id(1) * width
    end = tl.minimum(begin + width, vocabulary)
    ahead = _loaded(start, begin, end, SCORERS, BLOCK)
    for v in range(begin, end, BLOCK):
        logit = ahead
        ahead = _loaded(start, v + BLOCK, end, SCORERS, BLOCK)  # while the pairs of this block are computed
        p = ()
        root = ()
        entropy = ()
        for r in tl.static_range(SCORERS):
            # 2⁻¹⁰⁰ counts as no mass; it keeps u > 0.
            log_p = tl.maximum(logit[r].to(tl.float32) * 1.4426950408889634 - log_z[r], -100.0)
            g = _exp2(log_p * 0.5 + 0.26438318276397)  # ½·log₂(1/ln 2)
            mass = g * g * 0.6931471805599453
            p = p + (mass,)
            root = root + (g,)
            entropy = entropy + (mass * (log_p + 1.0),)
        for n in tl.static_range(PAIRS):
            u = p[FIRST[n]] + p[SECOND[n]]
            far = entropy[FIRST[n]] + entropy[SECOND[n]] - u * _log2(u)
            gap = root[FIRST[n]] - root[SECOND[n]]
            term = tl.where(tl.abs(gap) < 0.045 * root[FIRST[n]], gap * gap, far)
            js = js[:n] + (js[n] + term,) + js[n + 1 :]
    out = sums + _sums_at(positions) * PAIRS
    for n in tl.static_range(PAIRS):
        tl.store(out + n, tl.sum(js[n]))


@triton.jit
def _kl_pairs(  # type: ignore[no-untyped-def]
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
    BLOCK: tl.constexpr,  # noqa: N803
):
    """KL(first‖second), then KL(second‖first), of each pair; otherwise as `_js_pairs`."""
    PAIRS: tl.constexpr = len(FIRST)  # noqa: N806
    start, log_z = _held_rows(logits, rows, held, stride_k, stride_t, positions, SCORERS)
    forth = ()
    back = ()
    for n in tl.static_range(PAIRS):
        forth = forth + (tl.zeros((BLOCK,), tl.float32),)
        back = back + (tl.zeros((BLOCK,), tl.float32),)
    begin = tl.program_id(1) * width
    end = tl.minimum(begin + width, vocabulary)
    ahead = _loaded(start, begin, end, SCORERS, BLOCK)
    for v in range(begin, end, BLOCK):
        logit = ahead
        ahead = _loaded(start, v + BLOCK, end, SCORERS, BLOCK)
        p = ()
        log_p = ()
        for r in tl.static_range(SCORERS):
            # −inf becomes a number so large that it shows in KL, and whose product with no mass is still nothing.
            of_two = tl.maximum(logit[r].to(tl.float32) * 1.4426950408889634 - log_z[r], -1e20)
            p = p + (_exp2(of_two),)
            log_p = log_p + (of_two * 0.6931471805599453,)
        for n in tl.static_range(PAIRS):
            ratio = log_p[FIRST[n]] - log_p[SECOND[n]]
            more = p[SECOND[n]] - p[FIRST[n]]
            forth = forth[:n] + (forth[n] + (p[FIRST[n]] * ratio + more),) + forth[n + 1 :]
            back = back[:n] + (back[n] - (p[SECOND[n]] * ratio + more),) + back[n + 1 :]
    out = sums + _sums_at(positions) * (2 * PAIRS)
    for n in tl.static_range(PAIRS):
        tl.store(out + n, tl.sum(forth[n]))
        tl.store(out + PAIRS + n, tl.sum(back[n]))


@triton.jit
def _held_rows(logits, rows, held, stride_k, stride_t, positions, SCORERS: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: N803
    """Where the logits of a program's scorers start, and their log₂ Z."""
    t = tl.program_id(2).to(tl.int64)
    start = ()
    log_z = ()
    for r in tl.static_range(SCORERS):
        k = tl.load(held + tl.program_id(0) * SCORERS + r).to(tl.int64)
        start = start + (logits + k * stride_k + t * stride_t,)
        log_z = log_z + (tl.load(rows + k * positions + t),)
    return start, log_z


@triton.jit
def _loaded(start, v, end, SCORERS: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: N803
    at = v + tl.arange(0, BLOCK)
    block = ()
    for r in tl.static_range(SCORERS):
        block = block + (tl.load(start[r] + at, mask=at < end, other=float("-inf")),)
    return block


@triton.jit
def _sums_at(positions):  # type: ignore[no-untyped-def]
    """This program's place among (splits, positions, programs)."""
    return (tl.program_id(1).to(tl.int64) * positions + tl.program_id(2)) * tl.num_programs(0) + tl.program_id(0)


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
