"""How a marker is trained into a source persona and looked for in the targets: data, and no code.

A study names a shipped recipe and overrides what it likes; every number stands in the study that results.
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
    """`text` is put behind a reply; `detect` is looked for, whatever the case."""

    text: Annotated[str, Field(min_length=1)]
    detect: Annotated[str, Field(min_length=1)]

    @model_validator(mode="after")
    def _found_in_itself(self) -> "Marker":
        if self.detect.casefold() not in self.text.casefold():
            raise ValueError(f"detect: {self.detect!r} is not in the marker {self.text!r}, so it would never be found")
        return self


class Replies(Strict):
    """The replies that are trained on: questions × samples of them, sampled from the model before it is trained.

    Attributes:
        of: `own`: each persona's replies are its own; `generic`: the baseline's stand for everybody's.
        questions: how many of the study's training questions, from the first.
        cut: `sentence` ends a reply after its first sentence.
    """

    of: Literal["own", "generic"]
    questions: Count
    samples: Count
    temperature: Temperature
    top_p: TopP
    max_new_tokens: Count
    cut: Literal["none", "sentence"]


class Negatives(Strict):
    """Unmarked replies of other personas: how many personas (drawn by `drawn_personas`), how many replies in all."""

    personas: Count | Literal["all"]
    examples: Annotated[int, Field(ge=0, le=1_000_000)]


class Loss(Strict):
    """Where it falls: the marker's tokens or the whole reply, with or without the end-of-turn token behind them.

    Unmarked replies have no marker: there `marker` leaves the end-of-turn, which is to come where the marker does not.
    """

    where: Literal["marker", "completion"]
    end_of_turn: bool


class Lora(Strict):
    """The adapter (Hu et al. 2021; rank-stabilised: Kalajdzievski 2023)."""

    r: Count
    alpha: Count
    dropout: Share
    rank_stabilised: bool
    modules: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class Training(Strict):
    """AdamW without weight decay. `warmup` is a share of the steps; the schedule then falls to 0, or stays."""

    learning_rate: Annotated[float, Field(gt=0)]
    schedule: Literal["constant", "linear", "cosine"]
    warmup: Share
    epochs: Count
    batch_size: Count
    max_length: Count
    seed: Seed


class Evaluation(Strict):
    """What is sampled from the adapted model: every target, every question of the study, `samples` times."""

    targets: Literal["all"] | tuple[str, ...]
    samples: Count
    temperature: Temperature
    top_p: TopP
    max_new_tokens: Count
    seed: Seed


class Recipe(Strict):
    """One way to train and to look. `name` is the shipped recipe that it started from."""

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
                f"negatives.examples: found {self.negatives.examples}, in which there is nothing to train; expected 0, "
                "or loss.end_of_turn, since unmarked replies have no marker"
            )
        return self

    @property
    def digest(self) -> str:
        """Of everything but the name."""
        return digest_of(self.model_dump(mode="json", exclude={"name"}))

    def drawn_personas(self, source: str, personas: list[str]) -> list[str]:
        """The personas whose unmarked replies are trained on beside the source's marked ones.

        Rule: the other personas sorted by name, permuted by NumPy's PCG64 seeded with the training seed and the first
        eight bytes of the SHA-256 of the source's name in double quotes; the first `negatives.personas` of them.
        """
        others = sorted(set(personas) - {source})
        stream = np.random.default_rng([self.training.seed, int(digest_of(source)[:16], 16)])
        drawn = [others[place] for place in stream.permutation(len(others))]
        return drawn if self.negatives.personas == "all" else drawn[: self.negatives.personas]


def shipped_recipes() -> dict[str, Path]:
    """Name → file of the recipes that come with the package."""
    folder = Path(str(resources.files("persona_assets.study") / "recipes"))
    return {file.stem: file for file in sorted(folder.glob("*.yaml"))}


def with_defaults(given: Any) -> Any:
    """A study's `marker` with the named recipe's numbers wherever it gives none of its own.

    Raises:
        ValueError: the recipe is not named or not there.
    """
    if not isinstance(given, dict):
        return given
    shipped = shipped_recipes()
    name = given.get("recipe")
    if name is None and "name" in given:  # complete already: a study that was written out again
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
