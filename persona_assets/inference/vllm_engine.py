"""Responses by vLLM, in a process of its own that ends before a model is loaded beside it.

The chat template is applied here, so token ids are those of every other engine. Prompts of all personas and questions
belong into one call: vLLM batches them itself and keeps the beginnings that they share.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from select import select
from typing import Any

from persona_assets.inference.chat import Chat
from persona_assets.inference.generation import Response, row_seeds
from persona_assets.inference.loading import Hardware
from persona_assets.settings import Decoding

_ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    # Its first use compiles for a minute and a half.
    "VLLM_USE_FLASHINFER_SAMPLER": "0",
    # On a CPU.
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
}
_LINES_SHOWN = 15


class EngineError(RuntimeError):
    """vLLM ended or did not answer; says what it printed last."""


def has_vllm() -> bool:
    return find_spec("vllm") is not None


@dataclass(frozen=True)
class VllmSettings:
    """What the engine's process is started with.

    Attributes:
        directory: a Hugging Face checkpoint, an adapter merged into it.
        longest: tokens of prompt and response together.
        memory_share: of the card, for weights, keys and values.
        timeout: seconds without an answer, after which the process is ended.
    """

    directory: Path
    hardware: Hardware
    longest: int
    memory_share: float = 0.9
    timeout: float = 1800.0

    def for_worker(self) -> dict[str, Any]:
        on_cpu = self.hardware.device == "cpu"
        engine: dict[str, Any] = {
            "model": str(self.directory),
            "dtype": self.hardware.dtype,
            "max_model_len": self.longest,
            "enable_prefix_caching": True,
            "skip_tokenizer_init": True,
            "generation_config": "vllm",  # decoding is the study's; Qwen2.5's own carries a repetition penalty
            "trust_remote_code": False,
            "load_format": "safetensors",
        }
        if on_cpu:
            # Seeded sampling crashed with chunked prefill beyond 4,096 prompt tokens in a batch.
            engine |= {"enforce_eager": True, "enable_chunked_prefill": False}
            engine["max_num_batched_tokens"] = max(4096, self.longest)
        else:
            engine["gpu_memory_utilization"] = self.memory_share
        return {"on_cpu": on_cpu, "engine": engine}


class VllmGenerator:
    """A `Generator` whose engine starts with the first batch and stays up until `close`."""

    engine = "vllm"

    def __init__(self, settings: VllmSettings, chat: Chat, stop_ids: Sequence[int], say: Callable[[str], None]) -> None:
        self.settings, self.chat, self.stop_ids, self._say = settings, chat, list(stop_ids), say
        self._process: subprocess.Popen[str] | None = None

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
        self._start()
        sampled = {"temperature": decoding.temperature, "top_p": decoding.top_p}
        parameters = {
            **(sampled if decoding.method == "sampled" else {"temperature": 0.0}),
            "max_tokens": decoding.max_new_tokens,
            "stop_token_ids": self.stop_ids,
            "detokenize": False,
            "logprobs": 0 if log_probs else None,
        }
        batch = {
            "prompts": [list(prompt) for prompt in prompts],
            "parameters": [{**parameters, "seed": seed} for seed in row_seeds(decoding.seed, 0, len(prompts))],
        }
        return [(self._response(each["token_ids"]), each["log_probs"]) for each in self._ask(batch)]

    def close(self) -> None:
        """Ends the engine's process, and with it whatever it held on the card."""
        if self._process is None:
            return
        process, self._process = self._process, None
        if process.stdin:
            process.stdin.close()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._answers.close()
        self._log.close()

    def _response(self, ids: list[int]) -> Response:
        stopped = bool(ids) and ids[-1] in self.stop_ids
        text = self.chat.tokenizer.decode(ids, skip_special_tokens=True)
        return Response(tuple(ids), text, "stop" if stopped else "length")

    def _start(self) -> None:
        if self._process is not None:
            return
        self._say(f"starting vLLM on {self.settings.hardware.device_name} in {self.settings.hardware.dtype}")
        read, write = os.pipe()
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 (closed by close)
        self._answers = os.fdopen(read, encoding="utf-8")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "persona_assets.inference.vllm_worker", str(write)],
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            pass_fds=[write],
            env=_ENVIRONMENT | os.environ,
            text=True,
        )
        os.close(write)
        self._ask(self.settings.for_worker())

    def _ask(self, question: object) -> Any:
        """Sends a line and waits for the answer; an engine that ended is told from one that is slow."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(question) + "\n")
            process.stdin.flush()
            ready, _, _ = select([self._answers], [], [], self.settings.timeout)
            answer = self._answers.readline() if ready else None
        except BrokenPipeError:
            answer = ""
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
