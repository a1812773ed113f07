"""What a study will cost on a checkpoint, stage by stage, before anything starts.

Tokens and operations follow from the study and the model's shape, seconds from measured rates (`planning_rates`), and
memory from formulas that were held against measured peaks (`planning_memory`). How long responses will be nobody knows
before; `reply_length` says what is assumed.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from math import ceil

from persona_assets.checkpoints.shape import Shape
from persona_assets.planning.memory import (
    Need,
    cpu_scoring_need,
    generation_need,
    lora_parameters,
    matrix_bytes,
    scoring_need,
    training_need,
)
from persona_assets.planning.rates import MACHINES, MEASURED, Machine
from persona_assets.study import Study, StudyError
from persona_assets.study.recipe import Recipe

# Limits up to here are taken as reached: the embedded run's 24 tokens were, in all of its 44 responses.
REACHED = 128
# A reply that is cut at its first sentence.
SENTENCE = 16
# Prompts are not tokenised: ChatML's own tokens, and English. The shipped studies' have 36 on average (24 to 47).
TEMPLATE_TOKENS, CHARACTERS_A_TOKEN = 14, 4.8


@dataclass(frozen=True)
class Stage:
    """One asset's work over all its partitions.

    Attributes:
        passes: sequences that go through the model.
        prompt, generated, forced: tokens that are read before a response, written, and fed as they are.
        flops: matrix products and attention.
        seconds: by the machine's name.
    """

    name: str
    passes: int
    prompt: float
    generated: float
    forced: float
    flops: float
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class Plan:
    """The whole of it on so many cards: tokens assumed of a mean response and prompt, bytes of storage by asset."""

    study: Study
    shape: Shape
    cards: int
    response: float
    prompt: float
    stages: tuple[Stage, ...]
    memory: tuple[Need, ...]
    storage: Mapping[str, float]

    def usable(self, machine: Machine) -> float:
        """Bytes of a card that the study lets a model have."""
        return usable(self.study, machine)

    @property
    def cpu_scoring(self) -> Need:
        """Scoring's memory where there is no card."""
        assert self.study.decoding is not None
        scorers, questions, limit = (
            len(self.study.scoring),
            len(self.study.questions),
            self.study.decoding.max_new_tokens,
        )
        return cpu_scoring_need(self.shape, scorers, questions, self.prompt, limit)

    @property
    def matrices(self) -> int:
        """Bytes of the host's memory while the matrix is made."""
        study = self.study
        return matrix_bytes(len(study.scoring), len(study.generating), len(study.questions))


@dataclass(frozen=True)
class _Sizes:
    """What every stage is counted from."""

    study: Study
    shape: Shape
    prompt: float
    response: float
    given: int | None

    def split(self, machine: Machine) -> int:
        """By what vLLM is faster where cards share a model: it splits every matrix. All else uses a card at a time."""
        return self.study.inference.tensor_parallel if machine.gib else 1

    @property
    def responses(self) -> int:
        return len(self.study.generating) * len(self.study.questions)

    @property
    def pairs(self) -> int:
        """Pairs that are compared at every position."""
        scorers, named = len(self.study.scoring), self.study.paired_with
        apart = 0 if named is None else scorers - len(named)
        return (scorers * (scorers - 1) - apart * (apart - 1)) // 2

    def written(self, replies: int, length: float) -> float:
        """Operations that writing so many replies takes, their prompts included."""
        return replies * self.shape.forward_flops(self.prompt + length)


def usable(study: Study, machine: Machine) -> float:
    """Bytes of a card that the study lets a model have."""
    return machine.gib * 2**30 * study.inference.memory_share


def reply_length(limit: int, given: int | None = None) -> float:
    """Mean tokens of a response of at most `limit`: what is given, else the published run's share of its limit."""
    return min(limit, given or max(REACHED, limit * MEASURED["share"].value))


