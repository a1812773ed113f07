"""Validation of imported leakage counts: every invalid row is named, with what was found and what was expected."""

import math
from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

REQUIRED = ("source", "target", "found", "total")
NEGATIVES = ("trained_negative", "negative_share")
_MOST_FAULTS = 20
_LARGEST_COUNT = 2**53  # larger integers are not all exact as floats


class LeakageError(ValueError):
    """Invalid leakage table; the message names the file and the bad rows, what was found and what was expected."""


def check_leakage_table(
    table: pd.DataFrame, personas: Collection[str], place: str, labels: Sequence[str] | None = None
) -> pd.DataFrame:
    """Validate an imported table and convert its types.

    Args:
        table: columns source, target, found, total, and optionally rate, which must equal found / total within 1e-9
            (an empty cell is no rate). A row of a source onto itself is a source rate. Optionally trained_negative
            (true or false; an empty cell is unknown) and negative_share (within [0, 1]): whether the source's training
            set has unmarked replies of the target, and their share of it. Other columns are ignored.
        personas: the study's personas.
        place: prefix of the error message, such as the file's name.
        labels: names of the rows in the error message; by default `row N (source → target)`, counted from 1.

    Returns:
        source, target, found, total (int64) and rate (found / total), in the order of the table; with
        trained_negative (boolean) and negative_share (float64) if the table has one of them.

    Raises:
        LeakageError: columns are missing, there are no rows, or rows are invalid (the first twenty faults are listed):
            a count that is missing, negative or fractional, total 0, found > total, a rate without counts, outside
            [0, 1] or different from found / total, an unknown persona, a repeated dyad, a trained_negative that is
            neither true nor false, or a share that is outside [0, 1] or contradicts it.
    """
    if absent := [column for column in REQUIRED if column not in table.columns]:
        raise LeakageError(
            f"{place}: columns {', '.join(absent)} are missing; expected {', '.join(REQUIRED)} "
            "(without counts a rate has no confidence interval)"
        )
    if table.empty:
        raise LeakageError(f"{place}: has no rows; expected one per dyad")
    given = table.reindex(columns=[*REQUIRED, "rate", *NEGATIVES]).astype(object)
    first: dict[tuple[str, str], str] = {}
    faults: list[str] = []
    for place_of_row, (source, target, *numbers, negative, share) in enumerate(
        given.itertuples(index=False, name=None)
    ):
        own = f"row {place_of_row + 1} ({_short(source)} → {_short(target)})"
        label = labels[place_of_row] if labels is not None else own
        found_here = [
            *_name_faults(source, target, personas),
            *_number_faults(*numbers),
            *_negative_faults(negative, share),
        ]
        if (dyad := (str(source), str(target))) in first:
            found_here.append(f"is the same dyad as {first[dyad]}; expected each dyad once")
        first.setdefault(dyad, label)
        faults.extend(f"{label}: {fault}" for fault in found_here)
    if faults:
        unknown = any(" is unknown; " in fault for fault in faults)
        if (more := len(faults) - _MOST_FAULTS) > 0:
            faults[_MOST_FAULTS:] = [f"and {more} more"]
        if unknown:
            faults.append(f"the study's personas are {', '.join(personas)}")
        raise LeakageError(f"{place}: " + "\n  ".join(faults))
    checked = pd.DataFrame({name: given[name].astype("str") for name in ("source", "target")})
    for name in ("found", "total"):
        checked[name] = np.array([int(_number(value)) for value in given[name]], dtype=np.int64)
    checked["rate"] = checked["found"] / checked["total"]
    checked = checked.reset_index(drop=True)
    return _with_negatives(checked, given) if set(NEGATIVES) & set(table.columns) else checked


def _with_negatives(checked: pd.DataFrame, given: pd.DataFrame) -> pd.DataFrame:
    """Add trained_negative and negative_share; one of them follows from the other where it can."""
    shares = [_number(value) for value in given["negative_share"]]
    flags = [_flag(value) for value in given["trained_negative"]]
    trained = [
        flag if flag is not None else pd.NA if math.isnan(share) else share > 0
        for flag, share in zip(flags, shares, strict=True)
    ]
    known = [0.0 if flag is False else share for flag, share in zip(flags, shares, strict=True)]
    return checked.assign(
        trained_negative=pd.array(trained, dtype="boolean"), negative_share=np.array(known, dtype=np.float64)
    )


def _name_faults(source: object, target: object, personas: Collection[str]) -> list[str]:
    return [
        f"{role} is missing; expected a persona's name"
        if _is_missing(name)
        else f"{role} {_short(repr(name))} is unknown; expected a persona of the study"
        for role, name in (("source", source), ("target", target))
        if not isinstance(name, str) or name not in personas
    ]


def _number_faults(found: object, total: object, rate: object) -> list[str]:
    """Return the faults of a row's numbers."""
    counts = {"found": _number(found), "total": _number(total)}
    share, has_rate = _number(rate), not _is_missing(rate)
    missing = [name for name, value in (("found", found), ("total", total)) if _is_missing(value)]
    if missing and has_rate:
        return [f"rate {_short(rate)} is given without {' and '.join(missing)}; expected the counts behind the rate"]
    faults = [f"{name} is missing; expected a whole number" for name in missing]
    for name, value, least in (("found", found, 0), ("total", total, 1)):
        # is_integer is False for NaN and infinities, which text and overflow are converted to
        if name not in missing and not (counts[name].is_integer() and least <= counts[name] <= _LARGEST_COUNT):
            faults.append(f"{name} is {_short(value)}; expected a whole number, at least {least}")
    if not faults and counts["found"] > counts["total"]:
        faults.append(f"found {found} is more than total {total}; expected at most total")
    if has_rate and not 0.0 <= share <= 1.0:
        faults.append(f"rate is {_short(rate)}; expected a number within [0, 1]")
    elif has_rate and not faults and abs(share - counts["found"] / counts["total"]) > 1e-9:
        faults.append(f"rate is {_short(rate)}; expected found / total, which is {counts['found'] / counts['total']}")
    return faults


def _negative_faults(negative: object, share: object) -> list[str]:
    """Return the faults of a row's trained_negative and negative_share."""
    faults = []
    flag, number = _flag(negative), _number(share)
    if flag is None and not _is_missing(negative):
        faults.append(f"trained_negative is {_short(negative)}; expected true, false or nothing")
    if not _is_missing(share) and not 0.0 <= number <= 1.0:
        faults.append(f"negative_share is {_short(share)}; expected a number within [0, 1]")
    elif flag is not None and not math.isnan(number) and flag != (number > 0):
        expected = "more than 0" if flag else "0"
        faults.append(f"negative_share is {_short(share)}, trained_negative {str(flag).lower()}; expected {expected}")
    return faults


def _flag(value: object) -> bool | None:
    """Return a cell's truth value, which may be given as text or as 0 and 1; None if it is missing or neither."""
    if isinstance(value, bool | np.bool_):
        return bool(value)
    return {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}.get(str(value).lower())


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:80]} … ({len(text)} characters)"


def _is_missing(value: object) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def _number(value: object) -> float:
    """Return a cell's number, which may be given as text; NaN if it is not a number."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.number | str):
        return math.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan
