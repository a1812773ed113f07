"""Cost estimate of a study on a checkpoint, stage by stage.

Tokens and FLOPs follow from the study and the model's shape, seconds from measured rates (`planning.rates`), and memory
from formulas checked against measured peaks (`planning.memory`). The length of responses is not known in advance; see
`reply_length` for the assumption.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import ceil

from persona_assets.checkpoints.shape import Shape
from persona_assets.planning.markers import marker_stages
from persona_assets.planning.memory import (
    Need,
    cpu_scoring_need,
    generation_need,
    lora_parameters,
    matrix_bytes,
    scoring_need,
    training_need,
)
from persona_assets.planning.rates import MEASURED, Machine
from persona_assets.planning.stage import Sizes, Stage, per_machine, reply_length, usable
from persona_assets.study import Study, StudyError

# Prompts are not tokenised; their length is estimated for ChatML and English text. The prompts of the shipped studies
# have 36 tokens on average (24 to 47).
TEMPLATE_TOKENS, CHARACTERS_PER_TOKEN = 14, 4.8


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
    sizes = Sizes(study, shape, prompt, reply_length(limit, response_tokens), response_tokens)
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
        adapters = len(study.sources) * len(study.marker.training.seeds)
        of_markers = marker_stages(sizes, study.marker, memory[-1])
        stages += [_distributed(stage, adapters, replicas) for stage in of_markers]
        storage["marker_adapter"] = 4 * adapters * lora_parameters(shape, study.marker)
        storage["marker_log_probs"] = 100 * next(s.passes for s in of_markers if s.name == "marker_log_probs")
        # texts of all replies, with and without adapters
        storage["marker_rates"] = 10 * sum(s.generated for s in of_markers if s.name == "marker_rates")
    return Plan(study, shape, cards, sizes.response, prompt, tuple(stages), tuple(memory), storage)


def _distributed(stage: Stage, partitions: int, replicas: int) -> Stage:
    """Return the stage distributed over model replicas: the busiest one has ⌈partitions / replicas⌉ partitions."""
    share = ceil(partitions / replicas) / partitions
    return replace(stage, seconds=per_machine(lambda m: stage.seconds[m.name] * (share if m.gib else 1)))


def _starting(study: Study) -> Stage:
    uses_vllm = study.inference.engine != "transformers"
    return Stage("starting", 0, 0, 0, 0, 0, per_machine(lambda m: m.start + (m.vllm if uses_vllm else 0)))


def _generations(sizes: Sizes) -> Stage:
    generated, read = sizes.responses * sizes.response, sizes.responses * sizes.prompt
    prefill = sizes.responses * sizes.shape.forward_flops(sizes.prompt, with_logits=False)

    def seconds(machine: Machine) -> float:
        if sizes.study.inference.engine == "transformers":
            rate = machine.sample if machine.gib else machine.decode
        else:
            rate = machine.decode * min(1, sizes.responses / machine.rows) * sizes.vllm_speedup(machine)
        return generated * sizes.shape.active_parameters / rate + prefill / machine.score

    flops = sizes.written(sizes.responses, sizes.response)
    return Stage("generations", sizes.responses, read, generated, 0, flops, per_machine(seconds))


def _logit_js(sizes: Sizes) -> Stage:
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

    return Stage("logit_js", passes, prompts * sizes.prompt, 0, scorers * positions, flops, per_machine(seconds))


def _centroids(sizes: Sizes) -> Stage:
    prompts = len(sizes.study.personas) * len(sizes.study.questions)
    flops = prompts * sizes.shape.forward_flops(sizes.prompt, with_logits=False)
    return Stage("centroids", prompts, prompts * sizes.prompt, 0, 0, flops, per_machine(lambda m: flops / m.read))


def _mean_length(texts: Iterable[str]) -> float:
    lengths = [len(text) for text in texts]
    return sum(lengths) / len(lengths)


def _width(study: Study) -> int:
    """Return the bytes per number on a GPU."""
    return 4 if study.inference.dtype == "float32" else 2
