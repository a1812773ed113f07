"""Settings of a study: decoding, chat, bootstrap, statistics, inference."""

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    field_validator,
    model_serializer,
)

from persona_assets.files.reading import shown

# Bounds far above any real study; a larger value is a typo and would overflow in another library.
Count = Annotated[int, Field(gt=0, le=1_000_000)]
Draws = Annotated[int, Field(ge=100, le=10_000_000)]
Seed = Annotated[int, Field(ge=0, le=2**53)]

# What every chat template is given; a study cannot set it.
TEMPLATE_INPUTS = ("messages", "tools", "documents", "add_generation_prompt")


class Strict(BaseModel):
    """Base model: immutable, without unknown fields, NaN or infinities."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def without_defaults(dumped: dict[str, Any], **defaults: Any) -> dict[str, Any]:
    """Leave out later additions that have their default, so that digests of earlier versions stay valid."""
    return {name: value for name, value in dumped.items() if name not in defaults or value != defaults[name]}


class Decoding(Strict):
    """How responses are generated. Greedy decoding ignores seed, temperature and top_p."""

    method: Literal["greedy", "sampled"] = "greedy"
    max_new_tokens: Count
    seed: Seed = 42
    temperature: Annotated[float, Field(gt=0)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0

    @property
    def identity(self) -> dict[str, Any]:
        """Return the fields that affect the responses."""
        return self.model_dump(exclude={"seed", "temperature", "top_p"} if self.method == "greedy" else None)


class ChatSettings(Strict):
    """How prompts are rendered with the chat template, and what of a reply counts.

    Attributes:
        without_system_role: what to do if the template has no system role. `first_user` puts the persona before the
            first user message, with a blank line in between; `refuse` refuses the checkpoint.
        template_variables: passed to the chat template, such as `{enable_thinking: false}`.
        thinking: what to do with a model's thoughts (`<think>…</think>`, harmony channels). `separate` scores, cuts and
            searches the answer only, with the thought as its context; `keep` treats thought and answer as one reply;
            `suppress` turns thoughts off with the template's own switch, and refuses a template that has none.
    """

    without_system_role: Literal["first_user", "refuse"] = "first_user"
    template_variables: Annotated[
        dict[str, StrictBool | StrictInt | StrictFloat | StrictStr], Field(max_length=50)
    ] = {}
    thinking: Literal["separate", "keep", "suppress"] = "separate"

    @field_validator("template_variables")
    @classmethod
    def _names(cls, variables: dict[str, Any]) -> dict[str, Any]:
        for name in variables:
            if not name.isidentifier():
                raise ValueError(f"{shown(name)} is not the name of a variable; expected one such as enable_thinking")
            if name in TEMPLATE_INPUTS or name.endswith("_token"):
                raise ValueError(f"{name} is set for every prompt; expected a variable such as enable_thinking")
        return variables

    def identity(self, prompts_only: bool = False) -> dict[str, Any]:
        """Return the fields that differ from their defaults and affect results.

        Args:
            prompts_only: only the fields that affect prompts.
        """
        changed = self.model_dump(exclude_defaults=True, exclude={"without_system_role"})
        if prompts_only and self.thinking != "suppress":
            changed.pop("thinking", None)
        return changed


class Bootstrap(Strict):
    """Bootstrap of the JS matrix over questions: resamples, seed, and level of the percentile intervals."""

    resamples: Draws = 2000
    seed: Seed = 42
    level: Annotated[float, Field(gt=0, lt=1)] = 0.95


class Statistics(Strict):
    """Settings of the statistical tests on dyads, to be fixed before the data are seen.

    Attributes:
        permutations: number of random permutations of the persona labels, if there are too many to enumerate.
        resamples: number of bootstrap draws of sources (and targets), if there are too many to enumerate.
        seed: seed of permutations and resamples.
        level: level of every interval.
        population, layer: the cosine used in the verdict; by default that of the first centring population in the
            middle one of its layers. The tables contain all other cosines as well.
        outcome: what the verdict is about. By default the expected rate if log-probabilities were measured, otherwise
            the rate of sampled replies. The tables contain the other outcomes as well.
    """

    permutations: Draws = 10_000
    resamples: Draws = 2000
    seed: Seed = 42
    level: Annotated[float, Field(gt=0, lt=1)] = 0.95
    population: str | None = None
    layer: int | None = None
    outcome: Literal["expected_rate", "rate", "log_prob_gain"] | None = None

    @model_serializer(mode="wrap")
    def _without_default_outcome(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out an outcome that is not set, so that studies without one keep their digest."""
        return without_defaults(dump(self), outcome=None)


class Inference(Strict):
    """Device, precision and engine of the model; the metadata record what `auto` resolved to.

    `auto` selects CUDA if a GPU is available, else the CPU; bfloat16 on CUDA, float32 on a CPU; vLLM for responses if a
    GPU is available and vLLM is installed, else Transformers.

    Attributes:
        memory_share: fraction of a GPU's memory that the model may use.
        tensor_parallel: number of GPUs that one copy of the model is split over, if it does not fit on one.
        timeout: seconds to wait for a reply from vLLM before the run fails. Stored artefacts are kept.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    engine: Literal["auto", "vllm", "transformers"] = "auto"
    attention: Literal["sdpa", "eager"] = "sdpa"
    memory_share: Annotated[float, Field(gt=0, le=1)] = 0.9
    tensor_parallel: Annotated[int, Field(ge=1, le=64)] = 1
    timeout: Annotated[float, Field(gt=0)] = 1800.0
