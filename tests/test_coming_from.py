"""Each row of the tables of equivalents: the right side runs here, and agrees with the left one
where the other package is installed."""

import importlib
import re
from pathlib import Path

import numpy as np
import pytest

import cyconv

PAGE = (Path(__file__).parents[1] / "docs" / "coming_from.md").read_text()


def rows(heading, table=0):
    """The (left, right) cells of a table under a heading, those that are code alone."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    found = re.findall(r"(?:^\|.*\|\n)+", section, re.MULTILINE)[table]
    cells = [re.findall(r"`([^`]+)`", line) for line in found.splitlines()[2:]]
    assert all(len(pair) == 2 for pair in cells), cells
    return cells


def arrays():
    """What the rows name: w serves forward and transposed alike, since it is square in channels."""
    rng = np.random.default_rng(7)
    shapes = {"x": (2, 4, 8, 9), "w": (4, 4, 3, 3), "b": (4,), "dy": (2, 4, 6, 7)}
    return {name: rng.standard_normal(shape) for name, shape in shapes.items()}


FUNCTIONS, LAYERS = rows("PyTorch"), rows("PyTorch", 1)
KERAS = rows("Keras")


def keras_names():
    rng = np.random.default_rng(8)
    k = rng.standard_normal((3, 3, 4, 5))
    return {"x": rng.standard_normal((2, 8, 9, 4)), "k": k}


def ours(code, names):
    return eval(code, {"cyconv": cyconv, **names})


def ours_of_keras(code):
    names = keras_names()
    names["w"] = np.moveaxis(names.pop("k"), (-1, -2), (0, 1))
    return ours(code, {**names, "last": {"data_format": "channels_last"}})


def test_tables_are_found():
    assert (len(FUNCTIONS), len(LAYERS), len(KERAS)) == (13, 5, 5)


@pytest.mark.parametrize("code", [right for _, right in FUNCTIONS + LAYERS])
def test_the_right_side_runs(code):
    made = ours(code, arrays())
    if not isinstance(made, np.ndarray):
        made = made(arrays()["x"])
    assert np.isfinite(made).all()


@pytest.mark.parametrize("code", [right for _, right in KERAS])
def test_the_right_side_runs_for_keras(code):
    assert ours_of_keras(code).shape[-1] == 5


@pytest.mark.torch
@pytest.mark.parametrize(("left", "right"), FUNCTIONS)
def test_functions_of_torch(left, right):
    torch = pytest.importorskip("torch")
    tensors = {name: torch.tensor(value) for name, value in arrays().items()}
    F = torch.nn.functional
    wanted = eval(left, {"torch": torch, "F": F, **tensors}).numpy()
    np.testing.assert_allclose(ours(right, arrays()), wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.torch
@pytest.mark.parametrize(("left", "right"), LAYERS)
def test_layers_of_torch(left, right):
    torch = pytest.importorskip("torch")
    theirs, layer = eval(left, {"nn": torch.nn}), ours(right, {})
    layer.load_state_dict({name: t.detach() for name, t in theirs.state_dict().items()})
    x = arrays()["x"].astype(np.float32)
    tensor = torch.tensor(x, requires_grad=True)
    wanted = theirs(tensor)
    y = layer.forward(x)
    np.testing.assert_allclose(y, wanted.detach(), atol=1e-5)
    wanted.backward(torch.ones_like(wanted))
    np.testing.assert_allclose(layer.backward(np.ones_like(y)), tensor.grad, atol=1e-5)
    np.testing.assert_allclose(layer.weight_grad, theirs.weight.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("left", "right"), KERAS)
def test_functions_of_keras(left, right):
    pytest.importorskip("keras")
    ops = importlib.import_module("keras.ops")
    names = {name: ops.convert_to_tensor(value) for name, value in keras_names().items()}
    wanted = ops.convert_to_numpy(eval(left, {"ops": ops, **names}))
    np.testing.assert_allclose(ours_of_keras(right), wanted, rtol=1e-4, atol=1e-4)
