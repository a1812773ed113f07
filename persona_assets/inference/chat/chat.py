"""The chat template of a checkpoint under a study's settings: prompts as token ids, and the answers in replies."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from persona_assets.checkpoints import CheckpointError
from persona_assets.checkpoints.templates.conversation import (
    FIRST_USER_MESSAGE,
    after_reply,
    before_reply,
    conversation,
    has_system_role,
    rendered,
)
from persona_assets.checkpoints.templates.rendering import TemplateError
from persona_assets.checkpoints.templates.switches import open_switches, switch_off
from persona_assets.checkpoints.templates.thoughts import Format, answer_of, format_of
from persona_assets.files.reading import shortened, shown
from persona_assets.inference.chat.token_spans import tokens_of
from persona_assets.study.settings import ChatSettings


class Chat:
    """Chat template of a tokenizer under a study's settings.

    Attributes:
        system_role: whether the template has a system role; if not, personas go before the first user message.
        thoughts: the format of thoughts that the template knows.

    Raises:
        CheckpointError: the template fails, drops messages, or cannot do what the settings ask for.
    """

    def __init__(self, tokenizer: Any, model: str, settings: ChatSettings = ChatSettings()) -> None:  # noqa: B008 (immutable)
        self.tokenizer = tokenizer
        self.model = model
        self.settings = settings
        try:
            self.template = str(tokenizer.get_chat_template())
            self.variables = {**tokenizer.special_tokens_map, **settings.template_variables}
            self.system_role = has_system_role(self.template, self.variables)
            self._suppress_thoughts()
            self.thoughts: Format = format_of(self.template, before_reply(self.template, self.variables))
            turn_end = after_reply(self.template, self.variables, self.system_role)
        except CheckpointError:
            raise
        except ValueError as error:  # TemplateError, or the tokenizer has no template
            raise CheckpointError(f"{model}: the chat template cannot be used: {error}") from error
        if not self.system_role and settings.without_system_role == "refuse":
            raise CheckpointError(
                f"{model}: the chat template has no system role, and the study says chat.without_system_role: refuse; "
                f"expected a template with a system role, or first_user to put personas into the {FIRST_USER_MESSAGE}"
            )
        self._turn_end = self._encode(turn_end)

    def with_settings(self, settings: ChatSettings) -> "Chat":
        """Return this chat under a study's settings.

        Raises:
            CheckpointError: see the class.
        """
        return self if settings == self.settings else type(self)(self.tokenizer, self.model, settings)

    def prompt_text(self, system: str | None, user: str) -> str:
        """Return the rendered prompt: system prompt, question and the opening of the assistant's turn.

        Args:
            system: None for no system message.

        Raises:
            CheckpointError: the template raises an error, takes too long or produces no text; or the system message is
                empty and the template has no system role, so that it would be no different from None.
        """
        if system == "" and not self.system_role:
            raise CheckpointError(
                f'{self.model}: the chat template has no system role, so that prompt: "" cannot be expressed; '
                "expected null, or the system prompt as text"
            )
        try:
            messages = conversation(system, user, self.system_role)
            text = rendered(self.template, messages, self.variables, add_generation_prompt=True)
        except TemplateError as error:
            raise CheckpointError(f"{self.model}: the chat template cannot render the prompt: {error}") from error
        if not text:
            raise CheckpointError(f"{self.model}: the chat template produced an empty prompt; expected text")
        return text

    def prompt_ids(self, system: str | None, user: str) -> list[int]:
        """Return the token ids of `prompt_text`.

        Raises:
            CheckpointError: see `prompt_text`.
        """
        if not (ids := self._encode(self.prompt_text(system, user))):
            raise CheckpointError(f"{self.model}: the chat template produced an empty prompt; expected text")
        return ids

    def answer_span(self, response: Sequence[int]) -> tuple[int, int] | None:
        """Return the token positions [start, end) of a response's answer; None if it ends before it reaches one.

        Everything is the answer if the response has no thoughts, or if the study keeps them.
        """
        ids = list(response)
        if self.settings.thinking == "keep":
            return 0, len(ids)
        text = self.decode(ids)
        span = answer_of(text, self.thoughts)
        if span is None:
            return None
        if span == (0, len(text)):
            return 0, len(ids)
        start, end = tokens_of(self.decode, ids, text, span)
        return (start, end) if start < end else None

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

    def scored_answer(self, response: Sequence[int], scored_slice: str) -> tuple[list[int], int] | None:
        """Return the token ids of a response that are teacher-forced, and the first position that is scored.

        A thought before the answer is context: it is fed but not scored. None if the response has no answer.
        """
        span = self.answer_span(response)
        return span and (self.scored_ids(response[: span[1]], scored_slice), span[0])

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

    @cached_property
    def turn_end_stop(self) -> int | None:
        """Token with which the template ends an assistant's turn, so that generation stops there; None if it has none.

        Plain text after a response is none, and neither is `<|end|>` where a reply has several channels.
        """
        if not self._turn_end or (first := self._turn_end[0]) not in self.tokenizer.added_tokens_decoder:
            return None
        ends_a_channel = self.thoughts.harmony and self.tokenizer.convert_ids_to_tokens(first) == "<|end|>"
        return None if ends_a_channel else first

    @cached_property
    def open_switches(self) -> dict[str, list[bool | str]]:
        """Template variables that change the prompt and that the study does not set: name → values that change it.

        Raises:
            CheckpointError: the template cannot be parsed.
        """
        try:
            return open_switches(self.template, self.variables, self.system_role)
        except TemplateError as error:
            raise CheckpointError(f"{self.model}: the chat template cannot be used: {error}") from error

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids, special tokens included, exactly as the tokens spell it."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def _suppress_thoughts(self) -> None:
        known = format_of(self.template, before_reply(self.template, self.variables)).name
        if self.settings.thinking != "suppress" or known is None:
            return
        off = switch_off(self.template, self.variables, self.system_role)
        if off is None:
            raise CheckpointError(
                f"{self.model}: the study says chat.thinking: suppress, but the chat template has no switch that turns "
                f"thoughts off; it knows thoughts as {known}; expected separate or keep"
            )
        self.variables |= off

    def _encode(self, text: str) -> list[int]:
        try:
            # The template writes the special tokens itself.
            return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        except Exception as error:  # `tokenizers` has no exception class
            problem = shortened(error) or type(error).__name__
            raise CheckpointError(f"{self.model}: the tokenizer cannot encode {shown(text)}: {problem}") from error
