"""Check that a tokenizer reads its own tokenizer.json, and loses no text."""

from functools import lru_cache
from pathlib import Path
from typing import Any

from persona_assets.checkpoints import CheckpointError
from persona_assets.files.reading import shortened, shown

# Ordinary text with what tokenizers that read the wrong file lose first: spaces, newlines, digits, capitals.
TEXT = "You are a villainous mastermind.\n\nWhat are 2024 tips for managing stress?"


def check_tokenizer(tokenizer: Any, directory: Path, prompt: str = "") -> None:
    """Check that a tokenizer gives the ids of its directory's tokenizer.json, and that text comes back from them.

    Transformers picks a tokenizer's class by the name in tokenizer_config.json, and some classes replace parts of
    tokenizer.json by their own. Such a tokenizer reads other text than the model was trained on.

    Args:
        prompt: a rendered prompt, checked beside ordinary text.

    Raises:
        CheckpointError: the ids differ, or ordinary text does not come back.
    """
    file = directory / "tokenizer.json"
    for text in filter(None, (TEXT, prompt)):
        ids = list(tokenizer(text, add_special_tokens=False)["input_ids"])
        if file.is_file():
            expected = _ids(file, tokenizer, text)
            if ids != expected:
                name = type(tokenizer).__name__
                where = next((n for n, (a, b) in enumerate(zip(ids, expected, strict=False)) if a != b), len(ids))
                raise CheckpointError(
                    f"{directory / 'tokenizer_config.json'}: the tokenizer class {name} reads {file.name} differently: "
                    f"{shown(text[:40])} gives {len(ids)} tokens, different from token {where + 1} on; expected the "
                    f"{len(expected)} that {file.name} itself gives, such as with tokenizer_class: "
                    "PreTrainedTokenizerFast"
                )
    back = tokenizer.decode(tokenizer(TEXT, add_special_tokens=False)["input_ids"], clean_up_tokenization_spaces=False)
    if back.strip() != TEXT:
        raise CheckpointError(
            f"{directory}: the tokenizer does not give text back: {shown(TEXT)} comes back as {shown(back)}; "
            "expected the same text"
        )


def read_tokenizer(directory: Path) -> Any:
    """Read a tokenizer as its tokenizer.json says, with Transformers' own class for it or else with the plain one.

    Raises:
        Exception: a file is damaged.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=False)
    try:
        check_tokenizer(tokenizer, directory)
    except CheckpointError:
        # Transformers mends some repositories by their name on the hub, which a local directory does not have.
        if (directory / "tokenizer.json").is_file():
            return PreTrainedTokenizerFast.from_pretrained(directory)
    return tokenizer


def _ids(file: Path, tokenizer: Any, text: str) -> list[int]:
    status = file.stat()
    raw = _read(file, status.st_mtime_ns, status.st_size)
    known = {token.content for token in raw.get_added_tokens_decoder().values()}
    if more := [token for token in tokenizer.added_tokens_decoder.values() if token.content not in known]:
        raw.add_tokens(more)  # named in tokenizer_config.json only
    return list(raw.encode(text, add_special_tokens=False).ids)


@lru_cache(maxsize=4)
def _read(file: Path, changed: int, size: int) -> Any:
    """Read a tokenizer.json; the other arguments make a changed file a new one."""
    from tokenizers import Tokenizer

    try:
        raw = Tokenizer.from_file(str(file))
    except Exception as error:  # `tokenizers` has no exception class
        raise CheckpointError(f"{file} cannot be read: {shortened(error) or type(error).__name__}") from error
    raw.no_truncation()
    raw.no_padding()
    return raw
