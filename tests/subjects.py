"""Every public function and layer with arguments that it takes, and all that each must refuse."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import bad_values
import numpy as np
from calls import forward
from test_options import wrong_outs

import cyconv
from cyconv.padding import PADDING_MODES
from cyconv.plan import TABLE

FORMATS = ("channels_first", "channels_last")
LAYERS = {
    (rank, transposed): getattr(cyconv, f"Conv{'Transpose' * transposed}{rank}D")
    for rank in (1, 2, 3)
    for transposed in (False, True)
}


@dataclass(frozen=True)
class Form:
    """How images are given."""

    rank: int = 2
    batched: bool = True
    last: bool = False

    def shape(self, n, c, sizes):
        image = (*sizes, c) if self.last else (c, *sizes)
        return (n, *image) if self.batched else image


FORMS = [
    Form(),
    Form(rank=1),
    Form(rank=1, batched=False, last=True),
    Form(rank=3),
    Form(rank=2, last=True),
    Form(rank=2, batched=False),
]


@dataclass(frozen=True)
class Legal:
    """The definition of what fits, in numbers. Sizes, kernels and all that are of one form."""

    form: Form
    transposed: bool = False
    groups: int = 2
    stride: int = 2
    pad: int = 1
    dilation: int = 1

    def output(self, x, w) -> tuple[int, ...] | None:
        """The shape of y, or None where x and w do not fit."""
        rank = len(w) - 2
        if not 1 <= rank <= 3 or len(x) not in (rank + 1, rank + 2) or 0 in w:
            return None
        if rank != self.form.rank:  # options have one number an axis
            return None
        batch = x[:1] if len(x) == rank + 2 else ()
        image = x[len(batch) :]
        c, sizes = (image[-1], image[:-1]) if self.form.last else (image[0], image[1:])
        if 0 in image or w[0] % self.groups:
            return None
        if c != (w[0] if self.transposed else w[1] * self.groups):
            return None
        f = w[1] * self.groups if self.transposed else w[0]
        out = tuple(map(self._size, sizes, w[2:]))
        if min(out) < 1:
            return None
        return (*batch, *((*out, f) if self.form.last else (f, *out)))

    def _size(self, size, kernel):
        reach = self.dilation * (kernel - 1)
        if self.transposed:
            return (size - 1) * self.stride - 2 * self.pad + reach + 1
        return (size + 2 * self.pad - reach - 1) // self.stride + 1


def axis_options(form):
    """One number an axis, so that the rank is fixed."""
    legal = Legal(form)
    return {
        "stride": (legal.stride,) * form.rank,
        "padding": (legal.pad,) * form.rank,
        "dilation": (legal.dilation,) * form.rank,
    }


@dataclass(frozen=True)
class Subject:
    """Something to call, with arguments that it takes; by name, what each of them must not be, and
    the error then; which of them are arrays, or the shapes of such, and whether others would fit;
    and what must stay as it is."""

    call: Callable[..., Any]
    arguments: dict[str, Any]
    wrong: dict[str, list[tuple[Any, type[Exception]]]]
    arrays: tuple[str, ...] = ()
    fits: Callable[[dict[str, tuple[int, ...]]], bool] = lambda shapes: True
    watched: tuple[np.ndarray, ...] = ()

    def __call__(self, **changes):
        return self.call(**{**self.arguments, **changes})


def subjects() -> dict[str, Subject]:
    """Functions, and methods of layers, for each form of images."""
    found = {}
    for form in FORMS:
        label = f"{form.rank}D{'' if form.batched else ', one image'}{', last' * form.last}"
        for name, make in MAKERS.items():
            if ("2col" not in name and "2im" not in name) or form == Form(form.rank):
                found[f"{name}, {label}"] = make(form)
    for rank, transposed in LAYERS:
        label = f"{LAYERS[rank, transposed].__name__}"
        found[label] = constructor(rank, transposed)
        for last in (False, True):
            for name, subject in methods(Form(rank, last=last), transposed).items():
                found[f"{label}.{name}{', last' * last}"] = subject
    found["set_num_threads"] = Subject(
        cyconv.set_num_threads, {"n": 1}, {"n": [*bad_values.integer(1)]}
    )
    return found


def arrays_of(form, transposed=False):
    """x, w, b, dy of a convolution with two groups, 4 channels and 6 filters."""
    rng = np.random.default_rng(0)
    w = (4, 3, *(3, 2, 1)[: form.rank]) if transposed else (6, 2, *(3, 2, 1)[: form.rank])
    x = form.shape(2, 4, (5, 6, 4)[: form.rank])
    y = Legal(form, transposed).output(x, w)
    return [rng.standard_normal(shape) for shape in (x, w, (6,), y)]


def wrong_options(form, algorithm=True, groups=True, modes=True, transposed=False):
    """Of the options of a convolution."""
    wrong = {name: [*bad_values.per_axis(form.rank, 1)] for name in ("stride", "dilation")}
    wrong["padding"] = [*bad_values.padding(form.rank)]
    if transposed:
        wrong["padding"] = [*bad_values.per_axis(form.rank, 0), ("same", TypeError)]
        wrong["output_padding"] = [*bad_values.per_axis(form.rank, 0)]
        wrong["output_padding"] += [(value, ValueError) for value in (2, 3, 2**62, 2**63 - 1)]
    if groups:
        wrong["groups"] = [*bad_values.integer(1)]
        others = (3, 5, 2**62, 2**63 - 1) if transposed else (1, 3, 4, 5, 2**62, 2**63 - 1)
        wrong["groups"] += [(value, ValueError) for value in others]
    if algorithm:
        wrong["algorithm"] = [*bad_values.name(tuple(TABLE)), ("winograd", ValueError)]
        wrong["data_format"] = [*bad_values.name(FORMATS)]
    if modes:
        wrong["padding_mode"] = [*bad_values.name(PADDING_MODES)]
    return wrong


def convolution(function, names, results, result):
    """A function of the arrays called `names`, and shapes of the ones called `results`."""

    def make(form):
        legal = Legal(form)
        of = dict(zip(("x", "w", "b", "dy"), arrays_of(form), strict=True))
        of |= {"X": of["x"], "W": of["w"]}
        options = axis_options(form) | {"groups": 2, "data_format": FORMATS[form.last]}
        arguments = {name: of[name] for name in names}
        arguments |= {f"{name}_shape": of[name].shape for name in results}
        wrong = wrong_options(form)
        for name in results:
            shape = of[name].shape
            wrong[f"{name}_shape"] = [*bad_values.shape(shape)]
        if result is not None:
            wrong["out"] = wrong_results(of[result], [of[name] for name in names])

        def fits(shapes):
            w = shapes.get("w", shapes.get("W", shapes.get("w_shape")))
            x = shapes.get("x", shapes.get("X", shapes.get("x_shape")))
            y, b = legal.output(x, w), shapes.get("b")
            if y is None or shapes.get("dy", y) != y:
                return False
            return b is None or b == (w[0],) or ("X" in shapes and b == (w[0], 1))

        checked = (*names, *(f"{name}_shape" for name in results))
        return Subject(function, arguments | options, wrong, checked, fits)

    return make


def backward(form):
    x, w, b, dy = arrays_of(form)
    options = axis_options(form) | {"groups": 2, "data_format": FORMATS[form.last]}
    _, cache = cyconv.conv_forward(x, w, b, **options)
    others = ((), {}, [cache], (x, w, b, options), "cache", None, object())
    wrong = {
        "cache": [(value, TypeError) for value in others],
        "need": [(value, TypeError) for value in (None, 7, 1.5, [["X"]], object())],
    }
    wrong["need"] += [(value, ValueError) for value in ("x", ["X", "dX"], {1}, ("W", None), [""])]
    arguments = {"dout": dy, "cache": cache, "need": ("X", "W", "b")}
    watched = x, w, b
    return Subject(cyconv.conv_backward, arguments, wrong, ("dout",), lambda shapes: False, watched)


def described(form):
    """What takes shapes alone."""
    legal = Legal(form)
    x, w, _, _ = arrays_of(form)
    shapes = {"x_shape": x.shape, "w_shape": w.shape}
    wrong = wrong_options(form)
    wrong |= {name: [*bad_values.shape(right)] for name, right in shapes.items()}
    wrong["pass_"] = [*bad_values.name(("forward", "input_grad", "weight_grad"))]
    wrong["dtype"] = [(value, TypeError) for value in ("abc", 7, {1})]
    options = axis_options(form) | {"groups": 2, "data_format": FORMATS[form.last]}

    def fits(shapes):
        return legal.output(shapes["x_shape"], shapes["w_shape"]) is not None

    return Subject(cyconv.describe, shapes | options, wrong, (*shapes,), fits)


def transposed(form):
    legal = Legal(form, transposed=True)
    x, w, b, y = arrays_of(form, transposed=True)
    options = axis_options(form) | {"groups": 2, "data_format": FORMATS[form.last]}
    wrong = wrong_options(form, modes=False, transposed=True)
    wrong["out"] = wrong_results(y, [x, w, b])

    def fits(shapes):
        found = legal.output(shapes["x"], shapes["w"])
        return found is not None and shapes["b"] == (shapes["w"][1] * legal.groups,)

    arguments = {"x": x, "w": w, "b": b, "output_padding": (0,) * form.rank}
    return Subject(cyconv.conv_transpose, arguments | options, wrong, ("x", "w", "b"), fits)


def lowering(back):
    """im2col, or col2im: always batched, channels first."""

    def make(form):
        legal = Legal(Form(form.rank), groups=1)
        x = arrays_of(Form(form.rank))[0]
        kernel, taps = (3, 2, 1)[: form.rank], (3, 6, 6)[form.rank - 1]
        cols = cyconv.im2col(x, kernel, **axis_options(form))
        wrong = wrong_options(form, algorithm=False, groups=False, modes=False)
        wrong["kernel_size"] = [*bad_values.per_axis(form.rank, 1)]
        arguments = axis_options(form) | {"kernel_size": kernel}

        def fits(shapes):
            shape = shapes.get("x", (2, 4, *shapes.get("x_size", ())))
            if len(shape) != form.rank + 2 or 0 in shape[1:]:
                return False
            y = legal.output((shape[0], 1, *shape[2:]), (1, 1, *kernel))
            if y is None or not back:
                return y is not None
            c = shapes["cols"]
            return len(c) == 3 and c[1] > 0 and c[1] % taps == 0 and c[2] == np.prod(y[2:])

        if back:
            wrong["x_size"] = [*bad_values.shape(x.shape[2:])]
            arguments = {"cols": cols, "x_size": x.shape[2:]} | arguments
            return Subject(cyconv.col2im, arguments, wrong, ("cols", "x_size"), fits)
        return Subject(cyconv.im2col, {"x": x} | arguments, wrong, ("x",), fits)

    return make


def wrong_results(result, inputs):
    """What `out` must not be: also memory of an input."""
    wrong = [(out, ValueError) for out in wrong_outs(result).values()]
    wrong += [
        (array.reshape(-1)[: result.size].reshape(result.shape), ValueError)
        for array in inputs
        if array.size >= result.size
    ]
    values = ([], result.tolist(), 1, "out", object(), memoryview(result), ())
    return wrong + [(value, TypeError) for value in values]


MAKERS = {
    "conv": convolution(cyconv.conv, ("x", "w", "b"), (), "dy"),
    "conv_input_grad": convolution(cyconv.conv_input_grad, ("dy", "w"), ("x",), "x"),
    "conv_weight_grad": convolution(cyconv.conv_weight_grad, ("dy", "x"), ("w",), "w"),
    "conv_forward": convolution(forward, ("X", "W", "b"), (), None),
    "conv_backward": backward,
    "conv_transpose": transposed,
    "describe": described,
    "im2col": lowering(back=False),
    "col2im": lowering(back=True),
}


def constructor(rank, transposed):
    wrong = wrong_options(Form(rank), modes=not transposed, transposed=transposed)
    wrong["algorithm"].remove(("winograd", ValueError))  # that is said when there is an x
    wrong["groups"] = [*bad_values.integer(1), *((n, ValueError) for n in (3, 4, 5, 2**63 - 1))]
    wrong["kernel_size"] = [*bad_values.per_axis(rank, 1)]
    for name in ("in_channels", "out_channels"):
        wrong[name] = [*bad_values.integer(1), (3, ValueError)]
    wrong["bias"] = [(value, TypeError) for value in (None, 0, 1, 1.0, "yes", [True], np.ones(6))]
    others = (None, "f1", "i4", int, bool, complex, object, np.longdouble, "V4", 7, [], np.ones(2))
    wrong["dtype"] = [(value, TypeError) for value in others]
    wrong["rng"] = [(value, TypeError) for value in ("0", 1.5, object())]
    wrong["rng"] += [(value, ValueError) for value in (-1, [-1])]
    return Subject(LAYERS[rank, transposed], layer_arguments(rank), wrong)


def layer_arguments(rank):
    legal = Legal(Form(rank))
    return {
        "in_channels": 4, "out_channels": 6, "kernel_size": (3, 2, 1)[:rank], "groups": 2,
        **axis_options(legal.form),
    }  # fmt: skip


def methods(form, transposed):
    """Of one layer, after a forward."""
    layer = LAYERS[form.rank, transposed](
        **layer_arguments(form.rank), data_format=FORMATS[form.last], dtype=float, rng=0
    )
    legal = Legal(form, transposed)
    x, _, _, dy = arrays_of(form, transposed)
    layer.forward(x)
    w_shape = layer.weight.shape

    def takes(shapes):
        return legal.output(shapes.get("x", shapes.get("x_shape")), w_shape) is not None

    def same(shapes):
        return False  # any other is wrong

    def set_weight(weight):
        layer.weight = weight

    def set_bias(bias):
        layer.bias = bias

    def load(weight, bias):
        layer.load_state_dict({"weight": weight, "bias": bias})

    watched = layer.weight, layer.bias, x
    weight, bias = np.ones(w_shape), np.ones(6)
    x_shape = {"x_shape": [*bad_values.shape(x.shape)]}
    return {
        "call": Subject(layer, {"x": x}, {}, ("x",), takes, watched),
        "forward": Subject(layer.forward, {"x": x}, {}, ("x",), takes, watched),
        "backward": Subject(layer.backward, {"dy": dy}, {}, ("dy",), same, watched),
        "output_shape": Subject(
            layer.output_shape, {"x_shape": x.shape}, x_shape, ("x_shape",), takes, watched
        ),
        "weight": Subject(set_weight, {"weight": weight}, {}, ("weight",), same, watched),
        "bias": Subject(set_bias, {"bias": bias}, {}, ("bias",), same, watched),
        "load_state_dict": Subject(
            load, {"weight": weight, "bias": bias}, {}, ("weight", "bias"), same, watched
        ),
    }
