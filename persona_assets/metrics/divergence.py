"""Divergence of next-token distributions, in nats: Jensen–Shannon (Lin 1991) and Kullback–Leibler.

With u = p + q and r = (p − q)/u, the mixture m = u/2 gives p/m = 1 + r and q/m = 1 − r, so

    JS(p, q) = ½ Σ [p·log1p(r) + q·log1p(−r)]                          (Lin 1991, eq. 4.1, with π = ½, ½)

Nothing large cancels in it: the relative error of a term is about ε/|r|, and since r is where the sum has its maximum,
rounding of r itself enters in second order only. Equal distributions have r = 0 and give 0, not a small number.

    KL(p‖q) = Σ p·(log p − log q) − Σ p + Σ q

The last two sums cancel for exact probabilities. With d = log p − log q they turn each summand into
p·(d + e^{−d} − 1), which is never negative and flat at d = 0, so that rounding of the normalisers drops out.

Normalisers are taken in float64: log Z is about 10 and is subtracted from every logit, so a float32 one alone would
cost every probability its sixth digit.

What is here in plain PyTorch is the reference, on any device; on a card `divergence_triton` does the same, fused.
"""

import math
from collections.abc import Sequence
from importlib.util import find_spec
from threading import Thread
from typing import Literal

import torch
from torch import Tensor

Implementation = Literal["auto", "torch", "triton"]

# Work buffers of 11 personas × 32768 tokens are 2.6 MB, well inside a shared cache. Smaller blocks lose more to
# starting operations than they gain (measured from 1024 tokens up), most of all when other processes use the cores.
VOCABULARY_BLOCK = 32_768

# Probabilities below the floor count as equal to it. It keeps u > 0 where both are zero, adds under 1e-23 nats over any
# vocabulary, and keeps float32 products clear of the slow subnormal range.
_FLOOR = 1e-30

_compiling: list[Thread] = []


class NoDistributionError(ValueError):
    """Logits of which no distribution can be made: they hold NaN or +inf, or nothing but −inf.

    Attributes:
        scorer, position: indices of the first such row.
    """

    def __init__(self, message: str, scorer: int, position: int) -> None:
        super().__init__(message)
        self.scorer, self.position = scorer, position


