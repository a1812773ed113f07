"""The drift figure: moved pairs are named once, texts do not overlap, missing data is stated."""

import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.text import Text

from persona_assets.presentation import checkpoint_drift_figure, drift_headline, house_style, to_png
from persona_assets.presentation.drift.distance import p_text
from persona_assets.presentation.drift.pairs import most_moved, signed, values_by_pair
from persona_assets.presentation.layout.end_labels import spread
from persona_assets.presentation.layout.timeline import timeline

FIVE = ["assistant", "villain", "kindergarten_teacher", "software_engineer", "zelthari_scholar"]
LEVELS = ["checkpoint", "series", "step", "quantity", "a", "b", "estimate", "low", "high"]
CHANGES = [
    *("checkpoint", "previous", "quantity", "a", "b", "change"),
    *("low", "high", "simultaneous_low", "simultaneous_high", "moved"),
]
DISTANCES = [
    *("checkpoint", "previous", "quantity", "pairs", "questions", "rms_change"),
    *("noise", "excess", "rank_correlation", "p", "smallest_p", "exact"),
]
COSINES = ["cosine_study_layer7", "cosine_study_layer14", "cosine_study_layer21", "cosine_few_layer7"]

Tables = tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]


def drift(
    steps: tuple[float, ...] = (0, 8, 16, 24, 32),
    personas: list[str] = FIVE,
    series: str = "run",
    leakage: bool = True,
    questions: int = 20,
    seed: int = 0,
) -> Tables:
    """Return the tables of one series in which the villain moves closer to all others; nothing is bootstrapped."""
    random = np.random.default_rng(seed)
    pairs = list(itertools.combinations(personas, 2))
    start = {
        quantity: dict(zip(pairs, random.uniform(0.05, 0.5, len(pairs)), strict=True)) for quantity in ("js", *COSINES)
    }
    error = 0.02 if questions > 1 else np.nan
    levels, changes, distances = [], [], []
    for place, step in enumerate(steps):
        name, before = f"{series}-{step:g}", f"{series}-{steps[place - 1]:g}"
        for quantity, values in start.items():
            for rank, (pair, value) in enumerate(values.items()):
                speed = -0.02 - 0.002 * rank if "villain" in pair else 0.001
                speed *= 5 / max(5, len(steps))
                now = value + speed * place
                levels.append((name, series, step, quantity, *pair, now, now - error, now + error))
                if place:
                    half = 0.01 if questions > 1 else np.nan
                    moved = questions > 1 and abs(speed) > half
                    around = (speed - half, speed + half)
                    changes.append((name, before, quantity, *pair, speed, *around, *around, moved))
            if place:
                smallest = 2.0 ** (1 - questions)
                p = 0.4 if place == 1 else smallest
                known = (
                    (0.015, 0.004, 0.0145, 0.97, p, smallest) if questions > 1 else (0.015, *[np.nan] * 2, 0.97, 1, 1)
                )
                distances.append((name, before, quantity, len(pairs), questions, *known, questions <= 20))
        if leakage:
            rate = 0.4 * place / len(steps)
            levels.append((name, series, step, "source_rate", "villain", "", 0.5 + rate, 0.3 + rate, 0.6 + rate))
            levels.append((name, series, step, "mean_leakage_rate", "", "", rate, rate * 0.8, rate + 0.05))
            for target in personas:
                if target != "villain":
                    levels.append((name, series, step, "leakage_rate", "villain", target, rate, 0, rate + 0.2))
                    levels.append((name, series, step, "base_rate", target, "", 0, 0, 0.16))
                    if place:
                        changed = (name, before, "leakage_rate", "villain", target, 0.1, -0.1, 0.3)
                        changes.append((*changed, np.nan, np.nan, False))
    return (
        pd.DataFrame(levels, columns=LEVELS),
        pd.DataFrame(changes, columns=CHANGES).astype({"moved": bool}),
        pd.DataFrame(distances, columns=DISTANCES),
    )


def together(*parts: Tables) -> Tables:
    levels, changes, distances = (pd.concat(tables, ignore_index=True) for tables in zip(*parts, strict=True))
    return levels, changes, distances


