"""vLLM against Transformers on the embedded model and study: whether tokens and probabilities agree, and the speed.

    python -m benchmarks.engines --out benchmarks/results/engines.md

Both engines generate greedy responses of every persona to every question, on the hardware and in the data type that a
study would use. In float32 the responses are identical. In 16 bits, two nearly equal logits may be ordered differently,
and the responses differ from that token on. The time to start vLLM is reported separately from generation.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from benchmarks.embedded_study import embedded_study
from benchmarks.reporting import heading, table
from persona_assets.inference import LoadedModel, Response, TransformersGenerator, measured
from persona_assets.inference.embedded_model import NAME, ensure_embedded_model
from persona_assets.inference.engines import vllm_version
from persona_assets.inference.vllm.engine import VllmGenerator
from persona_assets.inference.vllm.settings import VllmSettings, plan_engine_memory

MODELS = Path(__file__).parents[1] / "dagster_home" / "models"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/engines.md"))
    arguments = parser.parse_args()
    study, loaded = embedded_study()
    assert study.decoding
    prompts = [
        loaded.chat.prompt_ids(prompt, question) for prompt in study.prompts.values() for question in study.questions
    ]
    with measured(loaded.hardware.device) as plain:
        theirs = TransformersGenerator(loaded).generate(prompts, study.decoding)
    directory = ensure_embedded_model(MODELS)
    _, memory = plan_engine_memory(directory, loaded.hardware, 0.5)
    settings = VllmSettings(directory, loaded.hardware, memory=memory)
    with VllmGenerator(settings, loaded.chat, loaded.stop_ids, print) as engine:
        engine.start(max(map(len, prompts)) + study.decoding.max_new_tokens)
        with measured(loaded.hardware.device) as vllm:
            ours = engine.generate(prompts, study.decoding)
        said = [probabilities for _, probabilities in engine.generate_with_log_probs(prompts, study.decoding)]
        start = engine.plan["engine_start_seconds"]
    tokens = [sum(len(response.token_ids) for response in each) for each in (theirs, ours)]
    rows = [
        {"engine": "Transformers", "tokens/s": f"{tokens[0] / plain.seconds:,.0f}", "ratio": "1 ×", "start (s)": ""},
        {
            "engine": f"vLLM {vllm_version()}",
            "tokens/s": f"{tokens[1] / vllm.seconds:,.0f}",
            "ratio": f"{tokens[1] / vllm.seconds / (tokens[0] / plain.seconds):.2f} ×",
            "start (s)": f"{start:.0f}",
        },
    ]
    text = f"{(__doc__ or '').splitlines()[0]}\n\n`python -m benchmarks.engines`, {heading()}\n"
    text += f"{NAME}, {loaded.hardware.dtype}, {len(prompts)} responses.\n\n{table(rows)}\n\n"
    text += f"{_agreement(theirs, ours)}\n{_probabilities(loaded, prompts, ours, said)}\n"
    print(text)
    arguments.out.write_text(text, encoding="utf-8")


def _agreement(theirs: list[Response], ours: list[Response]) -> str:
    """Describe how many tokens agree, and where responses start to differ."""
    parts = []
    for one, other in zip(theirs, ours, strict=True):
        pairs = zip(one.token_ids, other.token_ids, strict=False)
        parts.append(next((place for place, (a, b) in enumerate(pairs) if a != b), None))
    same = sum(
        sum(a == b for a, b in zip(one.token_ids, other.token_ids, strict=False))
        for one, other in zip(theirs, ours, strict=True)
    )
    every = sum(len(response.token_ids) for response in theirs)
    whole = sum(one.token_ids == other.token_ids for one, other in zip(theirs, ours, strict=True))
    text = f"The same token at the same position: {same:,} of {every:,} ({same / every:.2%}); "
    text += f"whole responses: {whole} of {len(theirs)}."
    found = [place for place in parts if place is not None]
    if found:
        text += f" The others differ from tokens {', '.join(map(str, sorted(found)))}."
    return text


@torch.inference_mode()
def _probabilities(
    loaded: LoadedModel, prompts: list[list[int]], ours: list[Response], said: list[list[float] | None]
) -> str:
    """Compare vLLM's log-probabilities of its tokens with a forward pass of Transformers."""
    gaps = list[float]()
    for prompt, response, found in zip(prompts, ours, said, strict=True):
        assert found is not None
        fed = torch.tensor([[*prompt, *response.token_ids]], device=loaded.device)
        logits = loaded.model(fed).logits[0, len(prompt) - 1 : -1].float()
        ids = torch.tensor(response.token_ids, device=loaded.device)[:, None]
        expected = logits.log_softmax(-1).gather(1, ids)[:, 0]
        gaps += (torch.tensor(found) - expected.cpu()).abs().tolist()
    return (
        f"Log-probability of a chosen token, difference between the engines: median {np.median(gaps):.1e}, "
        f"99 % below {np.quantile(gaps, 0.99):.1e}, largest {max(gaps):.1e}."
    )


if __name__ == "__main__":
    main()
