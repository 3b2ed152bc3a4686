"""Teach a small network to make photographs twice as large.

    python examples/superres.py

A photograph is made half as large; the network learns to undo that, from six photographs of
scikit-image, and is tested on three that it never sees. Bicubic interpolation does what can be done
without knowing photographs; the network adds what it has learned, so it is measured against that.

It works on the small image, where each step costs a quarter, and grows only at its end, by a
transposed convolution with stride 2 (Dong, Loy and Tang, 2016: Accelerating the Super-Resolution
Convolutional Neural Network). Colours go through it one by one, as images of one channel.
"""

import argparse
import sys
import time

import matplotlib as mpl
import numpy as np
from digits import Adam
from PIL import Image
from skimage import data
from tqdm import tqdm

import cyconv
from cyconv import Conv2D, ConvTranspose2D

mpl.use("Agg")  # draw into a file: no screen is needed
from matplotlib import pyplot as plt

GOAL = 1.5  # dB that the network must gain over bicubic on held-out photographs, on average
STEPS = 3000  # of learning: about a minute of one core's time, for that goal and more
BATCH = 16
PATCH = 32  # the side of a small patch; the network makes 64x64 of it
RATE = 1e-3
LEARN = ("brick", "cat", "coffee", "coins", "moon", "rocket")
HELD = ("astronaut", "camera", "stereo_motorcycle")
SHOWN = ("astronaut", slice(70, 190), slice(165, 285))  # a part of it is drawn


