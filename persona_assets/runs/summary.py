"""Summary that `persona-assets run` prints at the end."""

from collections.abc import Callable

import dagster as dg
import pandas as pd

from persona_assets import presentation, statistics
from persona_assets.graph.history import latest_artefacts
from persona_assets.graph.home import Home
from persona_assets.store.artefacts import Artefact
from persona_assets.study import Study


def summary(instance: dg.DagsterInstance, home: Home, study: Study, checkpoint: str) -> str:
    """Return the range of JS, the closest and the furthest pair with their cosines, leakage, and the report's path."""

    def latest(asset: str) -> Artefact:
        return latest_artefacts(instance, home.store, asset, [checkpoint])[checkpoint]

    numbers = presentation.headline(latest("logit_js_matrix").read(), latest("centroid_cosine").read())

    def end(pair: tuple[str, str], js: "presentation.Interval", cosines: dict[str, dict[int, float]]) -> str:
        centred = "; ".join(
            (f"centred on {population}: " if len(cosines) > 1 else "")
            + ", ".join(f"layer {layer} {cosine:+.2f}" for layer, cosine in by_layer.items())
            for population, by_layer in cosines.items()
        )
        return f"{' – '.join(pair)}: JS {js['js']:.4f} [{js['js_low']:.4f}, {js['js_high']:.4f}], cosine {centred}"

    spread = f"{numbers['js_min']:.4f} to {numbers['js_max']:.4f} nats over {numbers['pairs']} pairs"
    lines = {
        "measured": f"{checkpoint}: {numbers['personas']} personas × {numbers['questions']} questions",
        "JS": f"{spread}, mean {numbers['js_mean']:.4f}",
        "closest": end(numbers["most_similar"], numbers["most_similar_js"], numbers["most_similar_cosine"]),
        "furthest": end(numbers["most_divergent"], numbers["most_divergent_js"], numbers["most_divergent_cosine"]),
        **(_leakage(latest) if study.has_leakage else {}),
        "report": str(latest("report").path / "report.html"),
    }
    return "\n".join(f"{name:10}{text}" for name, text in lines.items())


def _leakage(latest: Callable[[str], Artefact]) -> dict[str, str]:
    table = latest("leakage_table").read()
    return {
        "marker": _expected(table) or _counted(latest("pair_table").read(), table),
        "leakage": statistics.verdict(latest("partial_correlations").read()).words,
    }


def _expected(leakage_table: pd.DataFrame) -> str:
    """Return every source's expected rate on itself; "" if log-probabilities were not measured."""
    if "source_expected_rate" not in leakage_table or leakage_table["source_expected_rate"].isna().all():
        return ""
    own = leakage_table.drop_duplicates("source")
    rates = ", ".join(f"{source} {rate:.2f}" for source, rate in zip(own.source, own.source_expected_rate, strict=True))
    base = leakage_table.base_expected_rate.max()
    return f"expected in the source's own replies: {rates}; without an adapter {base:.1g}"


def _counted(pair_table: pd.DataFrame, leakage_table: pd.DataFrame) -> str:
    numbers = presentation.leakage_headline(pair_table, leakage_table)
    rates = ", ".join(f"{source} {found}/{total}" for source, (found, total) in numbers["source_rates"].items())
    base = f"; without an adapter {numbers['base'][0]}/{numbers['base'][1]}" if numbers["base"] else ""
    return f"in the source's own replies: {rates}{base}"
