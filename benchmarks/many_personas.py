"""Scoring under 11, 33 and 111 personas: peak memory and time against the formulas of `planning.memory`.

    python -m benchmarks.many_personas                       # the embedded model, 2 questions x 8 tokens: minutes
    python -m benchmarks.many_personas --device cuda         # Qwen2.5-7B's shape with random weights, 416 tokens

The personas are those of `roles.py`. For each K a new process scores the responses of some generators, with the
functions that `logit_js` calls. The time for K = 111 is then predicted from the two smaller K:
seconds = a·FLOP + b·pairs.
"""

import argparse
import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from benchmarks.embedded_study import embedded_study
from benchmarks.published_size import random_model
from benchmarks.roles import study_of
from persona_assets.checkpoints.shape import QWEN_7B, SMOLLM_135M
from persona_assets.inference import LoadedModel, Scored, loading
from persona_assets.inference.generation import TransformersGenerator
from persona_assets.inference.scoring.choice import choose_scorer
from persona_assets.metrics import divergence_matrix, label_responses
from persona_assets.planning.memory import cpu_scoring_need, matrix_bytes, scoring_need
from persona_assets.stages.nan_checks import divergences

COUNTS = (11, 33, 111)
MIB = 2**20


@dataclass(frozen=True)
class Part:
    """Cost of scoring some generators' responses; bytes are in addition to the weights."""

    personas: int
    generators: int
    positions: int
    flops: float
    pairs: float  # pairs x positions x vocabulary
    seconds: float
    peak: int
    formula: int
    matrix_peak: int
    matrix_formula: int


def peak_of(work: Callable[[], Any], device: str) -> tuple[Any, int]:
    """Return the result of `work`, and the most bytes that it used in addition to what was allocated before."""
    gc.collect()
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        result = work()
        torch.cuda.synchronize()
        return result, torch.cuda.max_memory_allocated() - before
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = _status("VmRSS")
    result = work()
    return result, _status("VmHWM") - before


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(field)).split()[1])


def part(count: int, generators: int, questions: int, tokens: int, device: str) -> Part:
    """Measure one K."""
    loaded, prompts, responses = _work(count, generators, questions, tokens, device)
    shape = QWEN_7B if device == "cuda" else SMOLLM_135M
    lengths = [len(ids) for of_question in prompts for ids in of_question]
    prompt, padded = float(np.mean(lengths)), max(lengths)
    personas = list(study_of(count, questions, tokens).personas)
    scorer = choose_scorer(loaded)
    seconds = 0.0
    # CPU time, because other processes may use the CPU; on a GPU, copying JS to the host waits for its work.
    clock = time.perf_counter if device == "cuda" else time.process_time

    def score(responses: list[list[list[int]]]) -> dict[str, xr.Dataset]:
        nonlocal seconds
        found: dict[str, xr.Dataset] = {}
        for generator, said in zip(personas, responses, strict=False):
            began = clock()
            work = [Scored(*pair) for pair in zip(prompts, said, strict=True)]
            divergence = divergences(loaded, scorer, work, generator, personas)
            found[generator] = label_responses(divergence, generator, personas, [str(n) for n in range(questions)])
            seconds += clock() - began
        return found

    if device == "cuda":  # compilation for this K happens once per machine and is not part of the rate
        score(responses[:1])
        seconds = 0.0
    found, peak = peak_of(lambda: score(responses), device)
    positions = sum(len(response) for said in responses for response in said)
    need = (
        scoring_need(shape, count, questions, prompt, tokens, 2)
        if device == "cuda"
        else cpu_scoring_need(shape, count, questions, padded, tokens)
    )
    # Only the matrix's size matters here, so every persona gets the first one's responses.
    one = found[personas[0]][["js", "kl"]]
    everyone = {name: one.assign_attrs(generator=name).copy(deep=True) for name in personas}
    _, matrix_peak = peak_of(lambda: divergence_matrix(everyone, "all", resamples=200, seed=0, level=0.95), "cpu")
    stored = 16 * count * questions * count**2  # size of `everyone`, which is allocated before the peak is measured
    return Part(
        personas=count,
        generators=len(responses),
        positions=positions,
        flops=sum(count * shape.forward_flops(len(r), prompt) for said in responses for r in said)
        + questions * count * shape.forward_flops(prompt, with_logits=False),
        pairs=positions * shape.vocabulary * count * (count - 1) / 2,
        seconds=seconds,
        peak=peak,
        formula=need.working,
        matrix_peak=matrix_peak + stored,
        matrix_formula=matrix_bytes(count, count, questions),
    )


