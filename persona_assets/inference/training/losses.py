"""Loss of a batch of training examples: packed end to end where the model allows it, else padded."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from persona_assets.checkpoints.architecture import architecture_of
from persona_assets.inference.loading import LoadedModel
from persona_assets.inference.packed_attention import Packed, layout_of, packed_attention, why_not_packed_rows
from persona_assets.inference.training.compiled_blocks import compiled_blocks
from persona_assets.inference.training.example import IGNORED, Example


@contextmanager
def batch_loss(loaded: LoadedModel, compiled: bool = False) -> Iterator[Callable[[Sequence[Example]], Tensor]]:
    """Give a function from a batch to its mean cross-entropy; call it, and compute the gradient, in this context.

    Args:
        compiled: whether packed batches go through compiled blocks.
    """
    if why_not_packed_rows(loaded.model) is not None:
        yield lambda batch: mean_loss(loaded.model, batch, loaded.device)
        return
    with packed_attention(loaded.model), compiled_blocks(loaded.model) if compiled else nullcontext():
        yield lambda batch: packed_loss(loaded.model, batch, loaded.device)


def packed_loss(model: Any, batch: Sequence[Example], device: torch.device) -> Tensor:
    """Return `mean_loss` of a model in the context `packed_attention`, computed without padding."""
    row = [token for example in batch for token in example.token_ids]
    labels = torch.tensor([label for example in batch for label in example.labels])
    trained = (labels != IGNORED).nonzero()[:, 0]
    layout = layout_of([len(example.token_ids) for example in batch], [0] * len(batch), device)
    logits = model(
        input_ids=torch.tensor([row], device=device),
        position_ids=layout.positions[None],
        packed=Packed(layout),
        use_cache=False,
        logits_to_keep=(trained - 1).to(device),  # the head runs on these positions only
    ).logits
    return functional.cross_entropy(logits[0].float(), labels[trained].to(device))


@torch.no_grad()
def label_log_prob(model: torch.nn.Module, example: Example, device: torch.device) -> float:
    """Return the mean natural-log probability of an example's labels."""
    return -float(mean_loss(model, [example], device))


def mean_loss(model: torch.nn.Module, batch: Sequence[Example], device: torch.device) -> Tensor:
    """Return the mean cross-entropy over the batch's labels."""
    if architecture_of(model.config.get_text_config().to_dict()).batching == "padded":  # type: ignore[union-attr,operator]
        logits, labels = _predictions(model, batch, device)
        return functional.cross_entropy(logits, labels, ignore_index=IGNORED)
    # Examples of one length at a time: these models may not see padding.
    lengths = sorted({len(example.token_ids) for example in batch})
    parts = [
        _predictions(model, [example for example in batch if len(example.token_ids) == length], device)
        for length in lengths
    ]
    logits, labels = (torch.cat(part) for part in zip(*parts, strict=True))
    return functional.cross_entropy(logits, labels, ignore_index=IGNORED)


def _predictions(model: torch.nn.Module, batch: Sequence[Example], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return logits (positions, V) in float32 and labels (positions,), which are `IGNORED` where nothing is trained.

    Batches are left-padded, so that the LM head only runs on the last positions. Without padding neither mask nor
    positions are passed, since some models accept none. The padding repeats a token of the examples: the embedding of
    a padding token may be 0, where the gradient of a root is not finite (Gemma 3n).
    """
    longest = max(len(example.token_ids) for example in batch)
    trained = max(len(_from_first_label(example)) for example in batch)

    def padded(rows: Sequence[Sequence[int]], filler: int) -> Tensor:
        return torch.tensor([[filler] * (longest - len(row)) + list(row) for row in rows], device=device)

    mask = padded([[1] * len(example.token_ids) for example in batch], 0)
    padding = {} if bool(mask.all()) else {"attention_mask": mask, "position_ids": (mask.cumsum(-1) - 1).clamp_min(0)}
    output = model(
        input_ids=padded([example.token_ids for example in batch], batch[0].token_ids[0]),
        logits_to_keep=trained + 1,
        use_cache=False,
        **padding,
    )
    labels = padded([example.labels for example in batch], IGNORED)[:, -trained:]
    logits = output.logits[:, -trained - 1 : -1].float()
    return logits.flatten(0, 1), labels.flatten()


def _from_first_label(example: Example) -> Sequence[int]:
    first = next(place for place, label in enumerate(example.labels) if label != IGNORED)
    return example.labels[first:]
