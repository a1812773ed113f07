"""Cost estimate of a study on a checkpoint, stage by stage.

Tokens and FLOPs follow from the study and the model's shape, seconds from measured rates (`planning.rates`), and memory
from formulas checked against measured peaks (`planning.memory`). The length of responses is not known in advance; see
`reply_length` for the assumption.
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

# Responses are assumed to reach limits up to this: all 44 responses of the embedded run reached its 24 tokens.
REACHED = 128
# Tokens of a reply truncated after its first sentence.
SENTENCE = 16
# Prompts are not tokenised; their length is estimated for ChatML and English text. The prompts of the shipped studies
# have 36 tokens on average (24 to 47).
TEMPLATE_TOKENS, CHARACTERS_PER_TOKEN = 14, 4.8


@dataclass(frozen=True)
class Stage:
    """Work of one asset over all its partitions.

    Attributes:
        passes: sequences processed by the model.
        prompt, generated, forced: prompt tokens, generated tokens, teacher-forced tokens.
        flops: FLOPs of matrix products and attention.
        seconds: machine name → seconds.
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
    """Complete estimate for a study on a number of GPUs.

    Attributes:
        response, prompt: assumed mean tokens of a response and of a prompt.
        storage: asset → bytes.
    """

    study: Study
    shape: Shape
    cards: int
    response: float
    prompt: float
    stages: tuple[Stage, ...]
    memory: tuple[Need, ...]
    storage: Mapping[str, float]

    def usable(self, machine: Machine) -> float:
        """Return the bytes of a GPU that the study allows the model to use."""
        return usable(self.study, machine)

    @property
    def cpu_scoring(self) -> Need:
        """Return the memory of scoring on a CPU."""
        assert self.study.decoding is not None
        scorers, questions, limit = (
            len(self.study.scoring),
            len(self.study.questions),
            self.study.decoding.max_new_tokens,
        )
        return cpu_scoring_need(self.shape, scorers, questions, self.prompt, limit)

    @property
    def matrices(self) -> int:
        """Return the bytes of host memory needed to compute the matrix."""
        study = self.study
        return matrix_bytes(len(study.scoring), len(study.generating), len(study.questions))


@dataclass(frozen=True)
class _Sizes:
    """Inputs of the estimates of all stages."""

    study: Study
    shape: Shape
    prompt: float
    response: float
    given: int | None

    def vllm_speedup(self, machine: Machine) -> int:
        """Return the speed-up of vLLM with tensor parallelism; all other stages use one GPU of the group at a time."""
        return self.study.inference.tensor_parallel if machine.gib else 1

    @property
    def responses(self) -> int:
        return len(self.study.generating) * len(self.study.questions)

    @property
    def pairs(self) -> int:
        """Return the number of pairs compared at every position."""
        scorers, named = len(self.study.scoring), self.study.paired_with
        apart = 0 if named is None else scorers - len(named)
        return (scorers * (scorers - 1) - apart * (apart - 1)) // 2

    def written(self, replies: int, length: float) -> float:
        """Return the FLOPs of generating this many replies, including their prompts."""
        return replies * self.shape.forward_flops(self.prompt + length)


def usable(study: Study, machine: Machine) -> float:
    """Return the bytes of a GPU that the study allows the model to use."""
    return machine.gib * 2**30 * study.inference.memory_share


def reply_length(limit: int, given: int | None = None) -> float:
    """Return the mean tokens of a response with this limit: `given`, or the published run's fraction of its limit."""
    return min(limit, given or max(REACHED, limit * MEASURED["share"].value))


