"""What a CPU needs to be fast: oneDNN for float32 matrix products, and memory that is kept.

PyTorch multiplies float32 matrices with MKL, whose kernels leave processors of other makers at half their speed or
less. The same wheel carries oneDNN, which does not (measured on an AMD EPYC: 2.2 × on 264 rows, 2–3 × on 4 rows, errors
against float64 up to 1.5 × MKL's). PyTorch itself takes this route when it compiles a model for inference.
"""

import ctypes
from typing import Any

import torch
from torch import Tensor, nn

# malloc.h
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> None:
    """Lets glibc keep large blocks that are freed, instead of giving each back to the system and fetching it again.

    A growing cache is copied at every token, and most of that time went into the kernel's handing out of fresh pages:
    sampling 220 replies took 44 s, and 23 s with this. Elsewhere than on glibc nothing happens.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    for parameter, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 256 << 20)):
        mallopt(parameter, value)


def has_onednn() -> bool:
    """Whether this build of PyTorch carries oneDNN and the operator that reaches it."""
    return bool(torch.backends.mkldnn.is_available()) and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def use_onednn(model: nn.Module) -> None:
    """Makes every frozen linear layer of a float32 CPU model multiply through oneDNN, forwards and backwards."""
    for module in model.modules():
        # The type itself and not its heirs: a quantised or wrapped layer has a forward of its own.
        if type(module) is nn.Linear:
            module.__class__ = _OneDnnLinear


class _OneDnnLinear(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        output: Tensor = _Product.apply(input, self.weight, self.bias)  # type: ignore[no-untyped-call]
        return output


class _Product(torch.autograd.Function):
    """x·Wᵀ + b with a frozen W; the gradient reaches x, through which adapters are trained."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        return _multiplied(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        return _multiplied(gradients[0].contiguous(), weight.t(), None), None, None


def _multiplied(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    output: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return output
