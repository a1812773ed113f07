"""How much of a study is scored: every generator's responses under every prompt, or a part that costs less.

A design says who writes responses and which pairs are compared along them. It never changes what a response's numbers
are: a landmark's `logit_js` is the same artefact under `full`, so going from landmarks to full computes only the rest.
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import Annotated, Literal

from pydantic import Field

from persona_assets.study.settings import Seed, Strict

Design = Literal["full", "landmarks", "sources"]
# Two are needed to tell a pair's own JS from what a generator adds to all pairs.
FEWEST = 2


class Drawn(Strict):
    """Landmarks that are drawn: so many personas, by a seed."""

    count: Annotated[int, Field(ge=FEWEST, le=1_000_000)]
    seed: Seed = 42

    def of(self, personas: Sequence[str]) -> tuple[str, ...]:
        """The landmarks, in the order of `personas`.

        Personas are ordered by a digest of seed and name, and the first are taken: more landmarks include the fewer,
        and a persona that is added to the study changes at most one.
        """
        ordered = sorted(personas, key=lambda name: sha256(f"{self.seed} {name}".encode()).digest())
        chosen = set(ordered[: self.count])
        return tuple(name for name in personas if name in chosen)


def design_fault(
    design: Design,
    landmarks: Sequence[str] | Drawn | None,
    personas: Sequence[str],
    sources: Sequence[str],
    generators: str,
    imported: bool,
) -> str | None:
    """What is wrong with a study's design, in a sentence; None where nothing is."""
    if landmarks is not None and design != "landmarks":
        return f"landmarks: are given with design: {design}; expected design: landmarks, or none of them"
    if design == "full":
        return None
    if imported:
        return f"design: found {design} in an imported study; expected full, for nothing is scored here"
    if generators != "all":
        return f"generators: found {generators} with design: {design}; expected all, for most personas write nothing"
    if design == "sources":
        return None if sources else "design: found sources; expected the study to have sources"
    if landmarks is None:
        return "landmarks: are missing; expected names, or count and seed, as design: landmarks asks for"
    if isinstance(landmarks, Drawn):
        count = landmarks.count
    else:
        for place, name in enumerate(landmarks):
            if name not in personas:
                return f"landmarks: {name!r} is not among the personas; expected one of {list(personas)}"
            if name in landmarks[:place]:
                return f"landmarks: {name!r} stands twice; expected each persona once"
        count = len(landmarks)
    if not FEWEST <= count < len(personas):
        return (
            f"landmarks: found {count} of {len(personas)} personas; expected at least {FEWEST} and fewer than "
            "there are personas (all of them are design: full)"
        )
    return None
