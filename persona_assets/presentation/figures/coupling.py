"""Source rate against similarity to the baseline: are personas close to the baseline easier to mark?"""

import pandas as pd
from matplotlib.figure import Figure

from persona_assets.presentation.layout.correlation import numbers
from persona_assets.presentation.layout.labels import write_labels
from persona_assets.presentation.layout.panels import (
    KEY_POINTS,
    LINE,
    MARGIN,
    TITLE,
    Grid,
    add_panel,
    padded,
    write_lines,
)
from persona_assets.presentation.layout.style import (
    BLUE,
    INK,
    ONE_COLUMN,
    ORANGE,
    TWO_COLUMNS,
    add_text,
    display_name,
    house_style,
    new_figure,
    wrapped,
)
from persona_assets.presentation.layout.two_views import two_views
from persona_assets.presentation.summaries.statements import predictor_name

_HEIGHT, _GAP, _NAME_POINTS = 52.0, 12.0, 5.5
_FEWEST = 2
_NOTE = (
    "r: Pearson, [95 % interval]; iid: every persona independent; dyadic: the interval leaves out one persona after "
    "the other, p permutes the personas. All are compared with one baseline: another would be another draw."
)


def coupling_known(table: pd.DataFrame) -> bool:
    """Return whether the table has enough data to draw."""
    return int(table["source_rate"].notna().sum()) >= _FEWEST and bool(
        [column for column in table.columns if str(column).startswith(("js", "cosine"))]
    )


def coupling_panels(
    table: pd.DataFrame,
    baseline: str,
    statements: pd.DataFrame | None = None,
    cosine: str | None = None,
    width: float = TWO_COLUMNS,
) -> Figure:
    """Draw source rate against JS and cosine to the baseline, and these against each other, with persona names.

    Args:
        table: one row per persona except the baseline: persona, source_rate, js and cosine… to the baseline.
        baseline: the persona that others are compared with.
        statements: as returned by `statistics.infer`.
        cosine: the cosine column to show; by default the first.
        width: width of the figure, in millimetres; with one column, panels are below each other.

    Raises:
        ValueError: fewer than two personas have a source rate, or none has a predictor.
    """
    known = table[table["source_rate"].notna()].reset_index(drop=True)
    cosines = [str(column) for column in known.columns if str(column).startswith("cosine")]
    chosen = cosine if cosine in cosines else next(iter(cosines), None)
    js = ["js"] if "js" in known else []
    predictors = [*js, *([chosen] if chosen else [])]
    if len(known) < _FEWEST or not predictors:
        raise ValueError(
            f"coupling: found {len(known)} personas with a source rate and columns {list(table.columns)}; expected at "
            "least two personas, and js or a cosine"
        )
    pairs = [(predictor, "source_rate") for predictor in predictors] + ([("js", chosen)] if js and chosen else [])
    columns = len(pairs) if width > ONE_COLUMN else 1
    views = [_views(statements, x, y) for x, y in pairs]
    said = f"{len(known)} personas that a marker was trained into · likeness to {display_name(baseline)}"
    subtitle = wrapped(said, KEY_POINTS, width - 2 * MARGIN)
    note = wrapped(_NOTE, KEY_POINTS, width - 2 * MARGIN) if any(views) else []
    header = MARGIN + TITLE + len(subtitle) * LINE + 2.0
    grid = Grid(width, columns, header, 1 + max(map(len, views)), _HEIGHT, gap=_GAP)
    below = grid.below(grid.rows(len(pairs)))
    with house_style():
        figure = new_figure(width, below + len(note) * LINE + MARGIN)
        add_text(figure, MARGIN, MARGIN, "Source rate and likeness to the baseline", weight="bold", size=8, color=INK)
        write_lines(figure, MARGIN + TITLE, subtitle, KEY_POINTS)
        for index, (x, y) in enumerate(pairs):
            _panel(figure, grid, index, known, (x, y), views[index])
        write_lines(figure, below + 0.2 * LINE, note, KEY_POINTS)
    return figure


def _views(statements: pd.DataFrame | None, x: str, y: str) -> list[tuple[str, str]]:
    """Return the views of a panel; in statements about JS and a cosine, JS is the outcome."""
    predictor, outcome = (x, y) if y == "source_rate" else (y, x)
    return two_views(statements, "coupling", "pearson", predictor, outcome)


def _panel(
    figure: Figure, grid: Grid, index: int, known: pd.DataFrame, pair: tuple[str, str], views: list[tuple[str, str]]
) -> None:
    both = known.dropna(subset=list(pair))
    x, y = (numbers(both[name]) for name in pair)
    names = {"js": "JS (nats)", "source_rate": "source rate"}
    labels = [names.get(name, predictor_name(name)) for name in pair]
    defined = len(both) > 2 and x.std() > 0 and y.std() > 0
    r = f"{both[pair[0]].astype(float).corr(both[pair[1]].astype(float)):.2f}".replace("-", "−") if defined else None
    said = f"Pearson r = {r}, n = {len(both)}" if r else f"r undefined, n = {len(both)}"
    axes = add_panel(figure, grid, index, f"{labels[1]} against {labels[0]}".split(" (")[0], [said, *views], x)
    axes.scatter(x, y, s=14, color=_colour(pair), linewidths=0, zorder=3)
    axes.set(xlim=padded(x, 0.22), ylim=padded(y, 0.12))
    axes.locator_params(axis="x", nbins=4)
    axes.locator_params(axis="y", nbins=5)
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    points = both[list(pair)].to_numpy(dtype=float)
    texts = [display_name(str(name)) for name in both["persona"]]
    write_labels(axes, (grid.panel, grid.height), points, texts, points, _NAME_POINTS)


def _colour(pair: tuple[str, str]) -> str:
    """Return blue for JS and orange for cosine, as in the other figures, and neither for JS against cosine."""
    if pair[1] != "source_rate":
        return INK
    return BLUE if pair[0] == "js" else ORANGE
