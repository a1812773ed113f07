"""A branch of a hub is followed commit by commit; what the hub does not answer is said. Over HTTP, on this machine."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from persona_assets.checkpoints import Checkpoint, CheckpointError, DigestCache, hub, identify
from persona_assets.checkpoints.hub import commits_of, lacking
from persona_assets.checkpoints.registry import Registry
from persona_assets.checkpoints.scan import arrivals_in
from persona_assets.checkpoints.watched import Watch
from tests.local_hub import LocalHub

MODEL = dict.fromkeys(("config.json", "tokenizer.json", "model.safetensors"), b"{}")
ABSENT = "f" * 40
FOLLOW = """
import json, sys
from pathlib import Path
from persona_assets.checkpoints.scan import arrivals_in
from persona_assets.checkpoints import CheckpointError, DigestCache, identify
from persona_assets.checkpoints.registry import Registry
from persona_assets.checkpoints.watched import Watched

home = Path(sys.argv[1])
registry = Registry(home / "checkpoints.yaml")
[watch] = Watched(home / "watched.yaml").all()
said = []
for arrival in arrivals_in(watch, registry):
    if arrival.entry:
        registry.add(arrival.name, arrival.entry)
        try:
            digest = identify(registry.get(arrival.name), DigestCache(home / "digests.json")).digest
        except CheckpointError as error:
            digest = str(error)
    said.append([arrival.name, arrival.entry, arrival.waits, digest if arrival.entry else None])
