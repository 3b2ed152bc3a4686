"""Why no OpenMP: two sets of threads on two cores, and one set. A sketch, not a measurement."""

from grids import BLUE, INK, ORANGE, RED, arrow, frame, save, say, sheet

TINTS = {"im2col": (BLUE, "#c9dcee"), "W @ cols": (ORANGE, "#fbe3cc"), "spins": (RED, "#f6d5d9")}
LEFT = 8.5


def draw(folder=None):
    axes = sheet(50, 23)
    text = "Two sets of threads: OpenMP's for the kernels, and BLAS's own"
    say(axes, 1, 1.2, text, size=10, ha="left")
    two_sets(axes, 2.6)
    text = "One set: a thread makes the columns of a tile and multiplies them"
    say(axes, 1, 12.6, text, size=10, ha="left")
    one_set(axes, 13.8)
    arrow(axes, (LEFT, 21.6), (48.5, 21.6), INK)
    say(axes, 47.6, 22.4, "time", size=8)
    say(axes, LEFT, 22.4, "a sketch, not a measurement", size=8, ha="left")
    return save(axes, __file__, folder)


def lane(axes, top, height, name):
    frame(axes, LEFT, top, 39.5, height, "0.8", 0.8, "#fafafa")
    say(axes, LEFT - 0.5, top + height / 2, name, size=8.5, ha="right")


def block(axes, left, top, width, height, kind, text=None):
    edge, fill = TINTS[kind]
    frame(axes, LEFT + left, top, width, height, edge, 1, fill)
    if text != "":
        say(axes, LEFT + left + width / 2, top + height / 2, text or kind, size=7.5)


def two_sets(axes, top):
    """On the second core a spinning OpenMP worker and a BLAS thread take turns."""
    lane(axes, top, 3.4, "core 1")
    lane(axes, top + 4, 3.4, "core 2")
    for start, width in ((0.3, 6), (20.3, 6)):
        block(axes, start, top + 0.4, width, 2.6, "im2col")
        block(axes, start, top + 4.4, width, 2.6, "im2col")
        block(axes, start + width + 0.2, top + 0.4, 8, 2.6, "W @ cols")
        for turn in range(6):
            kind, text = ("W @ cols", "") if turn % 2 else ("spins", "spins")
            block(axes, start + width + 0.2 + 2.15 * turn, top + 4.4, 2.05, 2.6, kind, text)
        say(axes, LEFT + start + width + 10.7, top + 1.7, "waits", size=7.5)
    text = "OpenMP's worker waits awake, and BLAS's thread wants the same core: they take turns"
    say(axes, LEFT, top + 8.4, text, size=8, ha="left", colour=RED)


def one_set(axes, top):
    """Tiles of unlike lengths, taken one after the other."""
    for core, widths in enumerate(
        ((2.8, 3.6, 3, 3.8, 3.1, 3.5, 2.9, 3.6), (3, 3.7, 2.9, 3.5, 3, 3.7, 3, 3.6))
    ):
        y = top + 4 * core
        lane(axes, y, 3.4, f"core {core + 1}")
        at = 0.3
        for number, width in enumerate(widths):
            kind = "W @ cols" if number % 2 else "im2col"
            block(axes, at, y + 0.4, width, 2.6, kind)
            at += width + 0.1


if __name__ == "__main__":
    print(draw())
