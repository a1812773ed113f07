"""Bad input, made from good input: a document with a part replaced, and bytes that were cut, doubled and flipped."""

import json
import struct
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

# What is put where a value was: JSON or YAML as text, so that it may be anything.
FRAGMENTS = (
    *(
        "null",
        "~",
        "true",
        "0",
        "-1",
        "1",
        "0.5",
        "1.5",
        "NaN",
        "Infinity",
        "-Infinity",
        ".nan",
        ".inf",
        "1e999",
        "-0.0",
    ),
    *("9" * 30, "9" * 5000, "0x" + "f" * 5000, "0b", "0x_", "1:2:3", "99:99:99.9", "1_000", "1e3", "007"),
    *(
        '""',
        '" "',
        '"x"',
        '"\\u0000"',
        '"\\ud800"',
        '"\u202e\u2066"',
        '"\\n# y: z\\nz: y"',
        '"' + "x" * 5000 + '"',
        "é",
    ),
    *('"../../etc/passwd"', '"/etc/passwd"', '"/dev/zero"', '"~nobody-here/x"', '"a/b"', '".."', '"' + "n" * 300 + '"'),
    *("[]", "{}", "[null]", "[[[[1]]]]", "[" * 80 + "]" * 80, "[" * 5000, "{a: " * 100, '{"a": ' * 2000),
    *('{"a": 1, "a": 2}', "{1: a, '1': b}", "{[a]: b}", "{{}: b}", "? [a]", "{? : }", "{null: 1}", "{1.5: x}"),
    *("&a [*a]", "&a {b: *a}", "*a", "&a x", "&b [&c [*c]]", "{<<: 1}", "{<<: [1]}", "{<<: {a: 1}, a: 2}", "<<", "="),
    *("2025-01-01", "2025-13-45", "!!timestamp x", "!!binary a", "!!bool x", "!!int x", "!!float x", "!!null x"),
    *("!!set {a}", "!!omap [a]", "!!omap [{a: 1, b: 2}]", "!!pairs [a]", "!!str [a]", "!!seq a", "!!map [a]", "!x y"),
    *("!!python/name:os.system x", "!!python/object/apply:os.system ['exit 1']", "%YAML 9.9", "---", "...", "|", ">"),
)


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, part in inside for found in _paths(part, (*path, key)))]


def _text(value: Any, edits: dict[tuple[Any, ...], tuple[str, str]], path: tuple[Any, ...] = ()) -> str:
    """The document as JSON (which is YAML too), with the edits made."""
    kind, fragment = edits.get(path, ("keep", ""))
    if kind == "replace":
        return fragment
    if isinstance(value, dict):
        parts = []
        for key, part in value.items():
            kind, fragment = edits.get((*path, key), ("keep", ""))
            name, inside = json.dumps(key), _text(part, edits, (*path, key))
            parts += {
                "drop": [],
                "twice": [f"{name}: {inside}", f"{name}: {fragment}"],
                "rename": [f"{fragment}: {inside}"],
            }.get(kind, [f"{name}: {inside}"])
        return "{" + ", ".join(parts) + "}"
    if isinstance(value, list):
        kept = [
            _text(part, edits, (*path, n)) for n, part in enumerate(value) if edits.get((*path, n), "k")[0] != "drop"
        ]
        return "[" + ", ".join(kept) + "]"
    return json.dumps(value)


@st.composite
def documents(draw: st.DrawFn, seed: Any, fragments: Sequence[str] = FRAGMENTS) -> bytes:
    """A seed document with up to three parts replaced, dropped, doubled or renamed; now and then its bytes spoilt."""
    places = draw(st.lists(st.sampled_from(_paths(seed)), min_size=1, max_size=3, unique=True))
    edits = {
        place: (
            draw(st.sampled_from(["replace", "replace", "replace", "drop", "twice", "rename"])),
            draw(st.sampled_from(fragments)),
        )
        for place in places
    }
    content = _text(seed, edits).encode("utf-8")
    return draw(spoilt(content)) if draw(st.integers(0, 4)) == 0 else content


@st.composite
def spoilt(draw: st.DrawFn, content: bytes, at_least: int = 1) -> bytes:
    """Bytes of which some were flipped, cut, doubled or put in between."""
    piece = st.one_of(
        st.binary(max_size=8),
        st.sampled_from(
            [b"\0", b"\xff", b"\xed\xa0\x80", b"\r", b"\t", b'"', b"{", b"[", b"-", b"\n", b",", b"\xef\xbb\xbf"]
        ),
    )
    for _ in range(draw(st.integers(at_least, 4))):
        start = draw(st.integers(0, len(content)))
        end = min(len(content), start + draw(st.sampled_from([0, 0, 1, 4, 64, 10**9])))
        repeat = draw(st.sampled_from([1, 1, 1, 2, 50]))
        content = content[:start] + draw(piece) * repeat + content[end:]
    return content


