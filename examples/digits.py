"""Learn to read handwritten digits, with convolutions and nothing else.

    python examples/digits.py

The data are 1,797 real digits of 8x8 pixels, which come with scikit-learn. Four fifths of them
teach a small network of cyconv layers; the last fifth, which it never sees, tests it. Then a
picture is drawn: how the loss fell, what the first filters became, what they see in a digit, and
which digits are misread.

Learning is the same four steps over and over, and each is a function or a method below:

    scores = network.forward(images)               forward
    loss, dscores = cross_entropy(scores, labels)  loss
    network.backward(dscores)                      backward
    adam.update(rate)                              update
"""

import argparse
import sys
import time

import matplotlib as mpl
import numpy as np
from sklearn.datasets import load_digits
from tqdm import tqdm

import cyconv
from cyconv import Conv2D

mpl.use("Agg")  # draw into a file: no screen is needed
from matplotlib import pyplot as plt

GOAL = 0.985  # of the held-out digits
EPOCHS = 60  # enough to get there
BATCH = 64
RATE = 3e-3


def load(rng):
    """Return (images, labels) to learn from, and (images, labels) held out.

    Images are (N, 1, 8, 8): one channel, from 0 for paper to 1 for ink.
    """
    digits = load_digits()
    images = digits.images[:, np.newaxis].astype(np.float32) / 16
    held, learn = np.split(rng.permutation(len(images)), [len(images) // 5])
    return (images[learn], digits.target[learn]), (images[held], digits.target[held])


class Network:
    """Four convolutions, with a ReLU after each but the last."""

    def __init__(self, rng):
        self.layers = [
            Conv2D(1, 16, kernel_size=3, padding=1, rng=rng),  # 16 features at 8x8 places
            Conv2D(16, 32, kernel_size=3, padding=1, stride=2, rng=rng),  # 4x4: a stride, no pool
            Conv2D(32, 64, kernel_size=3, padding=1, rng=rng),  # 4x4
            Conv2D(64, 10, kernel_size=4, rng=rng),  # 1x1: a score for each of the ten digits
        ]

    def __call__(self, images):
        """Return the scores, (N, 10), and remember nothing."""
        for layer in self.layers[:-1]:
            images = np.maximum(layer(images), 0)
        return self.layers[-1](images)[:, :, 0, 0]

    def forward(self, images):
        """Return the scores, (N, 10), and remember what `backward` needs."""
        self.inputs = [images]  # of each layer
        for layer in self.layers[:-1]:
            self.inputs.append(np.maximum(layer.forward(self.inputs[-1]), 0))
        return self.layers[-1].forward(self.inputs[-1])[:, :, 0, 0]

    def backward(self, dscores):
        """Go back from the last layer to the first; each finds the gradients of its weights."""
        dy = dscores[:, :, np.newaxis, np.newaxis]
        for layer, x in zip(self.layers[:0:-1], self.inputs[:0:-1], strict=True):
            dy = layer.backward(dy) * (x > 0)  # ReLU: what was cut off has no say
        self.layers[0].backward(dy, input_grad=False)  # no layer comes before the first

    def parameters(self):
        return [pair for layer in self.layers for pair in layer.parameters()]


def cross_entropy(scores, labels):
    """Return the mean of -log(softmax(scores)[label]), and its gradient."""
    scores = scores - scores.max(axis=1, keepdims=True)  # softmax stays the same, exp in bounds
    logs = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    rows = np.arange(len(labels))
    gradient = np.exp(logs)
    gradient[rows, labels] -= 1
    return -logs[rows, labels].mean(), gradient / len(labels)


class Adam:
    """Kingma and Ba, 2014: the steadier a gradient, the longer the step, whatever its size."""

    def __init__(self, network):
        self.network = network
        self.steps = 0
        self.mean = [np.zeros_like(parameter) for parameter, _ in network.parameters()]
        self.square = [np.zeros_like(parameter) for parameter, _ in network.parameters()]

    def update(self, rate):
        self.steps += 1
        rate *= np.sqrt(1 - 0.999**self.steps) / (1 - 0.9**self.steps)  # both began at zero
        pairs = self.network.parameters()
        for (parameter, gradient), m, s in zip(pairs, self.mean, self.square, strict=True):
            m += 0.1 * (gradient - m)
            s += 0.001 * (gradient**2 - s)
            parameter -= rate * m / (np.sqrt(s) + 1e-8)


def warp(images, rng):
    """Turn, shear, stretch and move each image a little: the same digits, in other hands."""
    n = len(images)
    matrix = np.eye(2) + rng.uniform(-0.25, 0.25, (n, 2, 2))
    move = rng.uniform(-0.7, 0.7, (n, 2, 1, 1))
    # Where each pixel comes from, with a margin of blank paper: (n, 8, 8) rows and columns.
    places = np.einsum("nij,jhw->nihw", matrix, np.indices((8, 8)) - 3.5) + move + 4.5
    places = np.clip(places, 0, 8.99).astype(np.float32)
    (row, column), (down, right) = (a.swapaxes(0, 1) for a in (places.astype(int), places % 1))
    paper = np.pad(images[:, 0], ((0, 0), (1, 1), (1, 1)))
    n = np.arange(n)[:, np.newaxis, np.newaxis]
    above = (1 - right) * paper[n, row, column] + right * paper[n, row, column + 1]
    below = (1 - right) * paper[n, row + 1, column] + right * paper[n, row + 1, column + 1]
    return ((1 - down) * above + down * below)[:, np.newaxis]


def accuracy(network, images, labels):
    return np.mean(network(images).argmax(axis=1) == labels)


def train(network, learn, held, epochs, rng):
    """Return the loss of each step, (epochs, steps)."""
    images, labels = learn
    adam = Adam(network)
    losses = np.empty((epochs, len(images) // BATCH))
    # Long steps first, short ones in the end: half a cosine.
    rates = RATE * (1 + np.cos(np.linspace(0, np.pi, losses.size))).reshape(losses.shape) / 2
    with tqdm(range(epochs), unit="epoch") as bar:
        for epoch in bar:
            batches = rng.permutation(len(images))[: BATCH * losses.shape[1]].reshape(-1, BATCH)
            for step, batch in enumerate(batches):
                scores = network.forward(warp(images[batch], rng))
                losses[epoch, step], dscores = cross_entropy(scores, labels[batch])
                network.backward(dscores)
                adam.update(rates[epoch, step])
            loss, read = losses[epoch].mean(), accuracy(network, *held)
            bar.set_postfix_str(f"loss {loss:.3f}, {read:.1%} of held-out digits read")
    return losses


def draw(network, losses, images, labels, path):
    """Draw what was learned, and what was not."""
    figure = plt.figure(figsize=(9, 6.6), layout="constrained")
    figure.get_layout_engine().set(rect=(0.01, 0.01, 0.98, 0.98))  # a margin
    (loss, filters), (features, misread) = figure.subfigures(
        2, 2, width_ratios=[1.25, 1], height_ratios=[1, 1.1], hspace=0.03, wspace=0.03
    )
    draw_loss(loss, losses)
    draw_filters(filters, network.layers[0].weight)
    draw_features(features, network, images[labels == 3][:1])
    draw_misread(misread, network, images, labels)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def draw_loss(figure, losses):
    figure.suptitle("Loss while learning")
    axes = figure.subplots()
    epochs, steps = losses.shape
    axes.semilogy(np.arange(losses.size) / steps, losses.ravel(), color="0.8", lw=0.7, label="step")
    axes.semilogy(np.arange(epochs) + 0.5, losses.mean(axis=1), color="C0", lw=2, label="epoch")
    axes.set(xlabel="epoch", ylabel="cross-entropy", xlim=(0, epochs))
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)


def draw_filters(figure, weight):
    figure.suptitle("First filters: blue adds, red subtracts")
    top = abs(weight).max()
    for axes, kernel in zip(figure.subplots(4, 4).flat, weight[:, 0], strict=True):
        axes.imshow(kernel, cmap="RdBu", vmin=-top, vmax=top)
        axes.set(xticks=[], yticks=[])


def draw_features(figure, network, digit):
    figure.suptitle("A digit, and what the first layer sees in it")
    grid = figure.add_gridspec(4, 6)
    axes = figure.add_subplot(grid[1:3, :2])
    axes.imshow(digit[0, 0], cmap="gray_r")
    axes.set(xticks=[], yticks=[])
    maps = np.maximum(network.layers[0](digit), 0)[0]
    for k, feature in enumerate(maps):
        axes = figure.add_subplot(grid[k // 4, 2 + k % 4])
        axes.imshow(feature, cmap="viridis", vmin=0, vmax=maps.max())
        axes.set(xticks=[], yticks=[])


def draw_misread(figure, network, images, labels):
    scores = network(images)
    read = scores.argmax(axis=1)
    wrong = np.flatnonzero(read != labels)
    figure.suptitle(f"Misread: {len(wrong)} of {len(labels)} held-out digits")
    if len(wrong) == 0:
        return
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    odds /= odds.sum(axis=1, keepdims=True)
    figure.supxlabel("how sure it is of each digit; the right one is green", fontsize=9)
    shown = wrong[:6]  # as many as there is room for
    rows, columns = (3, 2) if len(shown) > 3 else (len(shown), 1)
    axes = figure.subplots(rows, 2 * columns, squeeze=False).reshape(-1, 2)
    for (left, right), i in zip(axes, shown, strict=False):
        left.imshow(images[i, 0], cmap="gray_r")
        left.set(xticks=[], yticks=[])
        left.set_title(f"{labels[i]}, read as {read[i]}", fontsize=9)
        right.bar(range(10), odds[i], color=["C2" if d == labels[i] else "0.7" for d in range(10)])
        right.set(xticks=range(10), yticks=[], ylim=(0, 1), box_aspect=0.5)
        right.tick_params(labelsize=6, length=0)
        right.spines[["top", "left", "right"]].set_visible(False)
    for unused in axes[len(shown) :].flat:
        unused.axis("off")


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Learn to read handwritten digits.")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--output", default="digits.png", help="default: %(default)s")
    options = parser.parse_args(arguments)

    rng = np.random.default_rng(options.seed)
    learn, held = load(rng)
    network = Network(rng)
    print(*network.layers, sep="\n")
    print(f"{sum(p.size for p, _ in network.parameters()):,} parameters, {cyconv.backend} kernels")

    start = time.perf_counter()
    losses = train(network, learn, held, options.epochs, rng)
    seconds = time.perf_counter() - start
    read = accuracy(network, *held)
    print(f"{read:.2%} of {len(held[0])} held-out digits read, after {seconds:.1f} s of learning")
    draw(network, losses, *held, options.output)
    print(f"drawn: {options.output}")
    if read < GOAL and options.epochs >= EPOCHS:
        print(f"that is less than the {GOAL:.1%} it should reach")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
