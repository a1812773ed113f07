"""JS and KL of all pairs of scorers at every position of one response: the kernel against straightforward code.

    python -m benchmarks.js --out benchmarks/results/js.md [--logits FILE.npy] [--scorers K --positions T]

There are two kinds of logits: flat (normal; the worst case, because no probability is near zero) and peaked (a real
model's, tiled over the vocabulary). `--logits` names a file of the latter, (K, T, V), written with `--save-logits` from
the embedded model. Everything is timed in the same process on the same tensor; errors are relative to float64. On a CPU
the sizes are smaller and the kernel is left out.
"""

import argparse
import math
import time
from collections.abc import Callable
from functools import partial
from itertools import combinations
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy.spatial.distance import jensenshannon
from torch import Tensor

from benchmarks.reporting import heading, table, version_of
from persona_assets.metrics import pairwise_divergence, pairwise_js

LN2 = math.log(2)
Row = dict[str, object]
Points = dict[str, list[tuple[float, ...]]]


def published_way(logits: Tensor) -> Tensor:
    """Compute all log-probabilities in float32, then a mixture and two KL sums per pair."""
    log_p = logits.float().log_softmax(-1)
    scorers, positions, _ = logits.shape
    js = torch.zeros(positions, scorers, scorers, device=logits.device)
    for i, j in combinations(range(scorers), 2):
        mixture = torch.logaddexp(log_p[i], log_p[j]) - LN2
        left = (log_p[i].exp() * (log_p[i] - mixture)).sum(-1)
        right = (log_p[j].exp() * (log_p[j] - mixture)).sum(-1)
        js[:, i, j] = js[:, j, i] = 0.5 * (left + right)
    return js


def by_liger(logits: Tensor) -> Tensor:
    """Compute JS with Liger's loss: one call and one number per pair, averaged over positions, with a gradient."""
    from liger_kernel.ops.jsd import jsd_forward

    log_p = logits.float().log_softmax(-1)
    scorers = len(logits)
    js = torch.zeros(1, scorers, scorers, device=logits.device)
    for i, j in combinations(range(scorers), 2):
        loss, _ = jsd_forward(log_p[i].contiguous(), log_p[j].contiguous(), None, 0.5, -100, False)
        js[:, i, j] = js[:, j, i] = loss
    return js


def by_scipy(logits: Tensor, positions: int = 1) -> Tensor:
    """Compute SciPy's distance, squared, in float64 on the CPU."""
    p = logits[:, :positions].double().cpu().softmax(-1).numpy()
    scorers = len(p)
    js = np.zeros((positions, scorers, scorers))
    for i, j in combinations(range(scorers), 2):
        js[:, i, j] = js[:, j, i] = jensenshannon(p[i], p[j], axis=-1) ** 2
    return torch.from_numpy(js)


def seconds(run: Callable[[], object], device: str, repeats: int = 15) -> float:
    """Return the median of several runs after two warm-up runs; on a GPU by its own clock and with a cold cache."""
    run()
    if device == "cpu":
        repeats = 3
    else:
        run()
    taken = []
    other = torch.empty(256 << 20, dtype=torch.uint8, device=device) if device == "cuda" else None
    for _ in range(repeats):
        if other is not None:
            other.zero_()
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            run()
            end.record()
            torch.cuda.synchronize()
            taken.append(start.elapsed_time(end) / 1e3)
        else:
            begin = time.perf_counter()
            run()
            taken.append(time.perf_counter() - begin)
    return float(np.median(taken))


def errors(found: Tensor, logits: Tensor, positions: int = 4) -> tuple[str, str]:
    """Return the largest absolute and relative error against float64, over some positions."""
    if len(found) != logits.shape[1]:
        return "–", "–"
    positions = min(positions, logits.shape[1])
    truth = by_scipy(logits, positions)
    upper = torch.triu_indices(len(logits), len(logits), 1)
    gap = (found[:positions].double().cpu() - truth)[:, upper[0], upper[1]].abs()
    return f"{float(gap.max()):.1e}", f"{float((gap / truth[:, upper[0], upper[1]]).max()):.1e}"


