"""Find the stars in an image of 40,000 x 40,000 pixels, which never exists as a whole.

    python examples/large_image.py

The image is a made-up sky: 200,000 stars, many of them hardly brighter than the noise.
As float32 it would take 6.4 GB. It is made in chunks of 1,250 x 1,250 pixels, each when its turn
comes; `cyconv.interop.dask.conv` filters it with the shape of a star, and what stands out in the
result is a star. A filter of 13 x 13 pixels reads 6 pixels beyond the border of a chunk: these are
handed over by its neighbours, so stars across borders are found like the others.

Several processes share the work, and the memory of all of them is watched.
"""

import argparse
import os
import sys
import threading
import time
from functools import cache

os.environ.setdefault("CYCONV_NUM_THREADS", "1")  # of each worker: there is one for each core

import dask
import dask.array as da
import matplotlib as mpl
import numpy as np
import psutil
from distributed import Client, LocalCluster, as_completed
from tqdm import tqdm

from cyconv.interop.dask import conv

mpl.use("Agg")  # draw into a file: no screen is needed
from matplotlib import pyplot as plt

WIDTH = 2.0  # of a star: the standard deviation of its light, in pixels
RADIUS = 6  # beyond which there is none
THRESHOLD = 7  # standard deviations of the noise: of 10**9 pixels, none is that far off by chance
GOAL = 0.98  # of the stars; some are too near a brighter one


@cache
def catalogue(size, count):
    """Where the stars are and how bright: (count, 3), by rows. The same in every process."""
    rng = np.random.default_rng(size)
    places = rng.uniform(RADIUS, size - 1 - RADIUS, (count, 2))
    brightness = 3 + rng.exponential(3, (count, 1))  # in standard deviations of the noise
    return np.hstack([places, brightness])


def star(center):
    """The light of a star of brightness 1 in its 13 x 13 pixels, and its top left pixel."""
    corner = np.rint(center).astype(int) - RADIUS
    rows, columns = np.indices((2 * RADIUS + 1,) * 2) + (corner - center)[:, None, None]
    return np.exp(-(rows**2 + columns**2) / (2 * WIDTH**2)).astype(np.float32), corner


def filter_of_stars():
    """A star, less what is the same everywhere; the noise has standard deviation 1 after it."""
    light, _ = star(np.zeros(2))
    light -= light.mean()
    return (light / np.linalg.norm(light))[np.newaxis, np.newaxis]


def make_chunk(block_id, size, chunk, count):
    """One chunk of the sky, (1, 1, chunk, chunk)."""
    rng = np.random.default_rng(block_id)
    pixels = rng.standard_normal((chunk, chunk), dtype=np.float32)
    origin = np.array(block_id[2:]) * chunk
    stars = catalogue(size, count)
    within = abs(stars[:, :2] - origin - chunk / 2).max(axis=1) < chunk / 2 + RADIUS + 1
    for *center, brightness in stars[within]:
        light, corner = star(np.array(center))
        (top, left), (bottom, right) = corner - origin, corner - origin + light.shape
        inside = pixels[max(0, top) : max(0, bottom), max(0, left) : max(0, right)]
        skipped = light[max(0, -top) :, max(0, -left) :]
        inside += brightness * skipped[: inside.shape[0], : inside.shape[1]]
    return pixels[np.newaxis, np.newaxis]


