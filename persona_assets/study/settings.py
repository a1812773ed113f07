"""How a study's parts are to be done: decoding, bootstrap, statistics, inference."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

# Bounds that no study comes near: what lies beyond them is a slip, and would end in another library's overflow.
Count = Annotated[int, Field(gt=0, le=1_000_000)]
Draws = Annotated[int, Field(ge=100, le=10_000_000)]
Seed = Annotated[int, Field(ge=0, le=2**53)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Decoding(Strict):
    """How responses are generated. Greedy ignores seed, temperature and top_p."""

    method: Literal["greedy", "sampled"] = "greedy"
    max_new_tokens: Count
    seed: Seed = 42
    temperature: Annotated[float, Field(gt=0)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0

    @property
    def identity(self) -> dict[str, Any]:
        """The fields that responses depend on."""
        return self.model_dump(exclude={"seed", "temperature", "top_p"} if self.method == "greedy" else None)


class Bootstrap(Strict):
    """Question bootstrap of the JS matrix: resamples, seed, and the level of its percentile intervals."""

    resamples: Draws = 2000
    seed: Seed = 42
    level: Annotated[float, Field(gt=0, lt=1)] = 0.95


class Statistics(Strict):
    """How the dyads are asked. What was chosen before the data were seen belongs here.

    Attributes:
        permutations: of the personas' labels, where there are too many to take them all.
        resamples: of sources (and targets), where there are too many to take them all.
        seed, level: of both, and of every interval.
        population, layer: the cosine that the verdict is about; by default the first centring population, and of the
            layers that it is known at the middle one. Every other cosine stands in the table too.
    """

    permutations: Draws = 10_000
    resamples: Draws = 2000
    seed: Seed = 42
    level: Annotated[float, Field(gt=0, lt=1)] = 0.95
    population: str | None = None
    layer: int | None = None


class Inference(Strict):
    """Where and in what arithmetic the model runs; `auto` takes what is there and says so in the metadata.

    `auto` means: CUDA where there is a card, else the CPU; bfloat16 on CUDA, float32 on a CPU; responses by vLLM on a
    card where it is installed, else by Transformers.

    Attributes:
        tensor_parallel: cards that one copy of the model is spread over, where it does not fit one.
        timeout: seconds without an answer of vLLM after which it is ended and the run fails; what is stored stays.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    engine: Literal["auto", "vllm", "transformers"] = "auto"
    attention: Literal["sdpa", "eager"] = "sdpa"
    memory_share: Annotated[float, Field(gt=0, le=1)] = 0.9
    tensor_parallel: Annotated[int, Field(ge=1, le=64)] = 1
    timeout: Annotated[float, Field(gt=0)] = 1800.0
