"""Models: token ids in; token ids, log-probabilities and hidden states out. Imports no Dagster.

`LoadedModel` is a checkpoint in memory. A `Generator` writes responses, a `Scorer` teacher-forces them, and
`last_token_states` reads the residual stream at the end of a prompt.
"""

from persona_assets.inference.chat import Chat
from persona_assets.inference.cost import Measurement, measured
from persona_assets.inference.engines import Engine, choose_engine
from persona_assets.inference.generation import Generator, Response, TransformersGenerator
from persona_assets.inference.hidden_states import last_token_states
from persona_assets.inference.loading import (
    Hardware,
    LoadedModel,
    choose_hardware,
    load_model,
    read_chat,
    read_stop_ids,
    save_merged,
)
from persona_assets.inference.nan_checks import NonFiniteError, where_not_finite
from persona_assets.inference.scoring.choice import choose_scorer
from persona_assets.inference.scoring.padded import PrefixScorer, Scored, Scorer
from persona_assets.inference.token_pieces import token_pieces
from persona_assets.inference.training.examples import Conversation, build_training_set, plan_conversations
from persona_assets.inference.training.train import Example, Step, TrainedAdapter, label_log_prob, train_adapter
from persona_assets.inference.vllm.engine import VllmGenerator
from persona_assets.inference.vllm.settings import VllmSettings, find_room

__all__ = [
    "Chat",
    "Conversation",
    "Engine",
    "Example",
    "Generator",
    "Hardware",
    "LoadedModel",
    "Measurement",
    "NonFiniteError",
    "PrefixScorer",
    "Response",
    "Scored",
    "Scorer",
    "Step",
    "TrainedAdapter",
    "TransformersGenerator",
    "VllmGenerator",
    "VllmSettings",
    "build_training_set",
    "choose_engine",
    "choose_hardware",
    "choose_scorer",
    "find_room",
    "label_log_prob",
    "last_token_states",
    "load_model",
    "measured",
    "plan_conversations",
    "read_chat",
    "read_stop_ids",
    "save_merged",
    "token_pieces",
    "train_adapter",
    "where_not_finite",
]
