"""What tests of scorers compare."""

import torch
from torch import Tensor

from persona_assets.inference import Scored, Scorer


def scored(scorer: Scorer, work: list[Scored]) -> list[Tensor]:
    return [torch.cat(list(pieces), dim=1) for pieces in scorer.logits(work)]


def largest_gap(found: list[Tensor], expected: list[Tensor]) -> float:
    assert [each.shape for each in found] == [each.shape for each in expected]
    return max(float((one.float() - other.float()).abs().max()) for one, other in zip(found, expected, strict=True))
