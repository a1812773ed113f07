"""The pair table: one row per dyad, with all predictors and the outcome."""

from collections.abc import Mapping

import pandas as pd
import xarray as xr

# Column of the leakage table → its name and type in the pair table.
_OUTCOME = {
    "found": ("leakage_found", "Int64"),
    "total": ("leakage_total", "Int64"),
    "rate": ("leakage_rate", "float64"),
    "rate_low": ("leakage_low", "float64"),
    "rate_high": ("leakage_high", "float64"),
    "base_rate": ("base_rate", "float64"),
    "source_rate": ("source_rate", "float64"),
    "related": ("related", "boolean"),
}
# The same for columns that a pair table has only if they are known in at least one dyad. Leakage tables of version
# 0.1.0 lack them.
_WHERE_MEASURED = {
    name: (name, dtype)
    for name, dtype in {
        **dict.fromkeys(("expected_rate", "expected_rate_low", "expected_rate_high", "base_expected_rate"), "float64"),
        **dict.fromkeys(("log_prob_gain", "log_prob_gain_low", "log_prob_gain_high"), "float64"),
        **dict.fromkeys(("source_expected_rate", "source_log_prob_gain"), "float64"),
        "trained_negative": "boolean",
        "negative_share": "float64",
    }.items()
}


def build_pair_table(
    logit_js_matrix: xr.Dataset,
    centroid_cosine: xr.Dataset,
    categories: Mapping[str, str],
    leakage: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Return all K(K−1) ordered pairs with their predictors and, where measured, the outcome.

    Args:
        logit_js_matrix, centroid_cosine: results for the same personas, in any order.
        categories: persona → category.
        leakage: table from `build_leakage_table`.

    Returns:
        Columns source, target, source_category, target_category; js with js_low and js_high (the matrix's shown
        generator subset) and js_<subset> for every generator subset; kl (source‖target) and kl_reverse;
        cosine_<population>_layer<N>. Divergences are in nats; unmeasured predictors have no column. With `leakage` also
        leakage_found, leakage_total (Int64), leakage_rate, leakage_low, leakage_high, base_rate, source_rate, related
        (boolean), missing in dyads that are not in `leakage`; and, if known in at least one dyad, expected_rate and
        log_prob_gain with `_low` and `_high`, base_expected_rate, source_expected_rate, source_log_prob_gain,
        trained_negative (boolean) and negative_share.

    Raises:
        ValueError: the matrix and the cosines have different personas; or `leakage` lacks a column, names an unknown
            persona, repeats a dyad, or pairs a persona with itself.
    """
    personas = [str(name) for name in logit_js_matrix.persona.values]
    of_cosine = [str(name) for name in centroid_cosine.persona.values]
    if set(personas) != set(of_cosine):
        raise ValueError(
            f"logit_js_matrix has personas {personas}, centroid_cosine has {of_cosine}; expected the same personas"
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
    if "kl" in shown:
        columns["kl"] = at_dyads(shown.kl)
        columns["kl_reverse"] = at_dyads(shown.kl.rename(persona="other", other="persona"))
    for population in centroid_cosine.population.values:
        for layer in centroid_cosine.layer.values:
            cosine = centroid_cosine.cosine.sel(population=population, layer=layer)
            if cosine.notnull().any():
                columns[f"cosine_{population}_layer{layer}"] = at_dyads(cosine)
    table = pd.DataFrame(columns)
    return table if leakage is None else table.join(_outcome_of(leakage, personas), on=["source", "target"])


def _outcome_of(leakage: pd.DataFrame, personas: list[str]) -> pd.DataFrame:
    """Return the outcome's columns, indexed by (source, target)."""
    if absent := [column for column in ("source", "target", *_OUTCOME) if column not in leakage.columns]:
        raise ValueError(f"leakage lacks {absent}; expected the columns of build_leakage_table")
    if strangers := sorted({*leakage["source"], *leakage["target"]} - set(personas)):
        raise ValueError(f"leakage names {strangers}, which are not in the matrices; expected only {personas}")
    bad = leakage.duplicated(["source", "target"]) | (leakage["source"] == leakage["target"])
    if bad.any():
        source, target = leakage.loc[bad, ["source", "target"]].iloc[0]
        raise ValueError(
            f"leakage: {source} → {target} appears twice or pairs a persona with itself; "
            "expected each ordered pair of different personas at most once"
        )
    measured = [column for column in _WHERE_MEASURED if column in leakage and leakage[column].notna().any()]
    columns = _OUTCOME | {column: _WHERE_MEASURED[column] for column in measured}
    outcome = leakage.set_index(["source", "target"])[list(columns)]
    return outcome.astype({column: dtype for column, (_, dtype) in columns.items()}).rename(
        columns={column: name for column, (name, _) in columns.items()}
    )
