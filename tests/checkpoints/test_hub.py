"""A hub branch is followed commit by commit, and hub errors are reported; tested over HTTP with a local server."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from persona_assets.checkpoints import Checkpoint, CheckpointError, DigestCache, hub, identify
from persona_assets.checkpoints.hub import commit_problem, new_commits
from persona_assets.checkpoints.registry import Registry
from persona_assets.checkpoints.scan import scan_watch
from persona_assets.checkpoints.watched import Watch
from tests.local_hub import LocalHub

MODEL = dict.fromkeys(("config.json", "tokenizer.json", "model.safetensors"), b"{}")
ABSENT = "f" * 40
FOLLOW = """
import json, sys
from pathlib import Path
from persona_assets.checkpoints.scan import scan_watch
from persona_assets.checkpoints import CheckpointError, DigestCache, identify
from persona_assets.checkpoints.registry import Registry
from persona_assets.checkpoints.watched import Watched

home = Path(sys.argv[1])
registry = Registry(home / "checkpoints.yaml")
[watch] = Watched(home / "watched.yaml").all()
said = []
for candidate in scan_watch(watch, registry):
    if candidate.entry:
        registry.add(candidate.name, candidate.entry)
        try:
            digest = identify(registry.get(candidate.name), DigestCache(home / "digests.json")).digest
        except CheckpointError as error:
            digest = str(error)
    said.append([candidate.name, candidate.entry, candidate.problem, digest if candidate.entry else None])
