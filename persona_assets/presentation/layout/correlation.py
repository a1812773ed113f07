"""Spearman's ρ with missing values, and its text."""

import warnings

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import ConstantInputWarning, spearmanr

Floats = NDArray[np.float64]

_RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def numbers(column: pd.Series) -> Floats:
    """Convert a column of any dtype to floats, with NaN for missing values."""
    return np.asarray(pd.to_numeric(column).to_numpy(dtype=np.float64, na_value=np.nan))


def spearman(x: Floats, y: Floats) -> tuple[float, int]:
    """Return Spearman's ρ and n of the complete pairs; ρ is NaN if n < 3 or one side is constant."""
    both = np.isfinite(x) & np.isfinite(y)
    n = int(both.sum())
    if n < 3:
        return float("nan"), n
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstantInputWarning)
        return float(spearmanr(x[both], y[both]).statistic), n


def rho_text(x: Floats, y: Floats) -> str:
    """Return ρ and n as text for a panel."""
    rho, n = spearman(x, y)
    if np.isfinite(rho):
        return f"Spearman ρ = {rho:.2f}, n = {n}".replace("-", "−")
    return f"ρ undefined (no spread), n = {n}" if n >= 3 else f"ρ undefined, n = {n}"


def p_text(p: float) -> str:
    """Format a probability or p value with few digits: 0.39, 0.004, 2×10⁻⁶."""
    if not np.isfinite(p):
        return "unknown"
    if p >= 0.001 or p == 0:
        return f"{p:.2g}"
    digits, power = f"{p:.0e}".split("e")
    return f"{digits}×10⁻{str(abs(int(power))).translate(_RAISED)}"