@st.composite
def tables(draw: st.DrawFn, rows: list[list[str]]) -> bytes:
    """A CSV table with some cells replaced, rows doubled or cut; now and then its bytes spoilt."""
    cells = [
        "",
        " ",
        "nan",
        "inf",
        "-1",
        "1e999",
        "9" * 400,
        "0.5",
        "1",
        '"',
        '"a\nb"',
        "\0",
        "é",
        "true",
        "x" * 3000,
        "=1+1",
    ]
    rows = [list(row) for row in rows]
    for _ in range(draw(st.integers(1, 4))):
        row = draw(st.integers(0, len(rows) - 1))
        column = draw(st.integers(0, len(rows[row])))
        kind = draw(st.sampled_from(["cell", "cell", "cell", "double", "more", "less"]))
        if kind == "cell" and column < len(rows[row]):
            rows[row][column] = draw(st.sampled_from([*cells, *rows[0], *rows[-1]]))
        elif kind == "double":
            rows.insert(row, list(rows[row]))
        elif kind == "more":
            rows[row].insert(column, draw(st.sampled_from(cells)))
        elif rows[row]:
            rows[row].pop(column % len(rows[row]))
    content = ("\n".join(",".join(row) for row in rows) + "\n").encode("utf-8")
    return draw(spoilt(content)) if draw(st.integers(0, 3)) == 0 else content


@st.composite
def safetensors_files(draw: st.DrawFn, header: dict[str, Any], data: int) -> bytes:
    """A safetensors file whose header was changed, whose length lies, or whose data are of another size."""
    text = draw(st.one_of(documents(header), st.just(json.dumps(header).encode())))
    length = draw(
        st.sampled_from([len(text)] * 6 + [0, 1, len(text) - 1, len(text) + 1, 10**8, 2**31, 2**63, 2**64 - 1])
    )
    size = draw(st.sampled_from([data, data, data, 0, data - 1, data + 1]))
    return struct.pack("<Q", length) + text + bytes(size)


STATEMENTS = (
    "{% for m in messages %}{{ m['role'] + m.content }}<|im_end|>{% endfor %}",
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    "{{ messages[0]['content'] }}",
    "{{ bos_token }}{{ eos_token }}",
    "{{ messages.__class__.__mro__ }}",
    "{{ ''.__class__.__base__.__subclasses__() }}",
    "{{ self._TemplateReference__context }}",
    "{{ cycler.__init__.__globals__ }}",
    "{{ messages.append(1) }}",
    "{{ messages[9]['content'] }}",
    "{{ undefined.attribute.attribute }}",
    "{{ raise_exception('no' * 5000) }}",
    "{{ raise_exception(1) }}",
    "{{ strftime_now('%' * 100) }}",
    "{{ strftime_now(1) }}",
    "{{ 1 / 0 }}",
    "{{ ('%s' * 9) % 1 }}",
    "{{ '\\ud800' }}",
    "{{ range(100000) | list | length }}",
    "{{ range(10 ** 9) | list | length }}",
    "{{ 'x' * 10 ** 11 }}",
    "{{ '%99999999999d' % 1 }}",
    "{{ '{:>99999999999}'.format(1) }}",
    "{{ 'x' | center(10 ** 11) }}",
    "{{ messages | tojson(indent=4) }}",
    "{{ messages | tojson | tojson | tojson }}",
    "{{ lipsum() }}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{% set ns = namespace(x='x') %}{% for i in range(40) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "{% generation %}x{% endgeneration %}",
    "{% include 'x' %}",
    "{% extends 'x' %}",
    "{% import 'os' as os %}{{ os.system('true') }}",
    "{% for x in messages recursive %}{{ loop(messages) }}{% endfor %}",
    "{% break %}",
    "{% if",
    "{{",
    "{% raw %}",
    "{# ",
    "{% endfor %}",
    "{{ " + "(" * 300 + "1" + ")" * 300 + " }}",
    "{{ " + "not " * 3000 + "1 }}",
    "{% if 1 %}" * 150 + "{% endif %}" * 150,
)


@st.composite
def templates(draw: st.DrawFn) -> bytes:
    """A chat template put together from statements that templates have, and from some that none should have."""
    text = "".join(draw(st.lists(st.sampled_from(STATEMENTS), min_size=1, max_size=3)))
    return draw(spoilt(text.encode())) if draw(st.integers(0, 2)) == 0 else text.encode()
