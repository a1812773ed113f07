"""Nothing that is read can run: no pickle, no `torch.load`, no code that a checkpoint or an adapter brings along."""

import builtins
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file

from persona_assets.checkpoints import Checkpoint, CheckpointError, DigestCache, identify
from persona_assets.files import yaml_files
from persona_assets.inference.loading import choose_hardware, load_model, read_chat, read_stop_ids
from persona_assets.study.settings import Inference
from tests.security.conftest import GUARD, Running, Served, audited
from tests.security.reading_code import findings

# The study's own loader, held safe below.
ALLOWED = {"persona_assets/files/yaml_files.py": "yaml.load with _UniqueKeys"}


def test_no_file_of_ours_reads_what_can_run(repository: Path) -> None:
    files = [file for folder in ("persona_assets", "scripts", "examples", "benchmarks")
             for file in sorted((repository / folder).rglob("*.py"))]  # fmt: skip
    found = {
        f"{name}:{what}"
        for file in files
        for what in findings(file.read_text())
        if not what.endswith(ALLOWED.get(name := str(file.relative_to(repository)), "nothing"))
    }
    assert len(files) > 150
    assert found == set()


@pytest.mark.parametrize(
    "source",
    [
        "import pickle", "from joblib import load", "torch.load(file)", "torch.load(file, weights_only=False)",
        "np.load(file, allow_pickle=True)", "yaml.load(text)", "yaml.load(text, yaml.Loader)", "eval(text)",
        "exec(text)", "pd.read_pickle(file)", "table.to_pickle(file)", "subprocess.run(line, shell=True)",
        "AutoTokenizer.from_pretrained(name)", "AutoConfig.from_pretrained(name, trust_remote_code=True)",
        "settings = {'trust_remote_code': trusted}", "importlib.import_module(name)", "load(file, weights_only=w)",
    ],
)  # fmt: skip
def test_each_of_these_is_found(source: str) -> None:
    assert list(findings(source))


def test_the_studies_loader_makes_no_objects() -> None:
    assert issubclass(yaml_files._UniqueKeys, yaml.constructor.SafeConstructor)
    made = set(yaml_files._UniqueKeys.yaml_constructors) - set(yaml.constructor.SafeConstructor.yaml_constructors)
    assert made == set()


def test_the_guard_sees_an_unpickler_and_a_connection(tmp_path: Path) -> None:
    program = (
        "import pickle, fractions, socket; pickle.loads(pickle.dumps(fractions.Fraction(1, 2)));"
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect_ex(('192.0.2.9', 9))"
    )
    environment = {"PYTHONPATH": str(GUARD), "PERSONA_ASSETS_AUDIT": str(tmp_path / "audit")}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
    assert [(each["event"], each["what"]) for each in audited(tmp_path / "audit")] == [
        ("pickle.find_class", "fractions.Fraction"),
        ("socket.connect", "192.0.2.9"),
    ]


def test_a_run_unpickles_nothing(ran: Running) -> None:
    """From the checkpoint's files to a trained adapter, merged and sampled; Dagster's own storage included."""
    events = ("pickle.find_class", "torch.load", "torch.save")
    assert [each for each in audited(ran.audit) if each["event"] in events] == []


def test_the_page_unpickles_nothing_but_between_its_own_processes(served: Served) -> None:
    """multiprocessing passes objects to its children by pickle, over pipes that nobody else can open."""
    pickled = [each for each in audited(served.audit) if each["event"] == "pickle.find_class"]
    assert [each for each in pickled if not any("multiprocessing" in frame for frame in each["by"])] == []


class Evil:
    """What runs when it is unpickled."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Callable[..., object], tuple[Path]]:
        return Path.touch, (self.witness,)


@pytest.fixture
def witness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is there once somebody else's code has run; whoever is asked at the terminal says yes."""
    monkeypatch.setattr(builtins, "input", lambda *_: "y")
    return tmp_path / "it_ran"


