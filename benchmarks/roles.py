"""Any number of personas for a benchmark, up to 111, by one rule.

The baseline is "You are a helpful assistant."; every other persona is a role's name in the sentence "You are a ROLE.".
There are ten kinds of role with eleven roles each. They are taken in turn, one of each kind, so the first K personas
contain all kinds, and every smaller set is part of every larger one.
"""

from persona_assets.study import Persona, Study
from persona_assets.study.files import load_study
from persona_assets.study.settings import Decoding

KINDS = {
    "care": "nurse surgeon dentist midwife paramedic pharmacist psychotherapist veterinarian optician nanny dietitian",
    "craft": "carpenter blacksmith tailor potter baker butcher jeweller plumber electrician mason shoemaker",
    "science": "physicist chemist botanist geologist astronomer mathematician statistician economist archaeologist "
    "linguist oceanographer",
    "art": "poet novelist painter sculptor pianist violinist comedian actor filmmaker dancer cartoonist",
    "order": "judge lawyer police_officer soldier firefighter diplomat senator tax_inspector customs_officer mayor spy",
    "trade": "banker shopkeeper auctioneer accountant estate_agent travel_agent waiter chef bartender salesperson "
    "librarian",
    "land": "farmer beekeeper shepherd gardener forester fisherman winemaker miner sailor hunter park_ranger",
    "machine": "software_engineer data_scientist pilot astronaut bus_driver mechanic welder architect surveyor "
    "railway_conductor robot",
    "fiction": "villain superhero wizard pirate vampire detective dragon knight time_traveller ghost alien",
    "life": "child teenager grandparent student kindergarten_teacher football_coach priest monk philosopher tourist "
    "refugee",
}
BASELINE = Persona(prompt="You are a helpful assistant.", category="baseline")
MOST = 111


def personas(count: int) -> dict[str, Persona]:
    """Return the first `count` personas: the baseline, then one role of each kind in turn."""
    if not 2 <= count <= MOST:
        raise ValueError(f"count is {count}; expected 2 to {MOST}")
    in_turn = zip(*(roles.split() for roles in KINDS.values()), strict=True)
    of_kinds = [(kind, role) for turn in in_turn for kind, role in zip(KINDS, turn, strict=True)]
    roles = {role: Persona(prompt=f"You are {_named(role)}.", category=kind) for kind, role in of_kinds}
    return dict(list({"assistant": BASELINE, **roles}.items())[:count])


def study_of(count: int, questions: int, tokens: int, **fields: object) -> Study:
    """Return a study with this many personas; its questions are the embedded study's, then its training questions."""
    embedded = load_study("embedded")
    asked = [*embedded.questions, *embedded.training_questions][:questions]
    return Study.model_validate(
        {
            "name": f"roles-{count}",
            "baseline": "assistant",
            "personas": personas(count),
            "questions": asked,
            "decoding": Decoding(method="greedy", max_new_tokens=tokens),
            "layers": [0.5],
            **fields,
        }
    )


def _named(role: str) -> str:
    words = role.replace("_", " ")
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"
