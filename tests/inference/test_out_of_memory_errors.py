"""Tests of gradient checkpointing: used when memory is short, without changing losses."""

import pytest

from persona_assets.checkpoints import Checkpoint
from persona_assets.inference import Example, LoadedModel, choose_hardware, load_model, train_adapter
from persona_assets.inference.training.train import needs_checkpointing
from persona_assets.study.files import load_study
from persona_assets.study.recipe import Lora, Recipe, Training
from persona_assets.study.settings import Inference


@pytest.fixture
def tiny(tiny_directory):
    return load_model(Checkpoint(name="tiny", path=tiny_directory), choose_hardware(Inference(device="cpu")))


def short_recipe() -> Recipe:
    recipe = load_study("embedded").marker
    training = Training(
        learning_rate=1e-2, schedule="constant", warmup=0, epochs=3, batch_size=2, max_length=64, seed=1
    )
    lora = Lora(r=4, alpha=8, dropout=0.0, rank_stabilised=False)
    return recipe.model_copy(update={"training": training, "lora": lora})


EXAMPLES = [Example((5, 6, 7, 8, 9), (-100, -100, 7, 8, 9)), Example((9, 8, 7), (-100, 8, 7))]


def test_checkpointing_is_enabled_when_activations_do_not_fit(tiny, monkeypatch):
    # 17 × 4 bytes × 32 hidden × 3 blocks × (5 + 3) tokens = 52,224 bytes, against 90 % of the free memory
    monkeypatch.setattr(LoadedModel, "free_memory", lambda self: 58_027)
    assert not needs_checkpointing(tiny, EXAMPLES, 2, adapted_inputs=0)
    assert needs_checkpointing(tiny, EXAMPLES, 2, adapted_inputs=1)  # 64 bytes more
    monkeypatch.setattr(LoadedModel, "free_memory", lambda self: 58_026)
    assert needs_checkpointing(tiny, EXAMPLES, 2, adapted_inputs=0)


def test_checkpointing_does_not_change_losses(tiny, monkeypatch, tmp_path):
    losses = {}
    for free in (1 << 40, 1):
        monkeypatch.setattr(LoadedModel, "free_memory", lambda self, free=free: free)
        trained = train_adapter(tiny, EXAMPLES, short_recipe(), tmp_path / str(free), lambda step, total: None)
        losses[free] = [step.loss for step in trained.steps]
        assert not tiny.model.is_gradient_checkpointing
    assert losses[1] == pytest.approx(losses[1 << 40], rel=1e-5)
    assert losses[1][-1] < losses[1][0]
