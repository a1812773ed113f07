"""Headers of safetensors files, read without the weights."""

import os
import struct
from pathlib import Path
from typing import Any, NamedTuple

from persona_assets.files.reading import MIB, UnreadableError, parse_json, shortened

LARGEST_HEADER = 8 * MIB


class Tensor(NamedTuple):
    """A stored tensor: its type as safetensors names it (`BF16`), its shape, and the bytes of the file that hold it."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class Header(NamedTuple):
    """The tensors of a file by name."""

    content: dict[str, Tensor]

    @property
    def tensors(self) -> int:
        """Return the number of tensors."""
        return len(self.content)

    @property
    def largest(self) -> int:
        """Return the largest dimension of any tensor."""
        return max((max(tensor.shape, default=1) for tensor in self.content.values()), default=0)


def read_header(file: Path) -> Header:
    """Return the header of a complete file.

    The header is first parsed as strict JSON, because safetensors silently keeps the last of two tensors with the same
    name. Then safetensors opens the file, which compares the offsets with the file's size.

    Raises:
        UnreadableError: the file is truncated, its header is too long, or it is not a safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with file.open("rb") as stream:
            content = _content(file, stream.read(8), stream, os.fstat(stream.fileno()).st_size)
            start = stream.tell()
        with safe_open(file, framework="numpy"):
            pass
    except UnicodeDecodeError as error:
        raise UnreadableError(file, f"byte {error.start} of its header is not UTF-8") from error
    except (SafetensorError, OSError) as error:
        raise UnreadableError(file, shortened(error, 500)) from error
    content.pop("__metadata__", None)
    return Header({name: _tensor(entry, start) for name, entry in content.items()})


def _tensor(entry: Any, start: int) -> Tensor:
    begin, end = entry["data_offsets"]
    return Tensor(str(entry["dtype"]), tuple(entry["shape"]), start + begin, start + end)


def _content(file: Path, first: bytes, stream: Any, size: int) -> dict[str, Any]:
    if size < 8:
        raise UnreadableError(file, f"is {size} bytes; expected at least 8, which give the header's length")
    (length,) = struct.unpack("<Q", first)
    if not 0 < length <= size - 8:
        raise UnreadableError(file, f"found header length {length} in a file of {size} bytes; expected 1 to {size - 8}")
    if length > LARGEST_HEADER:
        raise UnreadableError(file, f"the header is {length} bytes; expected at most {LARGEST_HEADER}")
    content = parse_json(stream.read(length).decode("utf-8"), file, LARGEST_HEADER)
    if not isinstance(content, dict):
        raise UnreadableError(file, f"the header is a {type(content).__name__}; expected an object")
    return content
