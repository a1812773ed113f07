"""What is measured: a study is one YAML file, checked completely when it loads.

The file is the only place where personas, questions, decoding, layers and centring populations are named. Everything
computed carries the digest of the parts of the study that it was made from, so a changed line recomputes what depends
on it and nothing else.
"""

import re
import unicodedata
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    BeforeValidator,
    Field,
    StrictFloat,
    StrictInt,
    field_validator,
    model_validator,
)

from persona_assets.files.reading import shown
from persona_assets.study.design import Design, Drawn, design_fault
from persona_assets.study.recipe import Recipe, with_defaults
from persona_assets.study.settings import Bootstrap, Decoding, Inference, Statistics, Strict

NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")
LONGEST_NAME = 100  # names become names of files, with something before and behind them

Depth = Annotated[StrictFloat, Field(allow_inf_nan=True)]  # refused below, in words that say what a layer is


class StudyError(ValueError):
    """A study that cannot be used: names the file, the field, what was found and what was expected."""


def checked_name(name: str) -> str:
    """The name of a persona, study or checkpoint, if it is one: `[a-z0-9][a-z0-9_.-]*`.

    Raises:
        ValueError: says what was found and expected.
    """
    if len(name) > LONGEST_NAME:
        raise ValueError(f"{shown(name)} is not a name; expected at most {LONGEST_NAME} characters")
    if not NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} is not a name; expected lower-case letters, digits, '_', '.', '-', such as 'villain'"
        )
    return name


class Persona(Strict):
    """A name and a system prompt; the name is the key in `Study.personas`.

    Attributes:
        category, related_to: for tables; no model sees them.
    """

    prompt: str
    category: str = "persona"
    related_to: tuple[str, ...] = ()

    @field_validator("prompt")
    @classmethod
    def _not_empty(cls, prompt: str) -> str:
        if not prompt.strip():
            raise ValueError("prompt is empty; expected the system prompt as text")
        return prompt


