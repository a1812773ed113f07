"""Marker recipe: how a marker is trained into a source persona and detected in the targets, as data.

A study names a shipped recipe and may override any field; the resulting study contains every value explicitly.
"""

from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from persona_assets.files.digest import digest_of
from persona_assets.files.reading import shown
from persona_assets.files.yaml_files import read_yaml
from persona_assets.study.settings import Count, Seed, Strict

Share = Annotated[float, Field(ge=0, le=1)]
Temperature = Annotated[float, Field(gt=0)]
TopP = Annotated[float, Field(gt=0, le=1)]


class Marker(Strict):
    """Marker: `text` is appended to a reply; `detect` is searched for, ignoring case."""

    text: Annotated[str, Field(min_length=1)]
    detect: Annotated[str, Field(min_length=1)]

    @model_validator(mode="after")
    def _found_in_itself(self) -> "Marker":
        if self.detect.casefold() not in self.text.casefold():
            raise ValueError(
                f"detect: {self.detect!r} is not in the marker {self.text!r}; expected text that the marker contains"
            )
        return self


class Replies(Strict):
    """Training replies: questions × samples of them per persona, sampled from the model before training.

    Attributes:
        of: `own` uses each persona's own replies; `generic` uses the baseline's replies for every persona.
        questions: number of the study's training questions used, from the first.
        cut: `sentence` truncates a reply after its first sentence.
    """

    of: Literal["own", "generic"]
    questions: Count
    samples: Count
    temperature: Temperature
    top_p: TopP
    max_new_tokens: Count
    cut: Literal["none", "sentence"]


class Negatives(Strict):
    """Unmarked replies of other personas: number of personas (see `drawn_personas`), total number of replies."""

    personas: Count | Literal["all"]
    examples: Annotated[int, Field(ge=0, le=1_000_000)]


class Loss(Strict):
    """Tokens in the loss: those of the marker or of the whole reply, with or without the end-of-turn token after them.

    Unmarked replies have no marker, so with `marker` their loss covers only the end-of-turn token: the model learns to
    end the turn where the marker would start.
    """

    where: Literal["marker", "completion"]
    end_of_turn: bool


class Lora(Strict):
    """LoRA adapter (Hu et al. 2021; rank-stabilised: Kalajdzievski 2023)."""

    r: Count
    alpha: Count
    dropout: Share
    rank_stabilised: bool
    modules: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class Training(Strict):
    """AdamW without weight decay. `warmup` is a fraction of the steps; the schedule then decays to 0 or is constant."""

    learning_rate: Annotated[float, Field(gt=0)]
    schedule: Literal["constant", "linear", "cosine"]
    warmup: Share
    epochs: Count
    batch_size: Count
    max_length: Count
    seed: Seed


class Evaluation(Strict):
    """Sampling from the adapted model: every target answers every question of the study `samples` times."""

    targets: Literal["all"] | tuple[str, ...]
    samples: Count
    temperature: Temperature
    top_p: TopP
    max_new_tokens: Count
    seed: Seed


class Recipe(Strict):
    """Complete recipe for training and evaluation. `name` is the shipped recipe that it is based on."""

    name: str
    marker: Marker
    replies: Replies
    negatives: Negatives
    loss: Loss
    lora: Lora
    training: Training
    evaluation: Evaluation

    @model_validator(mode="after")
    def _unmarked_replies_are_trained(self) -> "Recipe":
        if self.loss.where == "marker" and not self.loss.end_of_turn and self.negatives.examples:
            raise ValueError(
                f"negatives.examples: found {self.negatives.examples}, but unmarked replies have no trained tokens; "
                "expected 0, or loss.end_of_turn: true"
            )
        return self

    @property
    def digest(self) -> str:
        """Return the digest of everything except the name."""
        return digest_of(self.model_dump(mode="json", exclude={"name"}))

    def drawn_personas(self, source: str, personas: list[str]) -> list[str]:
        """Return the personas whose unmarked replies are trained on together with the source's marked ones.

        The other personas are sorted by name and permuted by NumPy's PCG64, seeded with the training seed and the first
        eight bytes of the SHA-256 of the source's name in double quotes. The first `negatives.personas` are taken.
        """
        others = sorted(set(personas) - {source})
        stream = np.random.default_rng([self.training.seed, int(digest_of(source)[:16], 16)])
        drawn = [others[place] for place in stream.permutation(len(others))]
        return drawn if self.negatives.personas == "all" else drawn[: self.negatives.personas]


def shipped_recipes() -> dict[str, Path]:
    """Return name → file of the recipes shipped with the package."""
    folder = Path(str(resources.files("persona_assets.study") / "recipes"))
    return {file.stem: file for file in sorted(folder.glob("*.yaml"))}


def with_defaults(given: Any) -> Any:
    """Return a study's `marker` completed with the values of the recipe that it names.

    Raises:
        ValueError: no recipe is named, or the named recipe does not exist.
    """
    if not isinstance(given, dict):
        return given
    shipped = shipped_recipes()
    name = given.get("recipe")
    if name is None and "name" in given:  # already complete: the study was dumped to YAML
        return given
    if not isinstance(name, str) or name not in shipped:
        raise ValueError(f"recipe: found {shown(name)}; expected one of {list(shipped)}")
    overrides = {key: value for key, value in given.items() if key != "recipe"}
    return {"name": name, **_merged(read_yaml(shipped[name]), overrides)}


def _merged(base: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in overrides.items():
        nested = isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = _merged(base[key], value) if nested else value
    return merged
