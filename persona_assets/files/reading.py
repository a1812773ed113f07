"""Bounded reading of untrusted files: the size is checked before reading, and no read can block.

Only regular files are opened, because reading a FIFO can block forever and reading a device may never end. JSON must be
strict: no NaN, no duplicate keys, no text that cannot be encoded as UTF-8.
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
MAX_DEPTH = 64
# Limits the values per byte, so that a file of only commas does not need a hundred times its size in memory.
_BYTES_PER_VALUE = 20
_MAX_INTEGER_DIGITS = 400  # more than a float can represent, fewer than the limit of Python's int()
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
    """A file was rejected; `problem` says what was found and expected, and the message adds the file's name."""

    def __init__(self, file: Path, problem: str) -> None:
        super().__init__(f"{file}: {problem}")
        self.problem = problem


def shown(value: Any, length: int = 120) -> str:
    """Return a value's `repr` for an error message, with the middle left out if it is long."""
    if isinstance(value, str | bytes) and len(value) > length:
        return f"{value[: length // 2]!r} … {value[-length // 4 :]!r} ({len(value)} characters)"
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer with too many digits, or deeply nested lists
        return f"a {type(value).__name__} too large to show"
    return text if len(text) <= length else f"{text[: length // 2]} … {text[-length // 4 :]} ({len(text)} characters)"


def named(name: str, length: int = 60) -> str:
    """Return a user-supplied name without quotes, control characters escaped, truncated if it is long."""
    text = repr(name[:length])[1:-1]
    return text if len(name) <= length else f"{text}…"


def shortened(text: object, length: int = 2000) -> str:
    """Return another library's message, truncated to a readable length."""
    text = str(text)
    return text if len(text) <= length else f"{text[:length]} … ({len(text) - length} characters more)"


def read_bytes(file: Path, largest: int) -> bytes:
    """Return a regular file's bytes.

    Raises:
        UnreadableError: the file cannot be opened, is not a regular file, or has more than `largest` bytes, in which
            case it is not read.
    """
    try:
        _require_regular(file, file.stat())  # checked first, because opening a device can have side effects
        with os.fdopen(os.open(file, os.O_RDONLY | os.O_NONBLOCK), "rb") as stream:
            status = os.fstat(stream.fileno())
            _require_regular(file, status)
            content = b"" if status.st_size > largest else stream.read(largest + 1)  # it may have grown since fstat
    except OSError as error:
        raise UnreadableError(file, f"cannot be read: {error.strerror}") from error
    except UnreadableError:
        raise
    except ValueError as error:  # a null byte in the path
        raise UnreadableError(file, f"cannot be read: {error}") from error
    if (size := max(status.st_size, len(content))) > largest:
        raise UnreadableError(file, f"is {_in_words(size)}; expected at most {_in_words(largest)}; it was not read")
    return content


def read_text(file: Path, largest: int) -> str:
    """Return a regular file's text.

    Raises:
        UnreadableError: as in `read_bytes`, or the file is not UTF-8.
    """
    try:
        return read_bytes(file, largest).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UnreadableError(file, f"byte {error.start} is not UTF-8; expected a text file") from error


def read_json(file: Path, largest: int = LARGEST_JSON, *, infinities: bool = False) -> Any:
    """Return a JSON file's content.

    Raises:
        UnreadableError: as in `read_text` and `parse_json`.
    """
    return parse_json(read_text(file, largest), file, largest, infinities=infinities)


def parse_json(text: str, file: Path, largest: int = LARGEST_JSON, *, infinities: bool = False) -> Any:
    """Return the content of a JSON text; `file` is its origin, for error messages.

    Args:
        infinities: return NaN and infinities as the text found, for configurations that contain them (Mamba's).

    Raises:
        UnreadableError: the text is truncated or not JSON, or contains NaN, an infinity, a number too large for a
            float, a duplicate key, an unpaired surrogate, more than 64 levels of nesting, or far more values than
            `largest` bytes normally contain.
    """
    values = text.count(",") + text.count("[") + text.count("{")
    if values > largest // _BYTES_PER_VALUE:
        raise UnreadableError(file, f"contains about {values} values; expected at most {largest // _BYTES_PER_VALUE}")
    invalid = _InvalidValues()
    try:
        content = json.loads(
            text,
            object_pairs_hook=invalid.object,
            parse_constant=invalid.number,
            parse_float=invalid.fraction,
            parse_int=invalid.whole,
        )
    except RecursionError:
        raise UnreadableError(file, f"is nested too deeply to parse; expected at most {MAX_DEPTH} levels") from None
    except ValueError as error:
        raise UnreadableError(file, f"is not valid JSON, or is truncated: {shortened(error, 300)}") from error
    _require_few_levels(content, file)
    if (invalid.objects or (invalid.numbers and not infinities)) or _ESCAPED_SURROGATE.search(text):
        _raise_for_invalid(content, file, infinities)
    return content


class _NotFinite(str):
    """A non-finite number, as the text found in the file."""


class _DuplicateKey(dict[str, Any]):
    """An object with a duplicate key, and that key."""

    key = ""


class _InvalidValues:
    """Parser hooks that mark invalid values, so that the slow search for their location runs only if there are any."""

    objects = numbers = False

    def object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content = dict(pairs)
        if len(content) == len(pairs):
            return content
        self.objects, duplicate = True, _DuplicateKey(content)
        duplicate.key = Counter(name for name, _ in pairs).most_common(1)[0][0]
        return duplicate

    def number(self, found: str) -> str:
        self.numbers = True
        return _NotFinite(found)

    def fraction(self, digits: str) -> float | str:
        return number if math.isfinite(number := float(digits)) else self.number(digits)

    def whole(self, digits: str) -> int | str:
        return int(digits) if len(digits) < _MAX_INTEGER_DIGITS else self.number(digits)


def _require_few_levels(content: Any, file: Path) -> None:
    """Check the nesting level by level, without recursion."""
    level = [content]
    for _ in range(MAX_DEPTH + 1):
        inside: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                inside += value.values()
            elif isinstance(value, list):
                inside += value
        if not inside:
            return
        level = inside
    raise UnreadableError(file, f"is nested more than {MAX_DEPTH} levels deep; expected at most {MAX_DEPTH}")


def _raise_for_invalid(value: Any, file: Path, infinities: bool, place: tuple[str, ...] = ()) -> None:
    """Raise for the first invalid value, with its location; the nesting has been checked before."""
    here = f"{'.'.join(place)}: " if place else ""
    if isinstance(value, _DuplicateKey):
        raise UnreadableError(file, f"{here}duplicate key {shown(value.key)}; expected each key once")
    if isinstance(value, _NotFinite) and not infinities:
        raise UnreadableError(file, f"{here}found {named(value)}; expected a finite number")
    if isinstance(value, str) and _SURROGATE.search(value):
        raise UnreadableError(file, f"{here}found {shown(value)}, which has an unpaired surrogate; expected text")
    if isinstance(value, dict):
        for key, part in value.items():
            _raise_for_invalid(key, file, infinities, place)
            _raise_for_invalid(part, file, infinities, (*place, named(key)))
    elif isinstance(value, list):
        for number, part in enumerate(value):
            _raise_for_invalid(part, file, infinities, (*place, str(number)))


def _require_regular(file: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise UnreadableError(file, f"found {kind}; expected a regular file; it was not read")


def _in_words(size: int) -> str:
    return f"{size / MIB:.1f} MiB" if size >= MIB // 10 else f"{size} bytes"
