"""The operators for ONNX: its node tests, its stored data, and its evaluator where it is right."""

import importlib
from pathlib import Path

import numpy as np
import pytest
import reference
from test_transposed import conv_transpose

onnx = pytest.importorskip("onnx")
pytestmark = pytest.mark.filterwarnings("ignore")  # its own, on import and on use

from onnx import helper, numpy_helper  # noqa: E402
from onnx.backend.test.case.node import _NodeTestCases  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

from cyconv.interop.onnx import operators  # noqa: E402

for kind in ("conv", "convtranspose", "col2im"):
    importlib.import_module(f"onnx.backend.test.case.node.{kind}")
NODES = {case.name: case for case in _NodeTestCases}
DATA = Path(onnx.__file__).parent / "backend/test/data/pytorch-converted"
STORED = sorted(
    path.name
    for kind in ("Conv1d", "Conv2d", "Conv3d", "ConvTranspose2d")
    for path in DATA.glob(f"test_{kind}*")
)


def evaluate(model, inputs, new_ops=True):
    evaluator = ReferenceEvaluator(model, new_ops=operators() if new_ops else None)
    constants = [tensor.name for tensor in model.graph.initializer]  # once inputs, too
    names = [name for name in evaluator.input_names if name not in constants]
    return evaluator.run(None, dict(zip(names, inputs, strict=True)))


def test_there_are_cases():
    kinds = {name.split("_")[1] for name in NODES}
    assert {"conv", "convtranspose", "col2im"} <= kinds
    assert len(NODES) >= 22
    assert len(STORED) >= 20


def test_they_are_used(monkeypatch):
    """The evaluator takes them, and not its own."""
    monkeypatch.setattr("cyconv.interop.onnx._computed", lambda *a, **k: ("mine",))
    for name in ("test_convtranspose", "test_basic_conv_with_padding", "test_col2im"):
        case = NODES[name]
        assert evaluate(case.model, case.data_sets[0][0]) == ["mine"]


@pytest.mark.parametrize("name", NODES)
def test_nodes(name):
    case = NODES[name]
    for inputs, outputs in case.data_sets:
        for got, wanted in zip(evaluate(case.model, inputs), outputs, strict=True):
            assert got.dtype == wanted.dtype
            assert got.shape == wanted.shape
            np.testing.assert_allclose(got, wanted, rtol=case.rtol, atol=case.atol)


def stored(path):
    tensor = onnx.TensorProto()
    tensor.ParseFromString(path.read_bytes())
    return numpy_helper.to_array(tensor)


@pytest.mark.parametrize("name", STORED)
def test_stored(name):
    model = onnx.load(DATA / name / "model.onnx")
    for folder in (DATA / name).glob("test_data_set_*"):
        inputs = [stored(path) for path in sorted(folder.glob("input_*.pb"))]
        (wanted,) = [stored(path) for path in sorted(folder.glob("output_*.pb"))]
        (got,) = evaluate(model, inputs)
        assert got.dtype == wanted.dtype
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-6)


def model_of(operator, inputs, **attributes):
    """A model of one node."""
    names = ["x", "w", "b"][: len(inputs)]
    element = helper.np_dtype_to_tensor_dtype(inputs[0].dtype)
    node = helper.make_node(operator, names, ["y"], **attributes)
    values = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
        )
        for name, array in zip(names, inputs, strict=True)
    ]
    y = helper.make_tensor_value_info("y", element, None)
    return helper.make_model(
        helper.make_graph([node], "one", values, [y]),
        opset_imports=[helper.make_opsetid("", 18)],
    )