def without_steps(tables: Tables) -> Tables:
    return tables[0].assign(step=np.nan), tables[1], tables[2]


def all_texts(figure: Figure) -> list[Text]:
    """Return all drawn texts, including tick labels."""
    with house_style():  # ticks are created when the figure is drawn
        FigureCanvasAgg(figure).draw()
    ticks = [
        text
        for axes in figure.axes
        if axes.axison
        for axis in (axes.xaxis, axes.yaxis)
        for text in (*_within_view(axis), axis.label)
    ]
    written = [*figure.texts, *(text for axes in figure.axes for text in axes.texts), *ticks]
    return [text for text in written if text.get_text().strip()]


def _within_view(axis: Axis) -> list[Text]:
    """Return the drawn tick labels of an axis, without ticks beyond its limits."""
    low, high = axis.get_view_interval()
    return [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]


def words(figure: Figure) -> str:
    return " ".join(" ".join(text.get_text().split()) for text in all_texts(figure))


def colliding(figure: Figure) -> list[tuple[str, str]]:
    """Return pairs of overlapping texts; a text beyond the figure's edge is paired with itself."""
    texts = all_texts(figure)
    renderer = FigureCanvasAgg(figure).get_renderer()
    width, height = figure.get_size_inches() * figure.dpi
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in texts]
    beyond = [(name, name) for name, box in boxes if box.x0 < 0 or box.y0 < 0 or box.x1 > width or box.y1 > height]
    return beyond + [
        (one, other)
        for (one, first), (other, second) in itertools.combinations(boxes, 2)
        if min(first.x1, second.x1) - max(first.x0, second.x0) > 0.5
        and min(first.y1, second.y1) - max(first.y0, second.y0) > 0.5
    ]


CASES = {
    "five checkpoints": lambda: drift(),
    "eleven personas": lambda: drift(personas=[*FIVE, "chef", "comedian", "librarian", "doctor", "poet", "spy"]),
    "twenty checkpoints": lambda: drift(tuple(range(0, 200, 10))),
    "fifty checkpoints": lambda: drift(tuple(range(0, 500, 10))),
    "two series": lambda: together(drift(series="run_a"), drift((0, 8, 16), series="run_b", seed=1)),
    "six series": lambda: together(*(drift((0, 4), series=f"a_rather_long_name_{n}", seed=n) for n in range(6))),
    "no steps": lambda: without_steps(drift(series="qwen2.5-7b-instruct-with-a-villain")),
    "short names": lambda: without_steps(drift(series="r")),
    "no leakage": lambda: drift(leakage=False),
    "one checkpoint": lambda: drift((0,)),
    "one question": lambda: drift(questions=1),
    "two personas": lambda: drift(personas=FIVE[:2]),
}


@pytest.mark.parametrize("case", CASES)
def test_texts_do_not_overlap_or_cross_the_edge(case: str) -> None:
    figure = checkpoint_drift_figure(*CASES[case]())
    assert colliding(figure) == []
    assert to_png(figure, 50).startswith(b"\x89PNG")


def test_every_pair_is_drawn_and_the_five_largest_changes_are_labelled() -> None:
    levels, changes, distances = drift()
    figure = checkpoint_drift_figure(levels, changes, distances)
    first = figure.axes[0]
    quiet = next(bundle for bundle in first.collections if isinstance(bundle, LineCollection))
    assert len(quiet.get_segments()) == 5
    js = levels[levels.quantity == "js"].pivot(index=["a", "b"], columns="step", values="estimate")
    moved = (js[32] - js[0]).sort_values(key=lambda change: -change.abs())
    named = [" ".join(text.get_text().split()) for text in first.texts]
    wanted = [f"{a} – {b} {signed(change)}".replace("_", " ") for (a, b), change in moved[:4].items()]
    assert len(named) == 5
    assert set(wanted) < set(named)
    assert "4 of 10 pairs moved at least once" in words(figure)


