"""Backward: the cells of columns go back to where they came from, and add up."""

import numpy as np
from grids import BLUE, GREEN, ORANGE, RED, arrow, cells, frame, save, say, sheet

import cyconv

CELL = 4, 5  # of the image, without its border
# Three of the windows: how far up and left of the cell they begin.
WINDOWS = {(2, 2): ORANGE, (1, 0): GREEN, (0, 1): RED}


def draw(folder=None):
    axes = sheet(50, 18)
    draw_windows(axes, 1, 3)
    draw_column_ends(axes, 19, 3)
    draw_counts(axes, 36.6, 3)
    return save(axes, __file__, folder)


def draw_windows(axes, left, top):
    """Three of the nine windows that cover one cell."""
    row, column = CELL
    say(axes, left + 6, top - 1.6, "a cell of x lies under nine windows", size=10)
    cells(axes, left, top, np.zeros((12, 12)), fill="white", text="")
    frame(axes, left + 1, top + 1, 10, 10, "0.5", 1)
    for (up, back), colour in WINDOWS.items():
        frame(axes, left + 1 + column - back, top + 1 + row - up, 3, 3, colour, 2)
    frame(axes, left + 1 + column, top + 1 + row, 1, 1, BLUE, 1, BLUE)


def draw_column_ends(axes, left, top):
    """The three columns of those windows, and the row of each where the cell was copied to."""
    row, column = CELL
    say(axes, left + 6, top - 1.6, "so it was copied into nine columns (here three)", size=10)
    for number, ((up, back), colour) in enumerate(WINDOWS.items()):
        at = left + 1.5 + 3.6 * number
        place = 10 * (row - up + 1) + column - back + 1
        cells(axes, at, top + 1, np.zeros((9, 1)), side=1.1, width=1.6, fill="white", text="")
        frame(axes, at, top + 1, 1.6, 9.9, colour)
        tap = 3 * up + back
        frame(axes, at, top + 1 + 1.1 * tap, 1.6, 1.1, colour, 1, BLUE)
        say(axes, at + 0.8, top + 11.6, f"place {place}", size=7)
        start = at - 0.1, top + 1.55 + 1.1 * tap
        arrow(axes, start, (left - 18 + 1 + column + 1.1, top + 1.5 + row), colour, 0.12, 1.1)
    say(axes, left + 6, top + 13.2, "dcols = W.T @ dy: col2im adds what comes back", size=9)


def draw_counts(axes, left, top):
    """How many windows cover each cell: what comes back if each column sends ones."""
    say(axes, left + 6, top - 1.6, "if each sends a one, the sums are", size=10)
    ones = np.ones((1, 9, 100))
    counts = cyconv.col2im(ones, (10, 10), kernel_size=3, padding=1)[0, 0]
    cells(axes, left + 1, top + 1, counts)
    row, column = CELL
    frame(axes, left + 1 + column, top + 1 + row, 1, 1, BLUE)
    say(axes, left + 6, top + 12.3, "at the edge fewer windows; what was", size=9)
    say(axes, left + 6, top + 13.4, "copied from the border is dropped", size=9)


if __name__ == "__main__":
    print(draw())