def measure(name: str, run: Callable[[], Tensor], logits: Tensor, device: str, copy: float) -> tuple[float, Row]:
    """Return the seconds and the table's row; `copy` is the GPU's bandwidth in bytes/s, measured by copying."""
    before = 0
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
    found = run()
    extra = f"{(torch.cuda.max_memory_allocated() - before) / 2**30:.2f}" if device == "cuda" else "–"
    taken = seconds(run, device)
    scorers, positions, vocabulary = logits.shape
    elements = scorers * (scorers - 1) // 2 * positions * vocabulary
    absolute, relative = errors(found, logits)
    return taken, {
        "what": name,
        "ms": round(taken * 1e3, 2),
        "ratio": "",
        "GB/s of logits": round(logits.nbytes / taken / 1e9),
        "share of the memory floor": f"{logits.nbytes / copy / taken:.0%}",
        "ps per pair-element": round(taken / elements * 1e12, 2),
        "extra memory (GiB)": extra,
        "abs. error": absolute,
        "rel. error": relative,
    }


def compare(logits: Tensor, device: str, copy: float) -> list[Row]:
    """Time every way on one tensor; ratios are relative to the published way."""
    ways: list[tuple[str, Callable[[], Tensor]]] = [
        ("published way, 55 pairs", lambda: published_way(logits)),
        ("`torch`, JS and both KLs", lambda: pairwise_divergence(logits, "torch")[0]),
    ]
    if device == "cuda":
        if version_of("liger-kernel"):
            ways.append((f"Liger {version_of('liger-kernel')}, one call per pair", lambda: by_liger(logits)))
        ways.append(("**`triton`, JS**", lambda: pairwise_js(logits, "triton")))
        ways.append(("**`triton`, JS and both KLs**", lambda: pairwise_divergence(logits, "triton")[0]))
    measured = [measure(name, run, logits, device, copy) for name, run in ways]
    start = time.perf_counter()
    by_scipy(logits)
    taken = (time.perf_counter() - start) * logits.shape[1]
    measured.append((taken, {"what": "SciPy, one position, times positions", "ms": round(taken * 1e3)}))
    return [row | {"ratio": f"{measured[0][0] / taken:.3g} ×"} for taken, row in measured]


def growth(make: Callable[..., Tensor], device: str, sizes: dict[str, list[tuple[int, int, int]]]) -> Points:
    """Return K, T, V, the seconds of JS and of JS with KL, and both in ps per pair and element, as one size grows."""

    def timed(scorers: int, positions: int, vocabulary: int) -> tuple[float, ...]:
        logits = make(scorers, positions, vocabulary)
        elements = scorers * (scorers - 1) // 2 * positions * vocabulary
        each = [seconds(partial(way, logits), device, 7) for way in (pairwise_js, pairwise_divergence)]
        return (scorers, positions, vocabulary, *each, *(one / elements * 1e12 for one in each))

    return {axis: [timed(*shape) for shape in shapes] for axis, shapes in sizes.items()}


def draw(found: Points, path: Path) -> None:
    figure, panels = plt.subplots(1, 3, figsize=(10, 3.2), layout="constrained")
    for place, (axis, points) in enumerate(found.items()):
        panel = panels[place]
        sizes = [point[place] for point in points]
        for column, label, marker in ((5, "JS", "o"), (6, "JS and both KLs", "s")):
            panel.plot(sizes, [point[column] for point in points], marker=marker, label=label)
        panel.set_xscale("log", base=2)
        panel.set_xticks(sizes, [f"{size:,}" for size in sizes], rotation=45)
        panel.minorticks_off()
        fixed = [f"{name} = {value:,}" for name, value in zip("KTV", points[0], strict=False) if name != axis]
        panel.set_xlabel(f"{axis} ({', '.join(fixed)})")
        panel.set_yscale("log")
    panels[0].set_ylabel("picoseconds per pair-element")
    panels[0].legend(frameon=False)
    figure.savefig(path, dpi=160)


