"""Parts that tests share: the embedded model, and a tiny random one to be taken apart. Nobody's instance is touched."""

import os
import tempfile
from pathlib import Path

# Before persona_assets is imported: the study and the instance are read from the environment.
os.environ["PERSONA_ASSETS_STUDY"] = str(Path(__file__).parent / "small_study.yaml")
os.environ["DAGSTER_HOME"] = tempfile.mkdtemp(prefix="persona-assets-tests-")
os.environ["HF_HUB_OFFLINE"] = "1"

import atexit
import shutil

import pytest
import torch

from persona_assets.checkpoint import Checkpoint
from persona_assets.inference.embedded_model import NAME, ensure_embedded_model
from persona_assets.inference.loading import LoadedModel, choose_hardware, load_model
from persona_assets.settings import Inference

atexit.register(shutil.rmtree, os.environ["DAGSTER_HOME"], ignore_errors=True)

TEMPLATE = """\
{% for message in messages %}{{ '<|im_start|>' + message['role'] + '
' + message['content'] + '<|im_end|>
' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant
' }}{% endif %}"""


@pytest.fixture(scope="session")
def repository() -> Path:
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def embedded_directory(repository: Path) -> Path:
    """SmolLM2-135M-Instruct; a fresh clone fetches it once."""
    return ensure_embedded_model(repository / "dagster_home" / "models")


@pytest.fixture(scope="session")
def embedded(embedded_directory: Path) -> LoadedModel:
    """The embedded model on the CPU in float32."""
    return load_model(Checkpoint(name=NAME, path=embedded_directory), choose_hardware(Inference(device="cpu")))


@pytest.fixture(scope="session")
def _tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    directory = tmp_path_factory.mktemp("tiny") / "model"
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    letters = special + sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: place for place, letter in enumerate(letters)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    fast.chat_template = TEMPLATE
    fast.save_pretrained(directory)
    config = LlamaConfig(
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=64,
        vocab_size=len(letters),
        initializer_range=0.2,
        bos_token_id=None,
        eos_token_id=2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(directory)
    return directory


@pytest.fixture
def tiny_directory(_tiny: Path, tmp_path: Path) -> Path:
    """A random Llama of three blocks whose tokenizer reads bytes: a copy of its own for every test."""
    return Path(shutil.copytree(_tiny, tmp_path / "tiny"))
