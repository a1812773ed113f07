"""What a Python file does that this project does not: unpickle, evaluate, or run what somebody else sent."""

import ast
from collections.abc import Iterator

# Modules whose files run code when they are read.
PICKLES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
BUILTINS = {"eval", "exec", "compile", "__import__"}
METHODS = {
    "torch.load", "torch.save", "pd.read_pickle", "pandas.read_pickle", "os.system", "os.popen",
    "yaml.unsafe_load", "yaml.full_load", "yaml.load_all", "torch.hub.load", "runpy.run_path",
}  # fmt: skip
# What reads a checkpoint and may carry code of its own.
FROM_CHECKPOINT = {"AutoConfig", "AutoTokenizer", "AutoModel", "AutoModelForCausalLM", "AutoProcessor"}


def findings(source: str) -> Iterator[str]:
    """`line: what`, for every place of a file that does one of these."""
    for node in ast.walk(ast.parse(source)):
        for what in _found(node):
            yield f"{getattr(node, 'lineno', 0)}: {what}"


def _found(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (f"import {each.name}" for each in node.names if each.name.split(".")[0] in PICKLES)
    if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PICKLES:
        yield f"from {node.module}"
    if isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant) and key.value == "trust_remote_code":
                yield from _unless_false(value)
    if isinstance(node, ast.Call):
        yield from _called(node)


def _called(node: ast.Call) -> Iterator[str]:
    name = ast.unparse(node.func)
    options = {each.arg: each.value for each in node.keywords}
    if name in BUILTINS | METHODS or name.endswith(".to_pickle"):
        yield name
    if name == "yaml.load":  # only with a loader of ours, which the test looks at
        loader = options.get("Loader", node.args[1] if len(node.args) > 1 else None)
        yield f"yaml.load with {ast.unparse(loader) if loader else 'no loader'}"
    if "trust_remote_code" in options:
        yield from _unless_false(options["trust_remote_code"])
    for option in ("allow_pickle", "shell"):
        if option in options and not _is(options[option], False):
            yield f"{option}={ast.unparse(options[option])}"
    if "weights_only" in options and not _is(options["weights_only"], True):
        yield "weights_only off"
    owner, _, method = name.rpartition(".")
    if method == "from_pretrained" and owner in FROM_CHECKPOINT and "trust_remote_code" not in options:
        yield f"{name} without trust_remote_code=False: it would ask whoever sits at the terminal"
    if method == "import_module" and not all(isinstance(each, ast.Constant) for each in node.args):
        yield f"{name} of a name that is computed"


def _unless_false(value: ast.expr) -> Iterator[str]:
    if not _is(value, False):
        yield f"trust_remote_code={ast.unparse(value)}"


def _is(value: ast.expr, constant: bool) -> bool:
    return isinstance(value, ast.Constant) and value.value is constant