def plan(study: Study, shape: Shape, response_tokens: int | None = None, cards: int | None = None) -> Plan:
    """What `study` costs with a model of this shape; `response_tokens` is the mean response, if it is known.

    On several cards each has the whole model, or as many share one as `inference.tensor_parallel` says, and takes one
    persona after another; without `cards` there is one model.

    Raises:
        StudyError: nothing is run (an imported study), a layer that the model lacks, responses longer than the study
            allows, or too few cards.
    """
    over = study.inference.tensor_parallel
    cards = over if cards is None else cards
    if cards < over:
        least = f"{over}, which is inference.tensor_parallel" if over > 1 else "1"
        raise StudyError(f"study {study.name}: cards: found {cards}; expected at least {least}")
    places = cards // over
    if study.decoding is None or study.imported:
        raise StudyError(f"study {study.name}: imported: found true; expected a study that a model is run for")
    limit = study.decoding.max_new_tokens
    if response_tokens is not None and not 1 <= response_tokens <= limit:
        raise StudyError(
            f"study {study.name}: response tokens: found {response_tokens}; "
            f"expected 1 to decoding.max_new_tokens, which is {limit}"
        )
    layers = len(study.blocks(shape.layers))
    characters = _mean_length(study.prompts.values()) + _mean_length(study.questions)
    prompt = TEMPLATE_TOKENS + characters / CHARACTERS_A_TOKEN
    sizes = _Sizes(study, shape, prompt, reply_length(limit, response_tokens), response_tokens)
    scorers, questions, width = len(study.scoring), len(study.questions), _width(study)
    memory = [
        generation_need(shape, sizes.responses, prompt, limit, width).over(over, working=over),
        scoring_need(shape, scorers, questions, prompt, limit, width).over(over),
    ]
    generators, writing = len(study.generating), _generations(sizes)
    # vLLM writes all responses on one card: docs/how-to/cards.md.
    by_transformers = study.inference.engine == "transformers"
    stages = [_starting(study), _shared(writing, generators, places) if by_transformers else writing]
    stages += [_shared(_logit_js(sizes), generators, places), _shared(_centroids(sizes), len(study.personas), places)]
    storage = {
        "generations": 10 * sizes.responses * sizes.response,  # token ids and text
        "logit_js": sizes.responses * (12 * scorers * limit + 16 * scorers**2),
        "centroids": 4 * layers * len(study.personas) * (questions + 1) * shape.hidden,
    }
    if study.sources and study.marker:
        memory.append(training_need(shape, study.marker, prompt, width).over(over))
        by_source = [_training_replies(sizes, study.marker), _marker_adapter(sizes, study.marker, memory[-1])]
        by_source.append(_marker_rates(sizes, study.marker))
        stages += [_shared(stage, len(study.sources), places) for stage in by_source]
        storage["marker_adapter"] = 4 * len(study.sources) * lora_parameters(shape, study.marker)
        storage["marker_rates"] = 10 * stages[-1].generated  # texts; those without an adapter stand beside every source
    return Plan(study, shape, cards, sizes.response, prompt, tuple(stages), tuple(memory), storage)


def _shared(stage: Stage, partitions: int, places: int) -> Stage:
    """The stage with its partitions handed out: the place that has most has ⌈partitions / places⌉ of them."""
    share = ceil(partitions / places) / partitions
    return replace(stage, seconds=_on_each(lambda m: stage.seconds[m.name] * (share if m.gib else 1)))


def _starting(study: Study) -> Stage:
    uses_vllm = study.inference.engine != "transformers"
    return Stage("starting", 0, 0, 0, 0, 0, _on_each(lambda m: m.start + (m.vllm if uses_vllm else 0)))


def _generations(sizes: _Sizes) -> Stage:
    generated, read = sizes.responses * sizes.response, sizes.responses * sizes.prompt
    prefill = sizes.responses * sizes.shape.forward_flops(sizes.prompt, with_logits=False)

    def seconds(machine: Machine) -> float:
        if sizes.study.inference.engine == "transformers":
            rate = machine.sample if machine.gib else machine.decode
        else:
            rate = machine.decode * min(1, sizes.responses / machine.rows) * sizes.split(machine)
        return generated * sizes.shape.parameters / rate + prefill / machine.score

    flops = sizes.written(sizes.responses, sizes.response)
    return Stage("generations", sizes.responses, read, generated, 0, flops, _on_each(seconds))


