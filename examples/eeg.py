"""Look for sharp waves in an EEG, with wavelets: a convolution over one axis.

    python examples/eeg.py

The data are ten seconds of a real electroencephalogram from four electrodes, which come with
Matplotlib. What it is made of differs from moment to moment, so one spectrum of the whole would not
show much. A wavelet is a short piece of a wave; where a signal has that rhythm, the sum of its
cells times the wavelet's is large. So a bank of wavelets, from slow to fast, is a convolution with
a filter for each, and the result is a map over time and frequency.

A slow rhythm has one frequency; a sharp wave has all of them, for a moment. That is how it is
found. (An example of a convolution, not of medicine.)
"""

import argparse
import sys

import matplotlib as mpl
import numpy as np
from matplotlib import cbook

import cyconv

mpl.use("Agg")  # draw into a file: no screen is needed
from matplotlib import pyplot as plt

RATE = 80  # samples a second
NAMES = ("PG3", "PG5", "PG7", "PG9")  # of the electrodes
FREQUENCIES = np.geomspace(2, 32, 41)  # Hz
CYCLES = 5  # of the wave in a wavelet, about: the more, the sharper in frequency, but not in time
FAST = 12  # Hz: sharp waves are looked for from here on
ABOVE = 8  # how many times the median of that power they have


def load():
    """Return the electroencephalogram, (4, 800)."""
    with cbook.get_sample_data("eeg.dat") as file:
        return np.frombuffer(file.read(), float).reshape(-1, len(NAMES)).T


def wavelets(frequencies, rate):
    """Return Morlet's wavelets as filters, (2 * frequencies, 1, k): first all cosines, then sines.

    Each is a wave under a bell, scaled so that a sine of its frequency and height 1 gives 1.
    """
    widths = CYCLES / (2 * np.pi * frequencies)[:, np.newaxis]  # of the bells, in seconds
    reach = int(np.ceil(3 * widths.max() * rate))
    time = np.arange(-reach, reach + 1) / rate
    bells = np.exp(-0.5 * (time / widths) ** 2)
    bells *= 2 / bells.sum(axis=1, keepdims=True)
    angles = 2 * np.pi * frequencies[:, np.newaxis] * time
    return np.concatenate([bells * np.cos(angles), bells * np.sin(angles)])[:, np.newaxis]


def scalogram(signals, frequencies=FREQUENCIES, rate=RATE):
    """Return the power, (signals, frequencies, samples), of signals (signals, samples)."""
    x = signals[:, np.newaxis]  # a batch, of one channel each
    y = cyconv.conv(x, wavelets(frequencies, rate), padding="same", padding_mode="symmetric")
    cosine, sine = np.split(y, 2, axis=1)
    return cosine**2 + sine**2  # whatever the phase


def sharp_waves(power, frequencies=FREQUENCIES, rate=RATE):
    """Return the times, in seconds, at which all fast rhythms are strong at once."""
    fast = power[:, frequencies >= FAST].mean(axis=(0, 1))  # (samples,)
    peak = (fast[1:-1] >= fast[:-2]) & (fast[1:-1] > fast[2:])
    strong = fast[1:-1] > ABOVE * np.median(fast)
    return (np.flatnonzero(peak & strong) + 1) / rate


def draw(signals, power, times, path):
    figure, grid = plt.subplots(
        4, 2, figsize=(9, 6), sharex=True, layout="constrained", width_ratios=(1, 1.25)
    )
    seconds = np.arange(signals.shape[1]) / RATE
    for (left, right), name, signal, map_ in zip(grid, NAMES, signals, power, strict=True):
        left.plot(seconds, signal, lw=0.7, color="0.2")
        left.set_ylabel(name)
        left.spines[["top", "right"]].set_visible(False)
        right.pcolormesh(seconds, FREQUENCIES, np.sqrt(map_), shading="nearest", rasterized=True)
        right.set(yscale="log", yticks=(2, 4, 8, 16, 32), ylabel="Hz")
        right.yaxis.set_major_formatter("{x:g}")
        right.minorticks_off()
        for time in times:
            left.axvline(time, color="C3", lw=0.8, ls=":")
            right.axvline(time, color="w", lw=0.8, ls=":")
    grid[0, 0].set_title("signal", fontsize=10)
    grid[0, 1].set_title("height of each rhythm, from dark to bright", fontsize=10)
    for axes in grid[-1]:
        axes.set_xlabel("seconds")
    figure.savefig(path, dpi=100)
    plt.close(figure)


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Look for sharp waves in an EEG.")
    parser.add_argument("--output", default="eeg.png", help="default: %(default)s")
    options = parser.parse_args(arguments)

    signals = load()
    w = wavelets(FREQUENCIES, RATE)
    print(f"{len(w)} filters of {w.shape[-1]} taps, {cyconv.backend} kernels")
    power = scalogram(signals)
    times = sharp_waves(power)
    print("sharp waves at", ", ".join(f"{time:.2f}" for time in times), "seconds")
    draw(signals, power, times, options.output)
    print(f"drawn: {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
