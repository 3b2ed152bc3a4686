"""What an installation says about itself, its public names, and the examples in its docstrings."""

import doctest
import importlib
import importlib.metadata
import importlib.util
import inspect
import os
import pkgutil
import subprocess
import sys
import types

import numpy as np
import pytest

import cyconv

SIGNATURES = {
    "conv": "x, w, b=None, *, stride=1, padding=0, dilation=1, groups=1, "
    "padding_mode='zeros', data_format='channels_first', algorithm='auto', out=None",
    "conv_input_grad": "dy, w, x_shape, *, stride=1, padding=0, dilation=1, groups=1, "
    "padding_mode='zeros', data_format='channels_first', algorithm='auto', out=None",
    "conv_weight_grad": "dy, x, w_shape, *, stride=1, padding=0, dilation=1, groups=1, "
    "padding_mode='zeros', data_format='channels_first', algorithm='auto', out=None",
    "conv_transpose": "x, w, b=None, *, stride=1, padding=0, output_padding=0, groups=1, "
    "dilation=1, data_format='channels_first', algorithm='auto', out=None",
    "conv_forward": "X, W, b=None, stride=1, padding=1, dilation=1, groups=1, **options",
    "conv_backward": "dout, cache, *, need=('X', 'W', 'b')",
    "im2col": "x, kernel_size, stride=1, padding=0, dilation=1",
    "col2im": "cols, x_size, kernel_size, stride=1, padding=0, dilation=1",
    "set_num_threads": "n",
    "get_num_threads": "",
    "show_config": "",
}
LAYERS = {f"Conv{kind}{rank}D" for kind in ("", "Transpose") for rank in (1, 2, 3)}
MODULES = [
    name
    for _, name, _ in pkgutil.walk_packages(cyconv.__path__, "cyconv.")
    if not name.endswith("__main__") and not name.startswith("cyconv.kernels._")
]
if importlib.util.find_spec("onnx") is None:
    MODULES.remove("cyconv.interop.onnx")


def run(*arguments, **environment):
    """Run this Python, and return what it printed."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("CYCONV_")}
    command = [sys.executable, *arguments]
    done = subprocess.run(
        command, env={**inherited, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_version():
    assert cyconv.__version__ == importlib.metadata.version("cyconv")


def test_backend():
    pure = os.environ.get("CYCONV_PURE_PYTHON") == "1"
    compiled = importlib.util.find_spec("cyconv.kernels._portable") is not None
    assert cyconv.backend == ("cython" if compiled and not pure else "numpy")


def test_pure_python_is_chosen_at_import():
    program = "import cyconv; print(cyconv.backend)"
    assert run("-c", program, CYCONV_PURE_PYTHON="1").strip() == "numpy"
    compiled = importlib.util.find_spec("cyconv.kernels._portable") is not None
    assert run("-c", program).strip() == ("cython" if compiled else "numpy")


@pytest.mark.parametrize("pure", ["", "1"])
def test_main(pure):
    printed = run("-m", "cyconv", CYCONV_PURE_PYTHON=pure)
    backend = run("-c", "import cyconv; print(cyconv.backend)", CYCONV_PURE_PYTHON=pure).strip()
    for wanted in (backend, cyconv.__version__, np.__version__, "BLAS"):
        assert wanted in printed


def test_show_config(capsys):
    assert cyconv.show_config() is None
    printed = capsys.readouterr().out
    for wanted in (cyconv.backend, cyconv.__version__, np.__version__, "BLAS"):
        assert wanted in printed


def test_public_names():
    assert len(set(cyconv.__all__)) == len(cyconv.__all__)
    assert {*SIGNATURES, *LAYERS} <= set(cyconv.__all__)
    public = {
        name
        for name, value in vars(cyconv).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert public - {"backend"} <= set(cyconv.__all__) <= public | {"__version__"}
    assert "." not in "".join(cyconv.__all__)
    for name in cyconv.__all__:
        value = getattr(cyconv, name)
        assert not callable(value) or value.__doc__, name


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures(name):
    wanted = inspect.signature(eval(f"lambda {SIGNATURES[name]}: None"))
    got = inspect.signature(getattr(cyconv, name))
    assert [(p.name, p.kind, p.default) for p in got.parameters.values()] == [
        (p.name, p.kind, p.default) for p in wanted.parameters.values()
    ]


@pytest.mark.parametrize("name", sorted({*SIGNATURES, *LAYERS}))
def test_every_public_name_has_examples(name):
    doc = inspect.getdoc(getattr(cyconv, name))
    assert "Examples\n--------\n" in doc
    assert ">>> " in doc.partition("Examples\n")[2]


@pytest.mark.parametrize("name", ["cyconv", *MODULES])
def test_docstring_examples(name):
    module = importlib.import_module(name)
    assert doctest.testmod(module).failed == 0


def test_examples_are_run():
    """doctest finds them, and does not pass for want of any."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = {
        test.name.rpartition(".")[2]: len(test.examples)
        for name in MODULES
        for test in finder.find(importlib.import_module(name))
        if test.examples
    }
    assert {*SIGNATURES} - {"show_config"} <= set(found)