def plan(study: Study, shape: Shape, response_tokens: int | None = None, cards: int | None = None) -> Plan:
    """Estimate the cost of `study` with a model of this shape.

    Args:
        response_tokens: mean tokens of a response, if known.
        cards: number of GPUs. Each copy of the model uses `inference.tensor_parallel` of them and processes one persona
            after another. By default there is one copy.

    Raises:
        StudyError: the study is imported, so nothing is run; the model lacks one of the layers; responses are longer
            than the study allows; or there are too few GPUs.
    """
    over = study.inference.tensor_parallel
    cards = over if cards is None else cards
    if cards < over:
        least = f"{over}, which is inference.tensor_parallel" if over > 1 else "1"
        raise StudyError(f"study {study.name}: cards: found {cards}; expected at least {least}")
    replicas = cards // over
    if study.decoding is None or study.imported:
        raise StudyError(f"study {study.name}: imported: found true; expected a study that runs a model")
    limit = study.decoding.max_new_tokens
    if response_tokens is not None and not 1 <= response_tokens <= limit:
        raise StudyError(
            f"study {study.name}: response tokens: found {response_tokens}; "
            f"expected 1 to decoding.max_new_tokens, which is {limit}"
        )
    layers = len(study.blocks(shape.layers))
    characters = _mean_length(prompt or "" for prompt in study.prompts.values()) + _mean_length(study.questions)
    prompt = TEMPLATE_TOKENS + characters / CHARACTERS_PER_TOKEN
    sizes = _Sizes(study, shape, prompt, reply_length(limit, response_tokens), response_tokens)
    scorers, questions, width = len(study.scoring), len(study.questions), _width(study)
    memory = [
        generation_need(shape, sizes.responses, prompt, limit, width).per_card(over, working=over),
        scoring_need(shape, scorers, questions, prompt, limit, width).per_card(over),
    ]
    generators, writing = len(study.generating), _generations(sizes)
    # vLLM generates all responses on one GPU, see docs/how-to/cards.md.
    by_transformers = study.inference.engine == "transformers"
    stages = [_starting(study), _distributed(writing, generators, replicas) if by_transformers else writing]
    stages += [
        _distributed(_logit_js(sizes), generators, replicas),
        _distributed(_centroids(sizes), len(study.personas), replicas),
    ]
    storage = {
        "generations": 10 * sizes.responses * sizes.response,  # token ids and text
        "logit_js": sizes.responses * (12 * scorers * limit + 16 * scorers**2),
        "centroids": 4 * layers * len(study.personas) * (questions + 1) * shape.hidden,
    }
    if study.sources and study.marker:
        memory.append(training_need(shape, study.marker, prompt, width).per_card(over))
        by_source = [_training_replies(sizes, study.marker), _marker_adapter(sizes, study.marker, memory[-1])]
        by_source.append(_marker_rates(sizes, study.marker))
        stages += [_distributed(stage, len(study.sources), replicas) for stage in by_source]
        storage["marker_adapter"] = 4 * len(study.sources) * lora_parameters(shape, study.marker)
        storage["marker_rates"] = 10 * stages[-1].generated  # texts of all replies, with and without adapters
    return Plan(study, shape, cards, sizes.response, prompt, tuple(stages), tuple(memory), storage)


def _distributed(stage: Stage, partitions: int, replicas: int) -> Stage:
    """Return the stage distributed over model replicas: the busiest one has ⌈partitions / replicas⌉ partitions."""
    share = ceil(partitions / replicas) / partitions
    return replace(stage, seconds=_per_machine(lambda m: stage.seconds[m.name] * (share if m.gib else 1)))


def _starting(study: Study) -> Stage:
    uses_vllm = study.inference.engine != "transformers"
    return Stage("starting", 0, 0, 0, 0, 0, _per_machine(lambda m: m.start + (m.vllm if uses_vllm else 0)))


def _generations(sizes: _Sizes) -> Stage:
    generated, read = sizes.responses * sizes.response, sizes.responses * sizes.prompt
    prefill = sizes.responses * sizes.shape.forward_flops(sizes.prompt, with_logits=False)

    def seconds(machine: Machine) -> float:
        if sizes.study.inference.engine == "transformers":
            rate = machine.sample if machine.gib else machine.decode
        else:
            rate = machine.decode * min(1, sizes.responses / machine.rows) * sizes.vllm_speedup(machine)
        return generated * sizes.shape.active_parameters / rate + prefill / machine.score

    flops = sizes.written(sizes.responses, sizes.response)
    return Stage("generations", sizes.responses, read, generated, 0, flops, _per_machine(seconds))