def main() -> None:
    arguments = _arguments()
    if arguments.save_logits:
        np.save(arguments.save_logits, embedded_logits().half().numpy())
        return
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    scorers, positions = arguments.scorers, arguments.positions or (416 if device == "cuda" else 8)
    vocabulary = arguments.vocabulary or (152_064 if device == "cuda" else 49_152)

    def flat(scorers: int, positions: int, vocabulary: int) -> Tensor:
        torch.manual_seed(0)
        return torch.empty(scorers, positions, vocabulary, device=device, dtype=dtype).normal_(std=2)

    big = torch.empty(1 << (30 if device == "cuda" else 27), dtype=torch.uint8, device=device)
    copy = 2 * big.nbytes / seconds(big.clone, device)
    del big
    text = f"{(__doc__ or '').splitlines()[0]}\n\n`python -m benchmarks.js`, {heading()}\n"
    text += f"K = {scorers}, T = {positions}, V = {vocabulary:,}, {dtype}; a copy moves {copy / 1e12:.2f} TB/s.\n"
    text += f"\n## Flat logits\n\n{table(compare(flat(scorers, positions, vocabulary), device, copy))}\n"
    if arguments.logits:
        real = torch.from_numpy(np.load(arguments.logits)).to(device)[:scorers]
        repeats = (1, math.ceil(positions / real.shape[1]), math.ceil(vocabulary / real.shape[2]))
        peaked = real.repeat(repeats)[:, :positions, :vocabulary].to(dtype).contiguous()
        text += f"\n## Peaked logits: the embedded model's, tiled\n\n{table(compare(peaked, device, copy))}\n"
        text += f"\n{skippable(peaked)}\n"
        del peaked
    if device == "cuda":
        sizes = {
            "K": [(k, 8, vocabulary) for k in (2, 4, 8, 11, 16, 33, 64, 111)],
            "T": [(11, t, vocabulary) for t in (1, 8, 64, 128, 256, 512)],
            "V": [(11, 64, v) for v in (8_192, 16_384, 32_768, 65_536, 131_072, 262_144)],
        }
        found = growth(flat, device, sizes)
        draw(found, arguments.out.with_suffix(".png"))
        text += f"\n## How cost grows\n\n![picoseconds per pair-element]({arguments.out.stem}.png)\n\n"
        columns = ("K", "T", "V", "JS ms", "JS+KL ms", "JS ps", "JS+KL ps")
        points = [point for axis in found.values() for point in axis]
        cells = [
            [f"{k:,}", f"{t:,}", f"{v:,}", f"{js * 1e3:.3f}", f"{kl * 1e3:.3f}", f"{js_ps:.2f}", f"{kl_ps:.2f}"]
            for k, t, v, js, kl, js_ps, kl_ps in points
        ]
        text += table([dict(zip(columns, row, strict=True)) for row in cells]) + "\n"
    print(text)
    arguments.out.write_text(text, encoding="utf-8")


def skippable(logits: Tensor) -> str:
    """Describe how much of the vocabulary could be skipped for a bound on JS: a block of mass ε adds ≤ ε·ln 2."""
    p = logits[:, :8].float().softmax(-1)
    blocks = p[..., : p.shape[-1] // 128 * 128].unflatten(-1, (-1, 128)).sum(-1).amax(0)  # (T, blocks)
    shares = []
    for budget in (1e-8, 1e-7, 1e-6, 1e-5):
        least = blocks.sort(-1).values.cumsum(-1) * LN2 < budget
        shares.append(f"{float(least.float().mean()):.1%} for {budget:.0e}")
    return f"Blocks of 128 tokens that could be skipped for a bound on the error of JS: {', '.join(shares)} nats."


def embedded_logits() -> Tensor:
    """Return (11, 24, V) logits of the embedded study's first question along the first persona's response."""
    from benchmarks.embedded_study import embedded_study
    from persona_assets.inference import PrefixScorer, Scored, TransformersGenerator

    study, loaded = embedded_study("cpu")
    prompts = [loaded.chat.prompt_ids(prompt, study.questions[0]) for prompt in study.prompts.values()]
    assert study.decoding
    response = TransformersGenerator(loaded).generate([prompts[0]], study.decoding)[0]
    (pieces,) = (
        torch.cat(list(each), dim=1) for each in PrefixScorer(loaded).logits([Scored(prompts, response.token_ids)])
    )
    return pieces


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/js.md"))
    parser.add_argument("--scorers", type=int, default=11)
    parser.add_argument("--positions", type=int)
    parser.add_argument("--vocabulary", type=int)
    parser.add_argument("--logits", type=Path, help="a real model's logits, (K, T, V), as .npy")
    parser.add_argument("--save-logits", type=Path, help="write the embedded model's logits and exit")
    return parser.parse_args()


if __name__ == "__main__":
    main()