print(json.dumps(said))
"""


@pytest.fixture
def local_hub() -> Iterator[LocalHub]:
    with LocalHub() as running:
        yield running


@pytest.fixture
def online(local_hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> LocalHub:
    """For look-ups in this process; downloads read more of the environment and get a process of their own."""
    monkeypatch.setattr(constants, "ENDPOINT", local_hub.endpoint)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return local_hub


def revisions(repo: str, known: set[str], branch: str = "main") -> list[str]:
    return [commit.revision for commit in commits_of(repo, branch, known)]


def test_only_the_newest_commit_counts_when_a_watch_begins(online: LocalHub) -> None:
    for number in range(5):
        newest = online.commit("lab/model", MODEL, f"commit {number}")
    assert revisions("lab/model", set()) == [newest]
    assert len(online.asked) == 1  # the rest of the history is not read


@pytest.mark.parametrize("newer", [0, 1, 2, 3, 4])
def test_every_commit_after_the_newest_known_one_comes_oldest_first(online: LocalHub, newer: int) -> None:
    made = [online.commit("lab/model", MODEL, f"commit {number}") for number in range(6)]
    known = set(made[: 6 - newer])
    assert revisions("lab/model", known) == made[6 - newer :]
    assert len(online.asked) == newer // 2 + 1  # pages of two; none is read beyond the known commit


def test_a_rewritten_history_is_not_measured_from_its_beginning(online: LocalHub) -> None:
    made = [online.commit("lab/model", MODEL, f"rewritten {number}") for number in range(5)]
    assert revisions("lab/model", {ABSENT}) == made[-1:]


def test_a_branch_is_followed_by_itself(online: LocalHub) -> None:
    online.commit("lab/model", MODEL)
    other = online.commit("lab/model", MODEL, branch="runs/7")
    assert revisions("lab/model", set(), branch="runs/7") == [other]


def test_the_step_is_read_from_the_trainers_own_title(online: LocalHub) -> None:
    first = online.commit("lab/model", MODEL, "step back to the roots")
    online.commit("lab/model", MODEL, "Training in progress, step 500")
    online.commit("lab/model", MODEL, "End of training")
    assert [commit.step for commit in commits_of("lab/model", "main", {first})] == [500, None]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (MODEL, None),
        ({**MODEL, "adapter_config.json": b""}, None),
        ({"README.md": b""}, "config.json is not there; expected a model"),
        ({"config.json": b"", "tokenizer.json": b"", "pytorch_model.bin": b""}, "expected weights as safetensors"),
        ({"config.json": b"", "model.safetensors": b""}, "no tokenizer; expected tokenizer.json"),
        (
            {"adapter_config.json": b"", "adapter_model.safetensors": b""},
            "found adapter_config.json and no config.json; adapters are taken from directories",
        ),
        (
            {"config.json": b"", "model-00001-of-00003.safetensors": b"", "model-00003-of-00003.safetensors": b""},
            "found 2 of 3 files model-*.safetensors; expected all of them",
        ),
        (
            {"config.json": b"", "tokenizer.json": b"", "model-00001-of-00001.safetensors": b""},
            "model.safetensors is not there, nor an index of its shards",
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
def test_a_commit_is_judged_by_its_files(online: LocalHub, files: dict[str, bytes], expected: str | None) -> None:
    revision = online.commit("lab/model", files)
    reason = lacking("lab/model", revision)
    if expected is None:
        assert reason is None
    else:
        assert reason is not None
        assert reason.startswith(f"lab/model at {revision}: ")
        assert expected in reason


@pytest.mark.parametrize(
    ("fault", "expected"), [("status", "503"), ("silent", "ReadTimeout"), ("nonsense", "JSONDecodeError")]
)
def test_a_hub_that_fails_is_named_once_and_soon(
    online: LocalHub, monkeypatch: pytest.MonkeyPatch, fault: str, expected: str
) -> None:
    monkeypatch.setattr(hub, "SECONDS", 0.5)
    revision = online.commit("lab/model", MODEL)
    online.fault = fault
    began = time.monotonic()
    with pytest.raises(CheckpointError) as caught:
        commits_of("lab/model", "main", set())
    assert f"lab/model: branch main cannot be looked up at {online.endpoint}: " in str(caught.value)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointError, match=f"lab/model: commit {revision} cannot be looked up at {online.endpoint}"):
        lacking("lab/model", revision)
    assert time.monotonic() - began < 2
    assert len(online.asked) == 2  # no second try


@pytest.mark.parametrize(
    ("repo", "branch", "expected"),
    [
        ("lab/absent", "main", "lab/absent: branch main cannot be looked up at .*RepositoryNotFound"),
        ("lab/model", "absent", "lab/model: branch absent cannot be looked up at .*RevisionNotFound"),
        ("not a repository", "main", "not a repository: branch main cannot be looked up at .*HFValidationError"),
    ],
)
def test_a_repository_or_branch_that_is_not_there_is_named(
    online: LocalHub, repo: str, branch: str, expected: str
) -> None:
    online.commit("lab/model", MODEL)
    with pytest.raises(CheckpointError, match=expected):
        commits_of(repo, branch, set())


def test_a_hub_that_is_not_there_is_named(online: LocalHub) -> None:
    online.__exit__()
    with pytest.raises(CheckpointError, match=f"branch main cannot be looked up at {online.endpoint}: ConnectError"):
        commits_of("lab/model", "main", set())


def test_offline_is_said_and_nothing_is_asked(local_hub: LocalHub) -> None:
    with pytest.raises(CheckpointError, match="offline mode is enabled"):
        commits_of("lab/model", "main", set())
    assert local_hub.asked == []


def test_a_commit_that_cannot_be_measured_waits_until_a_newer_one_can(online: LocalHub, tmp_path: Path) -> None:
    registry, watch = Registry(tmp_path / "checkpoints.yaml"), Watch(name="nightly", hub="lab/model")
    first = online.commit("lab/model", {"README.md": b""})
    [waiting] = arrivals_in(watch, registry)
    assert (waiting.name, waiting.entry) == (f"nightly.{first[:12]}", None)
    assert "config.json is not there" in str(waiting.waits)
    second = online.commit("lab/model", MODEL, "Training in progress, step 20")
    [arrival] = arrivals_in(watch, registry)
    assert arrival.entry == {"hub": "lab/model", "revision": second, "series": "nightly", "step": 20}
    assert arrival.stamp not in ("", waiting.stamp)
    assert arrival.waits is None


def test_two_watches_of_one_repository_know_different_commits(online: LocalHub, tmp_path: Path) -> None:
    registry = Registry(tmp_path / "checkpoints.yaml")
    one, other = Watch(name="one", hub="lab/model"), Watch(name="other", hub="lab/model")
    online.commit("lab/model", MODEL, "first")
    [arrival] = arrivals_in(one, registry)
    assert arrival.entry is not None
    registry.add(arrival.name, arrival.entry)
    assert arrivals_in(one, registry) == []
    assert [arrival.name for arrival in arrivals_in(other, registry)] == [
        f"other.{str(arrival.entry['revision'])[:12]}"
    ]


def test_a_commit_is_found_registered_fetched_and_identified(
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

    [[name, entry, waits, digest]] = follow()
    assert (name, waits) == (f"nightly.{first[:12]}", None)
    assert entry == {"hub": "lab/tiny", "revision": first, "series": "nightly", "step": 10}
    assert digest != expected  # the template was another one then
    assert follow() == []

    second = local_hub.commit("lab/tiny", tiny_directory, "Training in progress, step 20")
    [[name, entry, waits, digest]] = follow()
    assert (name, waits, digest) == (f"nightly.{second[:12]}", None, expected)
    assert Registry(home / "checkpoints.yaml").get(str(name)).step == 20
    assert any(path.startswith(f"/lab/tiny/resolve/{second}/model.safetensors") for path in local_hub.asked)


def test_a_download_that_breaks_off_is_an_error_of_the_checkpoint(
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
    assert f"{name}: lab/tiny at {entry['revision']} cannot be fetched: " in said