def _logit_js(sizes: _Sizes) -> Stage:
    """Estimate scoring: every response under every scorer, every prompt once."""
    shape, scorers = sizes.shape, len(sizes.study.scoring)
    passes, positions = scorers * sizes.responses, sizes.responses * sizes.response
    # A model that is scored whole reads its prompt again for every response.
    prompts = passes if shape.scored_whole else scorers * len(sizes.study.questions)
    flops = prompts * shape.forward_flops(sizes.prompt, with_logits=False)
    flops += passes * shape.forward_flops(sizes.response, sizes.prompt)
    entries = positions * shape.vocabulary * sizes.pairs
    share = MEASURED["fixed_order"].value if sizes.study.deterministic else 1.0
    spread = MEASURED["spread"].value / MEASURED["score"].value  # a model split over GPUs uses the padded scorer

    def seconds(machine: Machine) -> float:
        rate = machine.score * share * (spread if sizes.vllm_speedup(machine) > 1 else 1)
        return flops / rate + entries * machine.pair

    return Stage("logit_js", passes, prompts * sizes.prompt, 0, scorers * positions, flops, _per_machine(seconds))


def _centroids(sizes: _Sizes) -> Stage:
    prompts = len(sizes.study.personas) * len(sizes.study.questions)
    flops = prompts * sizes.shape.forward_flops(sizes.prompt, with_logits=False)
    return Stage("centroids", prompts, prompts * sizes.prompt, 0, 0, flops, _per_machine(lambda m: flops / m.read))


def _training_replies(sizes: _Sizes, recipe: Recipe) -> Stage:
    """Estimate the training replies, sampled separately for each source: questions × samples per persona."""
    grid, unmarked = recipe.replies.questions * recipe.replies.samples, 0
    if recipe.replies.of == "own":  # otherwise all personas use the baseline's replies
        others = len(sizes.study.personas) - 1
        drawn = others if recipe.negatives.personas == "all" else min(others, recipe.negatives.personas)
        unmarked = min(recipe.negatives.examples, drawn * grid)
    replies = len(sizes.study.sources) * (grid + unmarked)
    return _sampled("training replies", sizes, replies, recipe.replies.max_new_tokens)


def _marker_adapter(sizes: _Sizes, recipe: Recipe, need: Need) -> Stage:
    """Estimate training: a forward pass and the gradient of the activations; frozen weights have no gradient."""
    examples = recipe.replies.questions * recipe.replies.samples + recipe.negatives.examples
    passes = len(sizes.study.sources) * examples * recipe.training.epochs
    reply = reply_length(recipe.replies.max_new_tokens, sizes.given)
    reply = min(reply, SENTENCE) if recipe.replies.cut == "sentence" else reply
    length = min(recipe.training.max_length, sizes.prompt + reply)
    flops = 2 * passes * sizes.shape.forward_flops(length, with_logits=recipe.loss.where == "completion")

    def seconds(machine: Machine) -> float:
        keeps = not machine.gib or need.on(usable(sizes.study, machine)) == need.words[0]
        return flops / (machine.train if keeps else machine.retrain)

    return Stage("marker_adapter", passes, 0, 0, passes * length, flops, _per_machine(seconds))


def _marker_rates(sizes: _Sizes, recipe: Recipe) -> Stage:
    """Estimate the replies of every target with every source's adapter, and once without any."""
    evaluation, study = recipe.evaluation, sizes.study
    replies = len(study.targets) * len(study.questions) * evaluation.samples * (len(study.sources) + 1)
    return _sampled("marker_rates", sizes, replies, evaluation.max_new_tokens)


def _sampled(name: str, sizes: _Sizes, replies: int, limit: int) -> Stage:
    length = reply_length(limit, sizes.given)
    generated, parameters = replies * length, sizes.shape.active_parameters

    def seconds(machine: Machine) -> float:
        by_vllm = sizes.study.inference.engine != "transformers"
        return (
            generated * parameters / (machine.vllm_sample * sizes.vllm_speedup(machine) if by_vllm else machine.sample)
        )

    return Stage(
        name, replies, replies * sizes.prompt, generated, 0, sizes.written(replies, length), _per_machine(seconds)
    )


def _per_machine(seconds: Callable[[Machine], float]) -> dict[str, float]:
    return {machine.name: seconds(machine) for machine in MACHINES}


def _mean_length(texts: Iterable[str]) -> float:
    lengths = [len(text) for text in texts]
    return sum(lengths) / len(lengths)


def _width(study: Study) -> int:
    """Return the bytes per number on a GPU."""
    return 4 if study.inference.dtype == "float32" else 2
