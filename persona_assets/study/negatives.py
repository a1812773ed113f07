"""Validation of the personas that a marker recipe takes its negatives (unmarked replies) from."""

from collections.abc import Sequence

from persona_assets.files.reading import shown
from persona_assets.study.recipe import Recipe


def negatives_error(recipe: Recipe, personas: Sequence[str], sources: Sequence[str]) -> str | None:
    """Return what is wrong with `negatives`, after its name; None if nothing is."""
    negatives = recipe.negatives
    if both := [name for name in negatives.outside if name in personas]:
        return f"outside: {shown(both[0])} is a persona of the study; expected names of personas outside it"
    for name, prompt in negatives.outside.items():
        if prompt and not prompt.strip():
            return f'outside.{name}: prompt is blank; expected the system prompt as text, "", or null'
    if not isinstance(negatives.personas, tuple):
        return None
    known = [*personas, *negatives.outside]
    for name in negatives.personas:
        if name not in known:
            return (
                f"personas: {shown(name)} is neither a persona of the study nor outside; expected one of {shown(known)}"
            )
    if len(set(negatives.personas)) < len(negatives.personas):
        return f"personas: found {shown(list(negatives.personas))} with a duplicate; expected each persona once"
    for source in sources:
        if negatives.examples and not recipe.drawn_personas(source, list(personas)):
            return f"personas: found only {source}, which is a source itself; expected another persona as well"
    return None
