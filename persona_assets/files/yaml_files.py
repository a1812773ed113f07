"""Bounded reading of YAML files written by hand, and descriptions of their validation errors.

The parser's events are counted before any object is built, because a few lines of aliases can expand to more values
than memory can hold, and one line of brackets can nest deeper than a parser's stack.
"""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from persona_assets.files.reading import MAX_DEPTH, MIB, UnreadableError, named, read_text, shortened, shown

LARGEST_YAML = 2 * MIB
MAX_VALUES = 50_000
MAX_NUMBER_LENGTH = 40
MAX_ERRORS = 12
_TAG = "tag:yaml.org,2002:"
_KINDS = {
    f"{_TAG}int": "whole number",
    f"{_TAG}float": "number",
    f"{_TAG}bool": "boolean",
    f"{_TAG}timestamp": "date",
}
_NUMBERS = (f"{_TAG}int", f"{_TAG}float")
# libyaml is ten times faster and is included in PyYAML's wheels.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _UniqueKeys(_Loader):  # type: ignore[misc]  # one of two classes
    """Loader that rejects duplicate keys, of which YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        if not isinstance(node, yaml.MappingNode):
            raise yaml.MarkedYAMLError(problem=f"found a {node.id}; expected a mapping", problem_mark=node.start_mark)
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, bool) or key is None:
                text = key_node.value if isinstance(key_node, yaml.ScalarNode) else ""
                problem = f"found the key {text or 'null'}, which YAML reads as {str(key).lower()}"
                raise yaml.MarkedYAMLError(
                    problem=f"{problem.replace('none', 'nothing')}; expected text: write '{text}' in quotes",
                    problem_mark=key_node.start_mark,
                )
            if not isinstance(key, str | int | float):
                raise yaml.MarkedYAMLError(
                    problem=f"found a {type(key).__name__} as a key; expected text", problem_mark=key_node.start_mark
                )
            if key in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"duplicate key {shown(key)}; expected each key once", problem_mark=key_node.start_mark
                )
            seen.add(key)
        content: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return content

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Construct plain types only; sets are rejected because they have no order, and order matters in a study.

        PyYAML raises plain Python errors if a value does not match its tag; these become YAML errors with a position.
        """
        if node.tag.removeprefix(_TAG) in ("set", "omap", "pairs", "binary"):
            problem = f"found !!{node.tag.removeprefix(_TAG)}; expected text, numbers, lists and mappings"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        try:
            # Base-60 numbers such as 1:1:1… can take minutes to parse.
            if node.tag in _NUMBERS and len(node.value) > MAX_NUMBER_LENGTH:
                raise ValueError
            return super().construct_object(node, deep)
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
            kind = _KINDS.get(node.tag, "value of its type")
            problem = f"found {shown(node.value)}, which is not a valid {kind}; expected a {kind}, or text in quotes"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from error


def read_yaml(path: Path) -> Any:
    """Return a YAML file's content; duplicate keys are rejected.

    Raises:
        UnreadableError: as in `parse_yaml`, or the file cannot be read, is not text, or is larger than 2 MiB.
    """
    return parse_yaml(read_text(path, LARGEST_YAML), path)


def parse_yaml(text: str, path: Path) -> Any:
    """Return the content of a YAML text; `path` is its origin, for error messages.

    Raises:
        UnreadableError (a ValueError): the text is not YAML, is nested more than 64 levels deep, or contains more than
            50,000 values once aliases are expanded. The message names the file, line and column.
    """
    try:
        _require_bounds(text)
        return yaml.load(text, Loader=_UniqueKeys)  # noqa: S506  (a SafeLoader)
    except yaml.MarkedYAMLError as error:
        place = f"{_in_words(error.problem_mark)}: " if error.problem_mark else ""
        within = f", {error.context} from {_in_words(error.context_mark)}" if error.context_mark else ""
        raise UnreadableError(path, f"{place}{shortened(error.problem, 500)}{within}") from error
    except yaml.YAMLError as error:
        raise UnreadableError(path, f"is not YAML: {shortened(' '.join(str(error).split()), 500)}") from error


def _require_bounds(text: str) -> None:
    """Count the values as if every alias were expanded; events are read one by one, so deep nesting is safe."""
    values: list[int] = [0]  # one count per open level, including the closed levels below it
    anchors: dict[str, int] = {}
    opened: list[str | None] = []
    for event in yaml.parse(text, Loader=_Loader):
        problem = None
        match event:
            case yaml.AliasEvent() if event.anchor in opened:
                problem = f"alias *{event.anchor} is inside its own anchor &{event.anchor}; expected no recursion"
            case yaml.AliasEvent():
                values[-1] += anchors.get(event.anchor or "", 1)
            case yaml.ScalarEvent():
                values[-1] += 1
                anchors[event.anchor or ""] = 1
            case yaml.CollectionStartEvent():
                opened.append(event.anchor)
                values.append(1)
            case yaml.CollectionEndEvent():
                closed = values.pop()
                anchors[opened.pop() or ""] = closed
                values[-1] += closed
        if len(opened) > MAX_DEPTH:
            problem = f"is nested more than {MAX_DEPTH} levels deep; expected at most {MAX_DEPTH}"
        if sum(values) > MAX_VALUES:
            problem = f"found more than {MAX_VALUES} values once aliases are expanded; expected at most that"
        if problem:
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)  # type: ignore[arg-type]  # libyaml's


def _in_words(mark: yaml.Mark) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}"


def describe_errors(error: ValidationError) -> str:
    """Return Pydantic's errors as `field: what was found; what was expected`, one per line."""
    errors = error.errors(include_url=False)
    more = [f"and {len(errors) - MAX_ERRORS} more"] if len(errors) > MAX_ERRORS else []
    return "\n  ".join([*map(_describe, errors[:MAX_ERRORS]), *more])


def _describe(found: Any) -> str:
    field = ".".join(
        named(part, 60) if isinstance(part, str) else str(part)
        for part in found["loc"]
        if part not in ("int", "float", "literal['all']", "tuple[str, ...]", "Drawn")  # names of union members
    )
    match found["type"]:
        case "missing":
            problem = "is missing; expected a value"
        case "extra_forbidden":
            problem = f"unknown field, found {shown(found['input'])}; expected one of the documented fields"
        case "tuple_type":
            problem = f"found {shown(found['input'])}; expected a list"
        case "value_error":
            problem = shortened(found["ctx"]["error"], 1000).removeprefix(field.rpartition(".")[2] + " ")
            if field.endswith(".prompt"):
                field, problem = field.removesuffix(".prompt"), f"prompt {problem}"
        case "string_type" if not isinstance(found["input"], dict | list):  # such as `no`, 1 or a date
            field = field.removesuffix(".[key]")
            problem = f"found {shown(found['input'])}; expected text; write it in quotes"
        case _:
            problem = f"found {shown(found['input'])}; {found['msg'][0].lower()}{shortened(found['msg'][1:], 500)}"
    return f"{field}: {problem}" if field else problem
