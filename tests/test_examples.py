"""The examples: what they compute, and that they run, the demo and the others for a short while."""

import importlib
import re
from pathlib import Path

import numpy as np
import pytest

import cyconv

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")
pytest.importorskip("tqdm")

EXAMPLES = Path(__file__).parents[1] / "examples"


def example(name, *needs):
    """A fixture: examples/<name>.py as a module."""

    @pytest.fixture(scope="module", name=name)
    def module():
        for package in needs:
            pytest.importorskip(package)
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(str(EXAMPLES))  # where Python looks when the script is run
            return importlib.import_module(name)

    return module


digits = example("digits")
edges = example("edges", "skimage")
eeg = example("eeg")
superres = example("superres", "skimage")


def assert_is_picture(path, least, most):
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert least < path.stat().st_size < most


def test_digits_runs(digits, tmp_path, capsys):
    picture = tmp_path / "picture.png"
    assert digits.main(["--epochs", "1", "--seed", "3", "--output", str(picture)]) == 0
    assert_is_picture(picture, 20_000, 150_000)
    printed = capsys.readouterr().out
    assert f"{cyconv.backend} kernels" in printed
    read = re.search(r"([\d.]+)% of 359 held-out digits read", printed)
    assert float(read[1]) > 40  # by chance, 10


def test_digits_learns_and_repeats(digits):
    def learn():
        rng = np.random.default_rng(0)
        learn, held = digits.load(rng)
        network = digits.Network(rng)
        losses = digits.train(network, learn, held, 2, rng)
        return losses, digits.accuracy(network, *held)

    losses, read = learn()
    assert losses.shape == (2, 22)
    assert 2.2 < losses[0, 0] < 2.4  # knows nothing: log(10) = 2.303
    assert losses[1].mean() < 0.8 * losses[0].mean()
    assert read > 0.6
    again, _ = learn()
    np.testing.assert_array_equal(losses, again)


