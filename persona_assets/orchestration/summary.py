"""The lines that a finished run ends with."""

import dagster as dg

from persona_assets.orchestration.history import latest_artefacts
from persona_assets.orchestration.home import Home
from persona_assets.presentation import headline
from persona_assets.study import Study


def summary(instance: dg.DagsterInstance, home: Home, study: Study, checkpoint: str) -> str:
    """JS range, the pairs at its ends with their cosines, and where the report is."""

    def latest(asset: str) -> dg.Any:
        return latest_artefacts(instance, home.store, asset, [checkpoint])[checkpoint]

    numbers = headline(latest("logit_js_matrix").read(), latest("centroid_cosine").read())
    return str(numbers)
