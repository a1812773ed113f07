"""Tests that provoke every message on docs/how-to/troubleshooting.md and compare it with the page."""

import errno
import fcntl
import inspect
import json
import logging
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import get_args

import dagster as dg
import pytest
import torch

from persona_assets.assets.drift import checkpoint_drift
from persona_assets.checkpoints import Checkpoint, DigestCache, identify
from persona_assets.checkpoints.registry import Registry
from persona_assets.graph.history import latest_artefacts
from persona_assets.graph.home import Home
from persona_assets.graph.io_managers import require_same_study_and_weights
from persona_assets.graph.partitions import StudyChangedError, require_known_personas, split_key
from persona_assets.inference import choose_engine, choose_hardware, read_chat
from persona_assets.inference.engines import PYTHON_VARIABLE, vllm_version
from persona_assets.inference.out_of_memory import AdaptiveBatchSize
from persona_assets.metrics import read_leakage_table
from persona_assets.published.run import read_published_run
from persona_assets.runs.heavy import recorded_checkpoint
from persona_assets.runs.run import Run
from persona_assets.store.artefacts import ArtefactError, ArtefactStore
from persona_assets.store.instance import InstanceError, explain_database_error, instance_lock
from persona_assets.store.locks import LockError
from persona_assets.store.shared import SharedStorageError
from persona_assets.study import Persona, Study
from persona_assets.study.files import load_study
from persona_assets.study.settings import ChatSettings, Inference
from persona_assets.upkeep import self_test, sqlite_waits
from persona_assets.upkeep.doctor import Kind
from persona_assets.upkeep.migration import migrate
from tests.docs.reading import blocks, tables

STUDY = """\
name: mine
baseline: assistant
personas:
  assistant: {prompt: You are a helpful assistant.}
  pirate: {prompt: You are a pirate.}
questions:
  - What makes a good leader?
decoding: {max_new_tokens: 128}
layers: [20]
"""
MODEL, SHA = Path("models/mine"), re.compile(r"[0-9a-f]{64}")

# Heading on the page → function that provokes the message below it; called in an empty current directory.
PROVOKED: dict[str, Callable[[Run], object]] = {}


def provokes(heading: str) -> Callable[[Callable[[Run], object]], Callable[[Run], object]]:
    def take(provoke: Callable[[Run], object]) -> Callable[[Run], object]:
        PROVOKED[heading] = provoke
        return provoke

    return take


def study(text: str) -> Study:
    Path("studies").mkdir()
    Path("studies/mine.yaml").write_text(text)
    return load_study("studies/mine.yaml")


def registered(text: str) -> Registry:
    Path("dagster_home").mkdir()
    Path("dagster_home/checkpoints.yaml").write_text(text)
    return Registry(Path("dagster_home/checkpoints.yaml"))


def identified() -> None:
    identify(Checkpoint(name="mine", path=MODEL), DigestCache(Path("digests.json")))


def with_template(template: str) -> None:
    for file in (MODEL / "chat_template.jinja", MODEL / "tokenizer_config.json"):
        if file.suffix == ".jinja":
            file.write_text(template)
        else:
            file.write_text(json.dumps({**json.loads(file.read_text()), "chat_template": template}))


def copied_store(run: Run) -> ArtefactStore:
    """Copy the run's tables, so that a test may damage them."""
    shutil.copytree(run.home.store.root / "pair_table", "dagster_home/artefacts/pair_table")
    return ArtefactStore(Path("dagster_home/artefacts"))


@provokes("A field is misspelt")
def misspelt(_: Run) -> None:
    study(STUDY.replace("decoding:", "decodings:"))


@provokes("A name appears twice")
def twice(_: Run) -> None:
    study(STUDY.replace("  pirate:", "  assistant:"))


@provokes("A question is used for both training and evaluation")
def trained_and_asked(_: Run) -> None:
    study(STUDY + "training_questions: [what makes a good leader]\n")


@provokes("A study is not found")
def no_study(_: Run) -> None:
    load_study("mine")


@provokes("The model has no such layer")
def no_layer(_: Run) -> None:
    study(STUDY).blocks(12)


@provokes("A checkpoint is not registered")
def not_registered(_: Run) -> None:
    registered("qwen2.5-7b: {path: /models/qwen}\n").get("qwen")


@provokes("A branch is given instead of a commit")
def a_branch(_: Run) -> None:
    registered("qwen: {hub: Qwen/Qwen2.5-7B-Instruct, revision: main}\n").get("qwen")


