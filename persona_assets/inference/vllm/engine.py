"""Responses by vLLM, in a process of its own: closing it is what frees the card for scoring.

The chat template is applied here, so token ids are those of every other engine. Prompts of all personas and questions
belong into one call: vLLM batches them itself and keeps the beginnings that they share.
"""

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from select import select
from typing import Any

from persona_assets.inference.chat import Chat
from persona_assets.inference.child_process import end
from persona_assets.inference.engines import vllm_python
from persona_assets.inference.generation import Response, row_seeds
from persona_assets.inference.training.train import IGNORED, Example
from persona_assets.inference.vllm import worker
from persona_assets.inference.vllm.environment import worker_environment
from persona_assets.inference.vllm.settings import EngineError, VllmSettings
from persona_assets.study.settings import Decoding

_LINES_SHOWN = 15
# Room for prompt and response is taken in steps, so that a somewhat longer batch does not start another engine.
_LENGTH_STEP = 512


class VllmGenerator:
    """A `Generator` whose engine starts with the first batch, or with `start`, and stays up until `close`.

    Attributes:
        stays_up: for whoever holds it: whether there is room for a model beside it.
    """

    engine = "vllm"
    takes_all = True

    def __init__(self, settings: VllmSettings, chat: Chat, stop_ids: Sequence[int], say: Callable[[str], None]) -> None:
        self.settings, self.chat, self.stop_ids, self._say = settings, chat, list(stop_ids), say
        self.stays_up = False
        self._process: subprocess.Popen[str] | None = None
        self._is_ready = False
        self._cost: dict[str, float] = {}

    @property
    def plan(self) -> dict[str, Any]:
        """What the engine cost so far: its start, and its process's peak memory."""
        return {"engine": self.engine, **self._cost}

    def __enter__(self) -> "VllmGenerator":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def generate(self, prompts: Sequence[Sequence[int]], decoding: Decoding) -> list[Response]:
        """See `Generator`. Row n of sampled responses draws from a stream that is seeded with (seed, n).

        Raises:
            EngineError: vLLM ended, or did not answer in time.
        """
        return [response for response, _ in self.generate_with_log_probs(prompts, decoding, log_probs=False)]

    def generate_with_log_probs(
        self, prompts: Sequence[Sequence[int]], decoding: Decoding, log_probs: bool = True
    ) -> list[tuple[Response, list[float] | None]]:
        """Responses, each with the log-probabilities of its tokens as the engine had them."""
        self.start(max(map(len, prompts)) + decoding.max_new_tokens)
        sampled = {"temperature": decoding.temperature, "top_p": decoding.top_p}
        parameters = {
            **(sampled if decoding.method == "sampled" else {"temperature": 0.0}),
            "max_tokens": decoding.max_new_tokens,
            "stop_token_ids": self.stop_ids,
            "detokenize": False,
            "logprobs": 0 if log_probs else None,
        }
        seeds = row_seeds(decoding.seed, 0, len(prompts))
        written = self._batch(prompts, [{**parameters, "seed": seed} for seed in seeds])
        return [(self._response(each["token_ids"]), each["log_probs"]) for each in written]

    def label_log_prob(self, example: Example) -> float:
        """Mean natural-log probability of an example's labels.

        Raises:
            EngineError: as `generate`.
        """
        self.start(len(example.token_ids) + 1)
        parameters = {"temperature": 0.0, "max_tokens": 1, "detokenize": False, "prompt_logprobs": 0}
        (answer,) = self._batch([example.token_ids], [parameters])
        labels = [place for place, label in enumerate(example.labels) if label != IGNORED]
        return float(sum(answer["prompt_log_probs"][place] for place in labels) / len(labels))

    def start(self, longest: int | None = None, wait: bool = True) -> None:
        """Starts the engine if it is not up, for sequences of `longest` tokens; without `wait` it comes up by itself.

        Raises:
            EngineError: vLLM did not come up.
        """
        if longest is not None and longest > self.settings.longest:
            self.close()
            self.settings = replace(self.settings, longest=-(-longest // _LENGTH_STEP) * _LENGTH_STEP)
        if self._process is None:
            self._launch()
        if wait and not self._is_ready:
            self._answer()
            self._is_ready = True
            self._cost["engine_start_seconds"] = round(time.perf_counter() - self._launched, 2)

    def close(self) -> None:
        """Ends the engine's process, and with it whatever it held on the card."""
        if self._process is None:
            return
        process, self._process = self._process, None
        end(process)
        self._answers.close()
        self._log.close()

    def _response(self, ids: list[int]) -> Response:
        stopped = bool(ids) and ids[-1] in self.stop_ids
        text = self.chat.tokenizer.decode(ids, skip_special_tokens=True)
        return Response(tuple(ids), text, "stop" if stopped else "length")

    def can_take(self, settings: VllmSettings) -> bool:
        """Whether the engine that is up would do for these settings with other weights: the model is the same to it."""
        own = self.settings
        same_model = self._config == _config(settings.directory) and own.hardware == settings.hardware
        return self._process is not None and same_model

    def take(self, directory: Path, chat: Chat, stop_ids: Sequence[int]) -> None:
        """Puts another checkpoint's weights into the engine that is up.

        Raises:
            EngineError: as `generate`.
        """
        self.start()
        self._say(f"weights of {directory} into the engine that is up")
        start = time.perf_counter()
        self._tell({"weights": str(directory)})
        self._answer()
        self._cost["engine_start_seconds"] = round(time.perf_counter() - start, 2)
        self.settings, self.chat, self.stop_ids = replace(self.settings, directory=directory), chat, list(stop_ids)

    def _batch(self, prompts: Sequence[Sequence[int]], parameters: list[dict[str, Any]]) -> list[dict[str, Any]]:
        self._tell({"prompts": [list(prompt) for prompt in prompts], "parameters": parameters})
        answer = self._answer()
        self._cost["peak_memory_gib"] = answer["peak_memory_gib"]
        outputs: list[dict[str, Any]] = answer["outputs"]
        return outputs

    def _launch(self) -> None:
        self._config = _config(self.settings.directory)
        self._say(f"starting vLLM on {self.settings.hardware.device_name} in {self.settings.hardware.dtype}")
        read, write = os.pipe()
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 (closed by close)
        self._answers = os.fdopen(read, encoding="utf-8")
        self._process = subprocess.Popen(
            [vllm_python(), "-P", worker.__file__, str(write)],
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            pass_fds=[write],
            env=worker_environment(os.environ),
            text=True,
        )
        os.close(write)
        self._launched, self._is_ready = time.perf_counter(), False
        self._tell(self.settings.for_worker())

    def _tell(self, question: object) -> None:
        """Sends a line; that the engine has ended is found out with the answer."""
        assert self._process is not None
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()

    def _answer(self) -> Any:
        """Waits for the next answer; an engine that ended is told from one that is slow."""
        process = self._process
        assert process is not None
        ready, _, _ = select([self._answers], [], [], self.settings.timeout)
        answer = self._answers.readline() if ready else None
        if answer:
            return json.loads(answer)
        if answer is None:
            process.kill()
        code = process.wait()
        self._log.seek(0)
        printed = "\n".join(self._log.read().splitlines()[-_LINES_SHOWN:])
        self.close()
        what = f"did not answer in {self.settings.timeout:.0f} s" if answer is None else f"ended with exit code {code}"
        raise EngineError(f"vLLM {what}; the last that it printed:\n{printed}")


def _config(directory: Path) -> bytes:
    """What says the architecture, kept since a merged copy may be gone later; nothing where vLLM will miss it too."""
    file = directory / "config.json"
    return file.read_bytes() if file.is_file() else b""
