"""Shared fixtures: the embedded model, a tiny random model, a small published run. Tests use a temporary instance."""

import os
import tempfile
from pathlib import Path

# Set before persona_assets is imported, which reads the study and the instance from the environment.
os.environ["PERSONA_ASSETS_STUDY"] = str(Path(__file__).parent / "small_study.yaml")
os.environ["DAGSTER_HOME"] = tempfile.mkdtemp(prefix="persona-assets-tests-")
os.environ["HF_HUB_OFFLINE"] = "1"

import atexit
import json
import shutil
import signal
from itertools import combinations

import numpy as np
import pytest
import torch

from persona_assets.checkpoints import Checkpoint
from persona_assets.inference.embedded_model import NAME, ensure_embedded_model
from persona_assets.inference.loading import LoadedModel, choose_hardware, load_model
from persona_assets.study.settings import Inference
from tests.tiny_model import write_tiny_model

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # run the GPU kernels on the CPU, slowly

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # shells start background processes with SIGINT ignored
    # Dagster copies the handler of SIGINT to SIGTERM, which would then be ignored too, also in child processes.
    signal.signal(signal.SIGINT, signal.default_int_handler)

atexit.register(shutil.rmtree, os.environ["DAGSTER_HOME"], ignore_errors=True)

# Fixtures that measure a study once per xdist worker: test files that use the same one run on the same worker.
MEASURED_ONCE = ("small_run", "measured_tiny", "docs_run", "tests.security.conftest")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Distribute tests to workers by file, because the tests of a file share fixtures."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            text = (config.rootpath / file).read_text(encoding="utf-8")
            return next((name for name in MEASURED_ONCE if name in text), file)

    return ByFile(config, log)


@pytest.fixture(scope="session")
def repository() -> Path:
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def embedded_directory(repository: Path) -> Path:
    """Directory of SmolLM2-135M-Instruct, downloaded on first use."""
    return ensure_embedded_model(repository / "dagster_home" / "models")


@pytest.fixture(scope="session")
def embedded(embedded_directory: Path) -> LoadedModel:
    """The embedded model on the CPU in float32."""
    return load_model(Checkpoint(name=NAME, path=embedded_directory), choose_hardware(Inference(device="cpu")))


@pytest.fixture(scope="session")
def _tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tiny") / "model"
    write_tiny_model(directory)
    return directory


@pytest.fixture
def tiny_directory(_tiny: Path, tmp_path: Path) -> Path:
    """Directory of a random Llama with three blocks and a byte tokenizer; a new copy for every test."""
    return Path(shutil.copytree(_tiny, tmp_path / "tiny"))


@pytest.fixture
def published_files(tmp_path: Path) -> Path:
    """Files of a small published run: five personas, three questions, three sources; one cosine known in part only."""
    directory = tmp_path / "run"
    (directory / "marker_eval").mkdir(parents=True)
    names, questions = ["villain", "comedian", "librarian", "teacher", "assistant"], ["Why?", "How?", "When?"]
    random = np.random.default_rng(3)

    def write(path: str, content: object) -> None:
        (directory / path).write_text(json.dumps(content))

    write("personas_core.json", {name: {"prompt": f"You are a {name}.", "category": "made up"} for name in names})
    write("eval_questions.json", questions)
    write("data_questions.json", ["What for?", "Where to?"])
    write("generations.json", {name: {q: [f"{name} says {q}"] for q in questions} for name in names})
    pairs = list(combinations(range(5), 2))
    per_response = {
        str(response): {f"{names[i]}__{names[j]}": float(random.uniform(0.01, 0.05)) for i, j in pairs}
        for response in range(15)
    }
    js = np.zeros((5, 5))
    for i, j in pairs:
        js[i, j] = js[j, i] = np.mean([values[f"{names[i]}__{names[j]}"] for values in per_response.values()])
    kl = random.uniform(0.1, 0.2, (5, 5)) * (1 - np.eye(5))
    about = {"model": "somebody/model", "git_commit": "abc1234"}
    tables = {"js_matrix": js.tolist(), "kl_matrix": kl.tolist(), "persona_names": names}
    write("divergence_matrices.json", {**tables, "per_prompt_js": per_response, "metadata": about})
    places = random.normal(size=(5, 3))
    places -= places.mean(0)
    unit = places / np.linalg.norm(places, axis=1, keepdims=True)
    write("cosine_5_l20.json", {"cosine_matrix_l20": (unit @ unit.T).tolist(), "persona_names": names})
    rows = ["source,target,cosine_l20_centred9,cosine_l10_centred9"]
    for source in range(3):
        found = {name: int(random.integers(0, 20)) for name in names}
        write(
            f"marker_eval/{names[source]}.json",
            {n: {"found": k, "total": 20, "rate": k / 20} for n, k in found.items()},
        )
        rows += [
            f"{names[source]},{names[target]},{(source - target) ** 2 / 20},{(source + target) / 20}"
            for target in range(5)
            if target != source
        ]
    (directory / "dyads12.csv").write_text("\n".join(rows) + "\n")
    likeness = [f"{name},{float(js[4, place])!r},{0.1 * place},0.{place + 3}" for place, name in enumerate(names[:4])]
    heading = "persona,js_assistant,cosine_assistant_l10,source_rate"
    (directory / "coupling4.csv").write_text("\n".join([heading, *likeness]) + "\n")
    return directory