@provokes("Weights are pickled")
def pickled(_: Run) -> None:
    (MODEL / "pytorch_model.bin").write_bytes(b"")
    identified()


@provokes("A shard is missing")
def no_shard(_: Run) -> None:
    index = {"weight_map": {"lm_head.weight": "model-00001-of-00002.safetensors"}}
    (MODEL / "model.safetensors.index.json").write_text(json.dumps(index))
    identified()


@provokes("There is no chat template")
def no_template(_: Run) -> None:
    with_template("")
    identified()


@provokes("The chat template has no system role")
def no_system_role(_: Run) -> None:
    with_template("{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}")
    read_chat(Checkpoint(name="mine", path=MODEL)).with_settings(ChatSettings(without_system_role="refuse"))


@provokes("Weights changed under the same name")
def weights_changed(run: Run) -> None:
    home = Home(Path("dagster_home").absolute())
    home.root.mkdir()
    (home.root / "artefacts").symlink_to(run.home.store.root)
    config = json.loads((MODEL / "config.json").read_text())
    (MODEL / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 0.5}))
    home.registry.add("tiny", {"path": str(MODEL.absolute())})
    recorded_checkpoint(run.instance, home, "tiny")


@provokes("No GPU is found")
def no_card(_: Run) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a card here")
    choose_hardware(Inference(device="cuda"))


@provokes("vLLM is not installed")
def no_vllm(_: Run) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(PYTHON_VARIABLE, raising=False)
        if vllm_version() is not None:
            pytest.skip("vLLM is installed here")
        choose_engine(Inference(engine="vllm"), choose_hardware(Inference(device="cpu")))


@provokes("Out of memory")
def no_memory(_: Run) -> str:
    said: list[str] = []
    logger, handler = logging.getLogger("persona_assets.inference.out_of_memory"), logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)

    def work(part: slice) -> int:
        if part.stop - part.start > 16:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return part.stop

    assert list(AdaptiveBatchSize("writing responses", "rows").slices(64, 64, work)) == [16, 32, 48, 64]
    logger.removeHandler(handler)
    (message,) = said
    return message


@provokes("An asset was not materialised")
def not_materialised(run: Run) -> None:
    latest_artefacts(run.instance, run.home.store, "report", ["tiny"])


@provokes("The study changed while the page runs")
def of_a_removed_persona(run: Run) -> str:
    with pytest.raises(StudyChangedError) as caught:
        require_known_personas(run.study, ["tiny|poet"])
    return str(caught.value)


@provokes("There is no checkpoint to compare")
def nothing_to_compare(run: Run) -> None:
    home = Home(Path("dagster_home").absolute())
    home.root.mkdir()
    with dg.instance_for_test() as instance:
        checkpoint_drift(dg.build_asset_context(instance=instance), study=run.study, home=home)


@provokes("An artefact belongs to another study")
def of_another_study(run: Run) -> None:
    edited = run.study.model_copy(
        update={"personas": {**run.study.personas, "villain": Persona(prompt="You are a villain.")}}
    )
    keys = run.instance.get_materialized_partitions(dg.AssetKey("generations"))
    found = latest_artefacts(run.instance, run.home.store, "generations", sorted(keys))
    require_same_study_and_weights(
        edited, "generations", {split_key(key)[1]: artefact for key, artefact in found.items()}
    )


@provokes("An artefact is damaged")
def damaged(run: Run) -> None:
    (artefact,) = copied_store(run).all("pair_table")
    artefact.path.write_bytes(artefact.path.read_bytes()[:-1])
    artefact.read()


@provokes("An artefact was pruned")
def pruned(run: Run) -> None:
    store = copied_store(run)
    (artefact,) = store.all("pair_table")
    store.prune(artefact)
    store.get("pair_table", artefact.fingerprint).read()


@provokes("The database does not answer")
def locked(run: Run) -> str | None:
    (database,) = run.home.root.rglob("runs.db")
    (last, *_) = run.instance.get_runs(limit=1)
    with pytest.MonkeyPatch.context() as patch, closing(sqlite3.connect(database, isolation_level=None)) as other:
        patch.setattr(sqlite_waits, "LOCKED_SECONDS", 0)
        other.execute("BEGIN EXCLUSIVE")
        try:
            run.instance.add_run_tags(last.run_id, {"seen": "yes"})
        except Exception as error:
            return explain_database_error(error)
    return None


