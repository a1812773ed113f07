"""Study: the definition of what is measured, read from one YAML file and fully validated on loading.

Personas, questions, decoding, layers and centring populations are defined only in this file. Every artefact records the
digest of the parts of the study that it depends on, so changing a line recomputes only what depends on that line.
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
from persona_assets.study.design import Design, Drawn, design_error
from persona_assets.study.negatives import negatives_error
from persona_assets.study.recipe import Recipe, with_defaults
from persona_assets.study.settings import Bootstrap, ChatSettings, Decoding, Inference, Statistics, Strict

NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")
LONGEST_NAME = 100  # names become parts of file names

Depth = Annotated[StrictFloat, Field(allow_inf_nan=True)]  # rejected below with a clearer message


class StudyError(ValueError):
    """The study is invalid; the message names the file, the field, what was found and what was expected."""


def checked_name(name: str) -> str:
    """Return the name of a persona, study or checkpoint if it is valid: `[a-z0-9][a-z0-9_.-]*`.

    Raises:
        ValueError: the name is invalid; the message says what was found and what was expected.
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
        prompt: null for no system message, and `""` for an empty one; these are two conditions. Without a system
            message, some chat templates write a default prompt of their own.
        category, related_to: used in tables and figures only; not part of any prompt.
    """

    prompt: str | None
    category: str = "persona"
    related_to: tuple[str, ...] = ()

    @field_validator("prompt")
    @classmethod
    def _not_blank(cls, prompt: str | None) -> str | None:
        if prompt and not prompt.strip():
            raise ValueError(
                'prompt is blank; expected the system prompt as text, "" for an empty system message, or null for none'
            )
        return prompt


class Study(Strict):
    """Definition of what is measured: K personas and Q questions, in the order of the file.

    Attributes:
        baseline: the persona that others are compared with.
        layers: integers are decoder blocks (0 is the first); fractions in [0, 1] are relative depths.
        centring_populations: name → personas whose mean centroid is subtracted before a cosine; `all` is every persona.
        scored_slice: `response` scores the tokens that the model generated; `response_and_turn_end` also scores the
            end-of-turn token and what the chat template adds after it, as in the published study.
        deterministic: score each sequence separately, so that JS is bit-identical whatever else is scored in the same
            run. Takes about 1.5 times as long on a GPU.
        design: what is scored. `full`: every persona's responses under every prompt, K² passes per question;
            `landmarks`: only the responses of m landmarks, K·m passes; `sources`: only the sources' responses, and
            only pairs that include a source.
        landmarks: names, or how many to draw; only with `design: landmarks`.
        generators: which generators' responses a pair's JS is averaged over where a single number is shown. The matrix
            and the pair table also contain `source` and `target`, which give a pair two numbers.
        sources: personas that a marker is trained into; requires `marker` and `training_questions`.
        marker: name of a shipped recipe under `recipe`, and any fields that override it.
        training_questions: questions for the training replies; they must not be evaluated.
        leakage: counts of a marker that was trained elsewhere, instead of sources: a CSV or Parquet file (source,
            target, found, total), or a folder of published SOURCE.json files. Relative to the study's file.
        source_rates: source rates measured elsewhere, for their coupling with similarity to the baseline: a CSV file
            (persona, source_rate, and predictors js…, cosine… of the baseline and that persona).
        imported: nothing is generated or scored, because responses, JS and cosines come from a published run's files.
            An imported study may omit decoding.
    """

    name: str
    baseline: str
    personas: dict[str, Persona]
    questions: tuple[str, ...]
    decoding: Decoding | None = None
    chat: ChatSettings = ChatSettings()
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
            raise ValueError(f"found {len(personas)} persona(s); expected at least two to compare")
        return personas

    @field_validator("questions")
    @classmethod
    def _some_question(cls, questions: tuple[str, ...]) -> tuple[str, ...]:
        if not questions:
            raise ValueError("found no question; expected at least one")
        return questions

    @field_validator("questions", "training_questions")
    @classmethod
    def _each_question_once(cls, questions: tuple[str, ...]) -> tuple[str, ...]:
        seen: set[str] = set()
        for number, question in enumerate(questions, start=1):
            if not question.strip():
                raise ValueError(f"question {number} is empty; expected text")
            if question in seen:
                raise ValueError(f"question {number} is a duplicate: {shown(question)}; expected each question once")
            seen.add(question)
        return questions

    @field_validator("layers")
    @classmethod
    def _layers(cls, layers: tuple[int | float, ...]) -> tuple[int | float, ...]:
        for layer in layers:
            if not (layer >= 0 and (isinstance(layer, int) or layer <= 1)):  # written so that NaN is rejected
                raise ValueError(
                    f"found {shown(layer)}; expected a block number (0, 1, 2, …) or a depth between 0.0 and 1.0"
                )
        if len({(type(layer), layer) for layer in layers}) < len(layers):  # 1 is the second block, 1.0 the last one
            raise ValueError(f"found {shown(list(layers))} with a duplicate; expected each layer once")
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
                    raise ValueError(f"{field}: {name!r} is listed twice; expected each persona once")
                seen.add(name)
        for name in self.centring_populations:
            checked_name(name)
            if (members := len(self.population(name))) < 2:
                raise ValueError(f"centring_populations.{name}: found {members} persona(s); expected at least two")
        return self

    @model_validator(mode="after")
    def _responses_can_be_made(self) -> "Study":
        if self.decoding is None and not self.imported:
            raise ValueError("decoding: is missing; expected max_new_tokens and, if not greedy, method")
        if self.sources and self.imported:
            raise ValueError("sources: found in an imported study; expected none, because nothing is trained")
        return self

    @model_validator(mode="after")
    def _marker_can_be_trained(self) -> "Study":
        if self.sources and self.leakage:
            raise ValueError(
                "leakage: found together with sources; expected one of them: counts to import, or a marker to train"
            )
        if self.sources and self.marker is None:
            raise ValueError("marker: is missing; expected a recipe, since the study has sources")
        evaluated = {_plain(question): question for question in self.questions}
        for number, question in enumerate(self.training_questions, start=1):
            if _plain(question) in evaluated:
                raise ValueError(
                    f"training_questions: question {number}, {shown(question)}, is also evaluated; "
                    "expected training questions that are not in questions"
                )
        if self.marker and self.sources and len(self.training_questions) < self.marker.replies.questions:
            raise ValueError(
                f"training_questions: found {len(self.training_questions)}; "
                f"expected at least {self.marker.replies.questions}, as required by the recipe {self.marker.name}"
            )
        if self.marker and self.sources and (error := negatives_error(self.marker, list(self.personas), self.sources)):
            raise ValueError(f"marker.negatives.{error}")
        if self.marker and self.marker.evaluation.targets != "all":
            for name in self.marker.evaluation.targets:
                if name not in self.personas:
                    raise ValueError(
                        f"marker.evaluation.targets: {shown(name)} is not among the personas; "
                        f"expected one of {list(self.personas)}"
                    )
        return self

    @model_validator(mode="after")
    def _design_is_valid(self) -> "Study":
        error = design_error(
            self.design, self.landmarks, list(self.personas), self.sources, self.generators, self.imported
        )
        if error:
            raise ValueError(error)
        if self.marker and self.sources and not self.marker.base_samples:
            if self.marker.training.follow:
                raise ValueError("marker.training.follow: found with log_probs.samples: 0; expected at least 1 sample")
            if silent := [name for name in self.targets if name not in self.generating]:
                raise ValueError(
                    f"marker.log_probs.samples: found 0, but design {self.design} generates no responses of "
                    f"{', '.join(silent)}; expected at least 1"
                )
        return self

    @property
    def generating(self) -> tuple[str, ...]:
        """Return the personas that generate the scored responses, in the study's order."""
        if self.design == "sources":
            return tuple(name for name in self.personas if name in self.sources)
        if isinstance(self.landmarks, Drawn):
            return self.landmarks.of(list(self.personas))
        return tuple(name for name in self.personas if self.landmarks is None or name in self.landmarks)

    @property
    def scoring(self) -> tuple[str, ...]:
        """Return the personas under whose prompts responses are scored, in the study's order."""
        needed = {*self.sources, *self.targets} if self.design == "sources" else set(self.personas)
        return tuple(name for name in self.personas if name in needed)

    @property
    def paired_with(self) -> tuple[str, ...] | None:
        """Return the personas of which every compared pair includes one, or None if all pairs are compared."""
        return self.generating if self.design == "sources" else None

    def compares(self, persona: str, other: str) -> bool:
        """Return whether the design measures this pair."""
        if not {persona, other} <= set(self.scoring):
            return False
        return self.paired_with is None or persona == other or bool({persona, other} & set(self.paired_with))

    @property
    def has_leakage(self) -> bool:
        """Return whether the study has an outcome: a trained marker or imported counts."""
        return bool(self.sources) or self.leakage is not None

    @property
    def targets(self) -> tuple[str, ...]:
        """Return the personas whose replies are checked for the marker."""
        chosen = self.marker.evaluation.targets if self.marker else "all"
        return tuple(self.personas) if chosen == "all" else chosen

    def population(self, name: str) -> tuple[str, ...]:
        """Return the personas of a centring population."""
        members = self.centring_populations[name]
        return tuple(self.personas) if members == "all" else members

    @property
    def categories(self) -> dict[str, str]:
        """Return persona → category, in the study's order."""
        return {name: persona.category for name, persona in self.personas.items()}

    @property
    def related(self) -> dict[str, tuple[str, ...]]:
        """Return persona → the personas that it is declared to be related to."""
        return {name: persona.related_to for name, persona in self.personas.items()}

    @property
    def prompts(self) -> dict[str, str | None]:
        """Return persona → system prompt, in the study's order; None for no system message."""
        return {name: persona.prompt for name, persona in self.personas.items()}

    @property
    def training_prompts(self) -> dict[str, str | None]:
        """Return persona → system prompt, including the personas outside the study that negatives come from."""
        return {**self.prompts, **(self.marker.negatives.outside if self.marker else {})}

    def for_seed(self, source: str, seed: int) -> "Study":
        """Return the study in which one of a source's adapters is trained: its recipe has this training seed alone."""
        if self.marker is None or self.marker.training.seeds == (seed,):
            return self
        return self.model_copy(update={"marker": self.marker.for_seed(seed, source, list(self.personas))})

    def blocks(self, n_blocks: int) -> list[int]:
        """Return the study's layers as block indices of a model with `n_blocks` decoder blocks.

        A depth f is block round(f·(n_blocks − 1)). Layer N is the output of block N, which is `hidden_states[N + 1]`.

        Raises:
            StudyError: the model does not have one of the layers, or two layers are the same block.
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
    """Return the words of a question, lower-cased and without punctuation."""
    return " ".join(question.casefold().translate(_PUNCTUATION_TO_SPACE).split())


class _PunctuationToSpace(dict[int, int]):
    """Translation table that replaces punctuation by spaces; each character is looked up once and cached."""

    def __missing__(self, letter: int) -> int:
        spaced = ord(" ") if unicodedata.category(chr(letter)).startswith("P") else letter
        return self.setdefault(letter, spaced)


_PUNCTUATION_TO_SPACE = _PunctuationToSpace()
