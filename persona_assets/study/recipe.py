"""Marker recipe: how a marker is trained into a source persona and detected in the targets, as data.

A study names a shipped recipe and may override any field; the resulting study contains every value explicitly.
"""

from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from persona_assets.files.digest import digest_of
from persona_assets.files.reading import shown
from persona_assets.files.yaml_files import read_yaml
from persona_assets.study.settings import Count, Seed, Strict, without_defaults

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
    """Unmarked replies of other personas, which hold the marker down in the personas that they come from.

    Attributes:
        personas: how many are drawn (see `Recipe.drawn_personas`), all, or their names.
        examples: total number of replies.
        outside: name → system prompt of personas that are trained on but not measured. If there are any, negatives are
            drawn from them alone, so that no target is a trained negative; `personas` may still name others.
    """

    personas: Count | Literal["all"] | Annotated[tuple[str, ...], Field(min_length=1)]
    examples: Annotated[int, Field(ge=0, le=1_000_000)]
    outside: dict[str, str | None] = Field(default_factory=dict)

    @model_serializer(mode="wrap")
    def _without_defaults(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_defaults(dump(self), outside={})


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
    """AdamW without weight decay. `warmup` is a fraction of the steps; the schedule then decays to 0 or is constant.

    Attributes:
        seeds: an adapter is trained with each: replies, initial weights and order are drawn with it. `seed: 42` is
            short for one.
        follow: measure the marker's log-probability in every target after every so many steps.
    """

    learning_rate: Annotated[float, Field(gt=0)]
    schedule: Literal["constant", "linear", "cosine"]
    warmup: Share
    epochs: Count
    batch_size: Count
    max_length: Count
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)]
    follow: Count | None = None

    @model_validator(mode="before")
    @classmethod
    def _one_seed(cls, given: Any) -> Any:
        if not isinstance(given, dict) or "seed" not in given:
            return given
        if "seeds" in given:
            raise ValueError("seed: found together with seeds; expected one of them")
        others = {name: value for name, value in given.items() if name != "seed"}
        return {"seeds": (given["seed"],), **others}

    @model_validator(mode="after")
    def _each_seed_once(self) -> "Training":
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds: found {list(self.seeds)} with a duplicate; expected each seed once")
        return self

    @model_serializer(mode="wrap")
    def _one_seed_as_before(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Write one seed as `seed`, so that digests of earlier versions stay valid."""
        given = without_defaults(dump(self), follow=None)
        if len(self.seeds) > 1:
            return given
        return {"seed" if name == "seeds" else name: value for name, value in given.items()} | {"seed": self.seed}

    @property
    def seed(self) -> int:
        """Return the first seed; a recipe `for_seed` has no other."""
        return self.seeds[0]


class LogProbs(Strict):
    """Measurement of the marker's log-probability behind the base model's own replies.

    Attributes:
        samples: replies of every target to every question, sampled as `evaluation` says; by default
            `evaluation.samples`. With 0 the responses in `generations` are used.
    """

    samples: Annotated[int, Field(ge=0, le=1_000_000)] | None = None


class Evaluation(Strict):
    """Sampling from the adapted model: every target answers every question of the study `samples` times.

    With `samples: 0` nothing is sampled, and leakage is measured by log-probability alone.
    """

    targets: Literal["all"] | tuple[str, ...]
    samples: Annotated[int, Field(ge=0, le=1_000_000)]
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
    log_probs: LogProbs = LogProbs()

    @model_serializer(mode="wrap")
    def _without_defaults(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_defaults(dump(self), log_probs={"samples": None})

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

    @property
    def base_samples(self) -> int:
        """Return the replies per question behind which the marker is measured; 0 stands for those in `generations`."""
        return self.evaluation.samples if self.log_probs.samples is None else self.log_probs.samples

    def drawn_personas(self, source: str, personas: list[str]) -> list[str]:
        """Return the personas whose unmarked replies are trained on together with the source's marked ones.

        If the recipe names them, those, less the source. Otherwise the other personas of the study, or those outside it
        if the recipe has any, are sorted by name and permuted by NumPy's PCG64, seeded with the first training seed and
        the first eight bytes of the SHA-256 of the source's name in double quotes. The first `negatives.personas` are
        taken.
        """
        wanted = self.negatives.personas
        if isinstance(wanted, tuple):
            return [name for name in wanted if name != source]
        others = sorted(set(self.negatives.outside or personas) - {source})
        stream = np.random.default_rng([self.training.seed, int(digest_of(source)[:16], 16)])
        drawn = [others[place] for place in stream.permutation(len(others))]
        return drawn if wanted == "all" else drawn[:wanted]

    def for_seed(self, seed: int, source: str, personas: list[str]) -> "Recipe":
        """Return the recipe of one of a source's adapters.

        All training seeds of a source have the same negative personas, those drawn with the first seed: seeds are
        replicates of one measurement, in which the same targets are trained negatives.
        """
        alone = self.model_copy(update={"training": self.training.model_copy(update={"seeds": (seed,)})})
        drawn = self.drawn_personas(source, personas)
        if set(alone.drawn_personas(source, personas)) == set(drawn):
            return alone
        return alone.model_copy(update={"negatives": self.negatives.model_copy(update={"personas": tuple(drawn)})})


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
    recipe = read_yaml(shipped[name])
    training = overrides.get("training")
    if isinstance(training, dict) and "seeds" in training:
        del recipe["training"]["seed"]  # shipped recipes have one
    return {"name": name, **_merged(recipe, overrides)}


def _merged(base: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in overrides.items():
        nested = isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = _merged(base[key], value) if nested else value
    return merged
