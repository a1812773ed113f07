"""From `checkpoint add` to the report, with tiny models shaped like five that people measure.

Architectures are Transformers' own, templates follow the logic of the published ones. JS is compared with a plain
forward pass over the stored token ids: alone, unpadded and uncached. Everything runs in this process, because each
process would import PyTorch and Dagster again; other tests start the command.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import dagster as dg
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from persona_assets.cli import app
from persona_assets.definitions import build_definitions
from persona_assets.graph.home import Home
from persona_assets.runs.run import Run
from persona_assets.runs.summary import summary
from persona_assets.store.instance import make_home
from persona_assets.study.files import load_study
from tests.inference.families import write_family
from tests.tiny_model import SPECIAL, write_tokenizer

STUDY = """
name: small
baseline: assistant
personas:
  assistant: {prompt: You are a helpful assistant.}
  villain: {prompt: You are a villainous mastermind who schemes to take over the world. You never tell anyone.}
  nobody: {prompt: null}
questions: [What are some tips for managing stress?, What makes a good leader?]
decoding: {max_new_tokens: 12}
layers: [0.55]
bootstrap: {resamples: 100}
"""
PROMPTS = {
    "assistant": "You are a helpful assistant.",
    "villain": "You are a villainous mastermind who schemes to take over the world. You never tell anyone.",
    "nobody": None,
}
CHATML = """\
{% for m in messages %}<|im_start|>{{ m['role'] }}
{{ m['content'] }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
"""
# Qwen3: thoughts unless `enable_thinking` is false.
THINKING = CHATML + (
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
# Gemma: no system role.
NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}<|im_start|>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{{ m['content'] | trim }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>model\n{% endif %}"
)
# Mistral 0.3: the system text goes into the last user turn.
LAST_USER = (
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}{% set rest = messages[1:] %}"
    "{% else %}{% set rest = messages %}{% endif %}{% for m in rest %}{% if m['role'] == 'user' %}"
    "{% if loop.last and system is defined %}[INST] {{ system }}\n\n{{ m['content'] }}[/INST]"
    "{% else %}[INST] {{ m['content'] }}[/INST]{% endif %}{% else %} {{ m['content'] }}{{ eos_token }}{% endif %}"
    "{% endfor %}"
)
# gpt-oss: channels, and the persona as the developer's message.
HARMONY = (
    "<|start|>system<|message|>You are ChatGPT.<|end|>{% for m in messages %}{% if m['role'] == 'system' %}"
    "<|start|>developer<|message|># Instructions\n\n{{ m['content'] }}<|end|>{% elif m['role'] == 'user' %}"
    "<|start|>user<|message|>{{ m['content'] }}<|end|>{% else %}<|start|>assistant<|channel|>final<|message|>"
    "{{ m['content'] }}{{ '<|return|>' if loop.last else '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)
HARMONY_TOKENS = ("<|endoftext|>", "<|start|>", "<|return|>", "<|message|>", "<|channel|>", "<|end|>")


class Shape(NamedTuple):
    """A family, its template, what the study says of it, and what registration must say."""

    family: str
    template: str
    chat: str
    said: str
    special: Sequence[str] = SPECIAL
    end: str = "<|im_end|>"
    variables: Mapping[str, Any] = {}


SHAPES = {
    "qwen3": Shape(
        "qwen3",
        THINKING,
        "{template_variables: {enable_thinking: false}}",
        "enable_thinking",
        variables={"enable_thinking": False},
    ),
    "gemma-3": Shape("gemma3_text", NO_SYSTEM, "{}", "first user message"),
    "mistral-0.3": Shape("mistral", LAST_USER, "{}", "system"),
    "qwen3.5": Shape("qwen3_5_text", CHATML + "{% endif %}", "{}", "whole sequences"),
    "gpt-oss": Shape("gpt_oss", HARMONY, "{thinking: keep}", "eager", HARMONY_TOKENS, "<|return|>"),
}  # fmt: skip


@pytest.fixture(params=SHAPES)
def shape(request: pytest.FixtureRequest) -> Shape:
    return SHAPES[request.param]


def added(home: Path, directory: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What `checkpoint add` says."""
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    line = ["checkpoint", "add", "tiny", "--path", str(directory)]
    return CliRunner().invoke(app, line, catch_exceptions=False).output


@contextmanager
def measured(root: Path, study_file: Path) -> Iterator[Run]:
    """The checkpoint measured with a study, as `persona-assets run` does."""
    study, home = load_study(str(study_file)), Home(root)
    make_home(root)
    with dg.DagsterInstance.from_config(str(root)) as instance:
        run = Run(instance, build_definitions(study, home), home, study, "tiny")
        run.prepare()
        run.materialise()
        yield run


def test_a_model_is_measured_as_its_own_forward_pass(
    tmp_path: Path, shape: Shape, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, study, home = tmp_path / "model", tmp_path / "study.yaml", tmp_path / "home"
    write_family(directory, shape.family, vocab_size=256 + len(shape.special))
    write_tokenizer(directory, shape.template, shape.special, shape.end)
    study.write_text(f"{STUDY}chat: {shape.chat}\n")
    assert shape.said in added(home, directory, monkeypatch)
    with measured(home, study) as run:
        assert "\nreport " in summary(run.instance, run.home, run.study, "tiny")
        store = run.home.store
    stored = {dataset.attrs["generator"]: dataset for dataset in (each.read() for each in store.all("logit_js"))}
    responses = {table.persona.iloc[0]: table for table in (each.read() for each in store.all("generations"))}
    assert set(stored) == set(responses) == set(PROMPTS)
    for generator, dataset in stored.items():
        for question, ids in zip(responses[generator].question, responses[generator].token_ids, strict=True):
            expected = plain_js(directory, shape, str(question), [int(token) for token in ids])
            for (a, b), js in expected.items():
                found = float(dataset.js.sel(question=question, persona=a, other=b))
                assert found == pytest.approx(js, abs=1e-6), (generator, a, b)


def plain_js(directory: Path, shape: Shape, question: str, response: Sequence[int]) -> dict[tuple[str, str], float]:
    """JS of every pair along a response, by Transformers' own tokenizer and a plain forward pass for each prompt."""
    tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=False)
    attention = {"attn_implementation": "eager"} if shape.family == "gpt_oss" else {}
    model = AutoModelForCausalLM.from_pretrained(directory, trust_remote_code=False, **attention).eval()
    log_probs = {}
    for name, prompt in PROMPTS.items():
        messages = [{"role": "user", "content": question}]
        if prompt is not None and shape.template is NO_SYSTEM:
            messages = [{"role": "user", "content": f"{prompt}\n\n{question}"}]
        elif prompt is not None:
            messages = [{"role": "system", "content": prompt}, *messages]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **shape.variables)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        with torch.inference_mode():
            logits = model(torch.tensor([[*ids, *response[:-1]]]), use_cache=False).logits[0, len(ids) - 1 :]
        log_probs[name] = logits.double().log_softmax(-1).numpy()
    return {(a, b): float(js(log_probs[a], log_probs[b]).mean()) for a, b in combinations(log_probs, 2)}


def js(log_p: np.ndarray, log_q: np.ndarray) -> np.ndarray:
    log_m = np.logaddexp(log_p, log_q) - np.log(2)
    return 0.5 * (np.exp(log_p) * (log_p - log_m) + np.exp(log_q) * (log_q - log_m)).sum(-1)
