"""The float32 error of each algorithm by the number of channels: the page docs/accuracy.md.

Layers are 3x3 with stride 1, as many filters as channels, and planes as large as networks have them
there, so that all algorithms serve them and `auto` takes Winograd. What is measured is the largest
deviation from float64 relative to the largest value, the worst of some draws of normally
distributed x, w, b and dy.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .contest import Row, Tables, measure_errors
from .layers import Layer, make_arrays
from .peers import Cyconv, Peer
from .reference import expect

CHANNELS = (16, 32, 64, 128, 256, 512, 1024, 2048)
ALGORITHMS = ("auto", "gemm", "direct", "winograd")
DRAWS = 2
BOUND = 5e-6
PASSES = {"y": "forward", "dx": "input gradient", "dw": "weight gradient"}
COLOURS = {
    "auto": "#222222",
    "gemm": "#3b75af",
    "direct": "#5a9e6f",
    "winograd": "#d6562b",
    "PyTorch NCHW": "#e8a33d",
    "PyTorch channels_last": "#a889b8",
}

PAGE = """\
# Accuracy

## What is promised

**Near the exact result.** In float32, with `algorithm="auto"`, a result is off by at most 5e-6 of
its largest value, forward and for each gradient, for values as networks have them: drawn
independently, of whatever scale. Where sums cancel to little beside their terms, no sum of float32
numbers keeps that; then, and with any `algorithm`, it is 5e-6 of the largest sum of magnitudes,
which for y is that of |w| |x| + |b|. In float64 these bounds are 1e-14.

Where values repeat each other, as in an image of one colour, so do their rounding errors, and they
add up. Then results are off by at most 2e-5 of the largest sum of magnitudes, and with Winograd by
6e-5 (4.1e-5 was the most, with all channels equal); in float64 by 4e-14, and by 1.2e-13.

A float16 result is a float32 one, rounded. Integers are exact as long as their sums are (below 2^24
in float32, 2^53 in float64), but with Winograd, which multiplies them by fractions.

**The same to the bit.** On one machine, with one build and one BLAS, the same call gives the same
bits, from run to run and with any number of threads. With `algorithm="direct"`, and in a vector
build with `algorithm="winograd"`, an image also gives the same bits alone and in a batch: y, and
dx. Not so with "gemm", since BLAS sums in another order where matrices are smaller, nor with
"auto", which may choose another algorithm for a batch.

**NaN and Inf** go where the definition sends them, with two exceptions: a zero-padded cell times a
NaN or Inf may be NaN or 0; and Winograd may also mark the other cells of the same tile of 4x4
outputs (of an input gradient with a stride, as many strides), or the other taps of a weight
gradient, and make NaN of Inf. Denormal numbers are numbers like others. A zero may come back with
either sign.

Tests hold all this: `tests/test_accuracy.py`, `tests/test_nonfinite.py`, `tests/test_space.py`, and
in longer runs `make soak`.

## What was measured

{machine}

![Error of each algorithm, and of PyTorch, by the number of channels]({picture})

Layers of 3x3 with as many filters as channels, on planes of 56x56 (up to 32 channels), 28x28 (up to
128) and 14x14, of two images or, from 512 channels on, one; the worst of {draws} draws. Errors are
relative to the largest value.
`make accuracy` measures it again ([`benchmarks/accuracy.py`](../benchmarks/accuracy.py)).
"""


def layer_of(channels: int) -> Layer:
    size = 56 if channels <= 32 else 28 if channels <= 128 else 14
    images = 2 if channels < 512 else 1
    return Layer(f"{channels}", images, channels, size, size, channels, 3, 1, 1)


def measure(channels: int, peers: Sequence[Peer]) -> Tables:
    """The errors of cyconv, by each algorithm, and of the peers that compute gradients."""
    ours, *others = peers
    engines = [Cyconv(ours.threads, algorithm) for algorithm in ALGORITHMS]
    engines += [peer for peer in others if peer.trains]
    layer = layer_of(channels)
    row: Row = {}
    for draw in range(DRAWS):
        arrays = make_arrays(layer, draw)
        expected = expect(layer, arrays)
        for engine in engines:
            errors = measure_errors(engine.prepare(layer, arrays), "train", expected)
            worst = row.setdefault(engine.name, {})
            for output in PASSES:
                worst[output] = max(worst.get(output, 0.0), errors[output])
    return {"errors": {layer.name: row}}


def page(results: dict[str, Any], machine: str, picture: str) -> str:
    """The page: what is promised, and a table a pass."""
    rows: dict[str, Row] = results["tables"]["errors"]
    parts = [PAGE.format(machine=machine, picture=picture, draws=DRAWS)]
    for output, name in PASSES.items():
        engines = list(next(iter(rows.values())))
        lines = [["channels", *engines], ["---:"] * (1 + len(engines))]
        lines += [
            [channels, *(f"{row[engine][output]:.1e}" for engine in engines)]
            for channels, row in rows.items()
        ]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        parts.append(f"### {name.capitalize()}\n\n{table}\n")
    return "\n".join(parts)


def draw_errors(results: dict[str, Any], path: Path) -> None:
    """A panel a pass, a line an engine."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    rows = results["tables"]["errors"]
    channels = [int(name) for name in rows]
    figure, axes = plt.subplots(1, len(PASSES), figsize=(12, 4.2), sharey=True)
    for axis, (output, name) in zip(axes, PASSES.items(), strict=True):
        for engine, colour in reversed(COLOURS.items()):
            errors = [row[engine][output] for row in rows.values() if engine in row]
            if errors:
                style = "o--" if engine == "auto" else "o-"
                axis.plot(channels, errors, style, ms=4, color=colour, label=engine)
        axis.axhline(BOUND, color="0.4", lw=1)
        axis.annotate(
            'the bound of "auto"', (channels[0], BOUND), xytext=(0, 3),
            textcoords="offset points", fontsize=8, color="0.4",
        )  # fmt: skip
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set_title(name, fontsize=11)
        axis.set_xlabel("channels and filters")
        axis.grid(color="0.93", lw=0.6)
    axes[0].set_ylabel("largest error / largest value, float32")
    axes[0].legend(fontsize=8, frameon=False, loc="lower right")
    machine = results["machine"]
    figure.text(
        0.5, 0.01, f"{machine['cpu']}, {machine['blas']}, {machine['cyconv']}, {machine['date']}",
        ha="center", fontsize=7, color="0.4",
    )  # fmt: skip
    figure.tight_layout(rect=(0, 0.03, 1, 1))
    figure.savefig(path, dpi=130)
    plt.close(figure)
