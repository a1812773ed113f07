"""Generator that runs vLLM in a separate process, so that closing it frees the GPU for scoring.

The chat template is applied in this process, so token ids are the same as for every other engine. Pass the prompts of
all personas and questions in one call, because vLLM does its own batching and prefix caching.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from persona_assets.inference.chat import Chat
from persona_assets.inference.generation import Progress, Response, no_progress
from persona_assets.inference.sampling import row_seeds
from persona_assets.inference.training.example import IGNORED, Example
from persona_assets.inference.vllm.process import EngineError, WorkerProcess, started_process
from persona_assets.inference.vllm.settings import VllmSettings
from persona_assets.study.settings import Decoding

# The maximum sequence length is rounded up to a multiple of this, so that a slightly longer batch needs no restart.
_LENGTH_STEP = 512


class VllmGenerator:
    """`Generator` whose engine starts with the first batch or with `start`, and runs until `close`.

    Attributes:
        stays_up: set by the owner: whether the GPU has memory for another model while the engine runs.
    """

    engine = "vllm"
    takes_all = True

    def __init__(self, settings: VllmSettings, chat: Chat, stop_ids: Sequence[int], say: Callable[[str], None]) -> None:
        self.settings, self.chat, self.stop_ids, self._say = settings, chat, list(stop_ids), say
        self.stays_up = False
        self._worker: WorkerProcess | None = None
        self._is_ready = False
        self._cost: dict[str, float] = {}

    @property
    def plan(self) -> dict[str, Any]:
        """Engine name, start-up time and peak memory so far."""
        return {"engine": self.engine, **self._cost}

    def __enter__(self) -> "VllmGenerator":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def generate(
        self, prompts: Sequence[Sequence[int]], decoding: Decoding, progress: Progress = no_progress
    ) -> list[Response]:
        """See `Generator`. Row n samples from a random stream seeded with (seed, n).

        `progress` is not called: the engine answers once, with all responses.

        Raises:
            EngineError: vLLM exited or did not answer in time.
        """
        return [response for response, _ in self.generate_with_log_probs(prompts, decoding, log_probs=False)]

    def generate_with_log_probs(
        self, prompts: Sequence[Sequence[int]], decoding: Decoding, log_probs: bool = True
    ) -> list[tuple[Response, list[float] | None]]:
        """Return the responses, each with the log-probabilities that the engine reported for its tokens."""
        self.start(max(map(len, prompts)) + decoding.max_new_tokens)
        sampled = {"temperature": decoding.temperature, "top_p": decoding.top_p}
        parameters = {
            **(sampled if decoding.method == "sampled" else {"temperature": 0.0}),
            "max_tokens": decoding.max_new_tokens,
            "stop_token_ids": self.stop_ids,
            "detokenize": False,
            "logprobs": 0 if log_probs else None,
        }
        seeds = row_seeds(decoding.seed, range(len(prompts)))
        written = self._batch(prompts, [{**parameters, "seed": seed} for seed in seeds])
        return [(self._response(each["token_ids"]), each["log_probs"]) for each in written]

    def label_log_prob(self, example: Example) -> float:
        """Return the mean natural-log probability of an example's labels.

        Raises:
            EngineError: see `generate`.
        """
        self.start(len(example.token_ids) + 1)
        parameters = {"temperature": 0.0, "max_tokens": 1, "detokenize": False, "prompt_logprobs": 0}
        (answer,) = self._batch([example.token_ids], [parameters])
        labels = [place for place, label in enumerate(example.labels) if label != IGNORED]
        return float(sum(answer["prompt_log_probs"][place] for place in labels) / len(labels))

    def start(self, longest: int | None = None, wait: bool = True) -> None:
        """Start the engine if it is not running, or restart it if `longest` exceeds its maximum sequence length.

        Args:
            longest: number of tokens of prompt and response.
            wait: wait until the engine is ready; otherwise it starts in the background.

        Raises:
            EngineError: vLLM did not start.
        """
        if longest is not None and longest > self.settings.longest:
            self.close()
            self.settings = replace(self.settings, longest=-(-longest // _LENGTH_STEP) * _LENGTH_STEP)
        if self._worker is None:
            self._launch()
        if wait and not self._is_ready:
            self._receive()
            self._is_ready = True
            self._cost["engine_start_seconds"] = round(time.perf_counter() - self._launched, 2)

    def close(self) -> None:
        """Stop the engine's process, which frees its GPU memory."""
        if self._worker is None:
            return
        worker, self._worker = self._worker, None
        worker.end()

    def _response(self, ids: list[int]) -> Response:
        stopped = bool(ids) and ids[-1] in self.stop_ids
        text = self.chat.tokenizer.decode(ids, skip_special_tokens=True)
        return Response(tuple(ids), text, "stop" if stopped else "length")

    def can_swap_weights(self, settings: VllmSettings) -> bool:
        """Return whether the running engine only needs other weights to serve these settings."""
        own = self.settings
        same_model = self._config == _config(settings.directory) and own.hardware == settings.hardware
        return self._worker is not None and same_model

    def swap_weights(self, directory: Path, chat: Chat, stop_ids: Sequence[int]) -> None:
        """Load another checkpoint's weights into the running engine.

        Raises:
            EngineError: see `generate`.
        """
        self.start()
        self._say(f"loading the weights of {directory} into the running engine")
        start = time.perf_counter()
        self._ask({"weights": str(directory)})
        self._cost["engine_start_seconds"] = round(time.perf_counter() - start, 2)
        self.settings, self.chat, self.stop_ids = replace(self.settings, directory=directory), chat, list(stop_ids)

    def _batch(self, prompts: Sequence[Sequence[int]], parameters: list[dict[str, Any]]) -> list[dict[str, Any]]:
        answer = self._ask({"prompts": [list(prompt) for prompt in prompts], "parameters": parameters})
        self._cost["peak_memory_gib"] = answer["peak_memory_gib"]
        outputs: list[dict[str, Any]] = answer["outputs"]
        return outputs

    def _launch(self) -> None:
        self._config = _config(self.settings.directory)
        self._say(f"starting vLLM on {self.settings.hardware.device_name} in {self.settings.hardware.dtype}")
        self._worker = started_process(self.settings.on_cpu)
        self._launched, self._is_ready = time.perf_counter(), False
        self._worker.send(self.settings.for_worker())

    def _ask(self, question: object) -> Any:
        assert self._worker is not None
        self._worker.send(question)
        return self._receive()

    def _receive(self) -> Any:
        assert self._worker is not None
        try:
            return self._worker.receive(self.settings.timeout)
        except EngineError:
            self._worker = None
            raise


def _config(directory: Path) -> bytes:
    """Return the content of config.json, read now because a merged copy may be deleted later; empty if missing."""
    file = directory / "config.json"
    return file.read_bytes() if file.is_file() else b""
