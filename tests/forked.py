"""Commands as processes of their own, without the seconds that a new Python needs to import PyTorch and Dagster.

    done = run(["-m", "persona_assets.cli", "status"], {"DAGSTER_HOME": str(home)})

Not for commands whose environment is read when libraries are imported (HF_ENDPOINT), nor for tests of what is imported.
"""

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

REPOSITORY = Path(__file__).parents[1]


class Forked:
    """A forked process, as `subprocess.Popen` shows one."""

    def __init__(
        self, arguments: Sequence[str], environment: Mapping[str, str], errors: IO[bytes] | None = None
    ) -> None:
        """Start it.

        Args:
            arguments: of Python: `-m MODULE …` or `-c CODE …`.
            environment: variables beside those of this process.
            errors: file for standard error; by default it goes where standard output goes.
        """
        their_in, self._in = os.pipe()
        self._out, their_out = os.pipe()
        self.stdin: IO[str] = os.fdopen(self._in, "w")
        self.stdout: IO[str] = os.fdopen(self._out)
        self.returncode: int | None = None
        order = {"arguments": [*arguments], "environment": {**os.environ, **environment}, "folder": str(Path.cwd())}
        self._zygote = zygote()
        self.pid = self._zygote.start(order, (their_in, their_out, errors.fileno() if errors else their_out))
        os.close(their_in)
        os.close(their_out)

    def poll(self) -> int | None:
        """Return the exit code, as `subprocess` counts it; None while the process runs."""
        return self.wait(0, check=False)

    def wait(self, timeout: float | None = None, check: bool = True) -> int | None:
        """Wait until it has ended and return the exit code.

        Raises:
            subprocess.TimeoutExpired: it still runs.
        """
        if self.returncode is None:
            status = self._zygote.ended(self.pid, timeout)
            if status is not None:
                self.returncode = os.waitstatus_to_exitcode(status)
            elif check:
                raise subprocess.TimeoutExpired([str(self.pid)], timeout or 0)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, None]:
        """Return what it says until it ends."""
        if not self.stdin.closed:
            self.stdin.close()
        said = self.stdout.read()
        self.wait(timeout)
        return said, None

    def send_signal(self, number: int) -> None:
        """Send a signal unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it."""
        self.send_signal(signal.SIGKILL)


def run(arguments: Sequence[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    with TemporaryFile() as errors:
        process = Forked(arguments, environment, errors)
        said, _ = process.communicate()
        assert process.returncode is not None
        errors.seek(0)
        return subprocess.CompletedProcess([*arguments], process.returncode, said, errors.read().decode())


class Zygote:
    """The process that forks: tests/zygote.py."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        path = os.pathsep.join([str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.zygote", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path},
            cwd=REPOSITORY,
        )
        theirs.close()
        self._ended: dict[int, int] = {}
        self._started: list[int] = []
        atexit.register(self._socket.close)  # which ends it

    def start(self, order: Mapping[str, object], fds: Sequence[int]) -> int:
        """Fork a process and return its pid."""
        socket.send_fds(self._socket, [json.dumps(order).encode()], [*fds])
        while not self._started:
            self._listen(None)
        return self._started.pop()

    def ended(self, pid: int, timeout: float | None) -> int | None:
        """Return the status with which a process ended; None if it still runs after so many seconds."""
        while pid not in self._ended:
            if not self._listen(timeout):
                return None
        return self._ended.pop(pid)

    def _listen(self, timeout: float | None) -> bool:
        self._socket.settimeout(timeout if timeout is None else max(timeout, 0.001))
        try:
            message = json.loads(self._socket.recv(1 << 16) or "{}")
        except TimeoutError:
            return False
        assert message, "the process that forks has ended"
        if "started" in message:
            self._started.append(message["started"])
        else:
            self._ended[message["ended"]] = message["status"]
        return True


@cache
def zygote() -> Zygote:
    """The one of this process of pytest, started when it is first needed."""
    return Zygote()
