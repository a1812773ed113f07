"""How fast it goes: what was measured on one card and one CPU, and the same scaled to other cards."""

from dataclasses import dataclass, replace
from typing import NamedTuple

from persona_assets.checkpoints.shape import QWEN_7B, SMOLLM_135M


class Fact(NamedTuple):
    """A measured number, what it is, and the file that it stands in."""

    value: float
    what: str
    source: str


# At Qwen2.5-7B's shape in bfloat16 on an H200; of `cpu_`, the 135M embedded model in float32 on two AVX2 cores.
MEASURED = {
    "score": Fact(605e12, "scoring, FLOP/s beside JS (14.5 PFLOP in 24.7 s; 586e12 with it)", "scoring.md"),
    "pair": Fact(1.06e-12, "JS and both KLs, seconds a pair, position and vocabulary entry", "js.md"),
    "fixed_order": Fact(24.7 / 36.2, "scoring with `deterministic: true`, as a share of that", "scoring.md"),
    "spread": Fact(285e12, "scoring over two cards, FLOP/s (5,487 tokens of 32B in 1.25 s)", "two_cards.md"),
    "read": Fact(311e12, "hidden states, FLOP/s (220 prompts in 0.36 s)", "scoring.md"),
    "decode": Fact(91_611 / 4.25, "vLLM, tokens/s in 220 rows (91,611 in 4.25 s)", "whole_run_h200.md"),
    "vllm_sample": Fact(23_490, "vLLM, sampling in 1,110 rows, tokens/s", "marker_training.md"),
    "sample": Fact(5_000, "Transformers' sampling, tokens/s (4,167 and 5,088)", "marker_training.md"),
    "train": Fact(242e12, "training, FLOP/s, activations kept (8,542 tokens/s)", "marker_training.md"),
    "retrain": Fact(147e12, "training, FLOP/s, activations recomputed (5,201 tokens/s)", "marker_training.md"),
    "vllm": Fact(27, "vLLM's start, seconds", "whole_run_h200.md"),
    "first": Fact(27, "compiling in a card's first run, seconds (16 to 36)", "two_cards.md"),
    "rest": Fact(19, "imports, matrices, Dagster's own time, seconds (15.3 + 2.1 + 1.5)", "whole_run_h200.md"),
    "compile": Fact(3.6, "kernels' first compilation, seconds (28.3 cold, 24.7 warm)", "scoring.md"),
    "cpu_score": Fact(
        0.122e12, "CPU: scoring, FLOP/s beside JS (0.033 s a response token of K = 11)", "scoring_cpu.md"
    ),
    "cpu_pair": Fact(2.2e-9, "CPU: JS and both KLs, as above (6 ms a token)", "scoring_cpu.md"),
    "cpu_decode": Fact(110, "CPU: generating, tokens/s (0.009 s a token)", "a trial"),
    "cpu_sample": Fact(194, "CPU: sampling, tokens/s (3,464 of 88 replies in 17.8 s)", "a trial"),
    "cpu_train": Fact(0.09e12, "CPU: training, FLOP/s (half a minute a source of 24 steps)", "embedded.yaml"),
    "cpu_start": Fact(14, "CPU: start and loading, seconds", "a trial"),
    "share": Fact(91_611 / (220 * 512), "mean response as a share of max_new_tokens (416 of 512)", "published_size.py"),
}


@dataclass(frozen=True)
class Machine:
    """What a model runs on.

    Attributes:
        gib: memory of a card as CUDA sees it; 0 for a CPU.
        score, read, train, retrain: FLOP/s of scoring, of reading prompts, of training with activations kept and
            recomputed.
        pair: seconds of JS and both KLs of a pair of scorers at a position, for one entry of the vocabulary.
        decode, vllm_sample: tokens/s of vLLM times the model's parameters, greedy in `rows` rows and sampled in many.
        sample: the same of Transformers, sampled.
        rows: responses at once that `decode` is of; fewer are slower in proportion.
        vllm, start: seconds before vLLM writes, and before all the rest begins.
        scaled: by what these rates follow from the H200's; empty where they were measured.
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
    """The card's rates on another: products by dense bf16 TFLOP/s, writing tokens by memory bandwidth in TB/s."""
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