def sky(size, chunk, count):
    """The image, (1, 1, size, size), of which nothing is there yet."""
    chunks = (1, 1, *[(chunk,) * (size // chunk)] * 2)
    return da.map_blocks(
        make_chunk,
        size=size,
        chunk=chunk,
        count=count,
        chunks=chunks,
        dtype=np.float32,
        meta=np.empty((0,) * 4, np.float32),
    )


def peaks(response, origin):
    """Where the response is above the threshold and the highest for 4 pixels around, and how high
    it is: (n, 3)."""
    response = np.pad(response[0, 0], 4)
    found = [
        (*(place - 4 + origin), response[*place])
        for place in np.argwhere(response > THRESHOLD)
        if response[*place] == response[around(place[0]), around(place[1])].max()
    ]
    return np.reshape(found, (-1, 3))


def around(position):
    return slice(position - 4, position + 5)


def search(image):
    """A task for each chunk, which finds its stars."""
    response = conv(image, filter_of_stars(), padding="same")
    return [
        dask.delayed(peaks)(block, np.array([i, j]) * image.chunksize[2:])
        for (_, _, i, j), block in np.ndenumerate(response.to_delayed())
    ]


def without_twins(found):
    """Leave out the dimmer of two within 4 pixels: a star at a border is found on both sides."""
    found = found[np.argsort(found[:, 0])]
    first, last = (np.searchsorted(found[:, 0], found[:, 0] + far) for far in (-4, 5))
    highest = [
        height >= found[a:b, 2][abs(found[a:b, 1] - column) <= 4].max()
        for a, b, (_, column, height) in zip(first, last, found, strict=True)
    ]
    return found[highest, :2]


class Watch:
    """The memory of this process and all that it started, looked at twenty times a second."""

    def __enter__(self):
        self.peak = 0
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()
        return self

    def run(self):
        me = psutil.Process()
        while not self.done.wait(0.05):
            total = 0
            for process in [me, *me.children(recursive=True)]:
                try:
                    total += process.memory_info().rss  # pages that two share count twice
                except psutil.NoSuchProcess:
                    continue
            self.peak = max(self.peak, total)

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()


def near(places, others):
    """Of each place, whether one of the others is within 2 pixels of it, along both axes."""
    others = others[np.argsort(others[:, 0])]
    first, last = (np.searchsorted(others[:, 0], places[:, 0] + far) for far in (-2, 2))
    rows = zip(first, last, places[:, 1], strict=True)
    return np.array([(abs(others[a:b, 1] - column) < 2).any() for a, b, column in rows])


def draw(image, found, stars, path):
    """A corner where four chunks meet: what is seen, what the filter makes of it, what is found."""
    middle = image.chunksize[2] * (image.numblocks[2] // 2)
    rows = slice(middle - 100, middle + 100)
    response = conv(image, filter_of_stars(), padding="same")
    views = dask.compute(image[0, 0, rows, rows], response[0, 0, rows, rows])
    figure, axes = plt.subplots(1, 2, figsize=(9, 4.8), layout="constrained")
    titles = ["The corner of four chunks", "filtered; circles: found, crosses: are there"]
    for ax, view, title in zip(axes, views, titles, strict=True):
        ax.imshow(view, cmap="gray", vmin=-3, vmax=12, extent=(-100.5, 99.5, 99.5, -100.5))
        ax.axhline(-0.5, color="C0", lw=0.6)
        ax.axvline(-0.5, color="C0", lw=0.6)
        ax.set(title=title, xticks=[], yticks=[], autoscale_on=False)
    for places, style in ((found, "C1o"), (stars, "C2x")):
        down, right = (places[:, :2] - middle).T
        axes[1].plot(right, down, style, ms=11 if style == "C1o" else 5, mfc="none", lw=0)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Find the stars in a very large image.")
    parser.add_argument("--size", type=int, default=40_000, help="default: %(default)s")
    parser.add_argument("--chunk", type=int, default=1_250, help="default: %(default)s")
    parser.add_argument("--stars", type=int, default=200_000, help="default: %(default)s")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count(), help="processes; 0: this one alone"
    )
    parser.add_argument("--output", default="large_image.png", help="default: %(default)s")
    options = parser.parse_args(arguments)
    if options.size % options.chunk:
        parser.error("--chunk must divide --size")

    image = sky(options.size, options.chunk, options.stars)
    print(f"{options.size} x {options.size} pixels, {image.nbytes / 1e9:.1f} GB as a whole")
    cluster = LocalCluster(
        n_workers=max(1, options.workers),
        threads_per_worker=1,
        processes=options.workers > 0,
        dashboard_address=":0",  # any port that is free
    )
    start = time.perf_counter()
    with cluster, Client(cluster) as client, Watch() as watch:
        tasks = client.compute(search(image))
        chunks = as_completed(tasks, with_results=True)
        found = [places for _, places in tqdm(chunks, total=len(tasks), unit="chunk")]
        found = without_twins(np.concatenate(found))
        seconds = time.perf_counter() - start
    stars = catalogue(options.size, options.stars)
    seen, real = near(stars, found), near(found, stars)
    to_border = (stars[:, :2] + options.chunk / 2) % options.chunk - options.chunk / 2
    across = abs(to_border).min(axis=1) < RADIUS
    print(f"{seen.sum():,} of {len(stars):,} stars found; {seen[across].sum():,} of the ", end="")
    print(f"{across.sum():,} across a border of chunks; found, but not there: {(~real).sum()}")
    print(f"{seconds:.1f} s; peak memory of all processes: {watch.peak / 1e6:.0f} MB")
    with dask.config.set(scheduler="threads"):
        draw(image, found, stars, options.output)
    print(f"drawn: {options.output}")
    if seen.mean() < GOAL:
        print(f"that is less than the {GOAL:.0%} it should find")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
