"""One folder a target, made once: what is fed replaces one file in it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS, warm


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name.replace("/", "-").replace(" ", "-"))
            TARGETS[name].scaffold(made[name])
        return made[name]

    return folder


@pytest.fixture(scope="session", autouse=True)
def _warm() -> None:
    warm()
