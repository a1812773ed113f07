"""How many sources a study would need to see the difference that was observed."""

from functools import partial

from persona_assets.statistics.binomial import binomial_mixed
from persona_assets.statistics.families.asked import Asked
from persona_assets.statistics.families.sample import JS, OUTCOME
from persona_assets.statistics.power import sources_needed
from persona_assets.statistics.statement import Statement, UnanswerableError

POWER = 0.8
EXPECTED = "difference that the fitted model expects"


def power(asked: Asked) -> list[Statement]:
    """Share of simulated studies that tell JS from the primary cosine, by number of sources."""
    about = partial(
        Statement,
        family="power",
        view="check",
        outcome=OUTCOME,
        predictor=f"{JS} − {asked.primary}",
        seed=asked.settings.seed,
    )
    needed = f"sources needed for power {POWER:g}"
    try:
        asked.matrix(JS), asked.matrix(asked.primary)
        dyads = asked.dyads.known(JS, asked.primary)
        predictors = {name: dyads.at(name) for name in (JS, asked.primary)}
        fit = binomial_mixed(dyads.found, dyads.total, predictors, dyads.source, dyads.target, asked.settings.level)
        curve = sources_needed(
            fit,
            dyads,
            JS,
            asked.primary,
            level=asked.settings.level,
            power=POWER,
            seed=asked.settings.seed,
            simulations=asked.settings.simulations,
        )
    except UnanswerableError as error:
        return [about(quantity=needed, unanswerable=str(error))]
    rows = [
        about(quantity=f"power with {size} sources", estimate=share, n=size)
        for size, share in zip(curve.sizes, curve.share, strict=True)
    ]
    beyond = f"more than {curve.sizes[-1]}" if curve.needed is None else ""
    return [
        *rows,
        about(quantity=EXPECTED, estimate=curve.expected, note="in the largest studies that were simulated"),
        about(
            quantity=needed,
            estimate=float("nan") if curve.needed is None else float(curve.needed),
            note="; ".join(text for text in (beyond, curve.note) if text),
        ),
    ]
