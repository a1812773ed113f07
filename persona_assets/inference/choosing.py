"""Which scorer a model gets: packed sequences where the architecture and the card allow it, else Transformers' own."""

from persona_assets.inference.loading import LoadedModel
from persona_assets.inference.packed import PackedScorer, why_not_packed
from persona_assets.inference.scoring import PrefixScorer, Scorer


def choose_scorer(loaded: LoadedModel, deterministic: bool = False) -> Scorer:
    """`deterministic`: the same bits whatever is scored beside a response, and slower."""
    kind = PackedScorer if why_not_packed(loaded) is None else PrefixScorer
    return kind(loaded, deterministic)
