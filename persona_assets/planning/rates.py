"""Measured rates of one GPU and one CPU, and the same rates scaled to other GPUs."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from persona_assets.checkpoints.shape import QWEN_7B, SMOLLM_135M, Shape


class Fact(NamedTuple):
    """A measured number, its description, and the file that documents it."""

    value: float
    what: str
    source: str


# Qwen2.5-7B's shape in bfloat16 on an H200; entries `cpu_…`: the 135M embedded model in float32 on two AVX2 cores.
MEASURED = {
    "score": Fact(605e12, "scoring without JS, FLOP/s (14.5 PFLOP in 24.7 s; 586e12 with JS)", "scoring.md"),
    "pair": Fact(1.06e-12, "JS and both KLs, seconds per pair, position and vocabulary entry", "js.md"),
    "fixed_order": Fact(24.7 / 36.2, "scoring with `deterministic: true`, fraction of that rate", "scoring.md"),
    "spread": Fact(285e12, "scoring split over two GPUs, FLOP/s (5,487 tokens of 32B in 1.25 s)", "two_cards.md"),
    "read": Fact(311e12, "hidden states, FLOP/s (220 prompts in 0.36 s)", "scoring.md"),
    "decode": Fact(91_611 / 4.25, "vLLM, tokens/s with 220 rows (91,611 in 4.25 s)", "whole_run_h200.md"),
    "vllm_sample": Fact(23_490, "vLLM, sampling with 1,110 rows, tokens/s", "marker_training.md"),
    "sample": Fact(5_000, "Transformers, sampling, tokens/s (4,167 and 5,088)", "marker_training.md"),
    "train": Fact(465e12, "training, FLOP/s, blocks compiled (16,400 tokens/s)", "marker_training.md"),
    "uncompiled": Fact(0.8, "training, not compiled, fraction of that rate (13,068 tokens/s)", "marker_training.md"),
    "blocks": Fact(71, "first compilation of blocks, seconds (71 and 86)", "marker_training.md"),
    "retrain": Fact(147e12, "training, FLOP/s, activations recomputed (5,201 tokens/s)", "marker_training.md"),
    "vllm": Fact(27, "starting vLLM, seconds", "whole_run_h200.md"),
    "first": Fact(27, "compiling in the first run on a GPU, seconds (16 to 36)", "two_cards.md"),
    "rest": Fact(19, "imports, matrices, Dagster, seconds (15.3 + 2.1 + 1.5)", "whole_run_h200.md"),
    "compile": Fact(3.6, "first compilation of kernels, seconds (28.3 cold, 24.7 warm)", "scoring.md"),
    "cpu_score": Fact(
        0.122e12, "CPU: scoring without JS, FLOP/s (0.033 s per response token, K = 11)", "scoring_cpu.md"
    ),
    "cpu_pair": Fact(2.2e-9, "CPU: JS and both KLs, as above (6 ms per token)", "scoring_cpu.md"),
    "cpu_decode": Fact(110, "CPU: generating, tokens/s (0.009 s per token)", "a trial"),
    "cpu_sample": Fact(194, "CPU: sampling, tokens/s (3,464 of 88 replies in 17.8 s)", "a trial"),
    "cpu_train": Fact(0.09e12, "CPU: training, FLOP/s (half a minute per source with 24 steps)", "embedded.yaml"),
    "cpu_start": Fact(14, "CPU: starting and loading, seconds", "a trial"),
    "share": Fact(91_611 / (220 * 512), "mean response, fraction of max_new_tokens (416 of 512)", "published_size.py"),
}


@dataclass(frozen=True)
class Machine:
    """Hardware that a model runs on, with its rates.

    Attributes:
        gib: memory of a GPU as reported by CUDA, in GiB; 0 for a CPU.
        score, read, train, retrain: FLOP/s of scoring, of processing prompts, of training with activations kept, and of
            training with activations recomputed.
        pair: seconds for JS and both KLs per pair of scorers, position and vocabulary entry.
        decode, vllm_sample: tokens/s of vLLM times the model's parameters, greedy with `rows` rows, and sampled with
            many rows.
        sample: the same for sampling with Transformers.
        rows: batch size at which `decode` was measured; smaller batches are proportionally slower.
        vllm, start: seconds for starting vLLM, and for starting everything else.
        scaled: how the rates were scaled from the H200's; empty if they were measured.
    """

    name: str
    gib: float
    score: float
    read: float
    train: float
    retrain: float
    pair: float
    decode: float
    vllm_sample: float
    sample: float
    rows: int
    vllm: float
    start: float
    scaled: str = ""


# Rates that scale with a GPU's matrix products, and rates that scale with its memory bandwidth.
_PRODUCTS = ("score", "read", "train", "retrain")
_READING = ("decode", "vllm_sample", "sample")


def _measured(
    name: str, gib: float, model: Shape, rows: int, vllm: float, start: float, facts: Mapping[str, str]
) -> Machine:
    """Return hardware with rates from MEASURED; `facts` says which entry a rate is, if not the one of its own name."""
    found = {rate: MEASURED[facts.get(rate, rate)].value for rate in (*_PRODUCTS, "pair", *_READING)}
    rates: dict[str, Any] = found | {rate: found[rate] * model.parameters for rate in _READING}
    return Machine(name, gib, rows=rows, vllm=vllm, start=start, **rates)


def _like(card: Machine, name: str, gib: float, tflops: int, bandwidth: float) -> Machine:
    """Scale a GPU's rates to another: matrix products by dense bf16 TFLOP/s, decoding by bandwidth in TB/s."""
    products, reading = tflops / 989, bandwidth / 4.8
    rates = {rate: getattr(card, rate) * products for rate in _PRODUCTS}
    rates |= {rate: getattr(card, rate) * reading for rate in _READING}
    scaled = f"{tflops} of 989 dense bf16 TFLOP/s, {bandwidth} of 4.8 TB/s"
    return replace(card, name=name, gib=gib, pair=card.pair / products, scaled=scaled, **rates)


H200 = _measured(
    "H200 141 GB",
    gib=139,
    model=QWEN_7B,
    rows=220,
    vllm=MEASURED["vllm"].value,
    start=MEASURED["compile"].value + MEASURED["rest"].value,
    facts={},
)
CARDS = (
    _like(H200, "RTX 4090 24 GB", 23.5, 165, 1.01),
    _like(H200, "A100 40 GB", 39.4, 312, 1.56),
    _like(H200, "H100 80 GB", 79, 989, 3.35),
    H200,
)
CPU = _measured(
    "2 CPU cores",
    gib=0,
    model=SMOLLM_135M,
    rows=1,
    vllm=0,
    start=MEASURED["cpu_start"].value,
    facts={
        **dict.fromkeys(("score", "read"), "cpu_score"),
        **dict.fromkeys(("train", "retrain"), "cpu_train"),
        **dict.fromkeys(("vllm_sample", "sample"), "cpu_sample"),
        "pair": "cpu_pair",
        "decode": "cpu_decode",
    },
)
MACHINES = (*CARDS, CPU)
