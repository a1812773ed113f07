"""Keys and values of a batch of replies that are being written.

Transformers' own layer copies all keys and values at every token. Here a layer with full attention has room for the
whole replies, and a token's keys and values are written into it.
"""

from typing import Any

from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer


class GrowingLayer(DynamicLayer):  # type: ignore[misc]  # Transformers has no types
    """Layer with full attention whose keys and values grow in place, up to `room` tokens."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self._room, self._stored = room, tuple[Tensor, ...]()

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Append keys and values (rows, heads, tokens, width), and return all so far as views."""
        start, fed = self.get_seq_length(), (key_states, value_states)
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._stored = tuple(self._with_room(each, len(each)) for each in fed)
        end = start + key_states.shape[-2]
        for stored, new in zip(self._stored, fed, strict=True):
            stored[:, :, start:end] = new
        self.keys, self.values = (stored[:, :, :end] for stored in self._stored)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep the rows `indices`, of which some may be repeated."""
        if not self.is_initialized:  # a layer that shares the keys of another one
            return
        end, given = self.get_seq_length(), (self.keys, self.values)
        self._stored = tuple(self._with_room(each, len(indices)) for each in given)
        for stored, kept in zip(self._stored, given, strict=True):
            stored[:, :, :end] = kept[indices]
        self.keys, self.values = (stored[:, :, :end] for stored in self._stored)

    def _with_room(self, states: Tensor, rows: int) -> Tensor:
        return states.new_empty(rows, states.shape[1], self._room, states.shape[3])


def growing_cache(config: Any, room: int) -> DynamicCache:
    """Return an empty cache for a model's layers, for sequences of up to `room` tokens, padding included."""
    cache = DynamicCache(config=config)
    # Exact type only: layers with a window drop tokens, and others keep more than keys and values.
    cache.layers = [GrowingLayer(room) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache
