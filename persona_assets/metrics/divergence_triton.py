"""Triton kernels for the divergence of every pair of scorers: logits are read twice, one logarithm per pair and token.

The first pass takes one row at a time and computes each scorer's largest logit, and log₂ Z of the logits minus that
maximum. Both are small where the mass is, so large logits (100, say) lose no precision. The second pass takes one block
of tokens at a time and all pairs of up to eleven scorers (more scorers are split into groups). Per-scorer values are
computed once for all pairs: l = log₂ p and g = √(p/ln 2) with one exponential, and s = p·(l + 1). With u = p + q, a
token adds to 2·JS, in units of ln 2,

    p·log₂ p + q·log₂ q − u·log₂(u/2)  =  s_p + s_q − u·log₂ u                        where p and q are far apart
    (√p − √q)²/ln 2 · (1 − O(h))       =  (g_p − g_q)²,    h = (√p − √q)²/u           where they are near

The first form cancels where p ≈ q: its absolute error is about 1e-6·u. The second has a small relative error there. It
is the first term of the expansion of JS in the squared Hellinger distance; the next term would reduce it by a fraction
of h/6. It is used where √p and √q differ by less than 4.5 % (h < 1e-3), where its error is below 1.7e-4 of the term and
8e-8 in JS. Elsewhere, rounding changes a term by less than 0.5 %, with random sign. KL is
Σ p·(log p − log q) − p + q, which is flat at p = q.

Sums are float32 within a part of the vocabulary and float64 over the parts, in an order that depends only on the
vocabulary's size, so results are bit-identical across runs and do not depend on other positions.
"""

import math
import os
from functools import cache
from itertools import combinations, product
from threading import Thread
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

# Triton's interpreter, which runs the kernels on a CPU, does not support inline assembly.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
_INTERPRETED = tl.constexpr(INTERPRETED)
# One warp per program: warps never wait for each other, and registers limit how many run at once. The next block's
# logits are loaded while the pairs of the current block are computed.
_BLOCK, _ROW_BLOCK = 32, 1024
# Fused multiply-add is set explicitly because Triton's default changes between versions.
_OPTIONS = {"num_warps": 1, "enable_fp_fusion": True}
# Tokens of the vocabulary that a program sums in float32.
_SPLIT = 4096
# Masses are scaled by 2⁴, which makes the logarithms of common and rare tokens similar in magnitude. The error of the
# approximate logarithm grows with that magnitude and is thereby halved.
_SCALE = 2.0**4
# The most pairs per program whose sums (one for JS, two for KL) fit in registers.
_MOST_PAIRS = 64


# These arguments are not specialised, so one compilation serves every number of positions.
_kernel = triton.jit(do_not_specialize=["positions", "width", "all_pairs", "place", "splits", "scorers", "sums_a_pair"])


class _Tile(NamedTuple):
    """Programs of one shape: the scorers that each program loads, and the two scorers of each of its pairs."""

    held: Tensor  # (programs, scorers), int32
    first: tuple[int, ...]
    second: tuple[int, ...]
    place: int  # index of its first pair among all pairs of all tiles


class _Tiling(NamedTuple):
    tiles: list[_Tile]
    pairs: int
    place: Tensor  # (K, K), int32: index of the pair (i, j); −1 if only (j, i) is stored, or neither


