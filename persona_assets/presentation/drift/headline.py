"""Headline numbers of a drift."""

from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from persona_assets.presentation.drift.pairs import signed
from persona_assets.presentation.layout.style import display_name


def drift_headline(changes: pd.DataFrame, distances: pd.DataFrame) -> dict[str, float | str]:
    """Return the largest changes of JS and cosine, the number of pairs that moved, and the last step's distance.

    Args:
        changes, distances: the tables of `metrics.Drift`.

    Returns:
        Numbers (JS in nats) and texts by description; "unknown" for a number that is not available. Without distances,
        a single entry states that nothing is compared. Intervals are simultaneous, if known. A pair counts as moved if
        it moved between any two compared checkpoints.
    """
    if distances.empty:
        return {"compared": "no checkpoint has a predecessor"}
    found: dict[str, float | str] = {"steps": float(distances.groupby(["checkpoint", "previous"]).ngroups)}
    cosines = [str(name) for name in changes["quantity"].unique() if str(name).startswith("cosine_")]
    for title, quantities in (("JS", ["js"]), ("cosine", cosines)):
        rows = changes[changes["quantity"].isin(quantities) & changes["change"].notna()].reset_index(drop=True)
        if rows.empty:
            continue
        found[f"largest change of {title}"] = _described(
            rows.to_dict("records")[int(rows["change"].abs().to_numpy().argmax())]
        )
        for quantity in quantities:
            found[f"pairs that moved, {quantity}"] = _moved(rows, quantity)
    if (changes["quantity"] == "leakage_rate").any():
        found["dyads whose leakage moved"] = _moved(changes, "leakage_rate")
    last = distances[distances["quantity"] == "js"].iloc[-1]
    found["last step"] = f"{last['previous']} → {last['checkpoint']}"
    for name in ("rms_change", "noise", "excess", "p", "smallest_p", "rank_correlation"):
        found[f"last {name}, JS"] = float(last[name]) if pd.notna(last[name]) else "unknown"
    return found


def _moved(changes: pd.DataFrame, quantity: str) -> str:
    """Return how many of the pairs or dyads moved at least once, as text."""
    of_quantity = changes[changes["quantity"] == quantity]
    moved = of_quantity[of_quantity["moved"].astype(bool)].drop_duplicates(["a", "b"])
    return f"{len(moved)} of {len(of_quantity.drop_duplicates(['a', 'b']))}"


def _described(row: Mapping[Hashable, Any]) -> str:
    """Describe a change with its interval, pair and step."""
    text = f"{signed(float(row['change']))}"
    if pd.notna(row["simultaneous_low"]):
        text += f" [{signed(float(row['simultaneous_low']))}, {signed(float(row['simultaneous_high']))}]"
    quantity = "" if row["quantity"] == "js" else f", {row['quantity']}"
    pair = f"{display_name(str(row['a']))} – {display_name(str(row['b']))}"
    return f"{text}, {pair}, {row['previous']} → {row['checkpoint']}{quantity}"
