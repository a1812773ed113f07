"""Questions about the numbers in safetensors files that are answered from their bytes, without PyTorch."""

from functools import lru_cache
from pathlib import Path

from persona_assets.files.reading import MIB
from persona_assets.files.safetensors_files import Tensor


def is_zero(file: Path, tensor: Tensor) -> bool:
    """Return whether all numbers of a tensor are 0; reads no further than the first other one."""
    with file.open("rb") as stream:
        stream.seek(tensor.begin)
        left = tensor.end - tensor.begin
        while left > 0 and (part := stream.read(min(MIB, left))):
            if part.strip(b"\0"):
                return False
            left -= len(part)
    return True


def are_equal(first: tuple[Path, Tensor], second: tuple[Path, Tensor]) -> bool:
    """Return whether two tensors have the same type, shape and bytes; remembered while the files are unchanged."""
    if (first[1].dtype, first[1].shape) != (second[1].dtype, second[1].shape):
        return False
    return _same_bytes(*(_stamped(*each) for each in (first, second)))


def _stamped(file: Path, tensor: Tensor) -> tuple[Path, int, int, Tensor]:
    status = file.stat()
    return file, status.st_size, status.st_mtime_ns, tensor


@lru_cache(maxsize=256)
def _same_bytes(first: tuple[Path, int, int, Tensor], second: tuple[Path, int, int, Tensor]) -> bool:
    (one, *_, a), (other, *_, b) = first, second
    with one.open("rb") as left, other.open("rb") as right:
        left.seek(a.begin)
        right.seek(b.begin)
        for start in range(0, a.end - a.begin, MIB):
            size = min(MIB, a.end - a.begin - start)
            if left.read(size) != right.read(size):
                return False
    return True