def photograph(name):
    """Return (colours, H, W) between 0 and 1, of even size."""
    pixels = getattr(data, name)()
    pixels = pixels[0] if isinstance(pixels, tuple) else pixels  # of a pair, the left one
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    height, width = (size // 2 * 2 for size in pixels.shape[:2])
    return pixels[:height, :width].transpose(2, 0, 1).astype(np.float32) / 255


def resize(image, factor):
    """Resize (colours, H, W) with Pillow's bicubic interpolation."""
    _, height, width = image.shape
    size = round(width * factor), round(height * factor)
    return np.stack([np.asarray(Image.fromarray(c).resize(size, Image.BICUBIC)) for c in image])


def halves(name):
    """Return a photograph, its half, and what bicubic interpolation makes of the half."""
    large = photograph(name)
    small = resize(large, 1 / 2)
    return large, small, resize(small, 2)


class Network:
    """What bicubic interpolation lacks: four convolutions, and a transposed one that grows."""

    def __init__(self, rng):
        same = {"padding": 1, "padding_mode": "replicate", "rng": rng}
        self.layers = [
            Conv2D(1, 32, kernel_size=5, **{**same, "padding": 2}),
            Conv2D(32, 32, kernel_size=3, **same),
            Conv2D(32, 32, kernel_size=3, **same),
            Conv2D(32, 32, kernel_size=3, **same),
            ConvTranspose2D(32, 1, kernel_size=6, stride=2, padding=2, rng=rng),  # (2H, 2W)
        ]
        for parameter, _ in self.layers[-1].parameters():
            parameter[...] = 0  # to begin with, nothing is added

    def __call__(self, x):
        """Return (N, 1, 2H, 2W) for (N, 1, H, W), and remember nothing."""
        for layer in self.layers[:-1]:
            x = np.maximum(layer(x), 0)
        return self.layers[-1](x)

    def forward(self, x):
        """Return the same, and remember what `backward` needs."""
        self.inputs = [x]  # of each layer
        for layer in self.layers[:-1]:
            self.inputs.append(np.maximum(layer.forward(self.inputs[-1]), 0))
        return self.layers[-1].forward(self.inputs[-1])

    def backward(self, dy):
        for layer, x in zip(self.layers[:0:-1], self.inputs[:0:-1], strict=True):
            dy = layer.backward(dy) * (x > 0)  # ReLU: what was cut off has no say
        self.layers[0].backward(dy, input_grad=False)

    def parameters(self):
        return [pair for layer in self.layers for pair in layer.parameters()]


def patches(images, rng):
    """Return BATCH small patches, and what the network should add to their bicubic enlargement."""
    small = np.empty((BATCH, 1, PATCH, PATCH), np.float32)
    wanted = np.empty((BATCH, 1, 2 * PATCH, 2 * PATCH), np.float32)
    for n in range(BATCH):
        large, half, bicubic = images[rng.integers(len(images))]
        colour, top, left = (
            rng.integers(size) for size in np.subtract(half.shape, (0, PATCH, PATCH))
        )
        turns, flip = rng.integers(4), rng.choice((-1, 1))  # a photograph in a mirror is one, too
        here = colour, slice(top, top + PATCH), slice(left, left + PATCH)
        there = colour, slice(2 * top, 2 * (top + PATCH)), slice(2 * left, 2 * (left + PATCH))
        small[n] = np.rot90(half[here], turns)[:, ::flip]
        wanted[n] = np.rot90(large[there] - bicubic[there], turns)[:, ::flip]
    return small, wanted


def train(network, images, steps, rng):
    """Return the mean squared error of each step."""
    adam = Adam(network)
    losses = np.empty(steps)
    # Long steps first, short ones in the end: half a cosine.
    rates = RATE * (1 + np.cos(np.linspace(0, np.pi, steps))) / 2
    with tqdm(range(steps), unit="step") as bar:
        for step in bar:
            small, wanted = patches(images, rng)
            error = network.forward(small) - wanted
            losses[step] = np.mean(error**2)
            network.backward(2 * error / error.size)
            adam.update(rates[step])
            if step % 50 == 49:
                bar.set_postfix_str(f"squared error {losses[step - 49 : step + 1].mean():.2e}")
    return losses


def enlarge(network, small, bicubic):
    """Return the photograph twice as large, (colours, 2H, 2W)."""
    return np.clip(bicubic + network(small[:, np.newaxis])[:, 0], 0, 1)


def psnr(image, wanted):
    """Return the peak signal-to-noise ratio in dB: more is better, 3 dB half the squared error."""
    return -10 * np.log10(np.mean((image - wanted) ** 2))


def draw(pictures, path):
    """Draw pictures, {title: (colours, H, W)}, side by side."""
    figure, row = plt.subplots(1, len(pictures), figsize=(9, 2.55), layout="constrained")
    for axes, (title, picture) in zip(row, pictures.items(), strict=True):
        axes.imshow(np.clip(picture, 0, 1).transpose(1, 2, 0), interpolation="nearest")
        axes.set_title(title, fontsize=9)
        axes.axis("off")
    figure.savefig(path, dpi=100)
    plt.close(figure)


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Teach a network to enlarge photographs.")
    parser.add_argument("--steps", type=int, default=STEPS, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--output", default="superres.png", help="default: %(default)s")
    options = parser.parse_args(arguments)

    rng = np.random.default_rng(options.seed)
    network = Network(rng)
    print(*network.layers, sep="\n")
    print(f"{sum(p.size for p, _ in network.parameters()):,} parameters, {cyconv.backend} kernels")

    start = time.perf_counter()
    train(network, [halves(name) for name in LEARN], options.steps, rng)
    print(f"{time.perf_counter() - start:.0f} s of learning")
    gains = []
    for name in HELD:
        large, small, bicubic = halves(name)
        ours = enlarge(network, small, bicubic)
        before, after = psnr(np.clip(bicubic, 0, 1), large), psnr(ours, large)
        gains.append(after - before)
        print(f"{name:18} bicubic {before:.2f} dB, network {after:.2f} dB: {gains[-1]:+.2f} dB")
        if name == SHOWN[0]:
            pictures = {
                "half the size": np.repeat(np.repeat(small, 2, 1), 2, 2),
                f"bicubic, {before:.2f} dB": bicubic,
                f"network, {after:.2f} dB": ours,
                "the photograph": large,
            }
            draw({title: p[:, *SHOWN[1:]] for title, p in pictures.items()}, options.output)
    gain = np.mean(gains)
    print(f"{gain:+.2f} dB on average over photographs that it never saw")
    print(f"drawn: {options.output}")
    if gain < GOAL and options.steps >= STEPS:
        print(f"that is less than the {GOAL} dB it should gain")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
