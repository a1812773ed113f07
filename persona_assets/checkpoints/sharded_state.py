"""Recognises training state that FSDP or DeepSpeed saved in one part per process; no weights that can be loaded."""

from collections.abc import Iterator
from pathlib import Path

# Where each trainer puts the parts, inside a checkpoint folder, and how to get whole weights instead.
PARTS = {
    "pytorch_model_fsdp_*": "FSDP",
    "model_*/*.distcp": "FSDP",
    "*.distcp": "FSDP",
    "*/*.distcp": "FSDP",
    "global_step*/*zero_pp_rank_*": "DeepSpeed",
    "global_step*/mp_rank_*": "DeepSpeed",
    "global_step*/*.distcp": "DeepSpeed",
    "mp_rank_*": "DeepSpeed",
    "zero_pp_rank_*": "DeepSpeed",
}
ADVICE = {
    "FSDP": "save with `fsdp_state_dict_type: FULL_STATE_DICT`, or join the parts with `accelerate merge-weights`",
    "DeepSpeed": "save with `stage3_gather_16bit_weights_on_model_save: true`, or join the parts with DeepSpeed's "
    "`zero_to_fp32.py --safe_serialization`",
}


def sharded_state(directory: Path) -> str | None:
    """Return what a folder holds instead of weights and what to do, in one sentence; None if it holds no such parts."""
    found = next(_parts(directory), None)
    if found is None:
        return None
    part, trainer = found
    return (
        f"{directory} holds {trainer}'s sharded training state ({part.relative_to(directory)}), not weights; "
        f"expected safetensors; {ADVICE[trainer]}"
    )


def _parts(directory: Path) -> Iterator[tuple[Path, str]]:
    deepspeed = any(directory.glob("global_step*")) or (directory / "latest").is_file()
    for pattern, trainer in PARTS.items():
        for part in directory.glob(pattern):
            yield part, "DeepSpeed" if deepspeed else trainer
