"""Find the lines of text in a photograph, with a real network in ONNX's reference evaluator.

    python examples/ocr.py
    python examples/ocr.py --image photograph.jpg

The network is PP-OCRv4's text detector, which comes with the package rapidocr-onnxruntime; the
photograph, of a printed page, comes with scikit-image. onnx's reference evaluator runs any ONNX
model in NumPy, but its convolutions are written to be read. With cyconv's in their place the
detector takes about a second: `cyconv.interop.onnx.operators()` is all there is to it.

What comes out is compared with ONNX Runtime, and the evaluator is timed with its own operators and
with cyconv's.
"""

import argparse
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import matplotlib as mpl
import numpy as np
import onnx
import onnx.version_converter
import onnxruntime
from matplotlib.patches import Polygon
from onnx.reference import ReferenceEvaluator
from PIL import Image
from skimage import data, measure

from cyconv.interop.onnx import operators

mpl.use("Agg")  # draw into a file: no screen is needed
from matplotlib import pyplot as plt

TOLERANCE = 1e-3  # of a probability
TIMES = 20  # as fast as the evaluator's own operators, at least
TEXT = 0.3  # the probability above which a pixel belongs to a line of text
GROW = 1.6  # how much narrower than the text the lines are that it has learned to mark


def load_model():
    """The detector, as ONNX Runtime is to run it, and as the evaluator is."""
    # Looked for, not imported: that would load all that it needs to read text as well.
    package = find_spec("rapidocr_onnxruntime")
    if package is None:
        raise ImportError(
            "the detector comes with the package rapidocr-onnxruntime (Python < 3.13)"
        )
    path = Path(package.origin).parent / "models" / "ch_PP-OCRv4_det_infer.onnx"
    model = onnx.load(path)
    # In operator set 9 the evaluator takes batch normalisation for learning, wherever a momentum is
    # given; from 14 on, whether a model is to learn is said in so many words.
    return model, onnx.version_converter.convert_version(model, 18)


def load_photograph(path, scale):
    """A photograph as (height, width, 3), both multiples of 32, as the network wants."""
    photograph = Image.fromarray(data.page()) if path is None else Image.open(path)
    size = [max(32, round(side * scale / 32) * 32) for side in photograph.size]
    return np.asarray(photograph.convert("RGB").resize(size, Image.Resampling.BICUBIC))


def as_input(photograph):
    """(height, width, 3) of bytes -> (1, 3, height, width) from -1 to 1, blue first."""
    x = photograph[:, :, ::-1].astype(np.float32) / 127.5 - 1
    return np.ascontiguousarray(x.transpose(2, 0, 1)[np.newaxis])


def run(session, x):
    """The probability that a pixel is of text, (height, width), and the seconds that it took."""
    start = time.perf_counter()
    with np.errstate(over="ignore", invalid="ignore"):  # the evaluator's sigmoid, far from zero
        (y,) = session.run(None, {"x": x})
    return y[0, 0], time.perf_counter() - start


def find_lines(probability):
    """The four corners (x, y) of each line of text."""
    lines = []
    for region in measure.regionprops(measure.label(probability > TEXT)):
        places = region.coords[:, ::-1].astype(float)
        if region.area < 20 or probability[tuple(region.coords.T)].mean() < 0.5:
            continue
        center = places.mean(axis=0)
        _, axes = np.linalg.eigh(np.cov((places - center).T))  # across the line, and along it
        along = (places - center) @ axes
        low, high = along.min(axis=0) - 0.5, along.max(axis=0) + 0.5
        sides = high - low
        margin = GROW * sides.prod() / (2 * sides.sum())  # area to circumference
        low, high = low - margin, high + margin
        corners = np.array([low, (high[0], low[1]), high, (low[0], high[1])])
        lines.append(corners @ axes.T + center)
    return lines


def draw(photograph, probability, lines, path):
    height, width = photograph.shape[:2]
    figure, axes = plt.subplots(2, 1, figsize=(8, 16 * height / width + 0.6), layout="constrained")
    axes[0].imshow(photograph)
    for corners in lines:
        axes[0].add_patch(Polygon(corners, fill=False, ec="C1", lw=1.8))
    axes[0].set(title=f"{len(lines)} pieces of text", xlim=(0, width), ylim=(height, 0))
    axes[1].imshow(probability, cmap="magma", vmin=0, vmax=1)
    axes[1].set(title="The probability that a pixel is of text")
    for ax in axes:
        ax.set(xticks=[], yticks=[])
    figure.savefig(path, dpi=100)
    plt.close(figure)


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Find the lines of text in a photograph.")
    parser.add_argument("--image", help="default: the photograph of a page in scikit-image")
    parser.add_argument("--scale", type=float, default=2, help="enlarge by; default: %(default)s")
    parser.add_argument("--output", default="ocr.png", help="default: %(default)s")
    parser.add_argument("--quick", action="store_true", help="leave out the plain evaluator")
    options = parser.parse_args(arguments)

    model, newer = load_model()
    photograph = load_photograph(options.image, options.scale)
    x = as_input(photograph)
    print(f"{len(model.graph.node)} nodes, an image of {x.shape[3]} x {x.shape[2]} pixels")

    evaluator = ReferenceEvaluator(newer, new_ops=operators())
    run(evaluator, x)  # plans are made once, for all images of a size
    probability, seconds = min((run(evaluator, x) for _ in range(3)), key=lambda result: result[1])
    print(f"with cyconv's operators   {seconds:8.2f} s")
    if not options.quick:
        _, plainly = run(ReferenceEvaluator(newer), x)
        print(f"with the evaluator's own  {plainly:8.2f} s, {plainly / seconds:.0f} times as long")
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    wanted, _ = run(session, x)
    error = abs(probability - wanted).max()
    print(f"ONNX Runtime differs by at most {error:.1e}")

    lines = find_lines(probability)
    draw(photograph, probability, lines, options.output)
    print(f"{len(lines)} pieces of text; drawn: {options.output}")
    if error > TOLERANCE:
        print(f"that is more than {TOLERANCE}")
        return 1
    if not options.quick and plainly < TIMES * seconds:
        print(f"that is less than {TIMES} times as fast")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
