"""The numbers of a drift that are read first."""

from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from persona_assets.presentation.drift_pairs import signed
from persona_assets.presentation.style import spoken


def drift_headline(changes: pd.DataFrame, distances: pd.DataFrame) -> dict[str, float | str]:
    """Largest change of JS and of a cosine, how many pairs moved, and the last step's distance.

    Args:
        changes, distances: the tables of `metrics.Drift`.

    Returns:
        By what it says; without rows, only that nothing is compared. An interval is the simultaneous one, where there
        is one.
    """
    if distances.empty:
        return {"compared": "no checkpoint has one before it"}
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
            of_quantity = rows[rows["quantity"] == quantity]
            moved = of_quantity[of_quantity["moved"].astype(bool)].drop_duplicates(["a", "b"])
            pairs = len(of_quantity.drop_duplicates(["a", "b"]))
            found[f"pairs that moved, {quantity}"] = f"{len(moved)} of {pairs}"
    last = distances[distances["quantity"] == "js"].iloc[-1]
    found["last step"] = f"{last['previous']} → {last['checkpoint']}"
    for name in ("rms_change", "noise", "excess", "p", "smallest_p", "rank_correlation"):
        found[f"last {name}, JS"] = float(last[name])
    return found


def _described(row: Mapping[Hashable, Any]) -> str:
    """A change with its pair, step and interval, in words."""
    text = f"{signed(float(row['change']))}"
    if pd.notna(row["simultaneous_low"]):
        text += f" [{signed(float(row['simultaneous_low']))}, {signed(float(row['simultaneous_high']))}]"
    quantity = "" if row["quantity"] == "js" else f", {row['quantity']}"
    pair = f"{spoken(str(row['a']))} – {spoken(str(row['b']))}"
    return f"{text}, {pair}, {row['previous']} → {row['checkpoint']}{quantity}"
