"""A worker in a process of its own: `python -m persona_assets.workers.worker_process FD HOME`.

Reads orders as lines of JSON from standard input and writes messages to the file descriptor: a line of JSON that says
how long the blobs behind it are. It ends when its standard input does, whatever it is at.
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
    """Serves until nobody is there to be served."""
    orders = SimpleQueue[str]()
    Thread(target=_listen, args=(orders,), daemon=True).start()
    lock = Lock()  # a model may be loaded, and said so, in a thread beside
    with os.fdopen(int(arguments[0]), "wb", buffering=0) as answers:

        def send(about: dict[str, Any], blobs: Sequence[bytes] = ()) -> None:
            with lock:
                write_message(answers, about, blobs)

        serving = RequestHandler(Home(Path(arguments[1])), lambda line: send({"said": line}))
        while True:
            for about, blobs in serving.messages(orders.get()):
                send(about, blobs)
            send({"done": True})


def _listen(orders: SimpleQueue[str]) -> None:
    for line in sys.stdin:
        orders.put(line)
    os._exit(0)  # the run's process is gone, or wants no more


def write_message(pipe: BinaryIO, about: dict[str, Any], blobs: Sequence[bytes]) -> None:
    """A message as `read_message` of the other side takes it."""
    line = json.dumps({**about, "sizes": [len(blob) for blob in blobs]}).encode() + b"\n"
    for part in (line, *blobs):
        view = memoryview(part)
        while view:
            view = view[pipe.write(view) :]


if __name__ == "__main__":
    main(sys.argv[1:])
