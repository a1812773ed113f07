"""What a safetensors file says of itself; its weights are not read."""

import os
import struct
from pathlib import Path
from typing import Any, NamedTuple

from persona_assets.files.reading import MIB, UnreadableError, parse_json, shortened

LARGEST_HEADER = 8 * MIB


class Header(NamedTuple):
    """How many tensors there are, and the largest dimension of any."""

    tensors: int
    largest: int


def read_header(file: Path) -> Header:
    """The header of a whole file.

    It is read as JSON, strictly, for safetensors takes the last of two tensors of one name; then safetensors compares
    its offsets with the file's size, as it does whenever it opens a file.

    Raises:
        UnreadableError: it is cut, too long, or something else.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with file.open("rb") as stream:
            content = _content(file, stream.read(8), stream, os.fstat(stream.fileno()).st_size)
        with safe_open(file, framework="numpy"):
            pass
    except UnicodeDecodeError as error:
        raise UnreadableError(file, f"byte {error.start} of its header is not UTF-8") from error
    except (SafetensorError, OSError) as error:
        raise UnreadableError(file, shortened(error, 500)) from error
    shapes = [tensor["shape"] for name, tensor in content.items() if name != "__metadata__"]
    return Header(len(shapes), max((max(shape, default=1) for shape in shapes), default=0))


def _content(file: Path, first: bytes, stream: Any, size: int) -> dict[str, Any]:
    if size < 8:
        raise UnreadableError(file, f"{size} bytes; expected eight that say how long the header is")
    (length,) = struct.unpack("<Q", first)
    if not 0 < length <= size - 8:
        raise UnreadableError(file, f"the header's length is {length}, of a file of {size} bytes")
    if length > LARGEST_HEADER:
        raise UnreadableError(file, f"a header of {length} bytes; expected at most {LARGEST_HEADER}")
    content = parse_json(stream.read(length).decode("utf-8"), file, LARGEST_HEADER)
    if not isinstance(content, dict):
        raise UnreadableError(file, f"the header is a {type(content).__name__}; expected an object")
    return content