def run(operator, *inputs, new_ops=True, **attributes):
    return evaluate(model_of(operator, inputs, **attributes), inputs, new_ops)[0]


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_unequal_pads_as_the_evaluator_has_them(rng, rank):
    x = rng.standard_normal((2, 4, 6, 7, 5)[: rank + 2])
    w = rng.standard_normal((6, 2, 3, 2, 1)[: rank + 2])
    b = rng.standard_normal(6)
    options = {
        "pads": [*(2, 0, 1)[:rank], *(0, 3, 1)[:rank]],
        "strides": (2, 1, 2)[:rank],
        "dilations": (1, 2, 1)[:rank],
        "group": 2,
    }
    wanted = run("Conv", x, w, b, new_ops=False, kernel_shape=w.shape[2:], **options)
    np.testing.assert_allclose(run("Conv", x, w, b, **options), wanted, atol=1e-12)


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET"])
def test_auto_pad_of_conv(rng, auto_pad):
    """With dilation, which the evaluator's own forgets."""
    x, w = rng.standard_normal((1, 2, 9, 8)), rng.standard_normal((3, 2, 2, 3))
    y = run("Conv", x, w, auto_pad=auto_pad, dilations=(3, 2), strides=(1, 3))
    pads = {"SAME_UPPER": ((1, 2), (1, 2)), "SAME_LOWER": ((2, 1), (2, 1))}
    # Along the second axis: ceil(8 / 3) = 3 outputs, which reach over 2 * 3 + 5 = 11 cells.
    wanted = reference.conv(
        x, w, stride=(1, 3), dilation=(3, 2), padding=pads.get(auto_pad, ((0, 0), (0, 0)))
    )
    np.testing.assert_allclose(y, wanted, atol=1e-12)


@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_transposed_with_unequal_pads(rng, rank, group):
    x = rng.standard_normal((2, 4, 3, 4, 2)[: rank + 2])
    w = rng.standard_normal((4, 3, 3, 2, 3)[: rank + 2])
    b = rng.standard_normal(3 * group)
    stride, dilation, extra = (2, 3, 1)[:rank], (1, 2, 2)[:rank], (1, 2, 0)[:rank]
    low, high = (1, 0, 2)[:rank], (0, 3, 1)[:rank]
    y = run(
        "ConvTranspose",
        *(x, w, b),
        strides=stride,
        dilations=dilation,
        output_padding=extra,
        pads=[*low, *high],
        group=group,
    )
    options = {"stride": stride, "dilation": dilation, "output_padding": extra, "groups": group}
    full = conv_transpose(x, w, b, padding=(0,) * rank, **options)
    ends = [slice(lo, n - hi) for lo, hi, n in zip(low, high, full.shape[2:], strict=True)]
    np.testing.assert_allclose(y, full[(..., *ends)], atol=1e-12)


@pytest.mark.parametrize(
    ("auto_pad", "output_shape", "low"),
    [
        ("SAME_UPPER", None, 0),
        ("SAME_LOWER", None, 1),
        ("SAME_UPPER", (7,), 1),
        ("SAME_LOWER", (6,), 2),
        ("NOTSET", (6,), 2),
        ("NOTSET", (9,), 0),
        ("NOTSET", (11,), 0),  # longer than there is anything to put: the rest is the bias
    ],
)
def test_output_shape(rng, auto_pad, output_shape, low):
    x, w, b = rng.standard_normal((1, 2, 4)), rng.standard_normal((2, 3, 3)), np.ones(3)
    more = {"output_shape": output_shape} if output_shape else {}
    y = run("ConvTranspose", x, w, b, strides=(2,), auto_pad=auto_pad, **more)
    one = {"stride": (2,), "padding": (0,), "output_padding": (0,), "dilation": (1,), "groups": 1}
    full = conv_transpose(x, w, b, **one)  # 9 cells
    size = output_shape[0] if output_shape else 8
    wanted = np.ones((1, 3, size))
    part = full[..., low : low + size]
    wanted[..., : part.shape[2]] = part
    np.testing.assert_allclose(y, wanted, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_dtypes(rng, dtype):
    x = rng.integers(-3, 4, (2, 3, 5, 5)).astype(dtype)
    w = rng.integers(-3, 4, (3, 3, 2, 2)).astype(dtype)
    for operator in ("Conv", "ConvTranspose"):
        y = run(operator, x, w)
        assert y.dtype == dtype
    np.testing.assert_array_equal(run("Conv", x, w), reference.conv(x, w))


def test_bfloat16(rng):
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    x, w = np.ones((1, 2, 4, 4), bfloat16), np.ones((3, 2, 2, 2), bfloat16)
    y = run("Conv", x, w)
    assert y.dtype == bfloat16
    assert (np.float32(y) == 8).all()


def test_col2im_of_integers_is_exact():
    cols = np.full((1, 4, 4), 2**60 + 1)
    sizes = np.array([3, 3]), np.array([2, 2])
    assert run("Col2Im", cols, *sizes)[0, 0, 0, 0] == 2**60 + 1


def test_wrong_kernel_shape():
    with pytest.raises(ValueError, match="kernel_shape"):
        run("Conv", np.ones((1, 1, 4)), np.ones((1, 1, 2)), kernel_shape=[3])