print(json.dumps(said))
"""


@pytest.fixture
def local_hub() -> Iterator[LocalHub]:
    with LocalHub() as running:
        yield running


@pytest.fixture
def online(local_hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> LocalHub:
    """Return a hub for requests of this process; downloads read more environment variables and need a subprocess."""
    monkeypatch.setattr(constants, "ENDPOINT", local_hub.endpoint)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return local_hub


def revisions(repo: str, known: set[str], branch: str = "main") -> list[str]:
    return [commit.revision for commit in new_commits(repo, branch, known)]


def test_a_new_watch_starts_at_the_newest_commit(online: LocalHub) -> None:
    for number in range(5):
        newest = online.commit("lab/model", MODEL, f"commit {number}")
    assert revisions("lab/model", set()) == [newest]
    assert len(online.asked) == 1  # the rest of the history is not read


@pytest.mark.parametrize("newer", [0, 1, 2, 3, 4])
def test_commits_after_the_newest_known_one_are_returned_oldest_first(online: LocalHub, newer: int) -> None:
    made = [online.commit("lab/model", MODEL, f"commit {number}") for number in range(6)]
    known = set(made[: 6 - newer])
    assert revisions("lab/model", known) == made[6 - newer :]
    assert len(online.asked) == newer // 2 + 1  # pages of two; stops at the known commit


def test_after_a_rewritten_history_only_the_newest_commit_is_returned(online: LocalHub) -> None:
    made = [online.commit("lab/model", MODEL, f"rewritten {number}") for number in range(5)]
    assert revisions("lab/model", {ABSENT}) == made[-1:]


def test_commits_of_other_branches_are_ignored(online: LocalHub) -> None:
    online.commit("lab/model", MODEL)
    other = online.commit("lab/model", MODEL, branch="runs/7")
    assert revisions("lab/model", set(), branch="runs/7") == [other]


def test_the_step_is_read_from_commit_titles_of_the_trainer(online: LocalHub) -> None:
    first = online.commit("lab/model", MODEL, "step back to the roots")
    online.commit("lab/model", MODEL, "Training in progress, step 500")
    online.commit("lab/model", MODEL, "End of training")
    assert [commit.step for commit in new_commits("lab/model", "main", {first})] == [500, None]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (MODEL, None),
        ({**MODEL, "adapter_config.json": b""}, "found adapter_config.json beside a model's weights"),
        ({"README.md": b""}, "config.json does not exist; expected a model"),
        ({"config.json": b"", "tokenizer.json": b"", "pytorch_model.bin": b""}, "expected weights as safetensors"),
        ({"config.json": b"", "model.safetensors": b""}, "no tokenizer found; expected tokenizer.json"),
        (
            {"adapter_config.json": b"", "adapter_model.safetensors": b""},
            "found adapter_config.json but no config.json, so this is an adapter; expected a model; register the "
            "adapter with its base model by `persona-assets checkpoint add --adapter-hub`",
        ),
        (
            {"config.json": b"", "model-00001-of-00003.safetensors": b"", "model-00003-of-00003.safetensors": b""},
            "found 2 of 3 files model-*.safetensors; expected all of them",
        ),
        (
            {"config.json": b"", "tokenizer.json": b"", "model-00001-of-00001.safetensors": b""},
            "neither model.safetensors nor a shard index exists",
        ),
        (
            {
                "config.json": b"",
                "vocab.json": b"",
                "model-00001-of-00001.safetensors": b"",
                "model.safetensors.index.json": b"",
            },
            None,
        ),
    ],
)
def test_incomplete_commits_are_recognised_by_their_file_names(
    online: LocalHub, files: dict[str, bytes], expected: str | None
) -> None:
    revision = online.commit("lab/model", files)
    reason = commit_problem("lab/model", revision)
    if expected is None:
        assert reason is None
    else:
        assert reason is not None
        assert reason.startswith(f"lab/model at {revision}: ")
        assert expected in reason


@pytest.mark.parametrize(
    ("fault", "expected"), [("status", "503"), ("silent", "ReadTimeout"), ("nonsense", "JSONDecodeError")]
)
def test_a_failing_hub_is_reported_without_a_retry(
    online: LocalHub, monkeypatch: pytest.MonkeyPatch, fault: str, expected: str
) -> None:
    monkeypatch.setattr(hub, "SECONDS", 0.5)
    revision = online.commit("lab/model", MODEL)
    online.fault = fault
    began = time.monotonic()
    with pytest.raises(CheckpointError) as caught:
        new_commits("lab/model", "main", set())
    assert f"lab/model: branch main could not be looked up at {online.endpoint}: " in str(caught.value)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(
        CheckpointError, match=f"lab/model: commit {revision} could not be looked up at {online.endpoint}"
    ):
        commit_problem("lab/model", revision)
    assert time.monotonic() - began < 2
    assert len(online.asked) == 2  # no retry


@pytest.mark.parametrize(
    ("repo", "branch", "expected"),
    [
        ("lab/absent", "main", "lab/absent: branch main could not be looked up at .*RepositoryNotFound"),
        ("lab/model", "absent", "lab/model: branch absent could not be looked up at .*RevisionNotFound"),
        ("not a repository", "main", "not a repository: branch main could not be looked up at .*HFValidationError"),
    ],
)
def test_a_missing_repository_or_branch_is_reported(online: LocalHub, repo: str, branch: str, expected: str) -> None:
    online.commit("lab/model", MODEL)
    with pytest.raises(CheckpointError, match=expected):
        new_commits(repo, branch, set())


def test_an_unreachable_hub_is_reported(online: LocalHub) -> None:
    online.__exit__()
    with pytest.raises(CheckpointError, match=f"branch main could not be looked up at {online.endpoint}: ConnectError"):
        new_commits("lab/model", "main", set())


def test_offline_mode_is_reported_and_no_request_is_sent(local_hub: LocalHub) -> None:
    with pytest.raises(CheckpointError, match="offline mode is enabled"):
        new_commits("lab/model", "main", set())
    assert local_hub.asked == []


def test_an_incomplete_commit_is_skipped_once_a_newer_one_is_complete(online: LocalHub, tmp_path: Path) -> None:
    registry, watch = Registry(tmp_path / "checkpoints.yaml"), Watch(name="nightly", hub="lab/model")
    first = online.commit("lab/model", {"README.md": b""})
    [waiting] = scan_watch(watch, registry)
    assert (waiting.name, waiting.entry) == (f"nightly.{first[:12]}", None)
    assert "config.json does not exist" in str(waiting.problem)
    second = online.commit("lab/model", MODEL, "Training in progress, step 20")
    [candidate] = scan_watch(watch, registry)
    assert candidate.entry == {"hub": "lab/model", "revision": second, "series": "nightly", "step": 20}
    assert candidate.stamp not in ("", waiting.stamp)
    assert candidate.problem is None


def test_watches_of_the_same_repository_are_independent(online: LocalHub, tmp_path: Path) -> None:
    registry = Registry(tmp_path / "checkpoints.yaml")
    one, other = Watch(name="one", hub="lab/model"), Watch(name="other", hub="lab/model")
    online.commit("lab/model", MODEL, "first")
    [candidate] = scan_watch(one, registry)
    assert candidate.entry is not None
    registry.add(candidate.name, candidate.entry)
    assert scan_watch(one, registry) == []
    assert [candidate.name for candidate in scan_watch(other, registry)] == [
        f"other.{str(candidate.entry['revision'])[:12]}"
    ]


def test_a_commit_is_found_registered_downloaded_and_identified(
    local_hub: LocalHub, tiny_directory: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "watched.yaml").write_text("nightly: {hub: lab/tiny}\n")
    first = local_hub.commit("lab/tiny", tiny_directory, "Training in progress, step 10")
    template = tiny_directory / "chat_template.jinja"
    template.write_text(template.read_text() + "{# later #}")
    expected = identify(Checkpoint(name="here", path=tiny_directory), DigestCache(tmp_path / "digests.json")).digest

    def follow() -> list[list[object]]:
        done = local_hub.run(FOLLOW, str(home), home=home)
        assert done.returncode == 0, done.stderr
        return list(json.loads(done.stdout))

    [[name, entry, problem, digest]] = follow()
    assert (name, problem) == (f"nightly.{first[:12]}", None)
    assert entry == {"hub": "lab/tiny", "revision": first, "series": "nightly", "step": 10}
    assert digest != expected  # the first commit has a different template
    assert follow() == []

    second = local_hub.commit("lab/tiny", tiny_directory, "Training in progress, step 20")
    [[name, entry, problem, digest]] = follow()
    assert (name, problem, digest) == (f"nightly.{second[:12]}", None, expected)
    assert Registry(home / "checkpoints.yaml").get(str(name)).step == 20
    assert any(path.startswith(f"/lab/tiny/resolve/{second}/model.safetensors") for path in local_hub.asked)


def test_an_interrupted_download_is_a_checkpoint_error(
    local_hub: LocalHub, tiny_directory: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "watched.yaml").write_text("nightly: {hub: lab/tiny}\n")
    local_hub.commit("lab/tiny", tiny_directory)
    local_hub.fault = "cut"
    done = local_hub.run(FOLLOW, str(home), home=home)
    assert done.returncode == 0, done.stderr
    [[name, entry, _, said]] = json.loads(done.stdout)
    assert f"{name}: lab/tiny at {entry['revision']} could not be downloaded: " in said


ADAPTED = """
import sys
from pathlib import Path
from persona_assets.checkpoints import DigestCache, identify
from persona_assets.checkpoints.registry import Registry