def jensen_shannon(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Jensen–Shannon divergence of two categorical distributions.

    Args:
        log_p, log_q: natural-log probabilities or unnormalised logits, broadcastable shapes (..., V), any float dtype;
            −inf allowed.

    Returns:
        Shape (...), float32, in nats, within [0, ln 2]; symmetric, and exactly 0 where log_p equals log_q.

    Raises:
        ValueError: vocabularies differ, or a row holds NaN or +inf, or nothing but −inf.
    """
    _require_one_vocabulary(log_p, log_q)
    p = _normalised(log_p)[1]
    q = _normalised(log_q)[1]
    u = (p + q).clamp_min_(torch.finfo(p.dtype).tiny)
    r = _open_interval((p - q).div_(u))
    js = (p * r.log1p() + q * (-r).log1p()).sum(-1).mul_(0.5)
    return js.clamp_(0.0, math.log(2.0)).float()


def kullback_leibler(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Kullback–Leibler divergence KL(p‖q) of two categorical distributions.

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
    # A token without mass under p adds nothing, whatever q says: 0·(−inf − −inf) must not become NaN.
    gap = torch.where(p > 0, log_p - log_q, 0.0)
    return (p * gap - (p - q)).sum(-1).clamp_min_(0.0).float()


def pairwise_divergence(
    logits: Tensor, impl: Implementation = "auto", among: Sequence[int] | None = None
) -> tuple[Tensor, Tensor]:
    """Divergence of every pair of scorers at every position of a response.

    Args:
        logits: shape (K scorers, T positions, V tokens), any float dtype, unnormalised; −inf allowed.
        impl: `torch`, the reference, or `triton`, for CUDA; `auto` takes what is there for the logits' device.
        among: scorers, by index; pairs in which none of them is are not computed and are NaN. The others have the bits
            that they have without it.

    Returns:
        js: shape (T, K, K), float64 (summands in float32), in nats, within [0, ln 2]; symmetric and 0 on the diagonal.
        kl: shape (T, K, K), float64, in nats; kl[t, i, j] = KL(i‖j), +inf where scorer i has mass on a token on which
            scorer j is −inf; 0 on the diagonal.

        Against float64, JS is within 1e-6 (`torch`: 2e-7) and a JS of 1e-6 within 1 %; KL is within 1e-6 + 3e-6·KL
        (`torch`: 1e-12). A position's numbers do not depend on the positions beside it: any split over T gives the
        same bits, and so does any run. Temporaries of `torch` are those of one position, about 20·K·V bytes; `triton`
        has K²/2 numbers a position for each 4,096 tokens of the vocabulary, or three times as many with KL.

    Raises:
        ValueError: logits are not (K ≥ 1, T, V ≥ 1); or `triton` is asked for logits that are not on a card; or `among`
            names no scorer, or one that there is not.
        NoDistributionError: a row holds NaN or +inf, or nothing but −inf.
    """
    js, kl = _pairwise(logits, impl, with_kl=True, among=among)
    assert kl is not None
    return js, kl


def pairwise_js(logits: Tensor, impl: Implementation = "auto") -> Tensor:
    """JS alone, as `pairwise_divergence` gives it, for less work."""
    return _pairwise(logits, impl, with_kl=False)[0]


def compile_ahead(scorers: int, vocabulary: int, dtype: torch.dtype, device: torch.device) -> None:
    """Starts to compile what logits of this kind will need, beside whatever the caller does meanwhile.

    It saves seconds on a card and does nothing elsewhere. The next divergence waits for it.
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
        del log_p, p  # or two positions' would be held while the next is normalised
    return _without(js, wanted), None if kl is None else _without(kl, wanted)


def _wanted(scorers: int, among: Sequence[int] | None) -> Tensor | None:
    """(K, K), on the CPU: whether a pair is asked for; None where all are."""
    if among is None:
        return None
    if not among or not all(0 <= k < scorers for k in among):
        raise ValueError(f"among is {list(among)}; expected indices of the {scorers} scorers, one at least")
    of_them = torch.zeros(scorers, dtype=torch.bool)
    of_them[list(among)] = True
    return of_them[:, None] | of_them[None, :] | torch.eye(scorers, dtype=torch.bool)


def _without(matrices: Tensor, wanted: Tensor | None) -> Tensor:
    """(T, K, K) with NaN for pairs that are not wanted."""
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
            kl[t][_meets_none(p, log_p == -math.inf)] = math.inf
    return _without(js, wanted), None if kl is None else _without(kl, wanted)


def _kl_of_all_pairs(log_p: Tensor, p: Tensor) -> Tensor:
    """KL(i‖j) for (K, V) distributions as one matrix product: Σ pᵢ·log pᵢ − pᵢ·log pⱼ, and Σ pⱼ − Σ pᵢ."""
    absent = log_p == -math.inf
    has_absent = bool(absent.any())
    if has_absent:
        log_p = log_p.masked_fill(absent, 0.0)
    cross = p @ log_p.T
    mass = p.sum(-1)
    kl = (cross.diagonal()[:, None] - cross) + (mass[None, :] - mass[:, None])
    kl.clamp_min_(0.0)
    if has_absent:
        kl[_meets_none(p, absent)] = math.inf
    return kl.fill_diagonal_(0.0)


def _meets_none(p: Tensor, absent: Tensor) -> Tensor:
    """(K, K): whether scorer i has mass on a token that is absent under scorer j."""
    return p @ absent.to(p.dtype).T > 0


def _js_of_all_pairs(p: Tensor, wanted: Tensor | None) -> Tensor:
    """JS of the wanted pairs of (K, V) float64 distributions: float32 terms, block by block, into float64 sums."""
    scorers, vocabulary = p.shape
    # Only a CPU has a cache to fit; elsewhere fewer, larger steps are faster.
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
            torch.neg(r, out=u)  # u has served; −r takes its place
            terms = r.log1p_().mul_(first).addcmul_(u.log1p_(), others)
            # In float32 the sum would cost 3e-6 nats where one token holds most of the mass.
            total[i, paired] += terms.sum(-1, dtype=torch.float64)
    js = total.mul_(0.5).clamp_(0.0, math.log(2.0))
    return js + js.T


def _open_interval(r: Tensor) -> Tensor:
    """Keep r, in place, off ±1 by half an ulp: 0·log1p(−1) would be NaN, and what is lost is below p·ε."""
    limit = 1.0 - torch.finfo(r.dtype).eps / 2
    return r.clamp_(-limit, limit)


def _normalised(logits: Tensor, position: int | None = None) -> tuple[Tensor, Tensor]:
    """(log p, p) of the last axis in float64, from one exponential; `position` is for the error message only."""
    shifted = logits.detach().to(torch.float64, copy=True)
    peak = shifted.amax(-1, keepdim=True)
    # The maximum is NaN if anything is, +inf if anything is, and −inf only if everything is.
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
    """Name the first row of which no distribution can be made."""
    row = [int(index) for index in (~peak.isfinite()).nonzero()[0]]
    value = float(peak[tuple(row)])
    found = "NaN" if math.isnan(value) else "+inf" if value > 0 else "nothing but −inf"
    where = f"row {tuple(row)}" if position is None else f"scorer {row[0]}, position {position}"
    return f"logits of {where} hold {found}; expected finite numbers or −inf, at least one of them finite"


def _require_one_vocabulary(log_p: Tensor, log_q: Tensor) -> None:
    # Broadcasting would silently stretch a vocabulary of one.
    found = tuple(log_p.shape), tuple(log_q.shape)
    if not all(found) or found[0][-1] != found[1][-1] or found[0][-1] < 1:
        raise ValueError(f"log_p has shape {found[0]} and log_q {found[1]}; expected (..., V ≥ 1), V the same")
