"""Compute JS between two system prompts on any model: each answers, and both predict every token of both answers.

    python examples/js_of_two_prompts.py "You are a pirate." "You are a librarian." --model /models/my-model

Without --model it uses the embedded model. It only needs `inference` and `metrics`: no Dagster, no instance.
"""

import argparse
from pathlib import Path

import numpy as np
import xarray as xr

from persona_assets.checkpoints import Checkpoint
from persona_assets.inference import Scored, TransformersGenerator, choose_hardware, choose_scorer, load_model
from persona_assets.metrics import average_over_responses, divergence_of_response, label_responses
from persona_assets.study.settings import Decoding, Inference

NAMES = ("first", "second")


def main(arguments: list[str] | None = None) -> None:
    given = parse(arguments)
    loaded = load_model(Checkpoint(name="model", path=given.model or embedded()), choose_hardware(Inference()))
    generator, scorer = TransformersGenerator(loaded), choose_scorer(loaded, deterministic=False)
    prompts = {  # question → the two prompts as token ids
        question: [loaded.chat.prompt_ids(system, question) for system in (given.first, given.second)]
        for question in given.question
    }
    by_generator = []
    for place, name in enumerate(NAMES):
        said = generator.generate(
            [both[place] for both in prompts.values()], Decoding(max_new_tokens=given.max_new_tokens)
        )
        work = [Scored(both, list(each.token_ids)) for both, each in zip(prompts.values(), said, strict=True)]
        divergences = [divergence_of_response(logits, place) for logits in scorer.logits(work)]
        for question, response, divergence in zip(prompts, said, divergences, strict=True):
            along = divergence.token_js[:, 1 - place]  # between the generator and the other
            print(f"{name}, asked {question!r}: JS {along.mean():.4f} over {len(along)} tokens\n  {response.text!r}")
            for token in np.argsort(along)[::-1][:3]:
                piece = loaded.chat.tokenizer.decode([response.token_ids[token]])
                print(f"  token {token:3} {piece!r:16} JS {along[token]:.4f}")
        by_generator.append(label_responses(divergences, name, NAMES, list(prompts)))
    both_generators = xr.concat([each.js.assign_coords(generator=each.generator) for each in by_generator], "generator")
    js = average_over_responses(both_generators).sel(persona="first", other="second")
    print(f"JS {float(js):.6f} nats (maximum {np.log(2):.6f}), mean over {2 * len(prompts)} responses")


def embedded() -> Path:
    from persona_assets.inference.embedded_model import ensure_embedded_model

    return ensure_embedded_model(Path("dagster_home") / "models")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", help="a system prompt")
    parser.add_argument("second", help="another system prompt")
    parser.add_argument("--model", type=Path, help="Hugging Face directory; by default the embedded model")
    parser.add_argument("--question", action="append", help="a question; repeat the option for several")
    parser.add_argument("--max-new-tokens", type=int, default=40)
    given = parser.parse_args(arguments)
    given.question = given.question or ["What makes a good leader?"]
    return given


if __name__ == "__main__":
    main()
