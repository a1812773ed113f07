"""Float32 weights behind an adapter that computes in 16 bits."""

import torch
from torch import Tensor


class Float32Weights:
    """The weights that an optimiser updates, while the adapter computes with copies in the model's dtype.

    Casting once per step is what autocast does, without its other changes to the model's arithmetic.

    Attributes:
        weights: one float32 tensor for each trained weight of the model.
    """

    def __init__(self, model: torch.nn.Module, dtype: torch.dtype) -> None:
        self._adapter: list[Tensor] = [weight for weight in model.parameters() if weight.requires_grad]
        self.weights = [weight.detach().float().clone().requires_grad_() for weight in self._adapter]
        for weight in self._adapter:
            weight.data = weight.data.to(dtype)

    def take_gradients(self) -> None:
        """Move the adapter's gradients here; a weight that took no part in the loss has none."""
        for weight, computing in zip(self.weights, self._adapter, strict=True):
            weight.grad, computing.grad = None if computing.grad is None else computing.grad.float(), None

    @torch.no_grad()
    def hand_down(self) -> None:
        """Give the adapter the updated weights."""
        torch._foreach_copy_(self._adapter, self.weights)

    def restore(self) -> None:
        """Let the adapter have the float32 weights themselves, to be saved."""
        for weight, computing in zip(self.weights, self._adapter, strict=True):
            computing.data = weight.data
