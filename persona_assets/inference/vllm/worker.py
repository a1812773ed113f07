"""Worker process that runs vLLM; its GPU memory is freed when it exits.

`WorkerProcess` starts it as a script, because the Python that has vLLM may not have this package. It reads lines of
JSON from standard input: first whether it runs on a CPU, then the engine's arguments, then batches of prompts or
directories with other weights. It writes its answers as lines of JSON to the file descriptor given as its only
argument, since vLLM itself prints to standard output.
"""

import json
import os
import resource
import sys
import tempfile
import traceback
from typing import Any

# vLLM's CPU build depends on CUDA builds of these, whose import fails; text models do not need them.
_NOT_NEEDED = ("torchvision", "torchaudio", "torchcodec")


def main() -> None:
    """Serve requests, then exit at once without waiting for other threads.

    With a normal exit the process kept running and held its GPU memory for minutes (seen on an H200). Probably an NCCL
    thread keeps looking for the rendezvous file, which has been deleted by then.
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
        if json.loads(sys.stdin.readline())["on_cpu"]:
            for name in _NOT_NEEDED:
                sys.modules[name] = None  # type: ignore[assignment]
        from vllm import LLM, SamplingParams
        from vllm.model_executor.models import registry

        if hasattr(registry, "_run_in_subprocess"):
            # vLLM inspects the architecture in a subprocess, which imports vLLM again (16 s the first time), so that
            # a process that forks does not initialise CUDA. This process does not fork.
            registry._run_in_subprocess = lambda inspect: inspect()
        use_file_rendezvous(folder)
        settings = json.loads(sys.stdin.readline() or "null")
        if settings is None:  # it was started early, and its run needed no engine
            return
        engine = LLM(**settings)
        print(json.dumps("ready"), file=answers)
        for line in sys.stdin:
            batch = json.loads(line)
            if "weights" in batch:
                engine.collective_rpc("reload_weights", kwargs={"weights_path": batch["weights"]})
                engine.reset_prefix_cache()  # it contains keys and values of the previous weights
                print(json.dumps("ready"), file=answers)
                continue
            outputs = engine.generate(
                [{"prompt_token_ids": ids} for ids in batch["prompts"]],
                [SamplingParams(**parameters) for parameters in batch["parameters"]],
                use_tqdm=False,
            )
            answer = {"outputs": [_output(output) for output in outputs], "peak_memory_gib": _peak_memory()}
            print(json.dumps(answer), file=answers)
        if settings.get("tensor_parallel_size", 1) > 1:
            engine.llm_engine.engine_core.shutdown()  # stops the processes of the other GPUs


def use_file_rendezvous(folder: str) -> None:
    """Make torch.distributed use a file, because vLLM before 0.32 uses TCP and listens on every interface."""
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
    """Return the peak memory in GiB, of the GPU or else of this process."""
    import torch

    if torch.cuda.is_available():
        return round(torch.cuda.max_memory_reserved() / (1 << 30), 3)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20), 3)


if __name__ == "__main__":
    main()