@provokes("The file system has no locks")
def without_locks(_: Run) -> str:
    def no_locks(*_: object) -> None:  # what NFS without a lock daemon answers
        raise OSError(errno.ENOLCK, "No locks available")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fcntl, "flock", no_locks)
        with pytest.raises(LockError) as caught:
            instance_lock(Path("dagster_home").absolute(), print).__enter__()
    return f"LockError: {caught.value}"


@provokes("The shared storage does not answer")
def no_such_storage(_: Run) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PERSONA_ASSETS_SHARED", "s4://bucket/personas")
        Home(Path("dagster_home")).store.find("centroids", {})


@provokes("The databases are newer")
def newer(_: Run) -> None:
    home = Path("dagster_home").absolute()
    home.mkdir()
    with dg.DagsterInstance.from_config(str(home)) as instance:
        (database,) = home.rglob("runs.db")
        with closing(sqlite3.connect(database)) as connection, connection:
            connection.execute("UPDATE alembic_version SET version_num = 'feedfeedfeed'")
        migrate(instance, lambda _: None)


@provokes("Counts cannot be used")
def bad_counts(_: Run) -> None:
    Path("counts.csv").write_text("source,target,found,total\nvillain,pirate,21,20\nvillain,pirrate,3,20\n")
    read_leakage_table(Path("counts.csv"), ["villain", "pirate", "assistant"])


@provokes("A published run is inconsistent")
def disagreeing(_: Run) -> None:
    file = Path("run/divergence_matrices.json")
    content = json.loads(file.read_text())
    content["js_matrix"][0][1] = content["js_matrix"][1][0] = 0.5
    content["per_prompt_js"] = {
        response: dict.fromkeys(pairs, 0.02) for response, pairs in content["per_prompt_js"].items()
    }
    file.write_text(json.dumps(content))
    read_published_run(Path("run"), "assistant")


@provokes("A statement has no number")
def unanswerable(run: Run) -> str:
    statements = next(run.home.store.all("partial_correlations")).read()
    row = statements[(statements.name == "spearman: leakage_rate ~ js") & (statements["view"] == "dyadic")].iloc[0]
    return str(row.note)


@provokes("No suitable Python")
def no_python(_: Run) -> str:
    repository = Path(__file__).parents[2]
    Path("scripts").mkdir()
    script = shutil.copy(repository / "scripts" / "install.sh", "scripts")
    Path("bin").mkdir()
    for tool in ("bash", "dirname"):
        Path("bin", tool).symlink_to(str(shutil.which(tool)))
    done = subprocess.run([script], env={"PATH": str(Path("bin").absolute())}, capture_output=True, text=True)
    assert done.returncode == 1
    return done.stderr


def plain(message: str) -> str:
    """Replace digests and times, which differ between machines."""
    message = re.sub(r"\d{4}-\d\d-\d\dT[\d:+]+", "2026-01-31T12:00:00+00:00", message)
    return SHA.sub("0123…", message).rstrip()


def quoted() -> dict[str, str]:
    page = Path(__file__).parents[2] / "docs" / "how-to" / "troubleshooting.md"
    return {block.heading: block.text.rstrip() for block in blocks(page, "text")}


def test_the_doctors_findings_and_trials_are_those_of_the_page() -> None:
    (_, findings), (_, trials_of_page) = tables(Path(__file__).parents[2] / "docs" / "how-to" / "troubleshooting.md")
    assert [row["found"] for row in findings] == [*get_args(Kind)]
    named = [row["trial"] for row in trials_of_page]
    assert named == re.findall(r'^        "(.*)": partial\(', inspect.getsource(self_test.trials), re.MULTILINE)


def test_every_message_of_the_page_is_provoked_and_every_provoked_one_is_there() -> None:
    assert set(quoted()) == set(PROVOKED)


@pytest.mark.parametrize("heading", PROVOKED)
def test_a_message_is_quoted_to_the_letter(
    heading: str, workplace: Path, tiny_directory: Path, published_files: Path, docs_run: Run
) -> None:
    assert published_files == workplace / "run"
    MODEL.parent.mkdir()
    tiny_directory.rename(MODEL)
    try:
        message = str(PROVOKED[heading](docs_run))
    except (ValueError, ArtefactError, InstanceError, SharedStorageError) as error:
        message = f"{type(error).__name__}: {error}"
    assert quoted()[heading] == plain(message).replace(f"{workplace}/", "")
