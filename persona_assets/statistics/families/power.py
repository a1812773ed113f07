"""Number of sources that a study would need to detect the observed difference."""

from functools import partial

from persona_assets.statistics.binomial import binomial_mixed
from persona_assets.statistics.families.inputs import Inputs
from persona_assets.statistics.families.sample import JS
from persona_assets.statistics.power import sources_needed
from persona_assets.statistics.statement import Statement, UnanswerableError

POWER = 0.8
EXPECTED = "difference that the fitted model expects"


def power(inputs: Inputs) -> list[Statement]:
    """Return the power to tell JS from the primary cosine, by number of sources."""
    about = partial(
        Statement,
        family="power",
        view="check",
        outcome=inputs.dyads.outcome_name,
        predictor=f"{JS} − {inputs.primary}",
        seed=inputs.settings.seed,
    )
    needed = f"sources needed for power {POWER:g}"
    try:
        inputs.matrix(JS), inputs.matrix(inputs.primary)
        dyads = inputs.dyads.known(JS, inputs.primary)
        predictors = {name: dyads.at(name) for name in (JS, inputs.primary)}
        fit = binomial_mixed(dyads.found, dyads.total, predictors, dyads.source, dyads.target, inputs.settings.level)
        curve = sources_needed(
            fit,
            dyads,
            JS,
            inputs.primary,
            level=inputs.settings.level,
            power=POWER,
            seed=inputs.settings.seed,
            simulations=inputs.settings.simulations,
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
        about(quantity=EXPECTED, estimate=curve.expected, note="in the largest simulated studies"),
        about(
            quantity=needed,
            estimate=float("nan") if curve.needed is None else float(curve.needed),
            note="; ".join(text for text in (beyond, curve.note) if text),
        ),
    ]
