"""The pair table: one row a dyad, every predictor beside the others."""

from collections.abc import Mapping

import pandas as pd
import xarray as xr


def build_pair_table(
    logit_js_matrix: xr.Dataset, centroid_cosine: xr.Dataset, categories: Mapping[str, str]
) -> pd.DataFrame:
    """All K(K−1) ordered pairs with their predictors.

    Returns:
        Columns source, target, source_category, target_category; js with js_low and js_high (generators as
        shown by the matrix) and js_<choice> for every choice of generators; kl (source‖target) and kl_reverse;
        cosine_<population>_layer<N>. Divergences in nats.

    Raises:
        ValueError: the matrix and the cosines are not of the same personas.
    """
    personas = [str(name) for name in logit_js_matrix.persona.values]
    of_cosine = [str(name) for name in centroid_cosine.persona.values]
    if set(personas) != set(of_cosine):
        raise ValueError(
            f"logit_js_matrix is of {personas}, centroid_cosine of {of_cosine}; expected the same personas"
        )
    dyads = [(source, target) for source in personas for target in personas if source != target]
    sources, targets = (xr.DataArray(list(names), dims="dyad") for names in zip(*dyads, strict=True))

    def at_dyads(matrix: xr.DataArray) -> pd.Series:
        return pd.Series(matrix.sel(persona=sources, other=targets).to_numpy())

    shown = logit_js_matrix.sel(generators=logit_js_matrix.attrs["generators_shown"])
    columns: dict[str, pd.Series] = {
        "source": pd.Series([source for source, _ in dyads]),
        "target": pd.Series([target for _, target in dyads]),
        "source_category": pd.Series([categories[source] for source, _ in dyads]),
        "target_category": pd.Series([categories[target] for _, target in dyads]),
        **{name: at_dyads(shown[name]) for name in ("js", "js_low", "js_high")},
    }
    for generators in logit_js_matrix.generators.values:
        columns[f"js_{generators}"] = at_dyads(logit_js_matrix.js.sel(generators=generators))
    columns["kl"] = at_dyads(shown.kl)
    columns["kl_reverse"] = at_dyads(shown.kl.rename(persona="other", other="persona"))
    for population in centroid_cosine.population.values:
        for layer in centroid_cosine.layer.values:
            cosine = centroid_cosine.cosine.sel(population=population, layer=layer)
            columns[f"cosine_{population}_layer{layer}"] = at_dyads(cosine)
    return pd.DataFrame(columns)
