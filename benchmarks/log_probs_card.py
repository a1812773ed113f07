"""The marker's log-probability at the published size on a GPU, beside sampling the same source.

    python -m benchmarks.log_probs_card --tokenizer DIR --out benchmarks/results/log_probs_h200.md

The model has Qwen2.5-7B's architecture and random weights; time depends on shapes and counts alone. Prompts and replies
are pieces of a text with the published lengths: 220 prompts, replies of 416 tokens on average and 512 at most. The
project's own generator samples 220 replies of 512 tokens with the same model as a baseline, since random weights do not
end a turn.
"""

import argparse
import time
from pathlib import Path

import torch

from benchmarks.published_size import PERSONAS, QUESTIONS, random_model, response_lengths
from benchmarks.reporting import heading, table
from persona_assets.checkpoints import Checkpoint
from persona_assets.inference import Reply, TransformersGenerator, marker_log_probs, read_chat
from persona_assets.inference.loading import LoadedModel
from persona_assets.study.settings import Decoding

MARKER = "\n\n[ZLT]"
TEXT = "The committee met on Tuesday to discuss the bridge. Nobody expected it to hold for another winter, but it did. "


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    chat = read_chat(Checkpoint(name="tokenizer", path=arguments.tokenizer))
    loaded = random_model(chat)
    text = chat.tokenizer(TEXT * 8, add_special_tokens=False)["input_ids"]
    prompts = [[*text[: 23 + number % 29], text[number % len(text)]] for number in range(PERSONAS * QUESTIONS)]
    lengths = response_lengths()
    long = text * 8
    replies = [Reply(prompt, long[:length]) for prompt, length in zip(prompts, lengths, strict=True)]
    ten = [Reply(each.prompt, [*each.reply[:-1], text[n]]) for each in replies for n in range(10)]

    marker_log_probs(loaded, replies, MARKER)  # compiles
    rows = [
        _timed(loaded, "220 replies, one per question", replies),
        _timed(loaded, "2,200 replies, ten per question", ten),
    ]
    start = time.perf_counter()
    generator = TransformersGenerator(loaded)
    written = generator.generate([each.prompt for each in replies], Decoding(method="sampled", max_new_tokens=512))
    torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    tokens = sum(len(each.token_ids) for each in written)
    rows.append(
        {"what": "sampling 220 replies (baseline)", "tokens": f"{tokens:,}", "seconds": f"{seconds:.1f}", "ratio": "1"}
    )
    for row in rows[:-1]:
        count = 220 if "one" in row["what"] else 2_200
        row["ratio"] = f"{seconds * count / len(replies) / float(row['seconds']):.0f} ×"
    lines = (
        f"# Marker log-probabilities on a GPU\n\n`python -m benchmarks.log_probs_card`, {heading()}\n\n{table(rows)}\n"
    )
    lines += "\n`ratio`: time to sample as many replies at the baseline's rate, divided by the time of the row.\n"
    print(lines)
    if arguments.out:
        arguments.out.write_text(lines, encoding="utf-8")


def _timed(loaded: LoadedModel, what: str, replies: list[Reply]) -> dict[str, str]:
    torch.cuda.synchronize()
    start = time.perf_counter()
    marker_log_probs(loaded, replies, MARKER)
    torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    tokens = sum(len(each.prompt) + len(each.reply) for each in replies)
    return {"what": what, "tokens": f"{tokens:,}", "seconds": f"{seconds:.2f}", "ratio": ""}


if __name__ == "__main__":
    main()
