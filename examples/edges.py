"""Find the edges in a photograph, with filters made by hand.

    python examples/edges.py

A photograph changes fast where there is an edge, so its derivative is large there; but it is large
at every grain of noise, too, so the photograph is blurred first. Blurred derivatives across and
down are two filters of one convolution. What they find at a place are the two sides of an arrow:
it points across the edge, and is as long as the edge is strong.

The photograph comes with scikit-image (by Lav Varshney, CC0).
"""

import argparse
import sys

import matplotlib as mpl
import numpy as np
from skimage import data

import cyconv

mpl.use("Agg")  # draw into a file: no screen is needed
from matplotlib import pyplot as plt
from matplotlib.colors import hsv_to_rgb

SIGMA = 1.5  # of the blur, in cells


def filters(sigma):
    """Return three filters, (3, 1, k, k): a blur, and its derivatives across and down.

    To blur and then to differentiate is to convolve once, with the two kernels convolved. That is
    what `conv_transpose` does to them: a copy of the one at each cell of the other, all added up.
    """
    reach = int(np.ceil(3 * sigma))
    bell = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    blur = np.outer(bell, bell) / bell.sum() ** 2
    stay = np.array([[0.0, 0, 0], [0, 1, 0], [0, 0, 0]])
    across = np.array([[0.0, 0, 0], [-1, 0, 1], [0, 0, 0]]) / 2  # right neighbour minus left one
    steps = np.stack([stay, across, across.T])
    return cyconv.conv_transpose(blur[np.newaxis], steps[np.newaxis])[:, np.newaxis]


def edges(photograph, sigma=SIGMA):
    """Return (blurred, across, down), each (H, W), of a photograph (H, W)."""
    x = photograph[np.newaxis]  # one channel, and no batch
    # A border of zeros would be an edge itself; a mirror image has none.
    return cyconv.conv(x, filters(sigma), padding="same", padding_mode="symmetric")


def coloured(across, down):
    """Return an (H, W, 3) picture: the hue is the direction of the arrow, the light its length."""
    strength = np.hypot(across, down)
    hue = np.arctan2(down, across) / (2 * np.pi) % 1
    light = np.minimum(strength / np.percentile(strength, 99), 1)
    return hsv_to_rgb(np.stack([hue, np.full_like(hue, 0.8), light], axis=-1))


def draw(photograph, blurred, across, down, path):
    figure, grid = plt.subplots(2, 3, figsize=(9, 6.3), layout="constrained")
    top = np.percentile(abs(np.stack([across, down])), 99.5)
    signed = {"cmap": "gray", "vmin": -top, "vmax": top}
    pictures = {
        "photograph": (photograph, {"cmap": "gray"}),
        "blurred": (blurred, {"cmap": "gray"}),
        "colour: direction, light: strength": (coloured(across, down), {}),
        "derivative across": (across, signed),
        "derivative down": (down, signed),
        "strength of the edge": (np.hypot(across, down), {"cmap": "gray_r", "vmax": 1.5 * top}),
    }
    for axes, (title, (picture, options)) in zip(grid.flat, pictures.items(), strict=True):
        axes.imshow(picture, **options)
        axes.set_title(title, fontsize=10)
        axes.axis("off")
    figure.savefig(path, dpi=70)
    plt.close(figure)


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Find the edges in a photograph.")
    parser.add_argument("--sigma", type=float, default=SIGMA, help="default: %(default)s")
    parser.add_argument("--output", default="edges.png", help="default: %(default)s")
    options = parser.parse_args(arguments)

    photograph = data.camera().astype(np.float32) / 255
    w = filters(options.sigma)
    print(f"{len(w)} filters of {w.shape[2]}x{w.shape[3]} cells, {cyconv.backend} kernels")
    blurred, across, down = edges(photograph, options.sigma)
    strength = np.hypot(across, down)
    print(f"half of all that changes is in {share_of_half(strength):.1%} of the cells")
    draw(photograph, blurred, across, down, options.output)
    print(f"drawn: {options.output}")
    return 0


def share_of_half(strength):
    """Return the share of cells that, the strongest first, make up half of the sum."""
    sums = np.cumsum(np.sort(strength, axis=None)[::-1])
    return np.searchsorted(sums, sums[-1] / 2) / strength.size


if __name__ == "__main__":
    sys.exit(main())
