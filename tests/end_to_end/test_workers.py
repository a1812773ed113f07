"""A run whose personas are made by two worker processes: the same bytes, nothing twice, nothing lost."""

import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
import pytest
from safetensors.torch import load_file, save_file

from persona_assets.definitions import build_definitions
from persona_assets.graph.history import latest_artefacts
from persona_assets.graph.home import Home
from persona_assets.graph.jobs import HEAVY_ASSETS
from persona_assets.graph.partitions import STUDY, partition_key
from persona_assets.graph.resources import WORKERS, Gpu
from persona_assets.inference import NonFiniteError
from persona_assets.runs.heavy import recorded_checkpoint
from persona_assets.runs.run import Run
from persona_assets.study import Study
from persona_assets.workers import processes
from persona_assets.workers.cards import Cards
from persona_assets.workers.choice import choose_workers
from persona_assets.workers.in_process import InProcess
from persona_assets.workers.processes import COMMAND, ProcessWorkers
from persona_assets.workers.tasks import Result, Task, WorkerError
from tests.end_to_end.conftest import emptied, heavy_files, tiny_run_of

SMALL_STUDY = Path(__file__).parents[1] / "small_study.yaml"


@pytest.fixture(scope="module")
def run(measured_tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """An instance that the tests of this file take one after another, so that its workers start once."""
    root = shutil.copytree(measured_tiny, tmp_path_factory.mktemp("workers") / "home")
    with dg.DagsterInstance.from_config(str(root)) as instance:
        yield tiny_run_of(root, instance)
    processes.close_processes()


@pytest.fixture
def two_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WORKERS, "2")


def records(run: Run, asset: str) -> dict[str, dict[str, object]]:
    """Persona → what its artefact cost."""
    keys = [partition_key("tiny", persona) for persona in run.study.personas]
    found = latest_artefacts(run.instance, run.home.store, asset, keys)
    return {key.partition("|")[2]: artefact.measured for key, artefact in found.items()}


def messages(run: Run) -> list[str]:
    (last,) = run.instance.get_run_records(limit=1)
    return [entry.user_message for entry in run.instance.all_logs(last.dagster_run.run_id)]


@pytest.mark.usefixtures("two_processes")
def test_two_processes_give_the_bytes_of_one_and_each_loads_the_model_once(run: Run) -> None:
    alone = heavy_files(run)
    emptied(run)
    run.materialise_job("measure_personas")
    loading = [line for line in messages(run) if "loading tiny on" in line]
    assert sorted(line.partition(":")[0] for line in loading) == ["worker 0", "worker 1"]
    run.materialise_job("train_markers")
    assert not [line for line in messages(run) if "worker" in line and "exit code" in line]
    assert heavy_files(run) == alone
    assert len(alone) == 3 * 3 + 4 + 2 + 2  # three personas' artefacts, an adapter of four files; its rates and
    # log-probabilities, and the base's
    workers = {cost["worker"] for asset in HEAVY_ASSETS for cost in records(run, asset).values()}
    assert workers == {"worker 0", "worker 1"}


