"""PyTorch's own sample inputs, of the database that it tests itself with; and gradients."""

import warnings

import numpy as np
import pytest

import cyconv
from cyconv.transposed import transpose_input_grad, transpose_weight_grad

torch = pytest.importorskip("torch")
pytest.importorskip("expecttest", reason="the database needs it")
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]

NAMES = [f"conv{kind}{rank}d" for kind in ("", "_transpose") for rank in (1, 2, 3)]


@pytest.fixture(scope="module")
def database():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.testing._internal.common_methods_invocations import op_db
    return {entry.name.rpartition(".")[2]: entry for entry in op_db}


def close(got, wanted):
    wanted = wanted.detach().numpy()
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-12 * abs(wanted).max(initial=1))


@pytest.mark.parametrize("name", NAMES)
def test_sample_inputs(database, name):
    samples = list(database[name].sample_inputs("cpu", torch.float64, requires_grad=True))
    assert len(samples) >= 10
    rng = np.random.default_rng(0)
    for sample in samples:
        tensors = [sample.input, *sample.args]
        leaves = [None if t is None else t.detach().clone().requires_grad_() for t in tensors]
        y = getattr(torch.nn.functional, name)(*leaves, **sample.kwargs)
        dy = rng.standard_normal(y.shape)
        y.backward(torch.tensor(dy))
        x, w, b = (None if t is None else t.detach().numpy() for t in leaves)
        options = sample.kwargs
        if "transpose" in name:
            close(cyconv.conv_transpose(x, w, b, **options), y)
            usual = {"stride": 1, "padding": 0, "output_padding": 0, "dilation": 1, "groups": 1}
            given = *(usual | options).values(), "channels_first", "auto"
            close(transpose_input_grad(dy, w, x.shape, given), leaves[0].grad)
            close(transpose_weight_grad(dy, x, w.shape, given), leaves[1].grad)
        else:
            out, cache = cyconv.conv_forward(x, w, b, **{"padding": 0, **options})
            close(out, y)
            for gradient, leaf in zip(cyconv.conv_backward(dy, cache), leaves, strict=True):
                if leaf is not None:
                    close(gradient, leaf.grad)
