"""Switches of a chat template: variables that it reads, that nobody set, and that change the prompt."""

import re
from collections.abc import Mapping
from typing import Any

from persona_assets.checkpoints.templates.conversation import QUESTION, SYSTEM, conversation, rendered
from persona_assets.checkpoints.templates.rendering import TemplateError, variables_of
from persona_assets.study.settings import TEMPLATE_INPUTS

_VALUES: tuple[bool | str, ...] = (True, False, "none", "low", "medium", "high")
_PRINTED = "\u2063value\u2063"
# A variable whose value is printed, such as a date, is no switch, unless its name says that it is about thinking. Then
# it takes words (`Reasoning: high`), and otherwise true or false, or what the template compares it with.
_ABOUT_THINKING = re.compile(r"think|reason|effort", re.IGNORECASE)
# What turns thoughts off, in the templates that have such a switch.
_OFF: tuple[tuple[str, bool | str | int], ...] = (
    ("enable_thinking", False),
    ("thinking", False),
    ("enable_reasoning", False),
    ("reasoning", False),
    ("thinking_mode", "off"),
    ("reasoning_effort", "none"),
    ("thinking_budget", 0),
)


def switch_names(template: str) -> list[str]:
    """Return the names of the variables that a template reads beyond those that it is always given."""
    return [name for name in variables_of(template) if name not in TEMPLATE_INPUTS and not name.endswith("_token")]


def open_switches(template: str, variables: Mapping[str, Any], system_role: bool) -> dict[str, list[bool | str]]:
    """Return the variables that would change the prompt and are not set: name → the values that would change it.

    Args:
        variables: special tokens and what the study sets.
    """
    plain = _prompt(template, variables, system_role)
    found = {}
    for name in switch_names(template):
        if name in variables:
            continue

        def prompt(value: bool | str, name: str = name) -> str | None:
            return _prompt(template, {**variables, name: value}, system_role)

        printed = _PRINTED in (prompt(_PRINTED) or _PRINTED)
        if printed and not _ABOUT_THINKING.search(name):
            continue
        quoted = _strings(template)
        values = [v for v in _VALUES if (printed and v != "none" if isinstance(v, str) else not printed) or v in quoted]
        if changing := [value for value in values if prompt(value) not in (None, plain)]:
            found[name] = changing
    return found


def switch_off(template: str, variables: Mapping[str, Any], system_role: bool) -> dict[str, Any] | None:
    """Return the template variable that turns thoughts off, with its value; None if the template has no such switch.

    Raises:
        TemplateError: the study sets this variable to another value.
    """
    plain, names = _prompt(template, variables, system_role), switch_names(template)
    for name, value in _OFF:
        if name not in names or (isinstance(value, str) and value not in _strings(template)):
            continue
        if variables.get(name, value) != value:
            raise TemplateError(
                f"{name} is set to {variables[name]!r}; expected {value!r} or nothing to suppress thoughts"
            )
        off = _prompt(template, {**variables, name: value}, system_role)
        on = _prompt(template, {**variables, name: True}, system_role)  # some templates think only if told to
        if off is not None and (off != plain or on != off):
            return {name: value}
    return None


def _prompt(template: str, variables: Mapping[str, Any], system_role: bool) -> str | None:
    try:
        return rendered(template, conversation(SYSTEM, QUESTION, system_role), variables, add_generation_prompt=True)
    except TemplateError:  # the template refuses this value
        return None


def _strings(template: str) -> set[str]:
    return set(re.findall(r"""["'](\w+)["']""", template))
