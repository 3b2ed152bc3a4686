"""im2col: the window on a 10x10 image, its column, and the matrix product."""

import numpy as np
from grids import GREEN, ORANGE, arrow, cells, colours, frame, save, say, sheet

import cyconv

X = np.arange(100.0).reshape(1, 1, 10, 10)
ROW, COLUMN = 3, 6  # the place of the window: its column is number 36
FILTERS = 20
SHEET = 50, 32.5


def draw(folder=None):
    axes = sheet(*SHEET)
    draw_image(axes, 0.8, 3)
    draw_columns(axes, 19.5, 3)
    draw_product(axes, 1.2, 20)
    return save(axes, __file__, folder)


def strip_of(axes, values, extent, top=None):
    """A wide matrix as a picture."""
    axes.imshow(
        values, "Blues", vmax=top, extent=extent, aspect="auto", interpolation="nearest", zorder=1
    )
    axes.set(xlim=(0, SHEET[0]), ylim=(SHEET[1], 0), aspect="equal")  # imshow sets its own


def draw_image(axes, left, top):
    """The image with its border of zeros, and the window."""
    say(axes, left + 6, top - 1.6, "x: 10x10, and zeros around it", size=10)
    padded = np.pad(X[0, 0], 1)
    fill = colours(padded, 0.45)
    border = np.pad(np.zeros((10, 10), bool), 1, constant_values=True)
    fill[border] = (0.95, 0.95, 0.95, 1)
    cells(axes, left, top, padded, fill=fill)
    frame(axes, left + COLUMN, top + ROW, 3, 3)
    say(axes, left + 6, top + 12.9, f"the window at row {ROW}, column {COLUMN} ...", colour=ORANGE)


def draw_columns(axes, left, top):
    """All hundred columns as a strip, and one of them large."""
    cols = cyconv.im2col(X, kernel_size=3, padding=1)[0]
    place = 10 * ROW + COLUMN
    column = cols[:, place : place + 1]
    say(axes, left, top - 1.6, "its column", size=10)
    fill = colours(np.pad(X[0, 0], 1), 0.45)[ROW : ROW + 3, COLUMN : COLUMN + 3].reshape(9, 1, 4)
    cells(axes, left - 0.9, top + 1, column, side=1.15, width=1.8, fill=fill, size=8)
    frame(axes, left - 0.9, top + 1, 1.8, 9 * 1.15)
    arrow(axes, (left - 18.7 + COLUMN + 3.2, top + ROW + 1.5), (left - 1.3, top + 5), ORANGE, -0.12)

    strip, width, height = left + 4, 0.235, 1.15
    say(axes, strip + 50 * width, top - 1.6, "cols = im2col(x, 3, padding=1): 9x100", size=10)
    extent = (strip, strip + 100 * width, top + 1 + 9 * height, top + 1)
    strip_of(axes, cols, extent, 220)
    frame(axes, strip, top + 1, 100 * width, 9 * height, "0.6", 0.8)
    frame(axes, strip + place * width, top + 1, width, 9 * height, lw=1.4)
    start = left + 1.1, top + 8.5
    arrow(axes, start, (strip + place * width - 0.1, top + 8.5), ORANGE)
    for row in range(9):
        y = top + 1 + (row + 0.5) * height
        label = f"({row // 3},{row % 3})"
        say(axes, strip + 100 * width + 0.3, y, label, size=6.5, ha="left")
    say(axes, strip + 50 * width, top + 12.2, "one row a tap, one column a place of the window")
    say(axes, left, top + 12.2, "... top to bottom", colour=ORANGE)


def draw_product(axes, left, top):
    """(20, 9) @ (9, 100) = (20, 100), and the row of one filter as an image again."""
    rng = np.random.default_rng(3)
    w = rng.standard_normal((FILTERS, 1, 3, 3))
    y = cyconv.conv(X, w, padding=1)[0].reshape(FILTERS, 100)
    place, row = 10 * ROW + COLUMN, 6
    unit, wide = 0.5, 0.15
    height, middle = FILTERS * unit, top + 0.6 + FILTERS * unit / 2

    say(axes, left + 2.25, top - 0.5, "W: 20 filters,\none a row", va="bottom")
    cells(axes, left, top + 0.6, w.reshape(FILTERS, 9), side=unit, text="")
    frame(axes, left, top + 0.6 + row * unit, 9 * unit, unit, GREEN)
    say(axes, left + 5.6, middle, "@", size=13)

    strip = left + 6.8
    cols = cyconv.im2col(X, kernel_size=3, padding=1)[0]
    low = middle - 4.5 * unit
    extent = (strip, strip + 100 * wide, low + 9 * unit, low)
    strip_of(axes, cols, extent, 220)
    frame(axes, strip, low, 100 * wide, 9 * unit, "0.6", 0.8)
    frame(axes, strip + place * wide, low, wide, 9 * unit, lw=1.2)
    say(axes, strip + 50 * wide, low - 0.8, "cols (9, 100)")
    say(axes, strip + 100 * wide + 1.1, middle, "=", size=13)

    out = strip + 100 * wide + 2.2
    extent = (out, out + 100 * wide, top + 0.6 + height, top + 0.6)
    strip_of(axes, y, extent)
    frame(axes, out, top + 0.6, 100 * wide, height, "0.6", 0.8)
    frame(axes, out, top + 0.6 + row * unit, 100 * wide, unit, GREEN, 1.2)
    frame(axes, out + place * wide, top + 0.6 + row * unit, wide, unit, lw=1.4)
    label = "y (20, 100): one row a filter,\none column a place"
    say(axes, out + 50 * wide, top - 0.5, label, va="bottom")

    image = out + 100 * wide + 1.6
    fill = colours(y[row].reshape(10, 10), 0.8)
    cells(axes, image, middle - 2.5, y[row].reshape(10, 10), side=0.5, fill=fill, text="")
    frame(axes, image + COLUMN * 0.5, middle - 2.5 + ROW * 0.5, 0.5, 0.5, lw=1.6)
    frame(axes, image, middle - 2.5, 5, 5, GREEN, 1.2)
    start = out + 100 * wide + 0.1, top + 0.6 + (row + 0.5) * unit
    arrow(axes, start, (image - 0.1, middle), GREEN)
    say(axes, image + 2.5, middle + 3.4, "a row is an image")


if __name__ == "__main__":
    print(draw())
