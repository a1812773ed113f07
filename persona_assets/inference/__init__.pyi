from .chat import Chat
from .chat.showing import prompt_lines
from .chat.tokenizer_check import check_tokenizer
from .chat.warnings import prompt_warnings, switch_sentences
from .cost import Measurement, measured
from .engines import Engine, choose_engine
from .generation import Generator, Response, TransformersGenerator
from .hidden_states import last_token_states
from .loading import (
    Hardware,
    LoadedModel,
    choose_hardware,
    load_model,
    read_chat,
    read_stop_ids,
)
from .log_probs import MarkerLogProbs, Reply, marker_log_probs
from .merged_copy import save_merged
from .nan_checks import NonFiniteError, where_not_finite
from .scoring.choice import choose_scorer
from .scoring.padded import PrefixScorer, Scored, Scorer
from .self_check import GREEDY, Finding, SelfCheckError, describe_failures, self_check
from .token_pieces import token_pieces
from .training.cut_replies import Counted, CutReply, cut_reply, replies_that_count
from .training.example import Example
from .training.examples import Conversation, build_training_set, plan_conversations
from .training.losses import label_log_prob
from .training.marker_tokens import marker_ids
from .training.train import Step, TrainedAdapter, train_adapter
from .vllm.engine import VllmGenerator
from .vllm.settings import VllmSettings, plan_engine_memory

__all__ = [
    "GREEDY",
    "Chat",
    "Conversation",
    "Counted",
    "CutReply",
    "Engine",
    "Example",
    "Finding",
    "Generator",
    "Hardware",
    "LoadedModel",
    "MarkerLogProbs",
    "Measurement",
    "NonFiniteError",
    "PrefixScorer",
    "Reply",
    "Response",
    "Scored",
    "Scorer",
    "SelfCheckError",
    "Step",
    "TrainedAdapter",
    "TransformersGenerator",
    "VllmGenerator",
    "VllmSettings",
    "build_training_set",
    "check_tokenizer",
    "choose_engine",
    "choose_hardware",
    "choose_scorer",
    "cut_reply",
    "describe_failures",
    "label_log_prob",
    "last_token_states",
    "load_model",
    "marker_ids",
    "marker_log_probs",
    "measured",
    "plan_conversations",
    "plan_engine_memory",
    "prompt_lines",
    "prompt_warnings",
    "read_chat",
    "read_stop_ids",
    "replies_that_count",
    "save_merged",
    "self_check",
    "switch_sentences",
    "token_pieces",
    "train_adapter",
    "where_not_finite",
]
