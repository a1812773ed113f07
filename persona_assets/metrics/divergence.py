"""Divergence of next-token distributions, in nats: Jensen–Shannon (Lin 1991) and Kullback–Leibler.

With u = p + q and r = (p − q)/u, the mixture m = u/2 gives p/m = 1 + r and q/m = 1 − r, so

    JS(p, q) = ½ Σ [p·log1p(r) + q·log1p(−r)]                          (Lin 1991, eq. 4.1, with π = ½, ½)

No large terms cancel: the relative error of a term is about ε/|r|, and since the sum is at its maximum in r, rounding
of r has only a second-order effect. Equal distributions have r = 0 and give exactly 0.

    KL(p‖q) = Σ p·(log p − log q) − Σ p + Σ q

The last two sums cancel for exact probabilities. With d = log p − log q they turn each summand into
p·(d + e^{−d} − 1), which is never negative and flat at d = 0, so rounding errors of the normalisers do not matter.

Normalisers are computed in float64: log Z is about 10 and is subtracted from every logit, so in float32 its rounding
would already corrupt the sixth digit of every probability.

This module is the reference in plain PyTorch, for any device; on a GPU `divergence_triton` computes the same in fused
kernels.
"""

import math
from collections.abc import Sequence
from importlib.util import find_spec
from threading import Thread
from typing import Literal

import torch
from torch import Tensor

Implementation = Literal["auto", "torch", "triton"]

# Work buffers of 11 personas × 32768 tokens take 2.6 MB, which fits a shared cache. With smaller blocks (measured from
# 1024 tokens up) the overhead of launching operations outweighs the gain, most of all when the cores are busy.
VOCABULARY_BLOCK = 32_768

# Lower bound for probabilities. It keeps u > 0 where both are zero, adds less than 1e-23 nats over any vocabulary, and
# keeps float32 products out of the slow subnormal range.
_FLOOR = 1e-30

_compiling: list[Thread] = []


class NoDistributionError(ValueError):
    """Logits that do not define a distribution: a row contains NaN or +inf, or only −inf.

    Attributes:
        scorer, position: indices of the first such row.
    """

    def __init__(self, message: str, scorer: int, position: int) -> None:
        super().__init__(message)
        self.scorer, self.position = scorer, position


