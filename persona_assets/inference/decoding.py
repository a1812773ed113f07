"""Writing of replies token by token, for models whose prompts may be padded and whose cache may lose rows.

Prompts that occur several times are read once, and rows that have ended leave the batch. Neither changes a token: rows
do not affect each other, and they stay where the padding of the whole batch put them.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from persona_assets.inference.loading import LoadedModel
from persona_assets.inference.sampling import TokenChooser

# Share of the rows that must have ended before the batch is made smaller, since that copies all keys and values.
_ENDED = 1 / 8
# On a CPU, a matrix product of one row is rounded differently from that of several.
_FEWEST = 2


def write_rows(
    loaded: LoadedModel,
    prompts: Sequence[Sequence[int]],
    choose: TokenChooser,
    max_new_tokens: int,
    progress: Callable[[int], None],
) -> list[list[int]]:
    """Return the tokens that follow each prompt, up to the first stop token, which is included.

    Args:
        choose: has one row per prompt.
        progress: called after each token with the number of tokens written so far; what an ended row leaves of
            `max_new_tokens` counts as written.
    """
    from persona_assets.inference.growing_cache import growing_cache  # imports Transformers

    model, stop = loaded.model, torch.tensor(loaded.stop_ids)
    distinct = list(dict.fromkeys(map(tuple, prompts)))
    first = torch.tensor([distinct.index(tuple(prompt)) for prompt in prompts])
    if len(prompts) >= _FEWEST > len(distinct):
        distinct *= _FEWEST
    longest = max(map(len, distinct))
    padded = [[loaded.stop_ids[0]] * (longest - len(prompt)) + list(prompt) for prompt in distinct]
    lengths = torch.tensor([len(prompt) for prompt in distinct])[:, None]
    room = longest + max_new_tokens
    # Whether a token is seen: padding never, tokens to come as soon as they are there.
    seen = (torch.arange(room) >= longest - lengths).long().to(loaded.device)
    cache = growing_cache(model.config, room)

    def feed(tokens: Tensor, positions: Tensor, end: int) -> Tensor:
        """Return the logits (rows, V) after feeding tokens (rows, t) up to place `end`, and extend the cache."""
        logits: Tensor = model(
            input_ids=tokens.to(loaded.device),
            attention_mask=seen[:, :end],
            position_ids=positions.to(loaded.device),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        return logits

    logits = feed(torch.tensor(padded), (torch.arange(longest) - longest + lengths).clamp_min(0), longest)
    rows = torch.arange(len(prompts))  # numbers of the rows in the batch
    if len(prompts) != len(distinct) or not torch.equal(first, rows):
        logits, seen = logits[first.to(logits.device)], seen[first.to(seen.device)]
        lengths = lengths[first]
        cache.batch_select_indices(first)  # on the CPU, since layers may be on several GPUs
    written = torch.zeros(len(prompts), max_new_tokens, dtype=torch.long)
    counts = torch.full((len(prompts),), max_new_tokens)  # tokens of each row, once it has ended
    running = torch.ones(len(prompts), dtype=torch.bool)
    for step in range(max_new_tokens):
        written[rows, step] = choose(logits, step, rows).cpu()
        ended = rows[running[rows] & torch.isin(written[rows, step], stop)]
        running[ended], counts[ended] = False, step + 1
        progress((step + 1) * int(running.sum()) + max_new_tokens * int((~running).sum()))
        if not running.any() or step + 1 == max_new_tokens:
            break
        if len(rows) > _FEWEST and int((~running[rows]).sum()) >= _ENDED * len(rows):
            kept = _rows_to_keep(running[rows])
            rows, lengths, seen = rows[kept], lengths[kept], seen[kept.to(seen.device)]
            cache.batch_select_indices(kept)
        logits = feed(written[rows, step, None], lengths + step, longest + step + 1)
    return [tokens[:count] for tokens, count in zip(written.tolist(), counts.tolist(), strict=True)]


def _rows_to_keep(running: Tensor) -> Tensor:
    """Return the places of the rows that still run, with others to make up the fewest, in order."""
    first_running = torch.argsort(~running, stable=True)
    return first_running[: max(int(running.sum()), min(_FEWEST, len(running)))].sort().values
