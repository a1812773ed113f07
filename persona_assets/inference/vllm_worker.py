"""vLLM in a process of its own: the end of the process is what frees the card.

Started by `VllmGenerator`. It reads lines of JSON from standard input, settings first and then a batch a line, and
answers in lines of JSON on the file descriptor that its only argument names. What vLLM prints goes elsewhere.
"""

import json
import os
import sys
from typing import Any

# vLLM's CPU build brings CUDA builds of these along, whose import fails; text needs none of them.
_NOT_NEEDED = ("torchvision", "torchaudio", "torchcodec")


def main() -> None:
    with os.fdopen(int(sys.argv[1]), "w", buffering=1, encoding="utf-8") as answers:
        settings = json.loads(sys.stdin.readline())
        if settings["on_cpu"]:
            for name in _NOT_NEEDED:
                sys.modules[name] = None  # type: ignore[assignment]
        from vllm import LLM, SamplingParams

        engine = LLM(**settings["engine"])
        print(json.dumps("ready"), file=answers)
        for line in sys.stdin:
            batch = json.loads(line)
            outputs = engine.generate(
                [{"prompt_token_ids": ids} for ids in batch["prompts"]],
                [SamplingParams(**parameters) for parameters in batch["parameters"]],
                use_tqdm=False,
            )
            print(json.dumps([_answer(output.outputs[0]) for output in outputs]), file=answers)


def _answer(completion: Any) -> dict[str, Any]:
    chosen = completion.logprobs
    return {
        "token_ids": list(completion.token_ids),
        "log_probs": chosen and [each[token].logprob for each, token in zip(chosen, completion.token_ids, strict=True)],
    }


if __name__ == "__main__":
    main()
