"""One stage of a study's cost estimate, and the sizes that all stages are estimated from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from persona_assets.checkpoints.shape import Shape
from persona_assets.planning.rates import MACHINES, MEASURED, Machine
from persona_assets.study import Study

# Responses are assumed to reach limits up to this: all 44 responses of the embedded run reached its 24 tokens.
REACHED = 128


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
class Sizes:
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


def sampled(name: str, sizes: Sizes, replies: int, limit: int) -> Stage:
    length = reply_length(limit, sizes.given)
    generated, parameters = replies * length, sizes.shape.active_parameters

    def seconds(machine: Machine) -> float:
        by_vllm = sizes.study.inference.engine != "transformers"
        return (
            generated * parameters / (machine.vllm_sample * sizes.vllm_speedup(machine) if by_vllm else machine.sample)
        )

    return Stage(
        name, replies, replies * sizes.prompt, generated, 0, sizes.written(replies, length), per_machine(seconds)
    )


def per_machine(seconds: Callable[[Machine], float]) -> dict[str, float]:
    return {machine.name: seconds(machine) for machine in MACHINES}
