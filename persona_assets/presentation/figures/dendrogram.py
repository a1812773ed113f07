"""Tree of personas next to the rows of a matrix."""

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from persona_assets.presentation.layout.ordering import Tree
from persona_assets.presentation.layout.style import INK, MUTED, add_axes

# Millimetres.
TREE_WIDTH, TREE_GAP = 11.0, 0.8
TREE_AXIS = 5.5


def room_for(tree: Tree | None) -> float:
    """Return the width that a tree needs next to a matrix in millimetres, or 0 if there is no tree."""
    return TREE_WIDTH + TREE_GAP if tree is not None and len(tree.heights) else 0.0


def draw_tree(figure: Figure, corner: tuple[float, float], cell: float, tree: Tree, scale: bool = True) -> None:
    """Draw a tree whose leaves line up with the rows of a matrix, optionally with an axis below.

    Args:
        figure: to draw on.
        corner: upper left corner of the tree, in millimetres.
        cell: height of a row, in millimetres.
        tree: a tree with at least one join.
        scale: whether to draw the axis, `TREE_AXIS` millimetres high.
    """
    axes = add_axes(figure, *corner, TREE_WIDTH, len(tree.order) * cell)
    highest = float(tree.heights.max()) or 1.0
    axes.set(xlim=(1.04 * highest, 0), ylim=(len(tree.order), 0))
    brackets = np.stack([tree.heights, tree.places], axis=-1)
    lines = LineCollection(list(brackets), colors=INK, linewidths=0.6, capstyle="projecting", clip_on=False)
    axes.add_collection(lines, autolim=False)
    if not scale:
        axes.set_axis_off()
        return
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set(linewidth=0.5, color=MUTED, bounds=(0, highest))
    axes.tick_params(left=False, labelleft=False, labelsize=5.5, length=1.5, width=0.5, pad=1)
    axes.xaxis.set_major_locator(MaxNLocator(2, steps=[1, 2, 4, 5, 10]))
    axes.set_xlabel("joined at JS (nats)", size=5.5, color=MUTED, labelpad=0.8, loc="left")
