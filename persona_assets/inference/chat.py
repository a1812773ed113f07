"""Prompts as token ids, always through the tokenizer's own chat template."""

from collections.abc import Sequence
from typing import Any

from persona_assets.checkpoints import CheckpointError
from persona_assets.files.reading import shortened, shown
from persona_assets.inference.templates.rendering import render

# Stands where a text goes while the template is looked at; no template contains it.
_PLACEHOLDER = "\u2063placeholder\u2063"


class Chat:
    """A tokenizer's chat template, system role included.

    Raises:
        CheckpointError: the template drops the system prompt, so that personas would all be the same.
    """

    def __init__(self, tokenizer: Any, model: str) -> None:
        self.tokenizer = tokenizer
        self.model = model
        self._turn_end = self._find_turn_end()

    def prompt_ids(self, system: str, user: str) -> list[int]:
        """Token ids of system prompt, question, and the opening of the assistant's turn.

        Raises:
            CheckpointError: the template refuses these two, takes too long, or makes no text of them.
        """
        try:
            text = self._render(system, user, add_generation_prompt=True)
        except ValueError as error:
            raise CheckpointError(f"{self.model}: the chat template makes no prompt of it: {error}") from error
        if not (ids := self._encode(text)):
            raise CheckpointError(f"{self.model}: the chat template makes an empty prompt; expected text")
        return ids

    def scored_ids(self, response: Sequence[int], scored_slice: str) -> list[int]:
        """The token ids of a response that are teacher-forced.

        `response` is what the model emitted. `response_and_turn_end` adds what the template writes after a response
        (for Qwen2.5 the end-of-turn token and a newline), of which the model may have emitted the start.
        """
        if scored_slice == "response":
            return list(response)
        emitted = next((n for n in range(len(self._turn_end), 0, -1) if list(response[-n:]) == self._turn_end[:n]), 0)
        return [*response, *self._turn_end[emitted:]]

    @property
    def turn_end_id(self) -> int:
        """The token that ends an assistant's turn.

        Raises:
            CheckpointError: the template writes nothing behind a response.
        """
        if not self._turn_end:
            raise CheckpointError(f"{self.model}: the chat template ends no turn; expected a token behind a response")
        return self._turn_end[0]

    def _find_turn_end(self) -> list[int]:
        system = f"{_PLACEHOLDER}system"
        try:
            text = self._render(system, "question", assistant=_PLACEHOLDER)
        except ValueError as error:
            raise CheckpointError(f"{self.model}: the chat template refuses a system prompt: {error}") from error
        if system not in text:
            raise CheckpointError(
                f"{self.model}: the chat template drops the system prompt; a persona has no place in it"
            )
        if _PLACEHOLDER not in text.replace(system, ""):
            raise CheckpointError(f"{self.model}: the chat template drops the response; expected it in the text")
        return self._encode(text.rpartition(_PLACEHOLDER)[2])

    def _render(self, system: str, user: str, assistant: str | None = None, add_generation_prompt: bool = False) -> str:
        """As the tokenizer's apply_chat_template does, in a process that a template cannot hold up."""
        messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
        if assistant is not None:
            messages.append({"role": "assistant", "content": assistant})
        return render(
            self.tokenizer.get_chat_template(),
            {
                "messages": messages,
                "tools": None,
                "documents": None,
                "add_generation_prompt": add_generation_prompt,
                **self.tokenizer.special_tokens_map,
            },
        )

    def _encode(self, text: str) -> list[int]:
        try:
            # The template writes the special tokens itself.
            return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        except Exception as error:  # tokenizers has none of its own
            problem = shortened(error) or type(error).__name__
            raise CheckpointError(f"{self.model}: the tokenizer cannot read {shown(text)}: {problem}") from error
