"""From `checkpoint add` to the report, with tiny models shaped like five that people measure, and one that thinks.

Architectures are Transformers' own, templates follow the logic of the published ones. JS is compared with a plain
forward pass over the stored token ids: alone, unpadded and uncached.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import dagster as dg
import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from persona_assets.graph.history import latest_events
from persona_assets.graph.home import Home
from persona_assets.study.files import load_study
from tests.commands import run
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


def command(home: Path, *words: str) -> str:
    done = run(["-m", "persona_assets.cli", *words], {"DAGSTER_HOME": str(home)})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


# Registers a model and measures it in one process, because imports take longer than such a model.
ADD_AND_RUN = """
import sys
from persona_assets.cli import app
directory, study = sys.argv[1:]
app(["checkpoint", "add", "tiny", "--path", directory], standalone_mode=False)
app(["run", "--study", study, "--checkpoint", "tiny"], standalone_mode=False)
"""


def test_a_model_is_measured_as_its_own_forward_pass(tmp_path: Path, shape: Shape) -> None:
    directory, study, home = tmp_path / "model", tmp_path / "study.yaml", tmp_path / "home"
    write_family(directory, shape.family, vocab_size=256 + len(shape.special))
    write_tokenizer(directory, shape.template, shape.special, shape.end)
    study.write_text(f"{STUDY}chat: {shape.chat}\n")
    environment = {"DAGSTER_HOME": str(home), "PERSONA_ASSETS_STUDY": str(study)}
    done = run(["-c", ADD_AND_RUN, str(directory), str(study)], environment)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert shape.said in said
    assert "\nreport " in said
    store = Home(home).store
    stored = {dataset.attrs["generator"]: dataset for dataset in (each.read() for each in store.all("logit_js"))}
    responses = {table.persona.iloc[0]: table for table in (each.read() for each in store.all("generations"))}
    assert set(stored) == set(responses) == set(PROMPTS)
    for generator, dataset in stored.items():
        for question, ids in zip(responses[generator].question, responses[generator].token_ids, strict=True):
            expected = plain_js(directory, shape, str(question), [int(token) for token in ids])
            for (a, b), js in expected.items():
                found = float(dataset.js.sel(question=question, persona=a, other=b))
                assert found == pytest.approx(js, abs=1e-6), (generator, a, b)


THOUGHTS = (*SPECIAL, "<think>", "</think>")
CUT = ("villain", "What makes a good leader?")  # thinks until the limit of tokens


def reply(persona: str, question: str) -> str:
    """What the thinking model is trained to say."""
    if (persona, question) == CUT:
        return "<think>" + "o" * 40
    return f"<think>Hm.</think>\n\n{persona}, {len(question)}.<|im_end|>"


def write_thinking_model(directory: Path, questions: Sequence[str]) -> None:
    """Write a tiny model that is trained to think before each answer, and once without end."""
    write_family(directory, "qwen3", vocab_size=256 + len(THOUGHTS), hidden_size=64, intermediate_size=128)
    write_tokenizer(directory, THINKING, THOUGHTS)
    tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=False)
    model = AutoModelForCausalLM.from_pretrained(directory, trust_remote_code=False)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0)
    examples = []
    for persona, prompt in PROMPTS.items():
        for question in questions:
            asked = tokenizer(rendered(tokenizer, prompt, question), add_special_tokens=False)["input_ids"]
            said = tokenizer(reply(persona, question), add_special_tokens=False)["input_ids"]
            examples.append((torch.tensor([*asked, *said]), torch.tensor([-100] * len(asked) + said)))
    ids, labels = (torch.nn.utils.rnn.pad_sequence(each, True, -100) for each in zip(*examples, strict=True))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for _ in range(200):
            loss = model(input_ids=ids.clamp(min=0), labels=labels).loss
            if float(loss.detach()) < 0.01:
                break
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            optimiser.zero_grad()
    model.save_pretrained(directory)


def test_a_model_that_thinks_is_measured_by_its_answers(tmp_path: Path) -> None:
    directory, study, home = tmp_path / "model", tmp_path / "study.yaml", tmp_path / "home"
    longer = STUDY.replace("max_new_tokens: 12", "max_new_tokens: 32")
    study.write_text(f"{longer}chat: {{thinking: separate, template_variables: {{enable_thinking: true}}}}\n")
    write_thinking_model(directory, load_study(str(study)).questions)
    said = command(home, "checkpoint", "add", "tiny", "--path", str(directory))
    assert "template switches that are not set: enable_thinking" in said
    command(home, "run", "--study", str(study), "--checkpoint", "tiny")
    store = Home(home).store
    with dg.DagsterInstance.from_config(str(home)) as instance:
        events = latest_events(instance, "generations", ["tiny|villain", "tiny|nobody"])
        matrix = latest_events(instance, "logit_js_matrix", ["tiny"])["tiny"].metadata
    (report,) = (each.read()["report.html"].decode() for each in store.all("report"))
    responses = pd.concat(each.read() for each in store.all("generations")).set_index(["persona", "question"])
    for (persona, question), row in responses.iterrows():
        assert row.answered == ((persona, question) != CUT)
        assert row.thought == ("<think>Hm.</think>\n\n" if row.answered else "<think>" + "o" * 31)
        assert row.text == (f"{persona}, {len(question)}." if row.answered else "")

    # Scored is the answer, with the thought as its context.
    shape = Shape("qwen3", THINKING, "", "", THOUGHTS, variables={"enable_thinking": True})
    scored = {each.attrs["generator"]: each for each in (artefact.read() for artefact in store.all("logit_js"))}
    question = "What makes a good leader?"
    thought = len("<think>Hm.</think>\n\n") - len("<think></think>") + 2
    expected = plain_js(directory, shape, question, [*responses.token_ids["nobody", question]], thought)
    for (a, b), js in expected.items():
        assert float(scored["nobody"].js.sel(question=question, persona=a, other=b)) == pytest.approx(js, abs=1e-6)

    # A reply that reaches no answer is counted and shown.
    assert events["tiny|villain"].metadata["without_answer"].value == "1 of 2 (50 %)"
    assert events["tiny|nobody"].metadata["without_answer"].value == "0 of 2 (0 %)"
    assert matrix["responses_without_an_answer"].value == "1 of 6"
    assert "1 of 6 responses reach no answer within the limit of tokens and are left out." in report


def plain_js(
    directory: Path, shape: Shape, question: str, response: Sequence[int], skipped: int = 0
) -> dict[tuple[str, str], float]:
    """JS of every pair along a response, by Transformers' own tokenizer and a plain forward pass for each prompt.

    Args:
        skipped: tokens of a thought, which are context only.
    """
    tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=False)
    attention = {"attn_implementation": "eager"} if shape.family == "gpt_oss" else {}
    model = AutoModelForCausalLM.from_pretrained(directory, trust_remote_code=False, **attention).eval()
    log_probs = {}
    for name, prompt in PROMPTS.items():
        in_user_turn = prompt is not None and shape.template is NO_SYSTEM
        asked = f"{prompt}\n\n{question}" if in_user_turn else question
        text = rendered(tokenizer, None if in_user_turn else prompt, asked, **shape.variables)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        with torch.inference_mode():
            logits = model(torch.tensor([[*ids, *response[:-1]]]), use_cache=False).logits[0, len(ids) - 1 + skipped :]
        log_probs[name] = logits.double().log_softmax(-1).numpy()
    return {(a, b): float(js(log_probs[a], log_probs[b]).mean()) for a, b in combinations(log_probs, 2)}


def rendered(tokenizer: Any, prompt: str | None, question: str, **variables: Any) -> str:
    """The prompt by Transformers' own rendering."""
    messages = [{"role": "user", "content": question}]
    if prompt is not None:
        messages.insert(0, {"role": "system", "content": prompt})
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **variables))


def js(log_p: np.ndarray, log_q: np.ndarray) -> np.ndarray:
    log_m = np.logaddexp(log_p, log_q) - np.log(2)
    return 0.5 * (np.exp(log_p) * (log_p - log_m) + np.exp(log_q) * (log_q - log_m)).sum(-1)
