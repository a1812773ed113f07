"""What a person should know about the prompts of a study under a chat template, before anything is measured."""

import re
from collections.abc import Iterator, Mapping

from persona_assets.checkpoints.templates.conversation import FIRST_USER_MESSAGE, conversation, rendered
from persona_assets.checkpoints.templates.rendering import TemplateError
from persona_assets.checkpoints.templates.switches import switch_names
from persona_assets.files.reading import shown
from persona_assets.inference.chat.chat import Chat

_FIRST, _SECOND = "\u2063first\u2063", "\u2063second\u2063"


def prompt_warnings(chat: Chat, prompts: Mapping[str, str | None]) -> list[str]:
    """Return one sentence per thing to know about the prompts of a study; none of them stops a measurement.

    Args:
        prompts: persona → system prompt.

    Raises:
        CheckpointError: a prompt cannot be rendered.
    """
    return [*_of_template(chat), *_of_personas(chat, prompts)]


def switch_sentences(chat: Chat) -> list[str]:
    """Return one sentence per switch of the template that the study leaves open."""
    return [
        f"the chat template's {name} is not set: {' or '.join(str(value).lower() for value in values)} changes the "
        f"prompt; set chat.template_variables.{name} in the study"
        for name, values in chat.open_switches.items()
    ]


def _of_template(chat: Chat) -> Iterator[str]:
    if not chat.system_role:
        yield f"the chat template has no system role: personas are put into the {FIRST_USER_MESSAGE}"
    yield from switch_sentences(chat)
    read = switch_names(chat.template)
    for name in chat.settings.template_variables:
        if name not in read:
            yield f"chat.template_variables.{name}: the chat template does not read it"


def _of_personas(chat: Chat, prompts: Mapping[str, str | None]) -> Iterator[str]:
    default = default_system_prompt(chat)
    for name, prompt in prompts.items():
        if prompt is None and default:
            yield (
                f"{name} has no system message, and the chat template then writes its own: {shown(default)}; "
                'this is not an empty prompt, which would be prompt: ""'
            )
        if prompt and prompt.strip() not in chat.prompt_text(prompt, "question"):
            yield f"the chat template changes the text of {name}: the prompt does not contain it word for word"
        for token in control_tokens(chat, prompt or ""):
            yield f"the prompt of {name} contains {shown(token)}, which the model reads as a control token, not as text"
    alike: dict[str, str] = {}
    for name in [name for name, prompt in prompts.items() if not prompt]:
        text = chat.prompt_text(prompts[name], "question")
        if text in alike:
            yield f"{alike[text]} and {name} have the same prompt under this chat template"
        alike[text] = name


def control_tokens(chat: Chat, text: str) -> list[str]:
    """Return the tokens in a text that the model reads as control tokens, such as `<|im_end|>` or `[INST]`."""
    added = chat.tokenizer.added_tokens_decoder.values()
    names = {token.content for token in added if token.special or re.fullmatch(r"[<\[].+[>\]]", token.content)}
    return sorted(name for name in names if name.strip() and name in text)


def default_system_prompt(chat: Chat) -> str | None:
    """Return the text that the template writes before the first question if there is no system message.

    What it writes before every question does not count, nor do headers without words.
    """
    messages = conversation(None, _FIRST, reply="reply")
    try:
        once = rendered(chat.template, [*messages, {"role": "user", "content": _SECOND}], chat.variables)
    except TemplateError:  # the template takes one question only
        return None
    before = once.partition(_FIRST)[0]
    between = once.partition(_FIRST)[2].partition(_SECOND)[0].rpartition("reply")[2]
    while between and not before.endswith(between):
        between = between[1:]
    preamble = before.removesuffix(between)
    for token in chat.tokenizer.added_tokens_decoder.values():
        preamble = preamble.replace(token.content, " ")
    words = preamble.split()
    return " ".join(words) if len(words) > 1 else None
