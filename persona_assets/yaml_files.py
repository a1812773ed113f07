"""YAML files that people write."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError


class _UniqueKeys(yaml.SafeLoader):
    """YAML's mappings silently keep the last of two equal keys; a study must not."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"{key!r} stands twice; expected it once", problem_mark=key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> Any:
    """A YAML file's content; equal keys in one mapping are refused.

    Raises:
        ValueError: the file cannot be read or is not YAML; names the file, line and column.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)  # noqa: S506  (a SafeLoader)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: byte {error.start} is not UTF-8; expected a text file") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ValueError(f"{path}: {place}{error.problem}") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: is not YAML: {error}") from error


def describe_errors(error: ValidationError) -> str:
    """Pydantic's findings as `field: what was found; what was expected`, one a line where there are several."""
    return "\n  ".join(_describe(found) for found in error.errors())


def _describe(found: Any) -> str:
    field = ".".join(
        str(part) for part in found["loc"] if part not in ("int", "float", "literal['all']", "tuple[str, ...]")
    )
    match found["type"]:
        case "missing":
            problem = "is missing; expected it to be given"
        case "extra_forbidden":
            problem = f"unknown field, found {found['input']!r}; expected one of the documented fields"
        case "value_error":
            problem = str(found["ctx"]["error"]).removeprefix(field.rpartition(".")[2] + " ")
            if field.endswith(".prompt"):
                field, problem = field.removesuffix(".prompt"), f"prompt {problem}"
        case _:
            problem = f"found {found['input']!r}; {found['msg'][0].lower()}{found['msg'][1:]}"
    return f"{field}: {problem}" if field else problem