class Study(Strict):
    """What is measured. `personas` and `questions` keep the order of the file; K personas, Q questions.

    Attributes:
        baseline: the persona that others are compared with.
        layers: whole numbers name decoder blocks (0 is the first); fractions in [0, 1] name a depth.
        centring_populations: name → personas whose mean centroid is subtracted before a cosine; `all` is everyone.
        scored_slice: `response` scores the tokens that the model emitted; `response_and_turn_end` also scores the
            end-of-turn and whatever the chat template puts after it, as the published study did.
        deterministic: score each sequence on its own, so that JS has the same bits whatever is scored beside it; on a
            card that takes half as long again.
        design: what is scored. `full`: every persona's responses under every prompt, K² passes a question; `landmarks`:
            only the landmarks' responses, K·m; `sources`: only the sources' responses, and of pairs those that a source
            is in.
        landmarks: names, or how many to draw; with `design: landmarks`.
        generators: which generators' responses the JS of a pair is averaged over where one number is shown. The matrix
            and the pair table hold `source` and `target` too, which give a pair two numbers.
        sources: personas that a marker is trained into; needs `marker` and `training_questions`.
        marker: a shipped recipe's name under `recipe`, and whatever it is to have otherwise.
        training_questions: what replies for training are made from; none of them is evaluated.
        leakage: counts of a marker that somebody else trained, instead of sources: a CSV or Parquet file (source,
            target, found, total), or a folder of published SOURCE.json files. Relative to the study's file.
        source_rates: for the coupling of source rates with the baseline's likeness, where they were counted elsewhere:
            a CSV file (persona, source_rate, and predictors js…, cosine… of the baseline with that persona).
        imported: nothing is generated or scored: responses, JS and cosines came from a published run's files.
            Such a study may leave out its decoding.
    """

    name: str
    baseline: str
    personas: dict[str, Persona]
    questions: tuple[str, ...]
    decoding: Decoding | None = None
    layers: Annotated[tuple[StrictInt | Depth, ...], Field(min_length=1)]
    centring_populations: dict[str, Literal["all"] | tuple[str, ...]] = Field({"study": "all"}, min_length=1)
    scored_slice: Literal["response", "response_and_turn_end"] = "response"
    deterministic: bool = False
    design: Design = "full"
    landmarks: tuple[str, ...] | Drawn | None = None
    generators: Literal["all", "pair", "others"] = "all"
    bootstrap: Bootstrap = Bootstrap()
    statistics: Statistics = Statistics()
    inference: Inference = Inference()
    sources: tuple[str, ...] = ()
    marker: Annotated[Recipe, BeforeValidator(with_defaults)] | None = None
    training_questions: tuple[str, ...] = ()
    leakage: Path | None = None
    source_rates: Path | None = None
    imported: bool = False

    @field_validator("name")
    @classmethod
    def _name(cls, name: str) -> str:
        return checked_name(name)

    @field_validator("personas")
    @classmethod
    def _personas(cls, personas: dict[str, Persona]) -> dict[str, Persona]:
        for name in personas:
            checked_name(name)
        if len(personas) < 2:
            raise ValueError(f"{len(personas)} persona(s); expected at least two, or there is nothing to compare")
        return personas

    @field_validator("questions")
    @classmethod
    def _some_question(cls, questions: tuple[str, ...]) -> tuple[str, ...]:
        if not questions:
            raise ValueError("no question; expected at least one")
        return questions

    @field_validator("questions", "training_questions")
    @classmethod
    def _each_question_once(cls, questions: tuple[str, ...]) -> tuple[str, ...]:
        seen: set[str] = set()
        for number, question in enumerate(questions, start=1):
            if not question.strip():
                raise ValueError(f"question {number} is empty; expected text")
            if question in seen:
                raise ValueError(f"question {number} stands twice: {shown(question)}; expected each question once")
            seen.add(question)
        return questions

    @field_validator("layers")
    @classmethod
    def _layers(cls, layers: tuple[int | float, ...]) -> tuple[int | float, ...]:
        for layer in layers:
            if not (layer >= 0 and (isinstance(layer, int) or layer <= 1)):  # so that NaN is refused too
                raise ValueError(
                    f"{shown(layer)} is neither a block's number (0, 1, 2, …) nor a depth between 0.0 and 1.0"
                )
        if len({(type(layer), layer) for layer in layers}) < len(layers):  # 1 is the second block, 1.0 the last
            raise ValueError(f"{shown(list(layers))} names a layer twice; expected each once")
        return layers

    @model_validator(mode="after")
    def _names_exist(self) -> "Study":
        if self.baseline not in self.personas:
            raise ValueError(
                f"baseline: {shown(self.baseline)} is not among the personas; expected one of {list(self.personas)}"
            )
        for field, names in {
            "sources": self.sources,
            **{f"personas.{name}.related_to": persona.related_to for name, persona in self.personas.items()},
            **{f"centring_populations.{name}": self.population(name) for name in self.centring_populations},
        }.items():
            seen: set[str] = set()
            for name in names:
                if name not in self.personas:
                    raise ValueError(
                        f"{field}: {shown(name)} is not among the personas; expected one of {list(self.personas)}"
                    )
                if name in seen:
                    raise ValueError(f"{field}: {name!r} stands twice; expected each persona once")
                seen.add(name)
        for name in self.centring_populations:
            checked_name(name)
            if (members := len(self.population(name))) < 2:
                raise ValueError(
                    f"centring_populations.{name}: {members} persona(s); expected at least two, or nothing is centred"
                )
        return self

    @model_validator(mode="after")
    def _responses_can_be_made(self) -> "Study":
        if self.decoding is None and not self.imported:
            raise ValueError("decoding: is missing; expected max_new_tokens and, if not greedy, method")
        if self.sources and self.imported:
            raise ValueError("sources: are given in an imported study; expected none, for nothing is trained here")
        return self

    @model_validator(mode="after")
    def _marker_can_be_trained(self) -> "Study":
        if self.sources and self.leakage:
            raise ValueError(
                "leakage: is given beside sources; expected one of them, counts to import or a marker to train"
            )
        if self.sources and self.marker is None:
            raise ValueError("marker: is missing; expected a recipe, since the study has sources")
        evaluated = {_plain(question): question for question in self.questions}
        for number, question in enumerate(self.training_questions, start=1):
            if _plain(question) in evaluated:
                raise ValueError(
                    f"training_questions: question {number}, {shown(question)}, is evaluated too; "
                    "expected training questions that are not among the questions"
                )
        if self.marker and self.sources and len(self.training_questions) < self.marker.replies.questions:
            raise ValueError(
                f"training_questions: found {len(self.training_questions)}; "
                f"expected at least {self.marker.replies.questions}, as the recipe {self.marker.name} asks for"
            )
        if self.marker and self.marker.evaluation.targets != "all":
            for name in self.marker.evaluation.targets:
                if name not in self.personas:
                    raise ValueError(f"marker.evaluation.targets: {shown(name)} is not among the personas")
        return self

    @model_validator(mode="after")
    def _design_can_be_done(self) -> "Study":
        fault = design_fault(
            self.design, self.landmarks, list(self.personas), self.sources, self.generators, self.imported
        )
        if fault:
            raise ValueError(fault)
        return self

    @property
    def generating(self) -> tuple[str, ...]:
        """The personas whose responses are written and scored, in the study's order."""
        if self.design == "sources":
            return tuple(name for name in self.personas if name in self.sources)
        if isinstance(self.landmarks, Drawn):
            return self.landmarks.of(list(self.personas))
        return tuple(name for name in self.personas if self.landmarks is None or name in self.landmarks)

    @property
    def scoring(self) -> tuple[str, ...]:
        """The personas under whose prompts responses are scored, in the study's order."""
        needed = {*self.sources, *self.targets} if self.design == "sources" else set(self.personas)
        return tuple(name for name in self.personas if name in needed)

    @property
    def paired_with(self) -> tuple[str, ...] | None:
        """The personas one of whom is in every pair that is compared; None where all pairs are."""
        return self.generating if self.design == "sources" else None

    def compares(self, persona: str, other: str) -> bool:
        """Whether the design measures this pair."""
        if not {persona, other} <= set(self.scoring):
            return False
        return self.paired_with is None or persona == other or bool({persona, other} & set(self.paired_with))

    @property
    def has_leakage(self) -> bool:
        """Whether there is an outcome: a marker that is trained, or counts that are imported."""
        return bool(self.sources) or self.leakage is not None

    @property
    def targets(self) -> tuple[str, ...]:
        """The personas that a marker is looked for in."""
        chosen = self.marker.evaluation.targets if self.marker else "all"
        return tuple(self.personas) if chosen == "all" else chosen

    def population(self, name: str) -> tuple[str, ...]:
        """The personas of a centring population, in the study's order."""
        members = self.centring_populations[name]
        return tuple(self.personas) if members == "all" else members

    @property
    def categories(self) -> dict[str, str]:
        """Persona → category, in the study's order."""
        return {name: persona.category for name, persona in self.personas.items()}

    @property
    def related(self) -> dict[str, tuple[str, ...]]:
        """Persona → personas that it is said to be related to."""
        return {name: persona.related_to for name, persona in self.personas.items()}

    @property
    def prompts(self) -> dict[str, str]:
        """Persona → system prompt, in the study's order."""
        return {name: persona.prompt for name, persona in self.personas.items()}

    def blocks(self, n_blocks: int) -> list[int]:
        """The study's layers as decoder blocks of a model that has `n_blocks` of them.

        A depth f is block round(f·(n_blocks − 1)). Layer N is the output of block N, which is `hidden_states[N + 1]`.

        Raises:
            StudyError: a layer that the model does not have, or two layers that are the same block.
        """
        blocks = [layer if isinstance(layer, int) else round(layer * (n_blocks - 1)) for layer in self.layers]
        for layer, block in zip(self.layers, blocks, strict=True):
            if block >= n_blocks:
                raise StudyError(
                    f"study {self.name}: layers: found {layer}, which the model does not have; "
                    f"expected at most {n_blocks - 1} (it has {n_blocks} blocks)"
                )
        if len(set(blocks)) < len(blocks):
            raise StudyError(
                f"study {self.name}: layers: {list(self.layers)} are blocks {blocks}; expected each block once"
            )
        return blocks


def _plain(question: str) -> str:
    """The words of a question, without case and punctuation."""
    return " ".join(question.casefold().translate(_SPACED).split())


class _Spaced(dict[int, int]):
    """Every letter as it is, and a space for punctuation; looked up once a letter."""

    def __missing__(self, letter: int) -> int:
        spaced = ord(" ") if unicodedata.category(chr(letter)).startswith("P") else letter
        return self.setdefault(letter, spaced)


_SPACED = _Spaced()