def test_digits_fails_below_its_goal(digits, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(digits, "EPOCHS", 1)
    assert digits.main(["--epochs", "1", "--output", str(tmp_path / "picture.png")]) == 1
    assert "98.5%" in capsys.readouterr().out


def test_digits_are_split_and_none_is_in_both(digits):
    (images, labels), (held_images, held_labels) = digits.load(np.random.default_rng(0))
    assert images.shape == (1438, 1, 8, 8)
    assert held_images.shape == (359, 1, 8, 8)
    assert (len(labels), len(held_labels)) == (1438, 359)
    assert images.min() == 0
    assert images.max() == 1
    seen = {image.tobytes() for image in images}
    assert not any(image.tobytes() in seen for image in held_images)


@pytest.mark.parametrize("count", [0, 1, 3, 4, 9])
def test_the_picture_shows_what_is_misread(digits, rng, tmp_path, count):
    network = digits.Network(rng)
    _, (images, _) = digits.load(rng)
    labels = network(images).argmax(axis=1)
    labels[:count] = (labels[:count] + 1) % 10
    figure = digits.plt.figure()
    digits.draw_misread(figure, network, images, labels)
    figure.savefig(tmp_path / "picture.png")
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == [f"{d}, read as {(d - 1) % 10}" for d in labels[: min(count, 6)]]
    digits.plt.close(figure)


def test_gradient_of_the_loss(digits, rng):
    scores, labels = rng.standard_normal((5, 10)), rng.integers(0, 10, 5)
    _, gradient = digits.cross_entropy(scores, labels)
    for index in np.ndindex(scores.shape):
        step = np.zeros_like(scores)
        step[index] = 1e-5
        above, below = (digits.cross_entropy(scores + d, labels)[0] for d in (step, -step))
        assert gradient[index] == pytest.approx((above - below) / 2e-5, abs=1e-9)


def test_gradient_of_the_network(digits, rng):
    """Back through the layers and the ReLUs between them, along a random direction."""
    network = digits.Network(rng)
    images, dscores = rng.standard_normal((4, 1, 8, 8)), rng.standard_normal((4, 10))
    np.testing.assert_array_equal(network.forward(images), network(images))
    network.backward(dscores)
    for parameter, gradient in network.parameters():
        step = 1e-3 * rng.standard_normal(parameter.shape).astype(np.float32)
        wanted = (gradient * step).sum()
        parameter += step
        above = (network(images) * dscores).sum()
        parameter -= 2 * step
        below = (network(images) * dscores).sum()
        parameter += step
        np.testing.assert_allclose((above - below) / 2, wanted, rtol=0.05, atol=2e-4)


def test_edges_runs(edges, tmp_path, capsys):
    picture = tmp_path / "picture.png"
    assert edges.main(["--output", str(picture)]) == 0
    assert_is_picture(picture, 100_000, 400_000)
    assert "3 filters of 13x13 cells" in capsys.readouterr().out


def test_edges_of_a_slope(edges):
    """The derivatives of a plane, but at its border, where the mirror turns it round."""
    row, column = np.indices((40, 50))
    blurred, across, down = edges.edges(2.0 * column - 3.0 * row)[:, 8:-8, 8:-8]
    np.testing.assert_allclose(blurred, (2.0 * column - 3.0 * row)[8:-8, 8:-8], atol=1e-10)
    np.testing.assert_allclose(across, 2)
    np.testing.assert_allclose(down, -3)


def test_edges_against_scipy(edges, rng):
    ndimage = pytest.importorskip("scipy.ndimage")
    photograph = rng.standard_normal((30, 40))
    blurred = ndimage.gaussian_filter(photograph, 1.5, truncate=10 / 3, radius=5)
    found = edges.edges(photograph, 1.5)
    np.testing.assert_allclose(found[0], blurred, atol=1e-12)
    inside = (slice(1, -1), slice(1, -1))
    for axis, derivative in ((1, found[1]), (0, found[2])):
        np.testing.assert_allclose(
            derivative[inside], np.gradient(blurred, axis=axis)[inside], atol=1e-12
        )


def test_share_of_half(edges):
    assert edges.share_of_half(np.ones((10, 10))) == pytest.approx(0.5, abs=0.011)
    assert edges.share_of_half(np.array([[1.0, 0, 9, 0, 0]])) == 0


def test_eeg_runs(eeg, tmp_path, capsys):
    picture = tmp_path / "picture.png"
    assert eeg.main(["--output", str(picture)]) == 0
    assert_is_picture(picture, 80_000, 400_000)
    assert "sharp waves at 6.67, 7.36, 8.57 seconds" in capsys.readouterr().out


def test_scalogram_of_a_sine(eeg):
    """Its frequency stands out, and there the power is that of its height, whatever its phase."""
    time = np.arange(800) / eeg.RATE
    frequency = eeg.FREQUENCIES[20]
    sines = [3 * np.sin(2 * np.pi * frequency * time + phase) for phase in (0, 1)]
    power = eeg.scalogram(np.array(sines))
    assert power.shape == (2, 41, 800)
    middle = power[:, :, 300:500]
    assert (middle.argmax(axis=1) == 20).all()
    np.testing.assert_allclose(middle[:, 20], 9, rtol=1e-3)
    assert eeg.sharp_waves(power).size == 0


def test_scalogram_against_numpy(eeg):
    signals = eeg.load()
    assert signals.shape == (4, 800)
    w = eeg.wavelets(eeg.FREQUENCIES, eeg.RATE)
    reach = w.shape[-1] // 2
    padded = np.pad(signals[2], reach, mode="symmetric")
    cosine, sine = (np.correlate(padded, w[k, 0]) for k in (7, 41 + 7))
    np.testing.assert_allclose(eeg.scalogram(signals)[2, 7], cosine**2 + sine**2)


def test_superres_runs_and_learns(superres, tmp_path, capsys):
    picture = tmp_path / "picture.png"
    assert superres.main(["--steps", "60", "--output", str(picture)]) == 0
    assert_is_picture(picture, 30_000, 300_000)
    gain = re.search(r"([+-][\d.]+) dB on average", capsys.readouterr().out)
    assert float(gain[1]) > 0.1  # nothing but bicubic is 0


def test_superres_fails_below_its_goal(superres, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(superres, "STEPS", 1)
    monkeypatch.setattr(superres, "LEARN", ("coins",))
    monkeypatch.setattr(superres, "HELD", ("astronaut",))
    assert superres.main(["--steps", "1", "--output", str(tmp_path / "picture.png")]) == 1
    assert "the 1.5 dB it should gain" in capsys.readouterr().out


def test_superres_holds_photographs_out(superres):
    assert not {*superres.LEARN} & {*superres.HELD}
    assert superres.SHOWN[0] in superres.HELD
    for name in (*superres.LEARN, *superres.HELD):
        photograph = superres.photograph(name)
        assert len(photograph) in (1, 3)
        assert photograph.min() >= 0
        assert photograph.max() <= 1
        assert photograph.shape[1] % 2 == photograph.shape[2] % 2 == 0


def test_superres_patches_belong_together(superres, rng):
    """Small and large patches show the same part, turned the same way."""
    large, small, bicubic = superres.halves("coins")
    half, wanted = superres.patches([(large, small, 0 * bicubic)], rng)
    assert half.shape == (superres.BATCH, 1, superres.PATCH, superres.PATCH)
    for n in range(superres.BATCH):
        again = superres.resize(wanted[n], 1 / 2)
        np.testing.assert_allclose(again[:, 3:-3, 3:-3], half[n, :, 3:-3, 3:-3], atol=1e-5)


def test_psnr(superres):
    assert superres.psnr(np.full(9, 0.5), np.full(9, 0.6)) == pytest.approx(20)


def test_gradient_of_the_growing_network(superres, rng):
    network = superres.Network(rng)
    last = network.layers[-1]
    last.weight = 0.05 * rng.standard_normal(last.weight.shape)  # zero, it would hide all before it
    x, dy = rng.standard_normal((2, 1, 9, 8)), rng.standard_normal((2, 1, 18, 16))
    np.testing.assert_array_equal(network.forward(x), network(x))
    network.backward(dy)
    for parameter, gradient in network.parameters():
        step = 1e-4 / abs(gradient).max() * gradient  # uphill, and not far: ReLUs have kinks
        wanted = (gradient * step).sum()
        parameter += step
        above = (network(x) * dy).sum()
        parameter -= 2 * step
        below = (network(x) * dy).sum()
        parameter += step
        np.testing.assert_allclose((above - below) / 2, wanted, rtol=0.02)
