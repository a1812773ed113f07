"""Tiny checkpoint for tests (200 KB): a random Llama with three blocks and a byte-level tokenizer."""

from collections.abc import Sequence
from pathlib import Path

import torch

TEMPLATE = """\
{% for message in messages %}{{ '<|im_start|>' + message['role'] + '
' + message['content'] + '<|im_end|>
' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant
' }}{% endif %}"""


def write_tiny_model(directory: Path, **shape: int) -> None:
    """Write the checkpoint with Transformers; the weights are the same every time.

    Args:
        shape: fields of LlamaConfig to override, such as hidden_size.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    vocabulary = write_tokenizer(directory)
    config = LlamaConfig(
        **{"hidden_size": 32, "intermediate_size": 64} | shape,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=vocabulary,
        initializer_range=0.2,
        bos_token_id=None,
        eos_token_id=2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(directory)


SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def write_tokenizer(
    directory: Path, template: str = TEMPLATE, special: Sequence[str] = SPECIAL, end: str = "<|im_end|>"
) -> int:
    """Write a byte-level tokenizer with its chat template; return the number of its tokens.

    Args:
        end: the special token that ends a turn.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE(vocab={letter: place for place, letter in enumerate(letters)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([*special])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=end, pad_token=special[0])
    fast.chat_template = template
    fast.save_pretrained(directory)
    return len(letters)
