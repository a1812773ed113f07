"""Conversion of prompts to token ids with the tokenizer's chat template."""

from collections.abc import Sequence
from typing import Any

from persona_assets.checkpoints import CheckpointError
from persona_assets.files.reading import shortened, shown
from persona_assets.inference.templates.rendering import render

# Replaces a message's text while the template is inspected; no template contains it.
_PLACEHOLDER = "\u2063placeholder\u2063"


class Chat:
    """Chat template of a tokenizer, checked for a system role.

    Raises:
        CheckpointError: the template rejects or drops the system prompt, which would make all personas the same.
    """

    def __init__(self, tokenizer: Any, model: str) -> None:
        self.tokenizer = tokenizer
        self.model = model
        self._turn_end = self._find_turn_end()

    def prompt_ids(self, system: str, user: str) -> list[int]:
        """Return the token ids of system prompt, question and the opening of the assistant's turn.

        Raises:
            CheckpointError: the template raises an error, takes too long or produces no text.
        """
        try:
            text = self._render(system, user, add_generation_prompt=True)
        except ValueError as error:
            raise CheckpointError(f"{self.model}: the chat template cannot render the prompt: {error}") from error
        if not (ids := self._encode(text)):
            raise CheckpointError(f"{self.model}: the chat template produced an empty prompt; expected text")
        return ids

    def scored_ids(self, response: Sequence[int], scored_slice: str) -> list[int]:
        """Return the token ids of a response that are teacher-forced.

        Args:
            response: the emitted token ids.
            scored_slice: `response` for the emitted tokens; `response_and_turn_end` to append what the template writes
                after a response (for Qwen2.5 the end-of-turn token and a newline), if the model has not emitted it.
        """
        if scored_slice == "response":
            return list(response)
        emitted = next((n for n in range(len(self._turn_end), 0, -1) if list(response[-n:]) == self._turn_end[:n]), 0)
        return [*response, *self._turn_end[emitted:]]

    @property
    def turn_end_id(self) -> int:
        """Token that ends an assistant's turn.

        Raises:
            CheckpointError: the template writes nothing after a response.
        """
        if not self._turn_end:
            raise CheckpointError(
                f"{self.model}: the chat template writes nothing after a response; expected an end-of-turn token"
            )
        return self._turn_end[0]

    def _find_turn_end(self) -> list[int]:
        system = f"{_PLACEHOLDER}system"
        try:
            text = self._render(system, "question", assistant=_PLACEHOLDER)
        except ValueError as error:
            raise CheckpointError(f"{self.model}: the chat template refuses a system prompt: {error}") from error
        if system not in text:
            raise CheckpointError(
                f"{self.model}: the chat template drops the system prompt; "
                "expected it in the text, since a persona is a system prompt"
            )
        if _PLACEHOLDER not in text.replace(system, ""):
            raise CheckpointError(f"{self.model}: the chat template drops the response; expected it in the text")
        return self._encode(text.rpartition(_PLACEHOLDER)[2])

    def _render(self, system: str, user: str, assistant: str | None = None, add_generation_prompt: bool = False) -> str:
        """Render like the tokenizer's apply_chat_template, but in a separate process with time and memory limits."""
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
        except Exception as error:  # `tokenizers` has no exception class
            problem = shortened(error) or type(error).__name__
            raise CheckpointError(f"{self.model}: the tokenizer cannot encode {shown(text)}: {problem}") from error