def jensen_shannon(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return the Jensen–Shannon divergence of two categorical distributions.

    Args:
        log_p, log_q: natural-log probabilities or unnormalised logits, broadcastable shapes (..., V), any float dtype;
            −inf allowed.

    Returns:
        Shape (...), float32, in nats, within [0, ln 2]; symmetric, and exactly 0 where log_p equals log_q.

    Raises:
        ValueError: vocabularies differ, or a row contains NaN or +inf, or only −inf.
    """
    _require_one_vocabulary(log_p, log_q)
    p = _normalised(log_p)[1]
    q = _normalised(log_q)[1]
    u = (p + q).clamp_min_(torch.finfo(p.dtype).tiny)
    r = _open_interval((p - q).div_(u))
    js = (p * r.log1p() + q * (-r).log1p()).sum(-1).mul_(0.5)
    return js.clamp_(0.0, math.log(2.0)).float()


def kullback_leibler(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return the Kullback–Leibler divergence KL(p‖q) of two categorical distributions.

    Args:
        log_p, log_q: as in `jensen_shannon`.

    Returns:
        Shape (...), float32, in nats, at least 0; +inf where p has mass on a token on which q is −inf.

    Raises:
        ValueError: as in `jensen_shannon`.
    """
    _require_one_vocabulary(log_p, log_q)
    log_p, p = _normalised(log_p)
    log_q, q = _normalised(log_q)
    # A token without mass under p contributes 0 for any q; without this, 0·(−inf − −inf) would be NaN.
    gap = torch.where(p > 0, log_p - log_q, 0.0)
    return (p * gap - (p - q)).sum(-1).clamp_min_(0.0).float()


def pairwise_divergence(
    logits: Tensor, impl: Implementation = "auto", among: Sequence[int] | None = None
) -> tuple[Tensor, Tensor]:
    """Return the divergence of every pair of scorers at every position of a response.

    Args:
        logits: shape (K scorers, T positions, V tokens), any float dtype, unnormalised; −inf allowed.
        impl: `torch` (the reference) or `triton` (CUDA only); `auto` picks triton if it is installed and the logits are
            on CUDA.
        among: indices of scorers; pairs that include none of them are not computed and are NaN. The other pairs are
            bit-identical to those computed without `among`.

    Returns:
        js: shape (T, K, K), float64 (summands in float32), in nats, within [0, ln 2]; symmetric and 0 on the diagonal.
        kl: shape (T, K, K), float64, in nats; kl[t, i, j] = KL(i‖j), +inf where scorer i has mass on a token on which
            scorer j is −inf; 0 on the diagonal.

        Compared with float64, the error of JS is below 1e-6 (`torch`: 2e-7), and below 1 % for a JS of 1e-6; the error
        of KL is below 1e-6 + 3e-6·KL (`torch`: 1e-12). Positions are independent: any split over T gives bit-identical
        results, and so does any run. Temporaries of `torch` take about 20·K·V bytes (one position); those of `triton`
        are K²/2 numbers per position and 4,096 vocabulary tokens, or three times as many with KL.

    Raises:
        ValueError: logits are not (K ≥ 1, T, V ≥ 1); `triton` is requested for logits that are not on a GPU; or `among`
            is empty or has an index out of range.
        NoDistributionError: a row contains NaN or +inf, or only −inf.
    """
    js, kl = _pairwise(logits, impl, with_kl=True, among=among)
    assert kl is not None
    return js, kl


def pairwise_js(logits: Tensor, impl: Implementation = "auto") -> Tensor:
    """Return only the JS of `pairwise_divergence`, at lower cost."""
    return _pairwise(logits, impl, with_kl=False)[0]


def compile_ahead(scorers: int, vocabulary: int, dtype: torch.dtype, device: torch.device) -> None:
    """Start compiling the kernels for logits of this kind in the background.

    It saves seconds on a GPU and does nothing on other devices. The next divergence waits for the compilation.
    """
    if device.type == "cuda" and find_spec("triton") is not None:
        from persona_assets.metrics import divergence_triton as fused

        _compiling.extend(fused.compile_ahead(scorers, vocabulary, dtype, device))


def _pairwise(
    logits: Tensor, impl: Implementation, with_kl: bool, among: Sequence[int] | None = None
) -> tuple[Tensor, Tensor | None]:
    if logits.ndim != 3 or logits.shape[0] < 1 or logits.shape[2] < 1:
        raise ValueError(
            f"logits have shape {tuple(logits.shape)}; expected (K scorers ≥ 1, T positions, V tokens ≥ 1)"
        )
    wanted = _wanted(logits.shape[0], among)
    logits = logits.detach()
    if impl == "triton" or (impl == "auto" and logits.is_cuda and find_spec("triton") is not None):
        return _by_triton(logits, with_kl, wanted)
    scorers, positions, _ = logits.shape
    js = torch.zeros(positions, scorers, scorers, dtype=torch.float64, device=logits.device)
    kl = torch.zeros_like(js) if with_kl else None
    for t in range(positions):
        log_p, p = _normalised(logits[:, t], position=t)
        if kl is not None:
            kl[t] = _kl_of_all_pairs(log_p, p)
        js[t] = _js_of_all_pairs(p, wanted)
        del log_p, p  # otherwise two positions are in memory while the next one is normalised
    return _without(js, wanted), None if kl is None else _without(kl, wanted)


def _wanted(scorers: int, among: Sequence[int] | None) -> Tensor | None:
    """Return whether each pair is requested, (K, K) on the CPU; None if all are."""
    if among is None:
        return None
    if not among or not all(0 <= k < scorers for k in among):
        raise ValueError(f"among is {list(among)}; expected at least one index of the {scorers} scorers")
    of_them = torch.zeros(scorers, dtype=torch.bool)
    of_them[list(among)] = True
    return of_them[:, None] | of_them[None, :] | torch.eye(scorers, dtype=torch.bool)


def _without(matrices: Tensor, wanted: Tensor | None) -> Tensor:
    """Return (T, K, K) matrices with NaN for pairs that were not requested."""
    return matrices if wanted is None else matrices.masked_fill(~wanted.to(matrices.device), math.nan)


def _by_triton(logits: Tensor, with_kl: bool, wanted: Tensor | None) -> tuple[Tensor, Tensor | None]:
    from persona_assets.metrics import divergence_triton as fused

    if not (logits.is_cuda or fused.INTERPRETED):
        raise ValueError(f"logits are on {logits.device}; expected a CUDA device for impl='triton'")
    while _compiling:
        _compiling.pop().join()
    among = None if wanted is None else tuple(wanted.all(1).nonzero()[:, 0].tolist())
    js, kl, rows = fused.pairwise(logits, with_kl, among)
    log_z, lowest, _ = rows.cpu()
    if not bool(log_z.isfinite().all()):
        k, t = (int(index) for index in (~log_z.isfinite()).nonzero()[0])
        _normalised(logits[:, t], position=t)
        raise NoDistributionError(f"logits of scorer {k}, position {t} have no finite normaliser in float32", k, t)
    if kl is not None:
        for t in (lowest == -math.inf).any(0).nonzero()[:, 0].tolist():
            log_p, p = _normalised(logits[:, t])
            kl[t][_mass_where_absent(p, log_p == -math.inf)] = math.inf
    return _without(js, wanted), None if kl is None else _without(kl, wanted)


def _kl_of_all_pairs(log_p: Tensor, p: Tensor) -> Tensor:
    """Return KL(i‖j) of (K, V) distributions by one matrix product: Σ pᵢ·log pᵢ − pᵢ·log pⱼ, plus Σ pⱼ − Σ pᵢ."""
    absent = log_p == -math.inf
    has_absent = bool(absent.any())
    if has_absent:
        log_p = log_p.masked_fill(absent, 0.0)
    cross = p @ log_p.T
    mass = p.sum(-1)
    kl = (cross.diagonal()[:, None] - cross) + (mass[None, :] - mass[:, None])
    kl.clamp_min_(0.0)
    if has_absent:
        kl[_mass_where_absent(p, absent)] = math.inf
    return kl.fill_diagonal_(0.0)


def _mass_where_absent(p: Tensor, absent: Tensor) -> Tensor:
    """Return whether scorer i has mass on a token that has none under scorer j, (K, K)."""
    return p @ absent.to(p.dtype).T > 0


def _js_of_all_pairs(p: Tensor, wanted: Tensor | None) -> Tensor:
    """Return JS of the requested pairs of (K, V) float64 distributions, summing float32 terms of blocks in float64."""
    scorers, vocabulary = p.shape
    # Blocks fit the cache of a CPU; on other devices fewer, larger steps are faster.
    width = min(VOCABULARY_BLOCK, vocabulary) if p.device.type == "cpu" else vocabulary
    total = torch.zeros(scorers, scorers, dtype=torch.float64, device=p.device)
    buffer = torch.empty(2 * (scorers - 1) * width, dtype=torch.float32, device=p.device)
    later = [torch.arange(i + 1, scorers) for i in range(scorers - 1)]
    if wanted is not None:
        later = [others[wanted[i, others]] for i, others in enumerate(later)]
    for start in range(0, vocabulary, width):
        masses = p[:, start : start + width].float().clamp_min_(_FLOOR)
        for i, paired in enumerate(later):
            first, others = masses[i], masses[i + 1 :] if len(paired) == scorers - 1 - i else masses[paired]
            if not len(paired):
                continue
            r, u = buffer[: 2 * others.numel()].view(2, *others.shape)
            torch.add(others, first, out=u)
            torch.sub(first, others, out=r).div_(u)
            _open_interval(r)
            torch.neg(r, out=u)  # reuses the buffer of u for −r
            terms = r.log1p_().mul_(first).addcmul_(u.log1p_(), others)
            # A float32 sum has an error of up to 3e-6 nats when one token has most of the mass.
            total[i, paired] += terms.sum(-1, dtype=torch.float64)
    js = total.mul_(0.5).clamp_(0.0, math.log(2.0))
    return js + js.T


def _open_interval(r: Tensor) -> Tensor:
    """Clamp r in place to half an ulp inside ±1: 0·log1p(−1) would be NaN; the error is below p·ε."""
    limit = 1.0 - torch.finfo(r.dtype).eps / 2
    return r.clamp_(-limit, limit)


def _normalised(logits: Tensor, position: int | None = None) -> tuple[Tensor, Tensor]:
    """Return (log p, p) along the last axis in float64, with one exponential; `position` is for the error message."""
    shifted = logits.detach().to(torch.float64, copy=True)
    peak = shifted.amax(-1, keepdim=True)
    # The maximum is NaN or +inf if any logit is, and −inf only if all logits are.
    if not bool(peak.isfinite().all()):
        bad = (~peak.squeeze(-1).isfinite()).nonzero()[0]
        raise NoDistributionError(
            _not_a_distribution(peak.squeeze(-1), position), int(bad[0]) if len(bad) else 0, position or 0
        )
    shifted -= peak
    p = shifted.exp()
    mass = p.sum(-1, keepdim=True)
    return shifted.sub_(mass.log()), p.div_(mass)


def _not_a_distribution(peak: Tensor, position: int | None) -> str:
    """Return the error message for the first row that does not define a distribution."""
    row = [int(index) for index in (~peak.isfinite()).nonzero()[0]]
    value = float(peak[tuple(row)])
    found = "NaN" if math.isnan(value) else "+inf" if value > 0 else "only −inf"
    where = f"row {tuple(row)}" if position is None else f"scorer {row[0]}, position {position}"
    return f"logits of {where} contain {found}; expected finite numbers or −inf, with at least one finite"


def _require_one_vocabulary(log_p: Tensor, log_q: Tensor) -> None:
    # Broadcasting would silently expand a vocabulary of size 1.
    found = tuple(log_p.shape), tuple(log_q.shape)
    if not all(found) or found[0][-1] != found[1][-1] or found[0][-1] < 1:
        raise ValueError(f"log_p has shape {found[0]} and log_q {found[1]}; expected (..., V ≥ 1) with the same V")
