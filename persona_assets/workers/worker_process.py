"""Main program of a worker process: `python -m persona_assets.workers.worker_process FD HOME`.

Reads requests from standard input, one JSON object per line. Writes messages to the file descriptor FD: a line of JSON
with the sizes of the blobs that follow it. Exits as soon as standard input is closed, even during a computation.
"""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any, BinaryIO

from persona_assets.graph.home import Home
from persona_assets.workers.worker import RequestHandler


def main(arguments: Sequence[str]) -> None:
    """Answer requests until standard input is closed."""
    requests = SimpleQueue[str]()
    Thread(target=_listen, args=(requests,), daemon=True).start()
    lock = Lock()  # the thread that loads a model sends log lines too
    with os.fdopen(int(arguments[0]), "wb", buffering=0) as answers:

        def send(header: dict[str, Any], blobs: Sequence[bytes] = ()) -> None:
            with lock:
                write_message(answers, header, blobs)

        handler = RequestHandler(Home(Path(arguments[1])), lambda line: send({"said": line}))
        while True:
            for header, blobs in handler.messages(requests.get()):
                send(header, blobs)
            send({"done": True})


def _listen(requests: SimpleQueue[str]) -> None:
    for line in sys.stdin:
        requests.put(line)
    os._exit(0)  # the run's process is gone or has no more requests


def write_message(pipe: BinaryIO, header: dict[str, Any], blobs: Sequence[bytes]) -> None:
    """Write a message in the form that `ProcessWorker.work` reads: a line of JSON, then the blobs."""
    line = json.dumps({**header, "sizes": [len(blob) for blob in blobs]}).encode() + b"\n"
    for part in (line, *blobs):
        view = memoryview(part)
        while view:
            view = view[pipe.write(view) :]


if __name__ == "__main__":
    main(sys.argv[1:])
