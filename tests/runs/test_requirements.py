"""Tests of what is required of a checkpoint before a model does any work for a study."""

from pathlib import Path

import pytest

from persona_assets.checkpoints import Checkpoint, CheckpointError, DigestCache, identify
from persona_assets.runs.requirements import require_system_role
from persona_assets.study.files import load_study
from persona_assets.study.settings import ChatSettings
from tests.tiny_model import TEMPLATE


def test_a_study_can_refuse_templates_without_a_system_role(tiny_directory: Path) -> None:
    study = load_study().model_copy(update={"chat": ChatSettings(without_system_role="refuse")})
    checkpoint, cache = Checkpoint(name="tiny", path=tiny_directory), DigestCache(tiny_directory.parent / "digests")
    require_system_role(study, identify(checkpoint, cache), "tiny")
    drops = TEMPLATE.replace("for message in messages", "for message in messages if message['role'] != 'system'")
    (tiny_directory / "chat_template.jinja").write_text(drops)
    require_system_role(load_study(), identify(checkpoint, cache), "tiny")
    with pytest.raises(CheckpointError, match="tiny: the chat template has no system role, and the study says"):
        require_system_role(study, identify(checkpoint, cache), "tiny")
