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
from dataclasses import dataclass, replace
from pathlib import Path
from select import select
from typing import Any

import torch

from persona_assets.inference import vllm_worker
from persona_assets.inference.chat import Chat
from persona_assets.inference.engines import vllm_python
from persona_assets.inference.generation import Response, row_seeds
from persona_assets.inference.loading import Hardware
from persona_assets.inference.training import IGNORED, Example
from persona_assets.settings import Decoding

_ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    # Its first use compiles for a minute and a half.
    "VLLM_USE_FLASHINFER_SAMPLER": "0",
    # The worker is a process of its own; a second one would only be slower to start and harder to end.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    # On a CPU.
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
}
_LINES_SHOWN = 15
# Batch sizes whose decoding is recorded as a graph; each costs a tenth of a second at the start.
_GRAPHS = (1, 2, 4, 8, 16, 32, 64, 96, 128, 160, 192, 224, 256, 320, 384, 448, 512, 768, 1024)
# vLLM takes adapters of these ranks, and smaller ones as the next of them.
_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
# Room for prompt and response is taken in steps, so that a somewhat longer batch does not start another engine.
_LENGTH_STEP = 512
# Activations, graphs and what CUDA itself takes.
_ACTIVATIONS = 4 << 30


class EngineError(RuntimeError):
    """vLLM ended or did not answer; says what it printed last."""


@dataclass(frozen=True)
class Room:
    """Memory of a card: the share of it that must be free at the start, and bytes of keys and values."""

    share: float
    kv_bytes: int


def find_room(directory: Path, hardware: Hardware, memory_share: float) -> tuple[bool, Room | None]:
    """Whether the same model may be in this process beside the engine, and what is then the engine's.

    What PyTorch holds in this process counts as free: the model can be let go. On a CPU nothing is beside the engine.

    Raises:
        EngineError: the weights do not fit the card.
    """
    if hardware.device == "cpu":
        return False, None
    free, total = torch.cuda.mem_get_info()
    usable = free + torch.cuda.memory_reserved() - (1 - memory_share) * total
    weights = 1.05 * sum(file.stat().st_size for file in directory.glob("*.safetensors"))
    beside = usable - weights - _ACTIVATIONS
    is_beside = beside >= weights + 2 * _ACTIVATIONS
    kv = (beside if is_beside else usable) - weights - _ACTIVATIONS
    if kv <= 0:
        raise EngineError(
            f"vLLM needs {(weights + _ACTIVATIONS) / 2**30:.1f} GiB and some for keys and values; "
            f"{usable / 2**30:.1f} GiB of {total / 2**30:.1f} GiB are free"
        )
    return is_beside, Room(weights / total, int(kv))


@dataclass(frozen=True)
class VllmSettings:
    """What the engine's process is started with.

    Attributes:
        directory: a Hugging Face checkpoint, an adapter merged into it.
        longest: tokens of prompt and response together; a longer batch starts the engine anew.
        room: on a card, the memory that is the engine's.
        adapter_rank: of the LoRA adapters that are served beside the weights; None if there are none.
        timeout: seconds without an answer, after which the process is ended.
    """

    directory: Path
    hardware: Hardware
    longest: int = 2048
    room: Room | None = None
    adapter_rank: int | None = None
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
            assert self.room is not None
            engine |= {"gpu_memory_utilization": self.room.share, "kv_cache_memory_bytes": self.room.kv_bytes}
            # Graphs of decoding alone: compiling the model as well takes longer than it saves in one run.
            engine["compilation_config"] = {
                "mode": 0,
                "cudagraph_mode": "FULL_DECODE_ONLY",
                "cudagraph_capture_sizes": list(_GRAPHS),
            }
            engine["max_num_seqs"] = _GRAPHS[-1]
        if self.adapter_rank is not None:
            rank = next((rank for rank in _RANKS if rank >= self.adapter_rank), self.adapter_rank)
            engine |= {"enable_lora": True, "max_loras": 1, "max_lora_rank": rank}
        return {"on_cpu": on_cpu, "engine": engine}


class VllmGenerator:
    """A `Generator` whose engine starts with the first batch, or with `start`, and stays up until `close`.

    Attributes:
        adapter: a LoRA adapter (safetensors, PEFT's layout) that is served with the batches from now on; None for none.
    """

    engine = "vllm"
    takes_all = True

    def __init__(self, settings: VllmSettings, chat: Chat, stop_ids: Sequence[int], say: Callable[[str], None]) -> None:
        self.settings, self.chat, self.stop_ids, self._say = settings, chat, list(stop_ids), say
        self.adapter: Path | None = None
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
        """Mean natural-log probability of an example's labels, the adapter served.

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
        if process.stdin:
            with suppress(BrokenPipeError):
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

    def _batch(self, prompts: Sequence[Sequence[int]], parameters: list[dict[str, Any]]) -> list[dict[str, Any]]:
        self._tell(
            {
                "prompts": [list(prompt) for prompt in prompts],
                "parameters": parameters,
                "adapter": self.adapter and str(self.adapter),
            }
        )
        answer = self._answer()
        self._cost["peak_memory_gib"] = answer["peak_memory_gib"]
        outputs: list[dict[str, Any]] = answer["outputs"]
        return outputs

    def _launch(self) -> None:
        self._say(f"starting vLLM on {self.settings.hardware.device_name} in {self.settings.hardware.dtype}")
        read, write = os.pipe()
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 (closed by close)
        self._answers = os.fdopen(read, encoding="utf-8")
        self._process = subprocess.Popen(
            [vllm_python(), "-P", vllm_worker.__file__, str(write)],
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            pass_fds=[write],
            env=_ENVIRONMENT | os.environ,
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
