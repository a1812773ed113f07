"""YAML files that people write.

Before anything is built from a file its events are counted: a few lines of aliases can stand for more values than there
is memory for, and a line of brackets for a deeper nesting than a parser's stack.
"""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from persona_assets.files.reading import DEEPEST, MIB, UnreadableError, named, read_text, shortened, shown

LARGEST_YAML = 2 * MIB
MOST_VALUES = 50_000
LONGEST_NUMBER = 40
MOST_FAULTS = 12
_TAG = "tag:yaml.org,2002:"
_KINDS = {
    f"{_TAG}int": "whole number",
    f"{_TAG}float": "number",
    f"{_TAG}bool": "truth value",
    f"{_TAG}timestamp": "date",
}
_NUMBERS = (f"{_TAG}int", f"{_TAG}float")
# libyaml is ten times as fast; it comes with PyYAML's wheels.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _UniqueKeys(_Loader):  # type: ignore[misc]  # one of two classes
    """YAML's mappings silently keep the last of two equal keys; a study must not."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        if not isinstance(node, yaml.MappingNode):
            raise yaml.MarkedYAMLError(problem=f"found a {node.id}; expected a mapping", problem_mark=node.start_mark)
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str | int | float | None):
                raise yaml.MarkedYAMLError(
                    problem=f"found a {type(key).__name__} as a name; expected text", problem_mark=key_node.start_mark
                )
            if key in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"{shown(key)} stands twice; expected it once", problem_mark=key_node.start_mark
                )
            seen.add(key)
        content: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return content

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Of the plain kinds only: a set has no order, and studies have one.

        PyYAML lets Python's own errors through where a value is not of the kind that its form or tag promises.
        """
        if node.tag.removeprefix(_TAG) in ("set", "omap", "pairs", "binary"):
            problem = f"found !!{node.tag.removeprefix(_TAG)}; expected text, numbers, lists and mappings"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        try:
            if node.tag in _NUMBERS and len(node.value) > LONGEST_NUMBER:  # 1:1:1…, to the base 60, can take minutes
                raise ValueError
            return super().construct_object(node, deep)
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
            kind = _KINDS.get(node.tag, "such thing")
            problem = f"found {shown(node.value)}, which is no {kind}; expected one, or text in quotes"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from error


def read_yaml(path: Path) -> Any:
    """A YAML file's content; equal keys in one mapping are refused.

    Raises:
        UnreadableError: as in `parse_yaml`, or the file cannot be read, is no text or larger than 2 MiB.
    """
    return parse_yaml(read_text(path, LARGEST_YAML), path)


def parse_yaml(text: str, path: Path) -> Any:
    """The content of a YAML text; `path` is where it stands, for the errors.

    Raises:
        UnreadableError (a ValueError): it is not YAML, is nested more than 64 levels deep, or stands for more than
            50,000 values once its aliases are followed; names the file, line and column.
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
    """Counts values as if every alias were written out; events come one by one, whatever the nesting."""
    values: list[int] = [0]  # of every level that is open, its own and those below it
    anchors: dict[str, int] = {}
    opened: list[str | None] = []
    for event in yaml.parse(text, Loader=_Loader):
        problem = None
        match event:
            case yaml.AliasEvent() if event.anchor in opened:
                problem = f"*{event.anchor} stands within &{event.anchor}; expected no value within itself"
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
        if len(opened) > DEEPEST:
            problem = f"is nested deeper than {DEEPEST} levels; expected fewer"
        if sum(values) > MOST_VALUES:
            problem = f"more than {MOST_VALUES} values, aliases followed; expected fewer"
        if problem:
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)  # type: ignore[arg-type]  # libyaml's


def _in_words(mark: yaml.Mark) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}"


def describe_errors(error: ValidationError) -> str:
    """Pydantic's findings as `field: what was found; what was expected`, one a line where there are several."""
    faults = error.errors(include_url=False)
    more = [f"and {len(faults) - MOST_FAULTS} more"] if len(faults) > MOST_FAULTS else []
    return "\n  ".join([*map(_describe, faults[:MOST_FAULTS]), *more])


def _describe(found: Any) -> str:
    field = ".".join(
        named(part, 60) if isinstance(part, str) else str(part)
        for part in found["loc"]
        if part not in ("int", "float", "literal['all']", "tuple[str, ...]", "Drawn")  # which kind of a union
    )
    match found["type"]:
        case "missing":
            problem = "is missing; expected it to be given"
        case "extra_forbidden":
            problem = f"unknown field, found {shown(found['input'])}; expected one of the documented fields"
        case "tuple_type":
            problem = f"found {shown(found['input'])}; expected a list"
        case "value_error":
            problem = shortened(found["ctx"]["error"], 1000).removeprefix(field.rpartition(".")[2] + " ")
            if field.endswith(".prompt"):
                field, problem = field.removesuffix(".prompt"), f"prompt {problem}"
        case _:
            problem = f"found {shown(found['input'])}; {found['msg'][0].lower()}{shortened(found['msg'][1:], 500)}"
    return f"{field}: {problem}" if field else problem
