"""What a chat template makes of a conversation: whether it has a system role, and what it writes around a reply."""

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from persona_assets.checkpoints.templates.rendering import TemplateError, render

# Stand for the texts of messages while a template is inspected; no template contains them.
MARK = "\u2063"
SYSTEM, QUESTION, REPLY = (f"{MARK}{name}{MARK}" for name in ("system", "question", "reply"))
Message = dict[str, str]
# Where the persona goes if the template has no system role, as it is named in the identity and shown to people.
FIRST_USER_MESSAGE = "first user message"


def conversation(
    system: str | None, question: str, system_role: bool = True, reply: str | None = None
) -> list[Message]:
    """Return the messages of one question.

    Args:
        system: the persona's prompt; None for no system message.
        system_role: whether the template has a system role. If not, the persona goes before the question, with a blank
            line in between.
    """
    messages = [{"role": "user", "content": question}]
    if system is not None and system_role:
        messages.insert(0, {"role": "system", "content": system})
    elif system is not None:
        messages[0]["content"] = f"{system}\n\n{question}"
    if reply is not None:
        messages.append({"role": "assistant", "content": reply})
    return messages


def rendered(
    template: str, messages: Sequence[Message], variables: Mapping[str, Any], add_generation_prompt: bool = False
) -> str:
    """Render messages as the tokenizer's apply_chat_template does, but in a separate process with limits.

    Args:
        variables: special tokens (`bos_token`, …) and the study's template variables.

    Raises:
        TemplateError: see `rendering.render`.
    """
    given = {"messages": messages, "tools": None, "documents": None, "add_generation_prompt": add_generation_prompt}
    return _rendered(template, json.dumps({**variables, **given}))


@lru_cache(maxsize=1024)
def _rendered(template: str, variables: str) -> str:
    return render(template, json.loads(variables))


def has_system_role(template: str, variables: Mapping[str, Any]) -> bool:
    """Return whether a system message's text reaches the prompt, anywhere in it.

    Gemma 2's template refuses a system message, and that of Mistral 0.1 drops it; Mistral 0.3 moves it into the last
    user turn.

    Raises:
        TemplateError: the template fails without a system message too, or drops or changes the question.
    """
    alone = rendered(template, conversation(None, QUESTION), variables, add_generation_prompt=True)
    _require(QUESTION, alone, "the user's message")
    try:
        text = rendered(template, conversation(SYSTEM, QUESTION), variables, add_generation_prompt=True)
    except TemplateError:
        return False
    return SYSTEM in text and QUESTION in text


def after_reply(template: str, variables: Mapping[str, Any], system_role: bool) -> str:
    """Return the text that the template writes behind a reply, such as an end-of-turn token and a newline.

    Raises:
        TemplateError: the template fails, or drops or changes the reply.
    """
    text = rendered(template, conversation(SYSTEM, QUESTION, system_role, REPLY), variables)
    _require(REPLY, text, "the response")
    return text.rpartition(REPLY)[2]


def before_reply(template: str, variables: Mapping[str, Any]) -> str:
    """Return the text between the question and the reply, with which the assistant's turn begins."""
    text = rendered(template, conversation(None, QUESTION), variables, add_generation_prompt=True)
    return text.rpartition(QUESTION)[2]


def _require(stand_in: str, text: str, what: str) -> None:
    """Require that a rendered text contains the stand-in of a message word for word."""
    if stand_in in text:
        return
    changed = re.search(f"{MARK}({re.escape(stand_in.strip(MARK))}){MARK}", text, re.IGNORECASE)
    if changed is None:
        raise TemplateError(f"it drops {what}")
    raise TemplateError(
        f"it changes {what}: found {changed[1]!r} for {stand_in.strip(MARK)!r}; expected messages word for word, since "
        "a persona's prompt and questions would be changed too"
    )
