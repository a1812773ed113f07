"""Worker process that renders chat templates within limits of CPU time and memory.

A chat template comes with a checkpoint and is a program. Jinja's sandbox, which Transformers also uses, prevents access
to Python objects, but a template can still loop forever or write terabytes of text. Here the kernel stops it: the CPU
timer's signal has no handler, so it kills the process wherever it is, and the memory is limited.

This script does not import the package, so it starts in a tenth of a second. It reads and writes one line of JSON per
template:

    {"template": …, "variables": {…}, "seconds": …, "longest": …}  →  {"text": …} or {"error": …}
    {"template": …, "names": true, "seconds": …}  →  {"names": […]} or {"error": …}, the variables that it reads
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
import jinja2.debug  # Jinja would otherwise import it later, within the template's memory limit
import jinja2.ext
from jinja2.meta import find_undeclared_variables
from jinja2.nodes import CallBlock, Node
from jinja2.parser import Parser
from jinja2.runtime import Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment

MEMORY = 150 * 2**20  # in addition to what the process uses at start


class _Generation(jinja2.ext.Extension):
    """Tag `{% generation %}`, which marks the assistant's text and does not change the output."""

    tags = {"generation"}  # noqa: RUF012  (Jinja declares it like this)

    def parse(self, parser: Parser) -> Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return CallBlock(self.call_method("_said"), [], [], body).set_lineno(line)

    def _said(self, caller: Macro) -> str:
        return str(caller())


def _fixed_date(form: str) -> str:
    """Return a fixed date, so that templates that print today's date (Llama 3) give the same prompt every day."""
    return datetime(2025, 1, 1).strftime(form)


def _refuse(message: Any) -> None:
    raise jinja2.exceptions.TemplateError(message)


def _tojson(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def environment() -> ImmutableSandboxedEnvironment:
    """Build the same Jinja environment as Transformers; a test compares the output of both."""
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
    with contextlib.suppress(OSError, ValueError):  # the system lacks this limit or already has a lower one
        resource.setrlimit(kind, (most, most))


def main() -> None:
    """Answer requests until standard input ends, which also happens when the parent process dies."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        _limit(resource.RLIMIT_AS, pages * resource.getpagesize() + MEMORY)
    except OSError:
        _limit(resource.RLIMIT_AS, 4 * MEMORY)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_CORE, 0)
    jinja, compiled = environment(), {}
    answer: dict[str, Any]
    for line in sys.stdin.buffer:
        asked = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, asked["seconds"])
        try:
            if (source := asked["template"]) not in compiled:
                compiled = {source: jinja.from_string(source)}
            if asked.get("names"):
                answer = {"names": sorted(find_undeclared_variables(jinja.parse(source)))}
            else:
                answer = {"text": _rendered(compiled[source], asked["variables"], asked["longest"])}
        except MemoryError:
            answer = {"error": f"needs more than {MEMORY // 2**20} MiB of memory"}
        except RecursionError:
            answer = {"error": "recurses too deeply"}
        except Exception as error:  # a template can raise any exception
            answer = {"error": f"{str(error)[:500] or type(error).__name__}"}
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
