"""Nothing that comes along reports on its user."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.security.conftest import Running, Served, audited

# What the libraries themselves make of the environment, in a process that has only imported this one.
ASKED = """
import persona_assets
from huggingface_hub import constants
from dagster._core.telemetry_upload import is_running_in_test
print(constants.HF_HUB_DISABLE_TELEMETRY, is_running_in_test())
"""


def test_dagster_is_told_in_its_settings(repository: Path) -> None:
    settings = yaml.safe_load((repository / "dagster_home" / "dagster.yaml").read_text())
    assert settings["telemetry"] == {"enabled": False}
    assert settings["nux"] == {"enabled": False}


def test_every_process_of_the_page_is_told(served: Served) -> None:
    assert len(served.environments) > 3
    for name in ("DO_NOT_TRACK", "HF_HUB_DISABLE_TELEMETRY", "DAGSTER_DISABLE_TELEMETRY", "VLLM_NO_USAGE_STATS"):
        assert [each.get(name) for each in served.environments] == ["1"] * len(served.environments)


def test_dagster_collects_nothing_that_it_could_send(served: Served, ran: Running) -> None:
    for home in (served.home, ran.home):
        assert [file for folder in ("logs", ".logs_queue", ".telemetry") for file in (home / folder).glob("*")] == []


def test_the_libraries_take_it_so(monkeypatch: pytest.MonkeyPatch, repository: Path) -> None:
    for name in ("DO_NOT_TRACK", "HF_HUB_DISABLE_TELEMETRY", "DAGSTER_DISABLE_TELEMETRY"):
        monkeypatch.delenv(name, raising=False)
    said = subprocess.run([sys.executable, "-c", ASKED], cwd=repository, capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["True", "True"]


def test_a_person_can_say_otherwise(monkeypatch: pytest.MonkeyPatch, repository: Path) -> None:
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "0")
    monkeypatch.setenv("DO_NOT_TRACK", "0")
    said = subprocess.run([sys.executable, "-c", ASKED], cwd=repository, capture_output=True, text=True, check=True)
    assert said.stdout.split()[0] == "False"


def test_a_run_asks_nothing_of_another_machine(ran: Running) -> None:
    reached = {each["what"] for each in audited(ran.audit) if each["event"].startswith("socket.")}
    assert {each for each in reached if not each.startswith("/")} <= {"127.0.0.1", "localhost", "::1"}