@pytest.mark.usefixtures("two_processes")
def test_a_worker_that_is_killed_leaves_its_persona_to_the_other(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before = heavy_files(run)
    for asset in HEAVY_ASSETS:
        shutil.rmtree(run.home.store.root / asset)
    taken: list[tuple[str, str]] = []
    killed: list[str] = []
    work, read_header = processes.ProcessWorker.work, processes.ProcessWorker._read_header

    def noted(self: processes.ProcessWorker, task: Task) -> Iterator[Result]:
        taken.extend((task.stage, persona) for persona in task.personas)
        yield from work(self, task)

    def killed_at_its_first(self: processes.ProcessWorker) -> Any:
        if not killed and self.process is not None:  # it has the task
            killed.append(self.name)
            os.kill(self.process.pid, signal.SIGKILL)
        return read_header(self)

    monkeypatch.setattr(processes.ProcessWorker, "work", noted)
    monkeypatch.setattr(processes.ProcessWorker, "_read_header", killed_at_its_first)
    run.materialise_job("measure_personas")
    lines = messages(run)
    (death,) = [line for line in lines if "ended with exit code -9" in line]
    assert death.startswith(killed[0])
    stage, lost = "generations", death.rpartition("reassigning ")[2]
    assert Counter(taken) == {(asset, name): 1 for asset in HEAVY_ASSETS for name in run.study.personas} | {
        (stage, lost): 2
    }
    assert heavy_files(run) == before
    for asset in HEAVY_ASSETS:
        assert len([line for line in lines if line.startswith(f"{asset} ") and " tokens in " in line]) == len(
            run.study.personas
        )


@pytest.mark.usefixtures("two_processes")
def test_numbers_that_are_none_fail_their_persona_alone_in_a_worker_too(run: Run) -> None:
    weights = run.home.root / "tiny" / "model.safetensors"
    tensors = load_file(weights)
    personas = run.study.model_dump(mode="json")["personas"]
    personas["villain"]["prompt"] += " ½"
    odd = Study.model_validate(run.study.model_dump(mode="json") | {"personas": personas})
    from persona_assets.checkpoints import Checkpoint
    from persona_assets.inference import read_chat

    *_, token = read_chat(Checkpoint(name="tiny", path=weights.parent)).tokenizer("½")["input_ids"]
    tensors["model.embed_tokens.weight"][token] = float("nan")
    save_file(tensors, weights, {"format": "pt"})
    broken = replace(run, study=odd, defs=build_definitions(odd, run.home))
    broken.prepare()
    broken.materialise_job("identify_checkpoint")
    with pytest.raises(NonFiniteError, match=r"1 of 3 failed, the others are stored: villain: .* output in the token"):
        broken.materialise_job("measure_personas")
    assert len([line for line in messages(broken) if line.startswith("centroids ")]) == 3


def test_workers_of_another_kind_are_refused_with_a_sentence(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = Gpu(device="cpu")
    for asked in ("several", "0", "-1", "2.5"):
        monkeypatch.setenv(WORKERS, asked)
        expected = f"{WORKERS}: found '{asked}'; expected a number of workers, 'cards' or 'ray'"
        with pytest.raises(WorkerError, match=expected):
            choose_workers(gpu, run.home, None)
    monkeypatch.setenv(WORKERS, "cards")  # a CPU is one place to compute
    assert isinstance(choose_workers(gpu, run.home, None), InProcess)
    assert isinstance(choose_workers(Gpu(device="cpu", workers="2"), run.home, None), ProcessWorkers)


def test_a_worker_on_other_hardware_computes_nothing(run: Run) -> None:
    gpu = Gpu(device="cpu")
    checkpoint, identity = recorded_checkpoint(run.instance, run.home, "tiny")
    environment = {**gpu.environment("centroids", identity), "device": "another card"}
    task = Task("centroids", run.study, checkpoint, identity, environment, ("villain",), {})
    with pytest.raises(WorkerError, match=r"differ from those of the run: device: found '.*', expected 'another card'"):
        list(InProcess(gpu, run.home, None).make([task]))


def test_where_it_is_computed_is_no_part_of_what_is_computed(tiny_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tiny_run.staleness()
    monkeypatch.setenv(WORKERS, "2")
    again = replace(tiny_run, defs=build_definitions(STUDY, tiny_run.home))
    assert again.staleness() == before
    assert again.materialise() == []


def test_the_workers_of_a_killed_run_end_with_it(measured_tiny: Path, tmp_path: Path) -> None:
    root = shutil.copytree(measured_tiny, tmp_path / "home")
    shutil.rmtree(root / "artefacts" / "generations")
    command = [sys.executable, "-m", "persona_assets.cli", "run", "--checkpoint", "tiny"]
    environment = os.environ | {WORKERS: "2", "DAGSTER_HOME": str(root), "PERSONA_ASSETS_STUDY": str(SMALL_STUDY)}
    killed = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert killed.stdout is not None
    said = []
    for line in killed.stdout:
        said.append(line)
        if "loading tiny on" in line:
            break
    assert "worker" in said[-1], said
    children = psutil.Process(killed.pid).children()
    workers = [child for child in children if any("workers.worker_process" in word for word in child.cmdline())]
    assert len(workers) == 2
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert alive == []


def test_a_worker_that_nobody_asks_any_more_ends(tmp_path: Path) -> None:
    """One at work ends when it cannot give its answer; one that waits for an order has to see that none will come."""
    read, write = os.pipe()
    idle = subprocess.Popen([*COMMAND, str(write), str(tmp_path)], stdin=subprocess.PIPE, pass_fds=[write])
    os.close(write)
    assert idle.stdin is not None
    idle.stdin.close()
    assert idle.wait(timeout=30) == 0
    os.close(read)


def test_a_card_belongs_to_one_run_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-5,6")
    home, said = Home(tmp_path), list[str]()
    first = Cards.take(home, 2)
    assert first.names == ["4", "GPU-5"]
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(Cards.take, home, 2, said.append)
        while not said:
            assert not waiting.done()
        first.give_back()
        second = waiting.result(timeout=20)
    assert said == ["waiting for 1 of 2 cards, which other runs are using"]
    assert "6" in second.names
    second.give_back()
    with pytest.raises(WorkerError, match="the run needs 4 cards, but only 3 are visible: 4, GPU-5, 6"):
        Cards.take(home, 4)