def test_bars_of_a_labelled_pair_are_its_interval() -> None:
    levels, changes, distances = drift()
    axes = checkpoint_drift_figure(levels, changes, distances).axes[0]
    bars = [segment for bundle in axes.collections for segment in bundle.get_segments() if len(segment) == 2]
    heights = {round(float(segment[1, 1] - segment[0, 1]), 6) for segment in bars if segment[0, 0] == segment[1, 0]}
    assert heights == {0.04}


def test_the_cosine_is_of_the_first_population_and_its_middle_layer() -> None:
    figure = checkpoint_drift_figure(*drift())
    assert "Cosine, layer 14, centred on study" in words(figure)
    levels, changes, distances = drift()
    none = levels[~levels.quantity.str.startswith("cosine")]
    assert "No cosine was measured" in words(checkpoint_drift_figure(none, changes, distances))


def test_checkpoints_are_placed_at_their_steps() -> None:
    axes = checkpoint_drift_figure(*drift((0, 1, 30))).axes[0]
    assert axes.get_xlabel() == "training step"
    named = axes.lines[0].get_xdata()
    np.testing.assert_allclose(np.diff(named), [1, 29])


def test_with_an_unknown_step_checkpoints_are_placed_by_name() -> None:
    levels, changes, distances = drift(series="r")
    levels.loc[levels.checkpoint == "r-8", "step"] = np.nan
    axes = checkpoint_drift_figure(levels, changes, distances).axes[0]
    assert axes.get_xlabel() == "checkpoint"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["r-0", "r-8", "r-16", "r-24", "r-32"]


def test_names_too_long_for_ticks_become_numbers_with_a_key() -> None:
    figure = checkpoint_drift_figure(*CASES["no steps"]())
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == list("12345")
    assert "4 qwen2.5-7b-instruct-with-a-villain-24" in words(figure)


def test_lines_follow_the_comparisons() -> None:
    levels, _, distances = together(drift(series="run_a"), drift((0, 8), series="run_b", seed=1))
    distances.loc[distances.checkpoint == "run_b-8", "previous"] = "run_a-0"  # run_b branches off
    paths = timeline(levels, distances, 45.0).paths
    assert [(path.series, path.checkpoints) for path in paths] == [
        ("run_a", ["run_a-0", "run_a-8", "run_a-16", "run_a-24", "run_a-32"]),
        ("run_b", ["run_a-0", "run_b-8"]),
        ("run_b", ["run_b-0"]),
    ]


def test_series_are_named_and_changes_refer_to_them() -> None:
    figure = checkpoint_drift_figure(*CASES["two series"]())
    shown = words(figure)
    assert shown.count("1 run a") == 2  # in the legend and above its distances
    assert all(text.get_text().endswith(("(1)", "(2)")) for text in figure.axes[1].texts)


def test_the_pair_that_moved_most_is_searched_in_every_series() -> None:
    levels, _, distances = together(drift(series="run_a"), drift((0, 8, 16), series="run_b", seed=1))
    jumped = (levels.checkpoint == "run_b-16") & (levels.quantity == "js") & (levels.a == "assistant")
    jumped &= levels.b == "software_engineer"
    levels.loc[jumped, "estimate"] += 1.0
    pair, number, change = most_moved(values_by_pair(levels, "js"), timeline(levels, distances, 45.0))[0]
    assert (pair, number) == (("assistant", "software_engineer"), 1)
    assert change == pytest.approx(1.002)


def test_leakage_names_its_source_and_counts_dyads_and_targets() -> None:
    figure = checkpoint_drift_figure(*drift())
    shown = words(figure)
    assert "source rate: villain on itself" in shown
    assert "leakage rate, mean of 4 dyads" in shown
    assert "base rate, no adapter, 4 targets" in shown
    levels, changes, distances = drift()
    bases = levels[levels.quantity == "base_rate"]
    last = bases[bases.step == bases.step.max()].iloc[-1]
    taught = levels.index == last.name
    standing_out = levels.assign(estimate=levels.estimate.mask(taught, 0.9))
    assert f"base rate of {last.a.replace('_', ' ')}" in words(
        checkpoint_drift_figure(standing_out, changes, distances)
    )
    no_base = levels[levels.quantity != "base_rate"]
    assert "Not counted: the base rate." in words(checkpoint_drift_figure(no_base, changes, distances))