def pairwise(
    logits: Tensor, with_kl: bool, among: tuple[int, ...] | None = None
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Return JS, KL and normalisers of (K, T, V) logits.

    `among`: indices of scorers; pairs that include none of them may be skipped, and are then 0.

    Returns:
        js, kl: as in `metrics.divergence.pairwise_divergence`, except that kl is finite where it should be +inf, and
            None if it was not requested.
        rows: (3, K, T): log₂ Z relative to the largest logit, not finite if the row does not define a distribution; the
            smaller of 0 and the row's smallest logit; the row's largest logit.
    """
    if logits.stride(-1) != 1:
        logits = logits.contiguous()
    rows = _rows(logits)
    return _js(logits, rows, among), _kl(logits, rows, among) if with_kl else None, rows


def compile_ahead(scorers: int, vocabulary: int, dtype: torch.dtype, device: torch.device) -> list[Thread]:
    """Start compiling the kernels that `pairwise` needs, or reading them from Triton's cache, one thread per kernel."""
    logits = torch.zeros(scorers, 1, vocabulary, dtype=dtype, device=device)
    rows = torch.zeros(3, scorers, 1, dtype=torch.float32, device=device)
    triton.runtime.driver.active.get_current_target()  # its lazy initialisation is not thread-safe
    threads = [
        Thread(target=work, args=arguments, daemon=True)
        for work, arguments in ((_js, (logits, rows)), (_kl, (logits, rows)), (_rows, (logits,)))
    ]
    for thread in threads:
        thread.start()
    return threads


def _rows(logits: Tensor) -> Tensor:
    """Return the `rows` of `pairwise` for (K, T, V) logits."""
    scorers, positions, vocabulary = logits.shape
    rows = torch.empty(3, scorers, positions, dtype=torch.float32, device=logits.device)
    if positions:
        at = (logits.stride(0), logits.stride(1), positions, vocabulary)
        _normaliser[(positions, scorers)](logits, rows, *at, BLOCK=_ROW_BLOCK, **_OPTIONS)
    return rows


def _js(logits: Tensor, rows: Tensor, among: tuple[int, ...] | None = None) -> Tensor:
    tiling = _tiling(logits.shape[0], logits.device, among)
    return _matrix(_js_pairs, logits, rows, tiling, 1, 0.5 * math.log(2.0) / _SCALE, math.log(2.0))


def _kl(logits: Tensor, rows: Tensor, among: tuple[int, ...] | None = None) -> Tensor:
    return _matrix(_kl_pairs, logits, rows, _tiling(logits.shape[0], logits.device, among), 2, 1.0, math.inf)


def _matrix(
    kernel: Any, logits: Tensor, rows: Tensor, tiling: _Tiling, sums_a_pair: int, scale: float, top: float
) -> Tensor:
    """Return (T, K, K): the sum that `kernel` computes for each pair, times `scale` and clipped at `top`."""
    scorers, positions, vocabulary = logits.shape
    result = torch.zeros(positions, scorers, scorers, dtype=torch.float64, device=logits.device)
    if not (positions and tiling.tiles):
        return result
    splits = math.ceil(vocabulary / _SPLIT)
    width = math.ceil(vocabulary / splits / _BLOCK) * _BLOCK
    sums = torch.empty(splits, positions, sums_a_pair, tiling.pairs, device=logits.device)
    for tile in tiling.tiles:
        kernel[(len(tile.held), splits, positions)](
            logits,
            rows,
            tile.held,
            sums,
            scorers,
            logits.stride(0),
            logits.stride(1),
            positions,
            vocabulary,
            width,
            tiling.pairs,
            tile.place,
            SCORERS=tile.held.shape[1],
            FIRST=tile.first,
            SECOND=tile.second,
            BLOCK=_BLOCK,
            **_OPTIONS,
        )
    _finish[(positions, triton.cdiv(scorers * scorers, 128))](
        sums, tiling.place, result, splits, positions, scorers, sums_a_pair, tiling.pairs, scale, top, BLOCK=128
    )
    return result


@cache
def _tiling(scorers: int, device: torch.device, among: tuple[int, ...] | None = None) -> _Tiling:
    """Tile all pairs of K scorers: one triangle, or equal groups with a triangle each and a square for every two.

    With `among`, these scorers form the first groups, and tiles of other groups are left out.
    """
    size = scorers
    if scorers * (scorers - 1) // 2 > _MOST_PAIRS:
        size = math.ceil(scorers / math.ceil(scorers / math.isqrt(_MOST_PAIRS)))
    order = list(range(scorers)) if among is None else sorted(range(scorers), key=lambda k: (k not in among, k))
    # A group that is not full repeats the last scorer.
    groups = [[order[min(k, scorers - 1)] for k in range(start, start + size)] for start in range(0, scorers, size)]
    wanted = len(groups) if among is None else math.ceil(len(among) / size)
    triangle = list(combinations(range(size), 2))
    square = list(product(range(size), range(size, 2 * size)))
    tiles, pairs = list[_Tile](), 0
    table = torch.full((scorers, scorers), -1, dtype=torch.int32)
    squares = [
        one + groups[later] for place, one in enumerate(groups[:wanted]) for later in range(place + 1, len(groups))
    ]
    for held, local in ((groups[:wanted], triangle), (squares, square)):
        if held and local:
            each = torch.tensor(held, dtype=torch.int32)
            first, second = (tuple(pair[side] for pair in local) for side in (0, 1))
            i, j = each[:, list(first)].long(), each[:, list(second)].long()
            table[i, j] = torch.arange(pairs, pairs + i.numel(), dtype=torch.int32).view_as(i)
            tiles.append(_Tile(each.to(device), first, second, pairs))
            pairs += i.numel()
    return _Tiling(tiles, pairs, table.to(device))


@_kernel
def _normaliser(logits, rows, stride_k, stride_t, positions, vocabulary, BLOCK: tl.constexpr):
    """Store log₂ Z of one row minus its maximum, the smaller of 0 and its smallest logit, and its maximum."""
    t = tl.program_id(0).to(tl.int64)
    k = tl.program_id(1).to(tl.int64)
    start = logits + k * stride_k + t * stride_t
    # Padding for reads past the end: it has no mass, but unlike −inf it does not count as a token of probability 0.
    nothing = -65504.0 if logits.dtype.element_ty == tl.float16 else -1e30
    top = -1e38
    lowest = 0.0
    total = tl.zeros((BLOCK,), tl.float32)
    at = tl.arange(0, BLOCK)
    ahead = tl.load(start + at, mask=at < vocabulary, other=nothing)
    for v in range(0, vocabulary, BLOCK):
        logit = ahead.to(tl.float32)
        ahead = tl.load(start + v + BLOCK + at, mask=v + BLOCK + at < vocabulary, other=nothing)
        lowest = tl.minimum(lowest, tl.min(logit))
        peak = tl.maximum(top, tl.max(logit))
        # Subtract before multiplying: after fusing, the compiler would subtract a differently rounded product.
        total = total * tl.exp2((top - peak) * 1.4426950408889634) + tl.exp2((logit - peak) * 1.4426950408889634)
        top = peak
    row = rows + k * positions + t
    tl.store(row, tl.where(top <= nothing, float("-inf"), tl.log2(tl.sum(total))))
    tl.store(row + tl.num_programs(1) * positions, lowest)
    tl.store(row + 2 * tl.num_programs(1) * positions, top)


@_kernel
def _js_pairs(
    logits,
    rows,
    held,
    sums,
    scorers,
    stride_k,
    stride_t,
    positions,
    vocabulary,
    width,
    all_pairs,
    place,
    SCORERS: tl.constexpr,
    FIRST: tl.constexpr,
    SECOND: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Store 2·JS/ln 2 over one part of the vocabulary at one position, for the pairs of this program's scorers."""
    PAIRS: tl.constexpr = len(FIRST)
    t = tl.program_id(2).to(tl.int64)
    start, top, log_z = _held_rows(logits, rows, held, scorers, stride_k, stride_t, positions, t, SCORERS)
    js = ()
    for _ in tl.static_range(PAIRS):
        js = js + (tl.zeros((BLOCK,), tl.float32),)
    begin = tl.program_id(1) * width
    end = tl.minimum(begin + width, vocabulary)
    ahead = _loaded(start, begin, end, SCORERS, BLOCK)
    for v in range(begin, end, BLOCK):
        logit = ahead
        ahead = _loaded(start, v + BLOCK, end, SCORERS, BLOCK)
        p = ()
        root = ()
        entropy = ()
        for r in tl.static_range(SCORERS):
            # Probabilities are at least 2⁻¹⁰⁰, which is negligible and keeps u > 0.
            log_p = tl.maximum((logit[r].to(tl.float32) - top[r]) * 1.4426950408889634 - log_z[r], -100.0)
            g = _exp2(log_p * 0.5 + 2.26438318276397)  # ½·log₂(2⁴/ln 2)
            mass = g * g * 0.6931471805599453
            p = p + (mass,)
            root = root + (g,)
            entropy = entropy + (mass * (log_p + 5.0),)
        for n in tl.static_range(PAIRS):
            u = p[FIRST[n]] + p[SECOND[n]]
            far = entropy[FIRST[n]] + entropy[SECOND[n]] - u * _log2(u)
            gap = root[FIRST[n]] - root[SECOND[n]]
            term = tl.where(tl.abs(gap) < 0.045 * root[FIRST[n]], gap * gap, far)
            js = js[:n] + (js[n] + term,) + js[n + 1 :]
    out = sums + (tl.program_id(1).to(tl.int64) * positions + t) * all_pairs
    for n in tl.static_range(PAIRS):
        tl.store(out + place + tl.program_id(0) * PAIRS + n, tl.sum(js[n]))


@_kernel
def _kl_pairs(
    logits,
    rows,
    held,
    sums,
    scorers,
    stride_k,
    stride_t,
    positions,
    vocabulary,
    width,
    all_pairs,
    place,
    SCORERS: tl.constexpr,
    FIRST: tl.constexpr,
    SECOND: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Store KL(first‖second), then KL(second‖first), of each pair; otherwise as `_js_pairs`."""
    PAIRS: tl.constexpr = len(FIRST)
    t = tl.program_id(2).to(tl.int64)
    start, top, log_z = _held_rows(logits, rows, held, scorers, stride_k, stride_t, positions, t, SCORERS)
    forth = ()
    back = ()
    for _ in tl.static_range(PAIRS):
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
            # −inf becomes a finite number that dominates KL but gives 0 when multiplied by a mass of 0.
            of_two = tl.maximum((logit[r].to(tl.float32) - top[r]) * 1.4426950408889634 - log_z[r], -1e20)
            p = p + (_exp2(of_two),)
            log_p = log_p + (of_two * 0.6931471805599453,)
        for n in tl.static_range(PAIRS):
            ratio = log_p[FIRST[n]] - log_p[SECOND[n]]
            more = p[SECOND[n]] - p[FIRST[n]]
            forth = forth[:n] + (forth[n] + (p[FIRST[n]] * ratio + more),) + forth[n + 1 :]
            back = back[:n] + (back[n] - (p[SECOND[n]] * ratio + more),) + back[n + 1 :]
    out = sums + (tl.program_id(1).to(tl.int64) * positions + t) * (2 * all_pairs)
    for n in tl.static_range(PAIRS):
        tl.store(out + place + tl.program_id(0) * PAIRS + n, tl.sum(forth[n]))
        tl.store(out + all_pairs + place + tl.program_id(0) * PAIRS + n, tl.sum(back[n]))


@_kernel
def _finish(
    sums,
    place,
    result,
    splits,
    positions,
    scorers,
    sums_a_pair,
    all_pairs,
    scale,
    top,
    BLOCK: tl.constexpr,
):
    """Sum over the parts of the vocabulary in float64, into one K×K matrix per position."""
    t = tl.program_id(0).to(tl.int64)
    cell = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = cell < scorers * scorers
    i = cell // scorers
    j = cell % scorers
    # Each pair is stored once, as (i, j) or (j, i); if it has two sums, the second is for the opposite direction.
    forth = tl.load(place + cell, mask=inside & (i != j), other=-1)
    back = tl.load(place + j * scorers + i, mask=inside & (i != j), other=-1)
    slot = tl.where(forth >= 0, forth, tl.where(sums_a_pair > 1, back + all_pairs, back))
    known = inside & ((forth >= 0) | (back >= 0))
    total = tl.zeros((BLOCK,), tl.float64)
    for split in range(splits):
        row = sums + (split * positions + t) * sums_a_pair * all_pairs
        total += tl.load(row + slot, mask=known, other=0.0).to(tl.float64)
    # NaN stays NaN: the caller raises an error for rows that do not define a distribution.
    total = tl.where(total < 0.0, 0.0, tl.where(total * scale > top, top, total * scale))
    tl.store(result + t * scorers * scorers + cell, total, mask=inside)


@triton.jit
def _held_rows(logits, rows, held, scorers, stride_k, stride_t, positions, t, SCORERS: tl.constexpr):
    """Return the start of the logits, their maximum, and log₂ Z relative to it, for each of a program's scorers."""
    start = ()
    top = ()
    log_z = ()
    for r in tl.static_range(SCORERS):
        k = tl.load(held + tl.program_id(0) * SCORERS + r).to(tl.int64)
        start = start + (logits + k * stride_k + t * stride_t,)
        log_z = log_z + (tl.load(rows + k * positions + t),)
        top = top + (tl.load(rows + (2 * scorers + k) * positions + t),)
    return start, top, log_z


@triton.jit
def _loaded(start, v, end, SCORERS: tl.constexpr, BLOCK: tl.constexpr):
    """Load the scorers' logits of a block; without a mask, even a redundant one, the loads were scheduled too late."""
    at = v + tl.arange(0, BLOCK)
    block = ()
    for r in tl.static_range(SCORERS):
        block = block + (tl.load(start[r] + at, mask=at < end, other=float("-inf")),)
    return block


@triton.jit
def _exp2(x):
    if _INTERPRETED:
        y = tl.exp2(x)
    else:
        y = tl.inline_asm_elementwise("ex2.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1)
    return y


@triton.jit
def _log2(x):
    if _INTERPRETED:
        y = tl.log2(x)
    else:
        y = tl.inline_asm_elementwise("lg2.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1)
    return y
