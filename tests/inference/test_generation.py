"""Tests of generation: decoding depends on the study only, not on the checkpoint's defaults or the batch."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, GenerationConfig

from persona_assets.checkpoints import Checkpoint
from persona_assets.inference import LoadedModel, Response, TransformersGenerator, choose_hardware, load_model
from persona_assets.study.files import load_study
from persona_assets.study.settings import Decoding, Inference

HABITS: dict[str, Any] = {
    "repetition_penalty": 5.0,
    "no_repeat_ngram_size": 1,
    "do_sample": True,
    "temperature": 9.0,
    "top_k": 3,
    "max_length": 7,
    "suppress_tokens": list(range(100, 200)),
}


@pytest.fixture(scope="module")
def prompts(embedded: LoadedModel) -> list[list[int]]:
    """Prompts of three personas, with different lengths."""
    study = load_study()
    ids = [embedded.chat.prompt_ids(prompt, study.questions[0]) for prompt in study.prompts.values()]
    assert len(set(map(len, ids))) > 1
    return ids


def tiny(directory: Path, **generation_config: Any) -> LoadedModel:
    file = directory / "generation_config.json"
    file.write_text(json.dumps({"eos_token_id": 2, **generation_config}))
    return load_model(Checkpoint(name="tiny", path=directory), choose_hardware(Inference(device="cpu")))


def ids_of(responses: list[Response]) -> list[tuple[int, ...]]:
    return [response.token_ids for response in responses]


@torch.inference_mode()
def arg_max_loop(loaded: LoadedModel, prompt: list[int], tokens: int) -> list[int]:
    ids = list(prompt)
    for _ in range(tokens):
        ids.append(int(loaded.model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    return ids[len(prompt) :]


def test_greedy_decoding_takes_the_argmax_at_every_step(embedded: LoadedModel, prompts: list[list[int]]) -> None:
    (response,) = TransformersGenerator(embedded).generate(prompts[:1], Decoding(max_new_tokens=6))
    assert list(response.token_ids) == arg_max_loop(embedded, prompts[0], 6)
    assert response.finish_reason == "length"
    assert response.text == embedded.chat.tokenizer.decode(response.token_ids)


def test_greedy_ids_do_not_depend_on_the_batch(embedded: LoadedModel, prompts: list[list[int]]) -> None:
    generator, decoding = TransformersGenerator(embedded), Decoding(max_new_tokens=8)
    alone = [ids_of(generator.generate([prompt], decoding))[0] for prompt in prompts]
    assert ids_of(generator.generate(prompts, decoding)) == alone
    assert ids_of(generator.generate(prompts[::-1], decoding)) == alone[::-1]


def test_the_stop_token_is_in_the_ids_but_not_in_the_text(embedded: LoadedModel) -> None:
    brief = embedded.chat.prompt_ids("Answer with one word.", "Say yes.")
    wordy = embedded.chat.prompt_ids("You are a helpful assistant.", "What makes a good leader?")
    stopped, cut = TransformersGenerator(embedded).generate([brief, wordy], Decoding(max_new_tokens=6))
    assert (stopped.finish_reason, cut.finish_reason) == ("stop", "length")
    assert embedded.chat.tokenizer.convert_ids_to_tokens(stopped.token_ids[-1]) == "<|im_end|>"
    assert len(stopped.token_ids) < 6 == len(cut.token_ids)
    assert "<|im_end|>" not in stopped.text
    assert not set(cut.token_ids) & set(embedded.stop_ids)


def test_a_stop_token_at_the_length_limit_counts_as_stop(embedded: LoadedModel) -> None:
    brief = embedded.chat.prompt_ids("Answer with one word.", "Say yes.")
    generator = TransformersGenerator(embedded)
    (whole,) = generator.generate([brief], Decoding(max_new_tokens=12))
    (exact,) = generator.generate([brief], Decoding(max_new_tokens=len(whole.token_ids)))
    assert exact == whole
    assert exact.finish_reason == "stop"


def test_every_stop_token_of_the_checkpoint_ends_a_turn(tiny_directory: Path) -> None:
    prompt = [[10, 20, 30]]
    (free,) = ids_of(TransformersGenerator(tiny(tiny_directory)).generate(prompt, Decoding(max_new_tokens=12)))
    other = next(token for token in free if token != free[0])
    loaded = tiny(tiny_directory, eos_token_id=[2, other])
    assert loaded.stop_ids == [2, other]
    (response,) = TransformersGenerator(loaded).generate(prompt, Decoding(max_new_tokens=12))
    assert response.token_ids == free[: free.index(other) + 1]
    assert response.finish_reason == "stop"


def test_the_checkpoints_generation_config_is_ignored(tiny_directory: Path) -> None:
    prompts, decoding = [[10, 20, 30], [40, 50, 60, 70]], Decoding(max_new_tokens=24)
    plain = ids_of(TransformersGenerator(tiny(tiny_directory)).generate(prompts, decoding))
    assert ids_of(TransformersGenerator(tiny(tiny_directory, **HABITS)).generate(prompts, decoding)) == plain


def test_transformers_fills_unset_options_from_the_checkpoints_generation_config(tiny_directory: Path) -> None:
    """Show why `load_model` resets the generation config; if this fails, the reset is no longer needed."""
    plain = tiny(tiny_directory)
    (expected,) = ids_of(TransformersGenerator(plain).generate([[10, 20, 30]], Decoding(max_new_tokens=24)))
    model = AutoModelForCausalLM.from_pretrained(tiny_directory)
    model.generation_config = GenerationConfig(eos_token_id=2, repetition_penalty=5.0)
    ours = GenerationConfig(max_new_tokens=24, do_sample=False, eos_token_id=[2], pad_token_id=2)
    found = model.generate(torch.tensor([[10, 20, 30]]), generation_config=ours)[0, 3:].tolist()
    assert found != list(expected)


def sampled(seed: int = 1, **more: Any) -> Decoding:
    return Decoding(method="sampled", max_new_tokens=12, seed=seed, **more)


def test_the_seed_determines_the_samples(tiny_directory: Path) -> None:
    generator, prompts = TransformersGenerator(tiny(tiny_directory)), [[10, 20, 30]] * 3
    first = ids_of(generator.generate(prompts, sampled(seed=1)))
    assert ids_of(generator.generate(prompts, sampled(seed=1))) == first
    assert ids_of(generator.generate(prompts, sampled(seed=2))) != first
    assert len(set(first)) == 3  # the same prompt three times gives three samples


def test_a_sample_does_not_depend_on_the_batch(tiny_directory: Path) -> None:
    generator, prompts = TransformersGenerator(tiny(tiny_directory)), [[10, 20, 30], [40, 50], [60, 70, 80, 90]]
    three = ids_of(generator.generate(prompts, sampled()))
    two = ids_of(generator.generate(prompts[:2], sampled()))
    other = ids_of(generator.generate([[1, 5, 9], prompts[1], [7]], sampled()))
    assert two == three[:2]
    assert other[1] == three[1]


def test_samples_follow_the_models_distribution(tiny_directory: Path) -> None:
    loaded, temperature, rows = tiny(tiny_directory), 0.5, 2000
    prompt = [10, 20, 30]
    decoding = Decoding(method="sampled", max_new_tokens=1, seed=3, temperature=temperature)
    emitted = [ids[0] for ids in ids_of(TransformersGenerator(loaded).generate([prompt] * rows, decoding))]
    with torch.inference_mode():
        expected = (loaded.model(torch.tensor([prompt])).logits[0, -1] / temperature).softmax(-1)
    shares = torch.bincount(torch.tensor(emitted), minlength=len(expected)) / rows
    likely = expected > 0.01
    errors = (shares - expected) / (expected * (1 - expected) / rows).sqrt()
    assert likely.sum() >= 3
    assert errors[likely].abs().max() < 4.5  # standard errors


def test_a_tiny_top_p_is_greedy(tiny_directory: Path) -> None:
    generator, prompts = TransformersGenerator(tiny(tiny_directory)), [[10, 20, 30], [40, 50, 60]]
    greedy = ids_of(generator.generate(prompts, Decoding(max_new_tokens=12)))
    assert ids_of(generator.generate(prompts, sampled(top_p=1e-6))) == greedy


@pytest.mark.parametrize("decoding", [Decoding(max_new_tokens=12), sampled(), sampled(top_p=0.9, temperature=0.7)])
def test_splitting_into_batches_does_not_change_ids(
    tiny_directory: Path, monkeypatch: pytest.MonkeyPatch, decoding: Decoding
) -> None:
    generator = TransformersGenerator(tiny(tiny_directory))
    prompts = [[10, 20, 30], [40, 50], [60, 70, 80, 90], [10, 20, 30], [7]]
    together = ids_of(generator.generate(prompts, decoding))
    monkeypatch.setattr(LoadedModel, "rows_at_once", lambda loaded, tokens: 2)
    assert ids_of(generator.generate(prompts, decoding)) == together


def test_samples_stay_in_the_nucleus_and_follow_its_distribution(tiny_directory: Path) -> None:
    loaded, rows, top_p = tiny(tiny_directory), 3000, 0.8
    decoding = Decoding(method="sampled", max_new_tokens=1, seed=4, temperature=0.4, top_p=top_p)
    emitted = [ids[0] for ids in ids_of(TransformersGenerator(loaded).generate([[10, 20, 30]] * rows, decoding))]
    with torch.inference_mode():
        whole = (loaded.model(torch.tensor([[10, 20, 30]])).logits[0, -1].double() / 0.4).softmax(-1)
    ordered, ids = whole.sort(descending=True)
    size = int((ordered.cumsum(0) < top_p).sum()) + 1  # the smallest set of tokens that reaches top_p
    assert 3 <= size <= 30
    assert set(emitted) <= set(ids[:size].tolist())
    shares = torch.bincount(torch.tensor(emitted), minlength=len(whole)) / rows
    expected = torch.zeros_like(whole).index_copy(0, ids[:size], ordered[:size] / ordered[:size].sum())
    assert (shares - expected).abs().sum() / 2 < 0.05  # total variation


def test_a_temperature_near_zero_is_greedy(tiny_directory: Path) -> None:
    generator, prompts = TransformersGenerator(tiny(tiny_directory)), [[10, 20, 30], [40, 50, 60]]
    greedy = ids_of(generator.generate(prompts, Decoding(max_new_tokens=12)))
    assert ids_of(generator.generate(prompts, sampled(temperature=1e-4))) == greedy
