"""Measured rates of one GPU and one CPU, and the same rates scaled to other GPUs."""

from dataclasses import dataclass, replace
from typing import NamedTuple

from persona_assets.checkpoints.shape import QWEN_7B, SMOLLM_135M


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
    "train": Fact(242e12, "training, FLOP/s, activations kept (8,542 tokens/s)", "marker_training.md"),
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


def _like(card: Machine, name: str, gib: float, tflops: int, bandwidth: float) -> Machine:
    """Scale a GPU's rates to another: matrix products by dense bf16 TFLOP/s, decoding by bandwidth in TB/s."""
    products, reading = tflops / 989, bandwidth / 4.8
    return replace(
        card,
        name=name,
        gib=gib,
        score=card.score * products,
        read=card.read * products,
        train=card.train * products,
        retrain=card.retrain * products,
        pair=card.pair / products,
        decode=card.decode * reading,
        vllm_sample=card.vllm_sample * reading,
        sample=card.sample * reading,
        scaled=f"{tflops} of 989 dense bf16 TFLOP/s, {bandwidth} of 4.8 TB/s",
    )


H200 = Machine(
    "H200 141 GB",
    gib=139,
    score=MEASURED["score"].value,
    read=MEASURED["read"].value,
    train=MEASURED["train"].value,
    retrain=MEASURED["retrain"].value,
    pair=MEASURED["pair"].value,
    decode=MEASURED["decode"].value * QWEN_7B.parameters,
    vllm_sample=MEASURED["vllm_sample"].value * QWEN_7B.parameters,
    sample=MEASURED["sample"].value * QWEN_7B.parameters,
    rows=220,
    vllm=MEASURED["vllm"].value,
    start=MEASURED["compile"].value + MEASURED["rest"].value,
)
CARDS = (
    _like(H200, "RTX 4090 24 GB", 23.5, 165, 1.01),
    _like(H200, "A100 40 GB", 39.4, 312, 1.56),
    _like(H200, "H100 80 GB", 79, 989, 3.35),
    H200,
)
CPU = Machine(
    "2 CPU cores",
    gib=0,
    score=MEASURED["cpu_score"].value,
    read=MEASURED["cpu_score"].value,
    train=MEASURED["cpu_train"].value,
    retrain=MEASURED["cpu_train"].value,
    pair=MEASURED["cpu_pair"].value,
    decode=MEASURED["cpu_decode"].value * SMOLLM_135M.parameters,
    vllm_sample=MEASURED["cpu_sample"].value * SMOLLM_135M.parameters,
    sample=MEASURED["cpu_sample"].value * SMOLLM_135M.parameters,
    rows=1,
    vllm=0,
    start=MEASURED["cpu_start"].value,
)
MACHINES = (*CARDS, CPU)