def _work(
    count: int, generators: int, questions: int, tokens: int, device: str
) -> tuple[LoadedModel, list[list[list[int]]], list[list[list[int]]]]:
    """Return the model, the K prompts of every question, and the responses of every generator."""
    if device == "cuda":
        loaded, random = random_model(), np.random.default_rng(42)
        prompts = [
            [random.integers(QWEN_7B.vocabulary, size=random.integers(23, 52)).tolist() for _ in range(count)]
            for _ in range(questions)
        ]
        said = [[random.integers(QWEN_7B.vocabulary, size=tokens).tolist() for _ in prompts] for _ in range(generators)]
        return loaded, prompts, said
    study = study_of(count, questions, tokens)
    loading.keep_freed_memory = lambda: None  # otherwise the process never shrinks, because freed memory is fragmented
    _, loaded = embedded_study("cpu")
    assert study.decoding is not None
    prompts = [
        [list(loaded.chat.prompt_ids(prompt, question)) for prompt in study.prompts.values()]
        for question in study.questions
    ]
    writer = TransformersGenerator(loaded)
    said = [
        [list(r.token_ids) for r in writer.generate([of_question[place] for of_question in prompts], study.decoding)]
        for place in range(min(generators, count))
    ]
    return loaded, prompts, said


def table(parts: list[Part]) -> str:
    """Return Markdown tables of memory and of time."""
    heading = "| K | generators | scored tokens | peak (MiB) | formula | peak / formula | matrix peak | formula |"
    memory = [
        f"| {p.personas} | {p.generators} | {p.positions * p.personas:,} | {p.peak / MIB:.0f} | "
        f"{p.formula / MIB:.0f} | {p.peak / p.formula:.2f} | {p.matrix_peak / MIB:.1f} | {p.matrix_formula / MIB:.1f} |"
        for p in parts
    ]
    fitted, (a, b) = parts[:2], _rates(parts[:2])
    times = [
        f"| {p.personas} | {p.seconds:.1f} | {p.flops / 1e12:.2f} | {p.pairs / 1e9:.2f} | "
        + ("fitted |" if p in fitted else f"{a * p.flops + b * p.pairs:.1f}: {_off(a * p.flops + b * p.pairs, p)} |")
        for p in parts
    ]
    return "\n".join(
        [
            heading,
            "| --- |" + " ---: |" * 7,
            *memory,
            "",
            f"Fitted to the first two: {1e-12 / a:.3f} TFLOP/s, {1e9 * b:.2f} ns per pair and entry.",
            "",
            "| K | seconds | TFLOP | pairs × positions × entries (10⁹) | predicted |",
            "| --- |" + " ---: |" * 4,
            *times,
        ]
    )


def _rates(parts: list[Part]) -> tuple[float, float]:
    system = np.array([[p.flops, p.pairs] for p in parts])
    a, b = np.linalg.solve(system, [p.seconds for p in parts])
    return float(a), float(b)


def _off(predicted: float, measured: Part) -> str:
    return f"{predicted / measured.seconds - 1:+.0%}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--questions", type=int, default=2)
    parser.add_argument("--tokens", type=int)
    parser.add_argument("--generators", type=int, default=4, help="number of generators scored for each K")
    parser.add_argument("--one", type=int, help="measure this K only and print JSON")
    asked = parser.parse_args()
    tokens = asked.tokens or (416 if asked.device == "cuda" else 8)
    if asked.one:
        print(json.dumps(asdict(part(asked.one, asked.generators, asked.questions, tokens, asked.device))))
        return
    parts = []
    for count in COUNTS:
        command = [sys.executable, "-m", "benchmarks.many_personas", "--one", str(count), "--tokens", str(tokens)]
        command += [
            "--device",
            asked.device,
            "--questions",
            str(asked.questions),
            "--generators",
            str(asked.generators),
        ]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        parts.append(Part(**json.loads(printed.splitlines()[-1])))
    print(table(parts))


if __name__ == "__main__":
    main()