def _logit_js(sizes: _Sizes) -> Stage:
    """Every response under every scorer; prompts once."""
    shape, scorers = sizes.shape, len(sizes.study.scoring)
    passes, positions = scorers * sizes.responses, sizes.responses * sizes.response
    prompts = scorers * len(sizes.study.questions)
    flops = prompts * shape.forward_flops(sizes.prompt, with_logits=False)
    flops += passes * shape.forward_flops(sizes.response, sizes.prompt)
    entries = positions * shape.vocabulary * sizes.pairs
    share = MEASURED["fixed_order"].value if sizes.study.deterministic else 1.0
    spread = MEASURED["spread"].value / MEASURED["score"].value  # the general way, not packed sequences

    def seconds(machine: Machine) -> float:
        rate = machine.score * share * (spread if sizes.split(machine) > 1 else 1)
        return flops / rate + entries * machine.pair

    return Stage("logit_js", passes, prompts * sizes.prompt, 0, scorers * positions, flops, _on_each(seconds))


def _centroids(sizes: _Sizes) -> Stage:
    prompts = len(sizes.study.personas) * len(sizes.study.questions)
    flops = prompts * sizes.shape.forward_flops(sizes.prompt, with_logits=False)
    return Stage("centroids", prompts, prompts * sizes.prompt, 0, 0, flops, _on_each(lambda m: flops / m.read))


def _training_replies(sizes: _Sizes, recipe: Recipe) -> Stage:
    """Each source's own sample of replies: a cell of questions × samples once a speaker."""
    grid, unmarked = recipe.replies.questions * recipe.replies.samples, 0
    if recipe.replies.of == "own":  # otherwise the baseline's replies serve everybody
        others = len(sizes.study.personas) - 1
        drawn = others if recipe.negatives.personas == "all" else min(others, recipe.negatives.personas)
        unmarked = min(recipe.negatives.examples, drawn * grid)
    replies = len(sizes.study.sources) * (grid + unmarked)
    return _sampled("training replies", sizes, replies, recipe.replies.max_new_tokens)


def _marker_adapter(sizes: _Sizes, recipe: Recipe, need: Need) -> Stage:
    """Forward, and back to the activations: frozen weights have no gradient."""
    examples = recipe.replies.questions * recipe.replies.samples + recipe.negatives.examples
    passes = len(sizes.study.sources) * examples * recipe.training.epochs
    reply = reply_length(recipe.replies.max_new_tokens, sizes.given)
    reply = min(reply, SENTENCE) if recipe.replies.cut == "sentence" else reply
    length = min(recipe.training.max_length, sizes.prompt + reply)
    flops = 2 * passes * sizes.shape.forward_flops(length, with_logits=recipe.loss.where == "completion")

    def seconds(machine: Machine) -> float:
        keeps = not machine.gib or need.on(usable(sizes.study, machine)) == need.words[0]
        return flops / (machine.train if keeps else machine.retrain)

    return Stage("marker_adapter", passes, 0, 0, passes * length, flops, _on_each(seconds))


def _marker_rates(sizes: _Sizes, recipe: Recipe) -> Stage:
    """Every target's replies under every source's adapter, and once under none."""
    evaluation, study = recipe.evaluation, sizes.study
    replies = len(study.targets) * len(study.questions) * evaluation.samples * (len(study.sources) + 1)
    return _sampled("marker_rates", sizes, replies, evaluation.max_new_tokens)


def _sampled(name: str, sizes: _Sizes, replies: int, limit: int) -> Stage:
    length = reply_length(limit, sizes.given)
    generated, parameters = replies * length, sizes.shape.parameters

    def seconds(machine: Machine) -> float:
        by_vllm = sizes.study.inference.engine != "transformers"
        return generated * parameters / (machine.vllm_sample * sizes.split(machine) if by_vllm else machine.sample)

    return Stage(name, replies, replies * sizes.prompt, generated, 0, sizes.written(replies, length), _on_each(seconds))


def _on_each(seconds: Callable[[Machine], float]) -> dict[str, float]:
    return {machine.name: seconds(machine) for machine in MACHINES}


def _mean_length(texts: Iterable[str]) -> float:
    lengths = [len(text) for text in texts]
    return sum(lengths) / len(lengths)


def _width(study: Study) -> int:
    """Bytes a number on a card."""
    return 4 if study.inference.dtype == "float32" else 2
