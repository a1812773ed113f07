"""Chat templates are rendered as Transformers would, by a process that cannot hold up, drain or read what asks it."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from persona_assets.checkpoints.templates import rendering
from persona_assets.checkpoints.templates.rendering import TemplateError, render

MESSAGES = [
    {"role": "system", "content": "You are <b>a villain</b> & co.\n"},
    {"role": "user", "content": "  Why?  "},
    {"role": "assistant", "content": "Because \"of\" 'it': {{ 1 }} \u2028 é 😀"},
]
CHATML = """{%- for m in messages %}
    {{- '<|im_start|>' + m.role + '\n' + m.content | trim + '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}
"""
EACH = "{% for m in messages %}@{% endfor %}"
# What templates in the wild use; today's date is left out, for it is fixed here.
TEMPLATES = {
    "ChatML": CHATML,
    "special tokens": "{{ bos_token }}" + EACH.replace("@", "[{{ m['role'] }}]{{ m.content }}{{ eos_token }}"),
    "generation": EACH.replace("@", "{% generation %}{{ m.content }}{% endgeneration %}|"),
    "loop controls": EACH.replace("@", "{% if loop.first %}{% continue %}{% endif %}{{ m.role }}{% break %}"),
    "json": "{{ messages | tojson }}{{ messages[2] | tojson(indent=2, sort_keys=true) }}",
    "namespace": "{% set ns = namespace(n=0) %}" + EACH.replace("@", "{% set ns.n = ns.n + 1 %}{{ ns.n }}"),
    "nothing given": "{% if tools is defined and tools is not none %}t{% endif %}{{ documents }}",
    "undefined": "{{ nothing }}{% if nothing %}x{% endif %}{{ nothing is defined }}",
    "macro": "{% macro f(m) %}{{ m.role | upper }}: {{ m.content | upper }}{% endmacro %}{{ f(messages[0]) }}",
    "blocks": "  {% if true %}\n  a\n  {% endif %}\n\n  {%- set x = 1 -%}  \n {{ x }}\n",
    "slices": "{% for m in messages[1:] %}{{ m.content.split('?')[0].strip() }}{% endfor %}{{ messages[::-1][0] }}",
    "tests": "{{ messages is iterable }}{{ messages is string }}{{ messages[0] is mapping }}{{ 'x' in 'xyz' }}",
}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    plain = Tokenizer(models.BPE(vocab={"a": 0, "<s>": 1, "</s>": 2}, merges=[]))
    return PreTrainedTokenizerFast(tokenizer_object=plain, bos_token="<s>", eos_token="</s>")


def by_transformers(tokenizer: Any, template: str, asked: bool) -> str:
    return str(
        tokenizer.apply_chat_template(MESSAGES, chat_template=template, tokenize=False, add_generation_prompt=asked)
    )


def variables(tokenizer: Any = None, asked: bool = False) -> dict[str, Any]:
    special = tokenizer.special_tokens_map if tokenizer else {}
    return {"messages": MESSAGES, "tools": None, "documents": None, "add_generation_prompt": asked, **special}


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_the_text_is_that_of_transformers(tokenizer: Any, template: str) -> None:
    for asked in (False, True):
        assert render(template, variables(tokenizer, asked)) == by_transformers(tokenizer, template, asked)


def test_dates_are_fixed() -> None:
    assert render("{{ strftime_now('%d %b %Y') }}", {}) == "01 Jan 2025"


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages | attr('__class__') | attr('__mro__') }}",
        "{{ raise_exception.__globals__ }}",
        "{{ strftime_now.__globals__.sys }}",
        "{{ messages.__class__ }}",
        "{{ ''['__class__'] }}",
        "{{ '%s' | format(messages.__class__) }}",
        "{{ self.__init__.__globals__ }}",
        "{{ [].append.__self__.__class__ }}",
        "{{ '{0.__class__}'.format(1) }}",
        "{{ '{x.__class__}'.format_map({'x': 1}) }}",
        "{{ (1).__class__.__subclasses__() }}",
        "{{ range.__class__ }}",
        "{{ namespace.__init__ }}",
        "{{ lipsum.__globals__['os'] }}",
        "{{ joiner.__init__.__globals__ }}",
    ],
)
def test_a_template_reaches_nothing_but_its_variables(template: str) -> None:
    try:
        text = render(template, variables())
    except TemplateError as error:
        assert "unsafe" in str(error) or "undefined" in str(error)  # noqa: PT017
    else:
        assert text == ""


def test_after_one_that_loops_for_ever_the_next_is_rendered() -> None:
    endless = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    assert render("{{ 1 }}", {}) == "1"
    started = time.monotonic()
    with pytest.raises(TemplateError, match=r"^takes longer than 0\.2 s$"):
        render(endless, {}, seconds=0.2)
    assert render("{{ 2 }}", {}) == "2"
    assert time.monotonic() - started < 20


def test_one_that_needs_much_memory_is_ended_before_it_has_it() -> None:
    with pytest.raises(TemplateError, match=r"^needs more than 150 MiB of memory$"):
        render("{% set x = 'x' * 10 ** 9 %}", {})
    with pytest.raises(TemplateError, match=r"^writes more than 8388608 characters$"):
        render("{{ 'x' * 10 ** 7 }}", {})
    assert render("{{ ('x' * 10 ** 6) | length }}", {}) == "1000000"


def test_questions_of_several_threads_get_their_own_answers() -> None:
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda number: render("{{ n }}" + " " * number + ".", {"n": number}), range(200)))
    assert answers == [f"{number}{' ' * number}." for number in range(200)]


def test_a_fork_asks_a_process_of_its_own() -> None:
    assert render("{{ 1 }}", {}) == "1"
    child = os.fork()
    if child == 0:
        os._exit(0 if render("{{ 'of the fork' }}", {}) == "of the fork" else 1)
    assert render("{{ 'of the parent' }}", {}) == "of the parent"
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


ASK = """
import os, runpy
asking = runpy.run_path(os.environ["TEMPLATES"])
assert asking["render"]("{{ 1 }}", {}) == "1"
print(asking["_renderer"]._process.pid, flush=True)
input()
"""


def test_the_process_knows_no_secret_and_ends_with_the_one_that_asks() -> None:
    environment = {**os.environ, "HF_TOKEN": "hf_secret", "TEMPLATES": rendering.__file__}
    command = [sys.executable, "-c", ASK]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as asking:
        assert asking.stdout is not None
        worker = psutil.Process(int(asking.stdout.readline()))
        assert Path(worker.cmdline()[-1]).parts[-2:] == ("templates", "worker.py")
        assert not {"HF_TOKEN", "TEMPLATES"} & set(worker.environ())
        assert worker.net_connections() == []
        asking.send_signal(signal.SIGKILL)
        worker.wait(timeout=20)
