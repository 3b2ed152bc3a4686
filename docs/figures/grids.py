"""What the figures have in common: matrices as cells, arrows, and how a figure is written.

Each script beside this one draws a figure of the documentation into an .svg of its own name, by
`make figures` or by itself. What can be computed in a figure is computed, by cyconv.
"""

from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("svg")
from matplotlib import pyplot as plt
from matplotlib.patches import FancyArrowPatch, Rectangle

mpl.rcParams.update(
    {
        "font.size": 9,
        "svg.fonttype": "path",  # looks the same everywhere
        "svg.hashsalt": "cyconv",  # and drawn again, is the same file
    }
)

INK = "0.25"
PALE = "0.93"
BLUE, ORANGE, GREEN, RED = "#4477aa", "#ee8833", "#228833", "#cc3344"


def sheet(width, height, inches=9.0):
    """Return axes of width x height units, with y growing downwards as the rows of a matrix do."""
    figure = plt.figure(figsize=(inches, inches * height / width))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0), aspect="equal")
    axes.axis("off")
    return axes


def colours(values, strength=0.6):
    """Return a pale colour for each value, from white for the smallest to blue."""
    values = np.asarray(values, float)
    share = (values - values.min()) / max(np.ptp(values), 1e-9)
    return mpl.colormaps["Blues"](strength * share)


def cells(axes, left, top, values, side=1.0, fill=None, text="{:g}", size=7, width=None):
    """Draw a matrix of cells with its top left corner at (left, top); `text` may be "" for none.

    `fill` has a colour for each cell, by default after its value.
    """
    values = np.atleast_2d(values)
    fill = colours(values) if fill is None else fill
    width = side if width is None else width
    for (row, column), value in np.ndenumerate(values):
        x, y = left + column * width, top + row * side
        colour = fill if isinstance(fill, str) else fill[row][column]
        axes.add_patch(Rectangle((x, y), width, side, fc=colour, ec="0.7", lw=0.4))
        if text:
            label = text.format(value)
            label = label[1:] if float(label) == 0 and label[0] == "-" else label  # no -0
            axes.text(x + width / 2, y + side / 2, label, ha="center", va="center", size=size)


def frame(axes, left, top, width, height, colour=ORANGE, lw=2.0, fill="none", alpha=None):
    axes.add_patch(
        Rectangle((left, top), width, height, fc=fill, ec=colour, lw=lw, alpha=alpha, zorder=3)
    )


def arrow(axes, start, end, colour=INK, bend=0.0, lw=1.4):
    axes.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle="-|>",
            mutation_scale=11,
            color=colour,
            lw=lw,
            shrinkA=0,
            shrinkB=0,
            connectionstyle=f"arc3,rad={bend}",
            zorder=4,
        )
    )


def say(axes, x, y, text, size=9, colour=INK, ha="center", va="center", **more):
    axes.text(x, y, text, size=size, color=colour, ha=ha, va=va, **more)


def save(axes, script, folder=None):
    """Write the figure beside its script, or into `folder`."""
    path = (Path(folder) if folder else Path(script).parent) / f"{Path(script).stem}.svg"
    axes.figure.savefig(path, metadata={"Date": None, "Creator": None})
    plt.close(axes.figure)
    return path
