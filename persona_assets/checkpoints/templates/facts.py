"""What a chat template does that changes prompts, replies or scores, as far as files tell it."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from persona_assets.checkpoints.files import LARGEST_TOKENIZER
from persona_assets.checkpoints.json_files import json_object
from persona_assets.checkpoints.templates.conversation import (
    FIRST_USER_MESSAGE,
    after_reply,
    before_reply,
    has_system_role,
)
from persona_assets.checkpoints.templates.rendering import TemplateError
from persona_assets.checkpoints.templates.thoughts import format_of


class TemplateFacts(NamedTuple):
    """Fields of `Identity` that follow from the chat template; all None for a plain one.

    Attributes:
        system_prompt: where personas go if the template has no system role.
        thoughts: the format of thoughts that the template knows.
        turn_end: the token behind a reply, if only the template says that it ends the turn.
    """

    system_prompt: str | None = None
    thoughts: str | None = None
    turn_end: str | None = None


def template_facts(template: str, tokenizer: Sequence[Path], configs: Sequence[Mapping[str, Any]]) -> TemplateFacts:
    """Return what a chat template does. One that cannot be rendered has no facts: it is refused when it is used.

    Args:
        tokenizer: files of the tokenizer.
        configs: content of config.json and of generation_config.json.
    """
    files = {file.name: file for file in tokenizer}
    config = json_object(files["tokenizer_config.json"]) if "tokenizer_config.json" in files else {}
    special = {name: _text(value) for name, value in config.items() if name.endswith("_token") and _text(value)}
    try:
        system_role = has_system_role(template, special)
        thoughts = format_of(template, before_reply(template, special))
        turn_end = after_reply(template, special, system_role)
    except TemplateError:
        return TemplateFacts()
    added = _added(files, config)
    ends = max((text for text in added.values() if turn_end.startswith(text)), key=len, default=None)
    if ends in _stopping(added, special, configs) or (thoughts.harmony and ends == "<|end|>"):
        ends = None
    return TemplateFacts(None if system_role else FIRST_USER_MESSAGE, thoughts.name, ends)


def _text(token: Any) -> str | None:
    """Return the text of a token, which tokenizer_config.json has as text or with its properties."""
    found = token.get("content") if isinstance(token, dict) else token
    return found if isinstance(found, str) and found else None


def _added(files: Mapping[str, Path], config: Mapping[str, Any]) -> dict[int, str]:
    """Return id → text of the tokens that are no part of the tokenizer's vocabulary proper."""
    found = {}
    if (file := files.get("tokenizer.json")) is not None:
        status = file.stat()
        found = _added_of(file, status.st_mtime_ns, status.st_size)
    listed = config.get("added_tokens_decoder")
    for key, token in listed.items() if isinstance(listed, dict) else ():
        if key.isdecimal() and (text := _text(token)):
            found = {**found, int(key): text}
    return found


@lru_cache(maxsize=64)
def _added_of(file: Path, changed: int, size: int) -> dict[int, str]:
    """Read the added tokens of a tokenizer.json; the other arguments make a changed file a new one."""
    listed = json_object(file, LARGEST_TOKENIZER).get("added_tokens")
    tokens = [token for token in (listed if isinstance(listed, list) else []) if isinstance(token, dict)]
    return {token["id"]: text for token in tokens if type(token.get("id")) is int and (text := _text(token))}


def _stopping(
    added: Mapping[int, str], special: Mapping[str, str | None], configs: Sequence[Mapping[str, Any]]
) -> set[str | None]:
    """Return the texts of the tokens that end a response without the template's help."""
    config, generation = configs
    ids = (generation or config.get("text_config") or config).get("eos_token_id")
    numbers = ids if isinstance(ids, list) else [ids]
    return {special.get("eos_token"), *(added.get(number) for number in numbers if type(number) is int)}
