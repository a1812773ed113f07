"""Renders chat templates in a process of its own, which has little time and little memory.

A chat template comes with a checkpoint and is a program. Transformers renders it in Jinja's sandbox, out of which it
cannot reach; but it may loop for ever or write a text of a terabyte. Here the kernel ends it: the alarm for processor
time is not handled, so that it ends the process whatever that is doing, and memory is limited.

A script that imports nothing of the package: it starts in a tenth of a second. One line of JSON in, one out:

    {"template": …, "variables": {…}, "seconds": …, "longest": …}  →  {"text": …} or {"error": …}
"""

import contextlib
import json
import resource
import signal
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
import jinja2.debug  # imported late by Jinja otherwise, out of the template's memory
import jinja2.ext
from jinja2.nodes import CallBlock, Node
from jinja2.parser import Parser
from jinja2.runtime import Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment

MEMORY = 150 * 2**20  # beside what the process has when it starts


class _Generation(jinja2.ext.Extension):
    """`{% generation %}` marks what the assistant said; the text is the same without it."""

    tags = {"generation"}  # noqa: RUF012  (as Jinja has it)

    def parse(self, parser: Parser) -> Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return CallBlock(self.call_method("_said"), [], [], body).set_lineno(line)

    def _said(self, caller: Macro) -> str:
        return str(caller())


def _fixed_date(form: str) -> str:
    """Some templates print today's date (Llama 3's); the same study must be the same prompt tomorrow."""
    return datetime(2025, 1, 1).strftime(form)


def _refuse(message: Any) -> None:
    raise jinja2.exceptions.TemplateError(message)


def _tojson(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def environment() -> ImmutableSandboxedEnvironment:
    """As Transformers builds it; a test compares what the two make of the same templates."""
    built = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    built.filters["tojson"] = _tojson
    built.globals |= {"raise_exception": _refuse, "strftime_now": _fixed_date}
    return built


def _rendered(template: jinja2.Template, variables: dict[str, Any], longest: int) -> str:
    pieces, length = [], 0
    for piece in template.generate(**variables):
        pieces.append(piece)
        length += len(piece)
        if length > longest:
            raise ValueError(f"writes more than {longest} characters")
    return "".join(pieces)


def _limit(kind: int, most: int) -> None:
    with contextlib.suppress(OSError, ValueError):  # a system that has no such limit, or a lower one already
        resource.setrlimit(kind, (most, most))


def main() -> None:
    """Answers until standard input ends, which it does when the process that started this one is gone."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        _limit(resource.RLIMIT_AS, pages * resource.getpagesize() + MEMORY)
    except OSError:
        _limit(resource.RLIMIT_AS, 4 * MEMORY)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_CORE, 0)
    jinja, compiled = environment(), {}
    for line in sys.stdin.buffer:
        asked = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, asked["seconds"])
        try:
            if (source := asked["template"]) not in compiled:
                compiled = {source: jinja.from_string(source)}
            answer = {"text": _rendered(compiled[source], asked["variables"], asked["longest"])}
        except MemoryError:
            answer = {"error": f"needs more than {MEMORY // 2**20} MiB of memory"}
        except RecursionError:
            answer = {"error": "calls itself without end, or is nested too deep"}
        except Exception as error:  # templates raise what they like
            answer = {"error": f"{str(error)[:500] or type(error).__name__}"}
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