home, base, revision = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
registry = Registry(home / "checkpoints.yaml")
for folder in ("runs/one", "runs/absent"):
    where = {"adapter_hub": "org/adapters", "adapter_revision": revision, "adapter_subfolder": folder}
    checkpoint = registry.parsed("mine", {"path": base, **where})
    try:
        print(identify(checkpoint, DigestCache(home / "digests.json")).adapter)
        print(sorted(file.name for file in checkpoint.adapter_directory().iterdir()))
    except ValueError as error:
        print(error)
"""


def test_an_adapter_in_a_folder_of_a_repository_is_downloaded(
    local_hub: LocalHub, tiny_directory: Path, tmp_path: Path
) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    lora = LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False)
    adapter = tmp_path / "adapter"
    get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_directory), lora).save_pretrained(adapter)
    files = {f"runs/one/{file.name}": file.read_bytes() for file in adapter.iterdir()}
    revision = local_hub.commit("org/adapters", files | {"runs/two/adapter_model.safetensors": b"other"})
    said = local_hub.run(ADAPTED, str(tmp_path), str(tiny_directory), revision, home=tmp_path / "hub")
    assert said.returncode == 0, said.stderr
    digest, names, absent = said.stdout.splitlines()
    own = identify(Checkpoint(name="mine", path=tiny_directory, adapter=adapter), DigestCache(tmp_path / "other.json"))
    assert digest == own.adapter
    assert names == "['adapter_config.json', 'adapter_model.safetensors']"
    assert absent.startswith("mine: adapter_subfolder: found 'runs/absent', which org/adapters at")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"adapter_hub": "org/a"}, r"adapter_revision: found None; expected a commit"),
        ({"adapter_hub": "org/a", "adapter_revision": "main"}, r"adapter_revision: found 'main'; expected a commit"),
        ({"adapter_revision": ABSENT}, r"adapter_revision: expected adapter_hub with it"),
        ({"adapter_subfolder": "a"}, r"adapter_subfolder: expected adapter_hub with it"),
        ({"adapter": "/a", "adapter_hub": "org/a", "adapter_revision": ABSENT}, r"both adapter and adapter_hub"),
        (
            {"adapter_hub": "org/a", "adapter_revision": ABSENT, "adapter_subfolder": "../b"},
            r"adapter_subfolder: found '\.\./b'; expected a folder of the repository",
        ),
    ],
)
def test_fields_of_a_hub_adapter_are_checked(tmp_path: Path, fields: dict[str, str], expected: str) -> None:
    with pytest.raises(CheckpointError, match=expected):
        Registry(tmp_path / "checkpoints.yaml").parsed("mine", {"path": "/m", **fields})
