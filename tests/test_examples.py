"""The demo, for a short while."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

import cyconv

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")
pytest.importorskip("tqdm")

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def digits():
    """examples/digits.py as a module."""
    spec = importlib.util.spec_from_file_location("digits", EXAMPLES / "digits.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_digits_runs(digits, tmp_path, capsys):
    picture = tmp_path / "picture.png"
    assert digits.main(["--epochs", "1", "--seed", "3", "--output", str(picture)]) == 0
    header = picture.read_bytes()[:8]
    assert header == b"\x89PNG\r\n\x1a\n"
    assert 20_000 < picture.stat().st_size < 150_000
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
