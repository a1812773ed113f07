"""Study designs: score every generator's responses under every prompt, or a cheaper subset.

A design determines which personas generate responses and which pairs are compared on them. It does not affect the
numbers of a response: a landmark's `logit_js` is the same artefact under `full`, so switching from `landmarks` to
`full` computes only what is missing.
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import Annotated, Literal

from pydantic import Field

from persona_assets.study.settings import Seed, Strict

Design = Literal["full", "landmarks", "sources"]
# With one generator, a pair's own JS cannot be separated from the generator's effect on all pairs.
MIN_LANDMARKS = 2


class Drawn(Strict):
    """A random draw of landmarks: the number of personas and a seed."""

    count: Annotated[int, Field(ge=MIN_LANDMARKS, le=1_000_000)]
    seed: Seed = 42

    def of(self, personas: Sequence[str]) -> tuple[str, ...]:
        """Return the landmarks, in the order of `personas`.

        Personas are sorted by a digest of seed and name, and the first `count` are taken. So a larger draw includes a
        smaller one, and adding a persona to the study changes at most one landmark.
        """
        ordered = sorted(personas, key=lambda name: sha256(f"{self.seed} {name}".encode()).digest())
        chosen = set(ordered[: self.count])
        return tuple(name for name in personas if name in chosen)


def design_error(
    design: Design,
    landmarks: Sequence[str] | Drawn | None,
    personas: Sequence[str],
    sources: Sequence[str],
    generators: str,
    imported: bool,
) -> str | None:
    """Return the first error in a study's design as a message, or None if the design is valid."""
    if landmarks is not None and design != "landmarks":
        return f"landmarks: found with design: {design}; expected design: landmarks, or no landmarks"
    if design == "full":
        return None
    if imported:
        return f"design: found {design} in an imported study; expected full, because nothing is scored"
    if generators != "all":
        return f"generators: found {generators} with design: {design}; expected all, as few personas generate"
    if design == "sources":
        return None if sources else "design: found sources in a study without sources; expected a study with sources"
    if landmarks is None:
        return "landmarks: is missing; expected names, or count and seed, as required by design: landmarks"
    if isinstance(landmarks, Drawn):
        count = landmarks.count
    else:
        for place, name in enumerate(landmarks):
            if name not in personas:
                return f"landmarks: {name!r} is not among the personas; expected one of {list(personas)}"
            if name in landmarks[:place]:
                return f"landmarks: {name!r} is listed twice; expected each persona once"
        count = len(landmarks)
    if not MIN_LANDMARKS <= count < len(personas):
        return (
            f"landmarks: found {count} of {len(personas)} personas; expected at least {MIN_LANDMARKS} and fewer than "
            "all personas (use design: full for all)"
        )
    return None