def test_the_distance_panel_shows_noise_and_p_and_the_smallest_p() -> None:
    figure = checkpoint_drift_figure(*drift())
    axes = figure.axes[3]
    assert [patch.get_height() for patch in axes.patches] == [0.004] * 4
    found = [" ".join(text.get_text().split()) for text in axes.texts]
    assert found[:4] == ["p = 0.4", *["p = 2×10⁻⁶"] * 3]
    assert "Smallest p attainable: 2×10⁻⁶." in words(figure)


def test_missing_data_is_stated() -> None:
    one = words(checkpoint_drift_figure(*drift((0,), leakage=False)))
    assert "Nothing to compare with" in one
    assert "No leakage was measured" in one
    assert "No checkpoint is compared with one before it" in one
    single = words(checkpoint_drift_figure(*drift(questions=1)))
    assert "No intervals: a bootstrap over questions needs two questions or more" in single
    assert "Noise is unknown where there is one question" in single


def test_tables_without_required_columns_or_js_are_rejected() -> None:
    levels, changes, distances = drift()
    with pytest.raises(ValueError, match=r"changes: found columns .*expected also \['moved'\]"):
        checkpoint_drift_figure(levels, changes.drop(columns="moved"), distances)
    with pytest.raises(ValueError, match=r"levels: found quantities .*expected js"):
        checkpoint_drift_figure(levels[levels.quantity != "js"], changes, distances)


def test_the_same_tables_give_the_same_bytes() -> None:
    assert to_png(checkpoint_drift_figure(*drift())) == to_png(checkpoint_drift_figure(*drift()))


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ([5, 20], [5, 20]),
        ([10, 10], [8, 12]),
        ([10, 11, 9], [10, 14, 6]),
        ([-3, 50], [2, 28]),
        ([30, 30, 30], [20, 24, 28]),
    ],
)
def test_labels_are_spread_with_minimal_displacement(wanted: list[float], expected: list[float]) -> None:
    np.testing.assert_allclose(spread(wanted, [4.0] * len(wanted), 0.0, 30.0), expected)


@pytest.mark.parametrize(
    ("change", "text"),
    [(0.0421, "+0.042"), (-0.5, "−0.500"), (0.0042, "+0.0042"), (-0.000123, "−0.00012"), (0.0, "+0.000")],
)
def test_a_change_is_formatted_with_sign_and_two_digits(change: float, text: str) -> None:
    assert signed(change) == text


@pytest.mark.parametrize(
    ("p", "text"), [(0.39, "0.39"), (0.0042, "0.0042"), (2**-19, "2×10⁻⁶"), (1.0, "1"), (float("nan"), "unknown")]
)
def test_p_is_formatted_with_few_digits(p: float, text: str) -> None:
    assert p_text(p) == text


def test_the_headline_names_the_largest_change_with_its_interval() -> None:
    _, changes, distances = drift()
    found = drift_headline(changes, distances)
    of_js = changes[changes.quantity == "js"]
    largest = of_js.loc[of_js.change.abs().idxmax()]
    assert found["largest change of JS"] == (
        f"{signed(largest.change)} [{signed(largest.simultaneous_low)}, {signed(largest.simultaneous_high)}], "
        f"villain – zelthari scholar, {largest.previous} → {largest.checkpoint}"
    )
    assert found["pairs that moved, js"] == "4 of 10"
    assert found["dyads whose leakage moved"] == "0 of 4"
    assert found["last step"] == "run-24 → run-32"
    assert (found["last rms_change, JS"], found["last excess, JS"], found["last p, JS"]) == (0.015, 0.0145, 2.0**-19)


def test_the_headline_states_unknown_values() -> None:
    _, changes, distances = drift(questions=1)
    found = drift_headline(changes, distances)
    assert found["last excess, JS"] == "unknown"
    assert "[" not in str(found["largest change of JS"])
    alone = drift_headline(*drift((0,))[1:])
    assert alone == {"compared": "no checkpoint has a predecessor"}
