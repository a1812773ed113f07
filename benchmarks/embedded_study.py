"""The embedded model and study: real weights and texts, small enough for any machine."""

from pathlib import Path
from typing import Literal

from persona_assets.checkpoints import Checkpoint
from persona_assets.inference import LoadedModel, choose_hardware, load_model
from persona_assets.inference.embedded_model import NAME, ensure_embedded_model
from persona_assets.study import Study
from persona_assets.study.files import load_study
from persona_assets.study.settings import Inference


def embedded_study(device: Literal["auto", "cpu"] = "auto") -> tuple[Study, LoadedModel]:
    """Return the study and the model, which is downloaded if it is missing."""
    directory = ensure_embedded_model(Path(__file__).parents[1] / "dagster_home" / "models")
    loaded = load_model(Checkpoint(name=NAME, path=directory), choose_hardware(Inference(device=device)))
    return load_study("embedded"), loaded
