"""Which attention implementation of Transformers a model uses for a while."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def attention_implementation(model: Any, name: str) -> Iterator[None]:
    """Let a model use another attention implementation until the context ends.

    `set_attn_implementation` walks through all modules, which takes milliseconds; a training step of a large model on a
    GPU would wait for it.

    Args:
        name: an implementation of Transformers, or one registered with its `AttentionInterface`.
    """
    configs = (model.config, model.config.get_text_config(decoder=True))
    own = [config._attn_implementation for config in configs]
    for config in configs:
        config._attn_implementation = name
    try:
        yield
    finally:
        for config, before in zip(configs, own, strict=True):
            config._attn_implementation = before
