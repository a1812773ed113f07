"""Rendered prompts as text for people: what the model reads, and its tokens."""

from collections.abc import Iterator, Mapping

from persona_assets.files.reading import shown
from persona_assets.inference.chat.chat import Chat
from persona_assets.inference.chat.warnings import prompt_warnings
from persona_assets.inference.token_pieces import token_pieces


def prompt_lines(chat: Chat, prompts: Mapping[str, str | None], question: str) -> Iterator[str]:
    """Yield what a person should know about the prompts, then every persona's rendered prompt and its tokens.

    Args:
        prompts: persona → system prompt.
        question: the user message.

    Raises:
        CheckpointError: a prompt cannot be rendered.
    """
    for warning in prompt_warnings(chat, prompts):
        yield f"warning   {warning}"
    for name, prompt in prompts.items():
        text, ids = chat.prompt_text(prompt, question), chat.prompt_ids(prompt, question)
        yield f"\n{name} ({_said(prompt)}; {len(ids)} tokens)"
        yield from (f"    {line}" for line in _printable(text).split("\n"))
        yield f"  tokens: {'·'.join(shown(piece)[1:-1] for piece in token_pieces(chat.tokenizer, ids))}"


def _said(prompt: str | None) -> str:
    return "no system message" if prompt is None else "a system prompt" if prompt else "an empty system message"


def _printable(text: str) -> str:
    """Return text without characters that a terminal would act on."""
    return "".join(letter if letter.isprintable() or letter == "\n" else repr(letter)[1:-1] for letter in text)
