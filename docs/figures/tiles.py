"""Tiles and the cache: the columns of a whole batch, or of one tile at a time."""

from grids import BLUE, GREEN, INK, ORANGE, arrow, frame, save, say, sheet

from cyconv.algorithms.lowering import COLUMN_BYTES

# A layer of VGG: 16 images, 256 channels of 56x56, 3x3.
N, C, SIDE, TAPS = 16, 256, 56, 9
MIB = 2**20


def draw(folder=None):
    axes = sheet(50, 23)
    axes.plot([25, 25], [1, 22], color="0.8", lw=1)
    draw_whole(axes, 1)
    draw_tiled(axes, 26)
    return save(axes, __file__, folder)


def levels(axes, left):
    """Memory below, a core with its cache above."""
    frame(axes, left, 15, 22.5, 7, "0.6", 1, "#f4f4f4")
    say(axes, left + 11.3, 21.3, "memory", size=8)
    frame(axes, left, 3, 22.5, 7, "0.6", 1, "#eef4fa")
    say(axes, left + 0.4, 3.7, "a core and its caches", size=8, ha="left")


def draw_whole(axes, left):
    image = 4 * N * C * SIDE**2 / MIB
    say(axes, left + 11, 1.5, "all columns at once: out to memory and back", size=10)
    levels(axes, left)
    frame(axes, left + 1, 16.2, 1.4, 4, BLUE, 1, "#c9dcee")
    say(axes, left + 2.8, 18.2, f"x\n{image:.0f} MiB", size=8, ha="left")
    frame(axes, left + 7, 16.2, 9 * 1.4, 4, ORANGE, 1, "#fbe3cc")
    say(axes, left + 7 + 6.3, 18.2, f"columns of all images\n{TAPS * image:.0f} MiB", size=8)
    frame(axes, left + 2, 5, 6, 3.5, INK, 1, "white")
    say(axes, left + 5, 6.75, "im2col", size=9)
    frame(axes, left + 14, 5, 6, 3.5, INK, 1, "white")
    say(axes, left + 17, 6.75, "W @ cols", size=9)
    arrow(axes, (left + 1.7, 16.1), (left + 3.5, 8.6), BLUE)
    arrow(axes, (left + 7, 8.6), (left + 10, 16.1), ORANGE, lw=5)
    arrow(axes, (left + 15, 16.1), (left + 16.5, 8.6), ORANGE, lw=5)
    arrow(axes, (left + 19, 8.6), (left + 21, 16.1), GREEN)
    frame(axes, left + 20.4, 16.2, 1.4, 4, GREEN, 1, "#cfe8d3")
    say(axes, left + 21.1, 20.7, "y", size=8)


def draw_tiled(axes, left):
    say(axes, left + 11, 1.5, "a tile at a time: the columns never leave the cache", size=10)
    levels(axes, left)
    for part in range(4):
        frame(axes, left + 1, 16.2 + part, 1.4, 1, BLUE, 1, "#88b0d4" if part == 1 else "#c9dcee")
        frame(
            axes, left + 20.4, 16.2 + part, 1.4, 1, GREEN, 1, "#7cc48a" if part == 1 else "#cfe8d3"
        )
    say(axes, left + 1.7, 20.7, "x", size=8)
    say(axes, left + 21.1, 20.7, "y", size=8)
    frame(axes, left + 2, 5, 4.6, 3.5, INK, 1, "white")
    say(axes, left + 4.3, 6.75, "im2col", size=9)
    frame(axes, left + 9, 5.5, 4.6, 2.5, ORANGE, 1.5, "#fbe3cc")
    say(axes, left + 11.3, 6.75, f"columns of a\ntile, {COLUMN_BYTES // MIB} MiB", size=7.5)
    frame(axes, left + 15.9, 5, 5.2, 3.5, INK, 1, "white")
    say(axes, left + 18.5, 6.75, "W @ cols", size=9)
    arrow(axes, (left + 2.5, 17.6), (left + 4, 8.6), BLUE)
    arrow(axes, (left + 6.7, 6.75), (left + 8.9, 6.75), ORANGE, lw=2.5)
    arrow(axes, (left + 13.7, 6.75), (left + 15.8, 6.75), ORANGE, lw=2.5)
    arrow(axes, (left + 18.5, 8.6), (left + 20.3, 17.6), GREEN)
    say(axes, left + 11.3, 9.2, "overwritten by the next tile's", size=8, colour=ORANGE)
    say(axes, left + 11.3, 18.2, "threads take tiles from one counter\nuntil none is left", size=8)


if __name__ == "__main__":
    print(draw())
