"""Files that others wrote, read within bounds: their size is looked at before they are read, and nothing waits.

Only regular files are opened: a FIFO would wait for ever and a device never ends. JSON is JSON: no NaN, no name twice,
no text that cannot be written again.
"""

import json
import math
import os
import re
import stat
from collections import Counter
from pathlib import Path
from typing import Any

MIB = 2**20
LARGEST_JSON = 8 * MIB
DEEPEST = 64
# Of a value, so that a file of nothing but commas does not become a hundred times its size in memory.
_BYTES_A_VALUE = 20
_LONGEST_WHOLE = 400  # digits: more than a float holds, fewer than Python refuses to read
_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class UnreadableError(ValueError):
    """A file that is not read; `problem` says what was found and expected, the message names the file too."""

    def __init__(self, file: Path, problem: str) -> None:
        super().__init__(f"{file}: {problem}")
        self.problem = problem


def shown(value: Any, length: int = 120) -> str:
    """A value as an error shows it: as Python writes it, its middle left out where it is long."""
    if isinstance(value, str | bytes) and len(value) > length:
        return f"{value[: length // 2]!r} … {value[-length // 4 :]!r} ({len(value)} characters)"
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of more digits than Python writes; lists within lists
        return f"a {type(value).__name__} too large to be shown"
    return text if len(text) <= length else f"{text[: length // 2]} … {text[-length // 4 :]} ({len(text)} characters)"


def named(name: str, length: int = 60) -> str:
    """A name that somebody gave, without quotes: nothing in it that moves a cursor, cut where it is long."""
    text = repr(name[:length])[1:-1]
    return text if len(name) <= length else f"{text}…"


def shortened(text: object, length: int = 2000) -> str:
    """Somebody else's message: as much of it as a person reads."""
    text = str(text)
    return text if len(text) <= length else f"{text[:length]} … ({len(text) - length} characters more)"


def read_bytes(file: Path, largest: int) -> bytes:
    """A regular file's bytes.

    Raises:
        UnreadableError: it cannot be opened, is no regular file, or has more than `largest` bytes; it is not read then.
    """
    try:
        _require_regular(file, file.stat())  # before it is opened, for opening a device can do something
        with os.fdopen(os.open(file, os.O_RDONLY | os.O_NONBLOCK), "rb") as stream:
            status = os.fstat(stream.fileno())
            _require_regular(file, status)
            content = b"" if status.st_size > largest else stream.read(largest + 1)  # it may have grown
    except OSError as error:
        raise UnreadableError(file, f"cannot be read: {error.strerror}") from error
    except UnreadableError:
        raise
    except ValueError as error:  # a NUL in the path
        raise UnreadableError(file, f"cannot be read: {error}") from error
    if (size := max(status.st_size, len(content))) > largest:
        raise UnreadableError(file, f"is {_in_words(size)}; expected at most {_in_words(largest)}; it was not read")
    return content


def read_text(file: Path, largest: int) -> str:
    """A regular file's text.

    Raises:
        UnreadableError: as `read_bytes` does, or it is not UTF-8.
    """
    try:
        return read_bytes(file, largest).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UnreadableError(file, f"byte {error.start} is not UTF-8; expected a text file") from error


def read_json(file: Path, largest: int = LARGEST_JSON, *, infinities: bool = False) -> Any:
    """A JSON file's content.

    Raises:
        UnreadableError: as `read_text` does, or it is not JSON: see `parse_json`.
    """
    return parse_json(read_text(file, largest), file, largest, infinities=infinities)


def parse_json(text: str, file: Path, largest: int = LARGEST_JSON, *, infinities: bool = False) -> Any:
    """The content of a JSON text; `file` is where it stands, for the errors.

    Args:
        infinities: take NaN and infinities as the text that stands there, for configurations that have them (Mamba's).

    Raises:
        UnreadableError: it is cut short or no JSON; holds NaN, an infinity, a number too large for a float, a name
            twice in one object, half a surrogate pair, more than 64 levels, or more values than `largest` bytes
            usually do.
    """

    values = text.count(",") + text.count("[") + text.count("{")
    if values > largest // _BYTES_A_VALUE:
        raise UnreadableError(file, f"holds about {values} values; expected at most {largest // _BYTES_A_VALUE}")
    odd = _Odd()
    try:
        content = json.loads(
            text,
            object_pairs_hook=odd.object,
            parse_constant=odd.number,
            parse_float=odd.fraction,
            parse_int=odd.whole,
        )
    except RecursionError:
        raise UnreadableError(file, f"has lists within lists; expected at most {DEEPEST} levels") from None
    except ValueError as error:
        raise UnreadableError(file, f"is not JSON, or cut short: {shortened(error, 300)}") from error
    _require_few_levels(content, file)
    if (odd.objects or (odd.numbers and not infinities)) or _ESCAPED_SURROGATE.search(text):
        _find_odd(content, file, infinities)
    return content


class _NotFinite(str):
    """A number that is none, as it was written."""


class _Twice(dict[str, Any]):
    """An object that has a name twice."""

    name = ""


class _Odd:
    """Notes while JSON is read that there is something odd, so that only then it is looked for, with its place."""

    objects = numbers = False

    def object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content = dict(pairs)
        if len(content) == len(pairs):
            return content
        self.objects, twice = True, _Twice(content)
        twice.name = Counter(name for name, _ in pairs).most_common(1)[0][0]
        return twice

    def number(self, written: str) -> str:
        self.numbers = True
        return _NotFinite(written)

    def fraction(self, digits: str) -> float | str:
        return number if math.isfinite(number := float(digits)) else self.number(digits)

    def whole(self, digits: str) -> int | str:
        return int(digits) if len(digits) < _LONGEST_WHOLE else self.number(digits)


def _require_few_levels(content: Any, file: Path) -> None:
    """Level by level, without recursion."""
    level = [content]
    for _ in range(DEEPEST + 1):
        inside: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                inside += value.values()
            elif isinstance(value, list):
                inside += value
        if not inside:
            return
        level = inside
    raise UnreadableError(file, f"is nested deeper than {DEEPEST} levels; expected fewer")


def _find_odd(value: Any, file: Path, infinities: bool, place: tuple[str, ...] = ()) -> None:
    """Says the first odd thing with its place; the content is not deep any more."""
    here = f"{'.'.join(place)}: " if place else ""
    if isinstance(value, _Twice):
        raise UnreadableError(file, f"{here}{shown(value.name)} stands twice; expected it once")
    if isinstance(value, _NotFinite) and not infinities:
        raise UnreadableError(file, f"{here}found {named(value)}; expected a finite number")
    if isinstance(value, str) and _SURROGATE.search(value):
        raise UnreadableError(file, f"{here}found {shown(value)}, which holds half a surrogate pair; expected text")
    if isinstance(value, dict):
        for key, part in value.items():
            _find_odd(key, file, infinities, place)
            _find_odd(part, file, infinities, (*place, named(key)))
    elif isinstance(value, list):
        for number, part in enumerate(value):
            _find_odd(part, file, infinities, (*place, str(number)))


def _require_regular(file: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise UnreadableError(file, f"found {kind}; expected a regular file; it was not read")


def _in_words(size: int) -> str:
    return f"{size / MIB:.1f} MiB" if size >= MIB // 10 else f"{size} bytes"