@pytest.fixture
def hostile(tiny_directory: Path, witness: Path) -> Path:
    """The tiny model with every file of code that Transformers knows to run."""
    code = f"from pathlib import Path\nPath({str(witness)!r}).touch()\n"
    names = {"AutoConfig": "evil.EvilConfig", "AutoModelForCausalLM": "evil.EvilModel"}
    for file, content in {
        "evil.py": code + "class EvilConfig: pass\nclass EvilModel: pass\nclass EvilTokenizer: pass\n",
        "custom_generate/generate.py": code + "def generate(*_, **__): pass\n",
    }.items():
        (tiny_directory / file).parent.mkdir(exist_ok=True)
        (tiny_directory / file).write_text(content)
    for file, mapped in {
        "config.json": names, "tokenizer_config.json": {"AutoTokenizer": ["evil.EvilTokenizer", "evil.EvilTokenizer"]},
    }.items():  # fmt: skip
        content = json.loads((tiny_directory / file).read_text())
        (tiny_directory / file).write_text(json.dumps(content | {"auto_map": mapped}))
    return tiny_directory


def test_a_checkpoints_own_code_is_not_run(hostile: Path, witness: Path) -> None:
    checkpoint = Checkpoint(name="hostile", path=hostile)
    loaded = load_model(checkpoint, choose_hardware(Inference(device="cpu")), say=lambda _: None)
    loaded.model.generate(torch.tensor([[5, 6]]), max_new_tokens=2)
    (hostile / "generation_config.json").unlink()
    assert read_stop_ids(checkpoint, read_chat(checkpoint)) == loaded.stop_ids
    assert not witness.exists()


def test_a_checkpoint_that_needs_its_own_code_is_refused_without_asking(hostile: Path, witness: Path) -> None:
    checkpoint = Checkpoint(name="hostile", path=hostile)
    chat = read_chat(checkpoint)
    config = json.loads((hostile / "config.json").read_text())
    (hostile / "config.json").write_text(json.dumps(config | {"model_type": "evil"}))
    (hostile / "generation_config.json").unlink()
    with pytest.raises(CheckpointError, match="hostile"):
        load_model(checkpoint, choose_hardware(Inference(device="cpu")), say=lambda _: None)
    with pytest.raises(CheckpointError, match="hostile"):
        read_stop_ids(checkpoint, chat)
    assert not witness.exists()


def test_pickled_weights_are_refused_and_not_opened(tiny_directory: Path, witness: Path, tmp_path: Path) -> None:
    (tiny_directory / "model.safetensors").unlink()
    (tiny_directory / "pytorch_model.bin").write_bytes(pickle.dumps(Evil(witness)))
    checkpoint = Checkpoint(name="hostile", path=tiny_directory)
    with pytest.raises(CheckpointError, match="pickled weights"):
        identify(checkpoint, DigestCache(tmp_path / "digests"))
    with pytest.raises(CheckpointError):
        load_model(checkpoint, choose_hardware(Inference(device="cpu")), say=lambda _: None)
    assert not witness.exists()


LORA = {"peft_type": "LORA", "r": 2, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM"}


@pytest.mark.parametrize(
    ("weights", "config", "said"),
    [
        ("adapter_model.bin", LORA, "pickled weights"),
        ("adapter_model.safetensors", LORA | {"megatron_config": {"a": 1}, "megatron_core": "evil"}, "adapter"),
        (
            "adapter_model.safetensors",
            {"peft_type": "XLORA", "adapters": {"0": "evil"}, "hidden_size": 32},
            "found 'XLORA'",
        ),
        ("adapter_model.safetensors", {"peft_type": "EVIL"}, "found 'EVIL'"),
    ],
    ids=["pickled weights", "module by name", "adapters of an adapter", "unknown kind"],
)
def test_an_adapter_runs_nothing(
    tiny_directory: Path,
    witness: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    weights: str,
    config: dict[str, object],
    said: str,
) -> None:
    unpickled = []
    monkeypatch.setattr(torch, "load", lambda *arguments, **_: unpickled.append(arguments))
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    save_file({"no": torch.zeros(1)}, tmp_path / "empty")
    pickled = pickle.dumps(Evil(witness))
    (adapter / weights).write_bytes(pickled if weights.endswith(".bin") else (tmp_path / "empty").read_bytes())
    # What it names could be imported and loaded: nobody's current folder is on the path, but it might be.
    (tmp_path / "evil.py").write_text(f"from pathlib import Path\nPath({str(witness)!r}).touch()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil" / "adapter_config.json").write_text(json.dumps(LORA))
    (tmp_path / "evil" / "adapter_model.bin").write_bytes(pickled)
    checkpoint = Checkpoint(name="hostile", path=tiny_directory, adapter=adapter)
    with pytest.raises(CheckpointError, match=said):
        load_model(checkpoint, choose_hardware(Inference(device="cpu")), say=lambda _: None)
    assert unpickled == []
    assert not witness.exists()
