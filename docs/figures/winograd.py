"""Winograd's F(4x4, 3x3): the four steps of one tile, with the numbers of one."""

import numpy as np
from grids import BLUE, GREEN, INK, ORANGE, arrow, cells, colours, save, say, sheet

import cyconv
from cyconv.kernels.fallback.matrices import MATRICES


def draw(folder=None):
    rng = np.random.default_rng(1)
    x = rng.integers(0, 10, (6, 6)).astype(float)
    w = np.array([[1.0, 2, 1], [0, 0, 0], [-1, -2, -1]])
    A, G, BT = MATRICES[36]
    u, v = BT @ x @ BT.T, G @ w @ G.T
    y = A.T @ (u * v) @ A
    np.testing.assert_allclose(y, cyconv.conv(x[None, None], w[None, None])[0, 0], atol=1e-9)

    axes = sheet(50, 25)
    steps = [
        (2.5, 3.5, x, "a tile of x, 6x6", "{:.0f}"),
        (16, 3.5, u, "its values at 6x6 points", "{:.0f}"),
        (4, 15.2, w, "a filter, 3x3", "{:.0f}"),
        (16, 13.7, v, "its values there", "{:.1f}"),
        (30, 8.6, u * v, "36 products", "{:.0f}"),
        (43.5, 9.6, y, "16 outputs", "{:.0f}"),
    ]
    for left, top, values, title, text in steps:
        fill = colours(values, 0.5)
        cells(axes, left, top, values, side=1.25, fill=fill, text=text, size=6.5)
        say(axes, left + 1.25 * len(values) / 2, top - 0.9, title, size=9.5)
    transform(axes, (10.2, 7.2), (15.8, 7.2), "B.T @ x @ B", "once for all filters", BLUE)
    transform(axes, (8, 17.4), (15.8, 17.4), "G @ w @ G.T", "once for all tiles", ORANGE)
    transform(
        axes, (37.7, 12.1), (43.3, 12.1), "A.T @ m @ A", "after the sum\nover channels", GREEN
    )
    arrow(axes, (23.7, 7.5), (29.8, 10.8), INK)
    arrow(axes, (23.7, 17), (29.8, 13.6), INK)
    say(axes, 27, 12.2, "*", size=16)
    text = (
        "By the definition each of the 16 outputs takes 9 products: 144. Here 36 are left, "
        "a quarter; the rest are additions and scalings."
    )
    say(axes, 25, 23.6, text, size=9)
    return save(axes, __file__, folder)


def transform(axes, start, end, above, below, colour):
    arrow(axes, start, end, colour)
    middle = (start[0] + end[0]) / 2
    say(axes, middle, start[1] - 0.5, above, size=8, colour=colour, va="bottom")
    say(axes, middle, start[1] + 0.5, below, size=7.5, va="top")


if __name__ == "__main__":
    print(draw())
