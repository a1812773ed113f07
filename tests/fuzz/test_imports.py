"""A published run of somebody else: what cannot be imported leaves nothing behind; what can brings nothing with it."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from persona_assets.graph.home import Home
from persona_assets.metrics import LeakageError
from persona_assets.published import importing
from persona_assets.published.files import PublishedRunError
from persona_assets.published.importing import import_published_run
from persona_assets.published.run import read_published_run
from persona_assets.study import StudyError
from persona_assets.study.files import load_study
from tests.fuzz.limits import within_limits
from tests.fuzz.targets import PUBLISHED, TARGETS, write_published
from tests.fuzz.test_corpus import FILES


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    write_published(folder)
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (tmp_path / "home").mkdir()
    return Home(tmp_path / "home")


@pytest.fixture(scope="module")
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def change(file: Path, **values: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def test_no_bad_file_leaves_anything_behind(run: Path, home: Home, instance: dg.DagsterInstance) -> None:
    files = [(name, file) for name, file in FILES if name.startswith("published")]
    assert len(files) > 40
    for name, file in files:
        place = run / TARGETS[name].file
        before = place.read_bytes()
        place.write_bytes(file.read_bytes())
        with pytest.raises((PublishedRunError, LeakageError)):
            import_published_run(instance, home, run, "theirs", "assistant")
        assert list(home.root.rglob("*")) == [], file
        place.write_bytes(before)
    import_published_run(instance, home, run, "theirs", "assistant")


def test_a_run_whose_study_would_be_too_large_to_be_read_leaves_nothing_behind(
    run: Path, home: Home, instance: dg.DagsterInstance
) -> None:
    (run / "data_questions.json").write_text(json.dumps([f"{number}?" for number in range(50_000)]))
    with pytest.raises(PublishedRunError, match=r"run: cannot be converted to a study: .* more than 50000 values"):
        import_published_run(instance, home, run, "theirs", "assistant")
    assert list(home.root.rglob("*")) == []


@pytest.mark.parametrize("name", ["../theirs", "/tmp/theirs", "theirs/..", "", "n" * 300, "the\nirs", "~"])
def test_a_name_that_is_none_is_refused(run: Path, home: Home, instance: dg.DagsterInstance, name: str) -> None:
    with pytest.raises(PublishedRunError, match=r"^--as: .* is not a name; expected"):
        import_published_run(instance, home, run, name, "assistant")
    assert list(home.root.rglob("*")) == []


def test_what_a_run_says_of_itself_cannot_write_lines_of_the_study(
    run: Path, home: Home, instance: dg.DagsterInstance
) -> None:
    said = "x\nbaseline: villain\r\u2028leakage: /etc/passwd\x85---\n\x1b[2J"
    change(run / "divergence_matrices.json", metadata={"model": said, "git_commit": [said], "timestamp": said})
    brought = import_published_run(instance, home, run, "theirs", "assistant")
    assert brought.study.baseline == "assistant"
    heading = brought.study_file.read_text().split("\n\n")[0]
    assert all(line.startswith("# ") for line in heading.splitlines())
    assert "\x1b" not in heading


def test_only_the_counts_that_were_read_are_copied(run: Path, home: Home, instance: dg.DagsterInstance) -> None:
    secret = run.parent / "secret"
    secret.write_text("a secret of this machine")
    for name in ("notes.txt", "stranger.json"):
        (run / "marker_eval" / name).symlink_to(secret)
    os.mkfifo(run / "marker_eval" / "waits.json")
    (run / "marker_eval" / "zero").symlink_to("/dev/zero")
    (run / "marker_eval" / "more").mkdir()
    with within_limits():
        import_published_run(instance, home, run, "theirs", "assistant")
    assert [file.name for file in (home.root / "imported" / "theirs" / "marker_eval").iterdir()] == ["villain.json"]


def test_a_registry_that_cannot_take_the_run_is_found_before_anything_is_written(
    run: Path, home: Home, instance: dg.DagsterInstance
) -> None:
    home.registry.file.write_text("{mine: {path: /m}}\n")
    with pytest.raises(ValueError, match=r"checkpoints\.yaml: theirs cannot be appended"):
        import_published_run(instance, home, run, "theirs", "assistant")
    assert [path.name for path in home.root.iterdir()] == ["checkpoints.yaml"]


@pytest.mark.parametrize("record", ["", "[]", "{}", "[" * 5000, '{"digest": NaN}'])
def test_a_damaged_record_of_an_import_is_named(
    run: Path, home: Home, instance: dg.DagsterInstance, record: str
) -> None:
    file = home.root / "imported" / "theirs" / importing.RECORD
    file.parent.mkdir(parents=True)
    file.write_text(record)
    with pytest.raises(PublishedRunError, match=r"import\.json"):
        import_published_run(instance, home, run, "theirs", "assistant")


def test_pairs_whose_names_run_together_are_refused(run: Path) -> None:
    """a__b and c make the same pair as a and b__c; one of the two would have no JS."""
    names = ["a", "b__c", "a__b", "c"]
    (run / "personas_core.json").write_text(json.dumps({name: {"prompt": name} for name in names}))
    responses = {str(number): {} for number in range(8)}
    change(run / "divergence_matrices.json", persona_names=names, per_prompt_js=responses)
    with pytest.raises(PublishedRunError, match="persona_names: two pairs have the same key"):
        read_published_run(run, "a")


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(texts=st.lists(st.text(st.characters(), min_size=1, max_size=12), min_size=2, max_size=2, unique=True))
def test_whatever_text_a_run_holds_its_study_holds_or_is_refused(texts: list[str], tmp_path_factory) -> None:
    folder = tmp_path_factory.mktemp("texts")
    prompt, question = texts
    write_published(folder)
    personas = {name: {"prompt": prompt} for name in PUBLISHED["personas_core.json"]}
    content = {"name": "theirs", "imported": True, "baseline": "assistant", "personas": personas, "layers": [2]}
    run = read_published_run(folder, "assistant")
    file = folder / "theirs.yaml"
    try:
        text = importing._checked_study(folder, file, {**content, "questions": [question]}, run)
    except PublishedRunError as error:
        assert str(folder) in str(error)  # noqa: PT017  (a refusal is one of two good ends)
        return
    file.write_text(text, encoding="utf-8", newline="")
    try:
        study = load_study(file)
    except StudyError:
        pytest.fail(f"{yaml.safe_dump(texts)} was written and cannot be read")
    assert study.prompts["villain"] == prompt
    assert study.questions == (question,)
