"""Of two processes that need the same artefact, one computes it and the other waits; no content is corrupted."""

import errno
import fcntl
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from persona_assets.store.artefacts import ArtefactStore
from persona_assets.store.locks import LockError, locked

MAKE = """
import sys, time
from pathlib import Path
from persona_assets.store.artefacts import ArtefactStore
from persona_assets.files.digest import digest_of

store, name = ArtefactStore(Path(sys.argv[1])), sys.argv[2]
for number in range(5):
    made_from = {"number": number}
    with store.locked("generations", [digest_of(made_from)], lambda said: print(said)):
        if store.find("generations", made_from) is None:
            time.sleep(0.1)
            store.put("generations", made_from, {"by": name}, {"by": name})
            print("made", number)
"""

RACE = """
import sys
from pathlib import Path
from persona_assets.store.artefacts import ArtefactStore

store, name = ArtefactStore(Path(sys.argv[1])), sys.argv[2]
for number in range(30):
    store.put("figures", {"number": number}, {"figure.png": name.encode() * 1000}, {"by": name})
"""


def started(code: str, root: Path, name: str) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", code, str(root), name], stdout=subprocess.PIPE, text=True)


def test_each_artefact_is_computed_once(tmp_path: Path) -> None:
    processes = [started(MAKE, tmp_path, name) for name in ("one", "other")]
    said = [process.communicate(timeout=60)[0].splitlines() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    made = sorted(line for lines in said for line in lines if line.startswith("made"))
    assert made == [f"made {number}" for number in range(5)]


def test_processes_without_locks_do_not_corrupt_the_same_artefact(tmp_path: Path) -> None:
    processes = [started(RACE, tmp_path, name) for name in ("one", "other", "third")]
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]
    stored = list(ArtefactStore(tmp_path).all("figures"))
    assert len(stored) == 30
    for artefact in stored:
        assert artefact.read() == {"figure.png": artefact.measured["by"].encode() * 1000}


def test_locks_are_reentrant_and_their_order_cannot_deadlock(tmp_path: Path) -> None:
    with locked(tmp_path, ["bbbb", "aaaa"]), locked(tmp_path, ["aaaa", "bbbb"]):
        pass
    with locked(tmp_path, ["aaaa1", "aaaa2"]):  # one lock
        pass


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    hold = "import sys,time,pathlib;from persona_assets.store.locks import locked\n"
    hold += "with locked(pathlib.Path(sys.argv[1]), ['aaaa']): print('held', flush=True); time.sleep(60)"
    process = started(hold, tmp_path, "")
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    process.kill()
    process.wait()
    said: list[str] = []
    with locked(tmp_path, ["aaaa"], said.append):
        assert said == []


def test_a_waiting_thread_is_told_once(tmp_path: Path) -> None:
    said: list[str] = []
    order: list[str] = []
    held, begun = threading.Event(), threading.Event()

    def first() -> None:
        with locked(tmp_path, ["aaaa", "bbbb"]):
            held.set()
            begun.wait(10)
            order.append("first")

    def told(line: str) -> None:
        said.append(line)
        begun.set()

    thread = threading.Thread(target=first)
    thread.start()
    assert held.wait(10)
    with locked(tmp_path, ["aaaa", "bbbb", "cccc"], told):
        order.append("second")
    thread.join()
    assert order == ["first", "second"]
    assert said == ["another process is computing some of these; waiting for it"]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP])
def test_a_file_system_without_locks_is_named_with_what_to_do(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:  # what NFS without a lock daemon answers
        raise OSError(number, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(LockError, match=r"aaaa\.lock: this file system has no file locks .* local disk"):
        locked(tmp_path, ["aaaa"]).__enter__()
