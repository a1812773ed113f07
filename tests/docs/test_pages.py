"""Tests that code on the pages runs, and that everything the pages name exists."""

import importlib
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
import yaml

import persona_assets
from persona_assets.cli import app
from persona_assets.definitions import defs
from persona_assets.study import Study
from persona_assets.study.settings import Statistics
from tests.docs.reading import blocks, in_backticks, run_blocks, tables

PACKAGES = tuple(each.parent.name for each in Path(persona_assets.__file__).parent.glob("*/__init__.py"))
_NAME = re.compile(rf"(?:persona_assets\.)?((?:{'|'.join(PACKAGES)})(?:\.\w+)+)(?:\(.*\))?")
_PATH = re.compile(r"(?:[\w-]+/)+[\w.-]*\w\.(?:py|md|yaml|csv|sh|toml)")


def pages(repository: Path) -> list[Path]:
    return [repository / "README.md", *sorted((repository / "docs").rglob("*.md"))]


def test_every_formula_is_what_the_code_computes(repository: Path) -> None:
    run_blocks(repository / "docs" / "explanation" / "method.md", {})


def test_every_function_that_a_page_names_is_there(repository: Path) -> None:
    named = {
        (page.name, found[1])
        for page in pages(repository)
        for text in in_backticks(page.read_text(encoding="utf-8"))
        if (found := _NAME.fullmatch(text)) and not text.endswith((".py", ".md", ".yaml"))
    }
    assert len(named) > 30
    for page, name in sorted(named):
        parts = name.split(".")
        if parts[0] == "statistics" and parts[1] in Statistics.model_fields:
            continue  # a field of a study
        value: Any = importlib.import_module(f"persona_assets.{parts[0]}")
        for place, part in enumerate(parts[1:], start=2):
            if not hasattr(value, part):
                importlib.import_module(f"persona_assets.{'.'.join(parts[:place])}")
            value = getattr(value, part)
        assert value is not None, (page, name)


def test_every_file_that_a_page_names_is_there(repository: Path) -> None:
    for page in pages(repository):
        for text in in_backticks(page.read_text(encoding="utf-8")):
            if _PATH.fullmatch(text) and not text.startswith(("dagster_home/", "studies/")):
                places = [repository / text, repository / "persona_assets" / text]
                assert any(place.is_file() for place in places), (page.name, text)


def test_every_asset_is_in_the_table_of_the_graph(repository: Path) -> None:
    ((_, rows),) = tables(repository / "docs" / "reference" / "graph.md")
    named = [name for row in rows for name in in_backticks(row["asset"])]
    assert sorted(named) == sorted(key.to_user_string() for key in defs.resolve_asset_graph().get_all_asset_keys())


def test_every_command_that_a_page_shows_can_be_given(repository: Path) -> None:
    command = typer.main.get_command(app)
    shown = 0
    for page in pages(repository):
        text = page.read_text(encoding="utf-8")
        lines = [line for block in blocks(page, "sh") for line in block.text.splitlines()] + in_backticks(text)
        for line in lines:
            if not line.strip().startswith("persona-assets "):
                continue
            words, at, place = line.partition("#")[0].split()[1:], command, 0
            while place < len(words) and words[place] in getattr(at, "commands", {}):
                at, place = at.commands[words[place]], place + 1
            assert place, (page.name, line)
            options = {option for parameter in at.params for option in parameter.opts}
            given = {word for word in words[place:] if word.startswith("--")}
            assert given <= options | {"--help"}, (page.name, line)
            shown += 1
    assert shown > 15


def commands(at: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Yield every command that is not a group, with its full name."""
    if groups := getattr(at, "commands", None):
        for name, command in groups.items():
            yield from commands(command, (*path, name))
    else:
        yield " ".join(path), at


def test_every_command_and_option_is_in_the_reference(repository: Path) -> None:
    page = repository / "docs" / "reference" / "cli.md"
    documented = {
        heading.removeprefix("persona-assets "): {
            row.get("option") or row.get("argument or option") or row["argument"] for row in rows
        }
        for heading, rows in tables(page)
    }
    headings = re.findall(r"^### persona-assets (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    known = dict(commands(typer.main.get_command(app)))
    assert sorted(headings) == sorted(known)
    for name, command in known.items():
        given = {
            f"`{parameter.name.upper()}`" if parameter.param_type_name == "argument" else f"`{parameter.opts[0]}`"
            for parameter in command.params
        }
        assert documented.get(name, set()) == given, name


def test_the_studies_that_pages_show_are_valid(repository: Path) -> None:
    for page in ("README.md", "docs/tutorials/first-study.md"):
        (shown,) = blocks(repository / page, "yaml")
        Study.model_validate(yaml.safe_load(shown.text))


def test_the_study_of_the_guide_is_valid_with_and_without_leakage(repository: Path) -> None:
    page = repository / "docs" / "how-to" / "own-study.md"
    whole, leaks = [yaml.safe_load(block.text) for block in blocks(page, "yaml")]
    Study.model_validate(whole)
    # The recipe takes forty questions; the page shows one of them.
    leaks["training_questions"] += [f"What is {number}?" for number in range(39)]
    assert Study.model_validate(whole | leaks).sources == ("pirate",)


def test_the_citation_is_of_this_version(repository: Path) -> None:
    citation = yaml.safe_load((repository / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
