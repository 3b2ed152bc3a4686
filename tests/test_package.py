"""What an installation says about itself, its public names, and the examples in its docstrings."""

import contextlib
import doctest
import importlib
import importlib.metadata
import importlib.util
import inspect
import os
import pkgutil
import platform
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import cyconv
from cyconv import kernels

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
    "describe": "x_shape, w_shape, dtype=np.float32, pass_='forward', **options",
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
for neighbour in ("autograd", "dask", "mygrad", "onnx"):
    if importlib.util.find_spec(neighbour) is None:
        MODULES.remove(f"cyconv.interop.{neighbour}")

needs_kernels = pytest.mark.skipif(
    importlib.util.find_spec("cyconv.kernels._portable") is None, reason="no compiled kernels here"
)


def run(*arguments, **environment):
    """Run this Python, with no variables of ours but these."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("CYCONV_")}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, env={**inherited, **environment}, capture_output=True, text=True, check=False
    )


def printed(*arguments, **environment):
    """Run this Python, and return what it printed."""
    done = run(*arguments, **environment)
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
    assert printed("-c", program, CYCONV_PURE_PYTHON="1").strip() == "numpy"
    compiled = importlib.util.find_spec("cyconv.kernels._portable") is not None
    assert printed("-c", program).strip() == ("cython" if compiled else "numpy")


@needs_kernels
def test_compiled_kernels_can_be_required():
    program = "import cyconv; print(cyconv.backend)"
    assert printed("-c", program, CYCONV_REQUIRE_COMPILED="1").strip() == "cython"


@pytest.mark.parametrize("required", ["", "0", "1"])
def test_required_kernels_that_are_missing(required):
    done = run("-c", "import cyconv", CYCONV_PURE_PYTHON="1", CYCONV_REQUIRE_COMPILED=required)
    assert done.returncode == (required == "1")
    if done.returncode:
        assert done.stderr.splitlines()[-1] == (
            "ImportError: CYCONV_REQUIRE_COMPILED is set, but the fallback would run: "
            "chosen by CYCONV_PURE_PYTHON"
        )


@pytest.mark.parametrize(
    ("required", "error", "raised"),
    [
        (False, ImportError("undefined symbol"), False),
        (True, ImportError("undefined symbol"), True),
        (True, ModuleNotFoundError("never compiled"), False),
    ],
)
def test_a_build_that_does_not_load(monkeypatch, required, error, raised):
    """It is passed over, but where compiled kernels are required and it is there at all."""

    def fail(name):
        raise error

    monkeypatch.setattr(kernels, "_REQUIRED", required)
    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(ImportError) if raised else contextlib.nullcontext():
        assert kernels._load("avx2") is None


@pytest.mark.parametrize("pure", ["", "1"])
def test_main(pure):
    said = printed("-m", "cyconv", CYCONV_PURE_PYTHON=pure)
    backend = printed("-c", "import cyconv; print(cyconv.backend)", CYCONV_PURE_PYTHON=pure).strip()
    for wanted in (backend, cyconv.__version__, np.__version__, "BLAS"):
        assert wanted in said


CHOICE = "from cyconv import kernels; print(*kernels.loadable(), kernels.BUILD, kernels.VECTOR)"


@needs_kernels
def test_the_best_build_is_taken():
    *loadable, build, vector = printed("-c", CHOICE).split()
    assert loadable[0] == "portable"
    assert sorted(loadable, key=list(kernels.BUILDS).index) == loadable
    assert build == loadable[-1]
    assert vector == str(build != "portable")
    assert printed("-c", CHOICE, CYCONV_SIMD="").split() == [*loadable, build, vector]


@needs_kernels
@pytest.mark.parametrize("cap", ["portable", "neon", "avx2", "avx512"])
def test_the_build_can_be_capped(cap):
    names = list(kernels.BUILDS)
    *loadable, build, vector = printed("-c", CHOICE, CYCONV_SIMD=cap).split()
    allowed = [name for name in loadable if name in names[: names.index(cap) + 1]]
    assert build == allowed[-1]
    assert vector == str(build != "portable")
    assert f"build {build})" in printed("-m", "cyconv", CYCONV_SIMD=cap)


@pytest.mark.parametrize("wrong", ["sse2", "AVX2", "avx2 ", "0"])
@pytest.mark.parametrize("pure", ["", "1"])
def test_an_unknown_build(wrong, pure):
    done = run("-c", "import cyconv", CYCONV_SIMD=wrong, CYCONV_PURE_PYTHON=pure)
    assert done.returncode == 1
    names = "portable, neon, avx2, avx512"
    wanted = f"ValueError: CYCONV_SIMD must be one of {names}, got {wrong!r}"
    assert done.stderr.splitlines()[-1] == wanted


def test_the_build_of_this_run():
    """The suite is run over several: as they are asked for, so they are."""
    cap = os.environ.get("CYCONV_SIMD", "")
    if kernels.BUILD is not None and cap in kernels.loadable():
        assert cap == kernels.BUILD


def flags_of_processor():
    """What Linux lists for every core: that whose registers it saves."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return set.intersection(*(set(line.split()) for line in lines if line.startswith("flags")))


