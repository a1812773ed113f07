"""vLLM in a process of its own: the end of the process is what frees the card.

Started by `VllmGenerator`, as a script, for the Python that has vLLM need not have this package. It reads lines of JSON
from standard input: settings first, then batches, or folders with other weights. It answers in lines of JSON on the
file descriptor that its only argument names. What vLLM prints goes elsewhere.
"""

import json
import os
import resource
import sys
import tempfile
import traceback
from typing import Any

# vLLM's CPU build brings CUDA builds of these along, whose import fails; text needs none of them.
_NOT_NEEDED = ("torchvision", "torchaudio", "torchcodec")


def main() -> None:
    """Serves, and ends at once, whatever threads there still are.

    Left to end by itself, the process stayed for minutes, and the card's memory with it (seen on an H200). Probably
    NCCL's own thread looks for the file that the engine met itself in, which is gone by then.
    """
    code = 1
    try:
        serve()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def serve() -> None:
    with (
        os.fdopen(int(sys.argv[1]), "w", buffering=1, encoding="utf-8") as answers,
        tempfile.TemporaryDirectory(prefix="persona-assets-vllm-") as folder,
    ):
        settings = json.loads(sys.stdin.readline())
        if settings["on_cpu"]:
            for name in _NOT_NEEDED:
                sys.modules[name] = None  # type: ignore[assignment]
        from vllm import LLM, SamplingParams
        from vllm.model_executor.models import registry

        if hasattr(registry, "_run_in_subprocess"):
            # What it looks up about the architecture, it would import itself once more for (16 s, the first time), to
            # keep CUDA out of a process that forks; this one does not.
            registry._run_in_subprocess = lambda look_up: look_up()
        meet_in(folder)
        engine = LLM(**settings["engine"])
        print(json.dumps("ready"), file=answers)
        for line in sys.stdin:
            batch = json.loads(line)
            if "weights" in batch:
                engine.collective_rpc("reload_weights", kwargs={"weights_path": batch["weights"]})
                engine.reset_prefix_cache()  # it holds the other weights' keys and values
                print(json.dumps("ready"), file=answers)
                continue
            outputs = engine.generate(
                [{"prompt_token_ids": ids} for ids in batch["prompts"]],
                [SamplingParams(**parameters) for parameters in batch["parameters"]],
                use_tqdm=False,
            )
            answer = {"outputs": [_output(output) for output in outputs], "peak_memory_gib": _peak_memory()}
            print(json.dumps(answer), file=answers)
        if settings["engine"].get("tensor_parallel_size", 1) > 1:
            engine.llm_engine.engine_core.shutdown()  # the processes of its other cards


def meet_in(folder: str) -> None:
    """Has the engine meet itself in a file: TCP, as vLLM before 0.32 does it, listens on every interface."""
    from vllm.v1.executor import multiproc_executor, uniproc_executor

    for executor in (uniproc_executor, multiproc_executor):
        for name in ("get_distributed_init_method", "get_file_store_init_method"):
            if hasattr(executor, name):
                setattr(executor, name, lambda *_: f"file://{folder}/store")


def _output(output: Any) -> dict[str, Any]:
    completion, prompt = output.outputs[0], output.prompt_logprobs
    return {
        "token_ids": list(completion.token_ids),
        "log_probs": completion.logprobs and _chosen(completion.logprobs, completion.token_ids),
        "prompt_log_probs": prompt and [None, *_chosen(prompt[1:], output.prompt_token_ids[1:])],
    }


def _chosen(log_probs: Any, ids: Any) -> list[float]:
    return [each[token].logprob for each, token in zip(log_probs, ids, strict=True)]


def _peak_memory() -> float:
    """GiB, of the card or else of this process."""
    import torch

    if torch.cuda.is_available():
        return round(torch.cuda.max_memory_reserved() / (1 << 30), 3)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20), 3)


if __name__ == "__main__":
    main()
