"""A process that has imported the libraries and forks one process per command: see `tests.forked`.

A new Python that measures something spends most of its time on importing PyTorch, Transformers and Dagster. A forked
process is as real as that: it has its own pid, signals, files and exit code, and imports what depends on the study by
itself. Libraries have read their environment variables already, and /proc shows the command line of this process.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
import threading
import time
from typing import Any

PRELOADED = (
    "torch", "transformers.models.llama.modeling_llama", "peft", "dagster", "pandas", "xarray", "scipy.stats",
    "persona_assets.cli", "persona_assets.inference.loading", "persona_assets.inference.training.train",
    "persona_assets.store.artefacts", "persona_assets.checkpoints",
)  # fmt: skip
FORBIDDEN = ("persona_assets.definitions", "persona_assets.graph.partitions")  # read the study when they are imported


def serve(orders: socket.socket) -> dict[str, Any] | None:
    """Fork a process for each order and report how it ended; return the order in the forked process."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    while True:
        ready, _, _ = select.select([orders, woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
            with contextlib.suppress(ChildProcessError):
                while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                    orders.send(json.dumps({"ended": ended[0], "status": ended[1]}).encode())
        if orders in ready:
            message, fds, _, _ = socket.recv_fds(orders, 1 << 20, 3)
            if not message:
                sys.exit()  # nobody asks any more
            if (pid := os.fork()) == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for own in (orders.detach(), woken, wake):
                    os.close(own)
                for number, fd in enumerate(fds):
                    os.dup2(fd, number)
                    os.close(fd)
                return dict(json.loads(message))
            for fd in fds:
                os.close(fd)
            orders.send(json.dumps({"started": pid}).encode())


def become(order: dict[str, Any]) -> int:
    """Run a module or code as a new Python does, and return the exit code."""
    os.environ.clear()
    os.environ.update(order["environment"])
    os.chdir(order["folder"])
    time.tzset()
    try:
        if order["arguments"][0] == "-c":
            sys.argv = ["-c", *order["arguments"][2:]]
            exec(compile(order["arguments"][1], "<code>", "exec"), {"__name__": "__main__"})
        else:
            sys.argv = order["arguments"][1:]
            runpy.run_module(order["arguments"][1], run_name="__main__", alter_sys=True)
    except SystemExit as error:
        if error.code is not None and not isinstance(error.code, int):
            print(error.code, file=sys.stderr)
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        return 1
    return 0


def end(status: int) -> None:
    """End the process as the interpreter does, without freeing all that was imported, which would copy it first."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    for module in PRELOADED:
        importlib.import_module(module)
    assert not set(FORBIDDEN) & set(sys.modules)
    gc.freeze()  # a collection in a forked process would copy what it looks at
    order = serve(socket.socket(fileno=int(sys.argv[1])))
    assert order is not None
    end(become(order))