@needs_kernels
@pytest.mark.skipif(
    platform.machine() != "x86_64" or not Path("/proc/cpuinfo").exists(), reason="Linux on x86-64"
)
def test_vector_level():
    level = importlib.import_module("cyconv.kernels._portable").vector_level()
    flags = flags_of_processor()
    avx2 = flags >= {"avx", "avx2", "fma"}
    avx512 = avx2 and flags >= {"avx512f", "avx512dq", "avx512bw", "avx512vl"}
    assert level == (2 if avx512 else 1 if avx2 else 0)


@pytest.mark.parametrize(
    ("level", "compiled", "wanted"),
    [
        (0, {"portable", "avx2", "avx512"}, ["portable"]),
        (1, {"portable", "avx2", "avx512"}, ["portable", "avx2"]),
        (2, {"portable", "avx2", "avx512"}, ["portable", "avx2", "avx512"]),
        (2, {"portable", "avx512"}, ["portable", "avx512"]),
        (0, {"portable", "neon"}, ["portable", "neon"]),
    ],
)
def test_a_build_runs_where_its_instructions_are(monkeypatch, level, compiled, wanted):
    """On other processors than this one, and where a compiler did not manage all."""
    monkeypatch.setattr(kernels, "_portable", types.SimpleNamespace(vector_level=lambda: level))
    monkeypatch.setattr(kernels, "_load", lambda name: name in compiled)
    assert kernels.loadable() == wanted


@pytest.mark.skipif(kernels.BUILD is None, reason="no compiled kernels run here")
def test_builds_are_what_they_say():
    """Each loads by itself, and computes with its own kernels."""
    program = (
        "from cyconv import kernels; import importlib\n"
        "for name in kernels.loadable():\n"
        "    module = importlib.import_module(f'cyconv.kernels._{name}')\n"
        "    print(name, kernels.kernels_of(module).direct.__module__)"
    )
    lines = printed("-c", program).splitlines()
    assert lines
    assert lines == [f"{name} cyconv.kernels._{name}" for name in kernels.loadable()]


def test_show_config(capsys):
    assert cyconv.show_config() is None
    said = capsys.readouterr().out
    for wanted in (cyconv.backend, cyconv.__version__, np.__version__, "BLAS"):
        assert wanted in said


def test_public_names():
    assert len(set(cyconv.__all__)) == len(cyconv.__all__)
    assert {*SIGNATURES, *LAYERS} <= set(cyconv.__all__)
    assert "." not in "".join(cyconv.__all__)
    for name in cyconv.__all__:
        value = getattr(cyconv, name)
        assert not callable(value) or value.__doc__, name
    public = {
        name
        for name, value in vars(cyconv).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert public <= set(cyconv.__all__) <= public | {"__version__"}


def test_names_are_imported_when_asked_for():
    """Seldom needed ones not before; all of them as if they always had been there."""
    code = """
import sys, cyconv
assert "cyconv.layers" in sys.modules and "cyconv.description" not in sys.modules
assert {"describe", "im2col"} <= set(dir(cyconv)), dir(cyconv)
assert cyconv.describe is cyconv.description.describe is vars(cyconv)["describe"]
from cyconv import *
assert im2col is cyconv.columns.im2col and ConvTranspose2D.__name__ == "ConvTranspose2D"
try:
    cyconv.conv4
except AttributeError as error:
    print(error)
"""
    done = run("-c", code)
    assert done.stdout.strip() == "module 'cyconv' has no attribute 'conv4'", done.stderr


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
