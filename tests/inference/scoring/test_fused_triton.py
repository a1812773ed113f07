"""Tests of the Triton kernels against plain PyTorch; without a GPU they run in Triton's interpreter."""

import pytest
import torch

pytest.importorskip("triton")

from persona_assets.inference.scoring import fused_triton
from persona_assets.inference.scoring.fused import _Plain

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# The interpreter rounds bfloat16 differently from a GPU.
DTYPES = [torch.float32, torch.float16, *([torch.bfloat16] if DEVICE == "cuda" else [])]


def normal(*shape: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))).to(DEVICE, dtype)


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert found.dtype == expected.dtype
    units = 4 * torch.finfo(expected.dtype).eps
    torch.testing.assert_close(found, expected, rtol=units, atol=units)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("width", [64, 200])
def test_norm(dtype: torch.dtype, width: int) -> None:
    hidden, weight = normal(5, width, dtype=dtype), normal(width, dtype=dtype)
    close(fused_triton.norm(hidden, weight, 1e-6), _Plain.norm(hidden, weight, 1e-6))
    rows = hidden[1:4]  # a slice of a larger tensor
    close(fused_triton.norm(rows, weight, 1e-6), _Plain.norm(rows, weight, 1e-6))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("heads", "kv_heads", "width"), [(4, 2, 16), (7, 1, 24)])
def test_rotate_writes_keys_and_values_to_their_rows(dtype: torch.dtype, heads: int, kv_heads: int, width: int) -> None:
    rows = torch.tensor([3, 4, 8, 9, 1], device=DEVICE)
    qkv = normal(5, heads + 2 * kv_heads, width, dtype=dtype)
    cos, sin = (normal(5, width // 2 + extra, dtype=dtype)[:, : width // 2].repeat(1, 2) for extra in (0, 1))
    found, expected = (torch.full((2, 11, kv_heads, width), 7.0, device=DEVICE, dtype=dtype) for _ in range(2))
    close(fused_triton.rotate(qkv, cos, sin, found, rows, heads), _Plain.rotate(qkv, cos, sin, expected, rows, heads))
    close(found, expected)
    assert bool((found[:, [0, 2, 5, 6, 7, 10]] == 7).all())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_gate(dtype: torch.dtype) -> None:
    gate_up = normal(3, 2 * 2100, dtype=dtype)
    close(fused_triton.gate(gate_up), _Plain.gate(gate_up))
