"""Import rules: packages import only from lower layers, without cycles, and science packages are independent."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

# Top to bottom: a package imports only from those below it.
LAYERS = (
    "cli",
    "definitions",
    "assets",
    "automation",
    "upkeep",
    "published",
    "runs",
    "workers",
    "page",
    "stages",
    "graph",
    "planning",
    "inference",
    "checkpoints",
    "store",
    "study",
    "files",
    "presentation",
    "statistics",
    "metrics",
)
SCIENCE = ("inference", "metrics", "presentation", "statistics")
STANDS_ALONE = ("metrics", "presentation", "statistics")  # nothing above `files`


def modules(root: Path) -> dict[str, Path]:
    """Map dotted module names, relative to the root package, to files; `__init__.py` has the name of its package."""
    named = {}
    for file in root.rglob("*.py"):
        parts = file.relative_to(root).with_suffix("").parts
        named[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return named


def imports(file: Path, known: dict[str, Path], at_load: bool = False) -> Iterator[str]:
    """Yield the names of the modules that a file imports; those of this package without its prefix.

    Args:
        at_load: only imports that are executed when the module is loaded, not those inside functions.
    """
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in _at_load(tree) if at_load else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (each.name.removeprefix("persona_assets.") for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            base = node.module.removeprefix("persona_assets").lstrip(".")
            for each in node.names:
                whole = f"{base}.{each.name}".lstrip(".")
                yield whole if node.module.startswith("persona_assets") and whole in known else base


def _at_load(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        yield child
        yield from _at_load(child)


def faults(root: Path) -> list[str]:
    """Return one sentence per violation of the import rules."""
    known = modules(root)
    found = []
    for name, file in known.items():
        package = name.partition(".")[0]
        if not name:
            continue
        if package not in LAYERS:
            found.append(f"{name} is in no layer")
            continue
        for imported in set(imports(file, known)):
            other = imported.partition(".")[0]
            if other == "dagster" and package in SCIENCE:
                found.append(f"{name} imports Dagster")
            if other == package or imported not in known or not imported:
                continue
            if LAYERS.index(other) < LAYERS.index(package):
                found.append(f"{name} imports {imported}, which is above it")
            if package in SCIENCE and other in SCIENCE:
                found.append(f"{name} imports {imported}, another science package")
            if package in STANDS_ALONE and other != "files":
                found.append(f"{name} imports {imported}, which is neither its own nor `files`")
    # Cycles through a package's `__init__`, which re-exports names of its modules, are allowed; only modules count.
    graph = {
        name: {each for each in imports(file, known, at_load=True) if each in known and known[each].stem != "__init__"}
        for name, file in known.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found.append("cycle: " + " → ".join(error.args[1]))
    return found


def test_imports_follow_the_layers_without_cycles(repository: Path) -> None:
    assert faults(repository / "persona_assets") == []


def test_the_top_level_contains_only_packages_and_definitions(repository: Path) -> None:
    top = repository / "persona_assets"
    assert sorted(each.name for each in top.iterdir() if each.is_file()) == [
        "__init__.py",
        "dagster.yaml",
        "definitions.py",
        "py.typed",
    ]


BREAKS = {
    "an import from above": ("store.a imports runs.b, which is above it", {
        "store/a.py": "from persona_assets.runs.b import x", "runs/b.py": ""}),
    "an import from above within a function": ("store.a imports runs.b, which is above it", {
        "store/a.py": "def f():\n    import persona_assets.runs.b", "runs/b.py": ""}),
    "a cycle": ("cycle: ", {
        "runs/a.py": "import persona_assets.runs.b", "runs/b.py": "from persona_assets.runs import a"}),
    "science with Dagster": ("metrics.a imports Dagster", {"metrics/a.py": "import dagster as dg"}),
    "science with other science": ("inference.a imports metrics.b, another science package", {
        "inference/a.py": "from persona_assets.metrics import b", "metrics/b.py": ""}),
    "a figure that imports the study": ("presentation.a imports study.b", {
        "presentation/a.py": "from persona_assets.study import b", "study/b.py": ""}),
    "a new package without a layer": ("somewhere.a is in no layer", {"somewhere/a.py": ""}),
}  # fmt: skip


@pytest.mark.parametrize(("fault", "files"), BREAKS.values(), ids=BREAKS)
def test_each_violation_is_detected(tmp_path: Path, fault: str, files: dict[str, str]) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert [each for each in faults(tmp_path) if each.startswith(fault)]
