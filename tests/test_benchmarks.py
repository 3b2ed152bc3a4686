"""The benchmark suite: its arithmetic, its reference, and one tiny case from end to end."""

import importlib.util
import json
import math
import re
import sys
from pathlib import Path
from time import sleep

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1]))  # last: an installed cyconv stays the one tested

from benchmarks import __main__ as suite
from benchmarks import accuracy, layers, memory, report, roofline, roofline_picture, summary, timing
from benchmarks.contest import WrongResultError, contest, merge
from benchmarks.layers import LATENCY, LAYERS, Layer, make_arrays
from benchmarks.layerwise import measure_layer
from benchmarks.peers import (
    ENGINES,
    TORCH,
    Cyconv,
    FrozenLayer,
    Peer,
    Prepared,
    Run,
    available_peers,
)
from benchmarks.reference import expect, relative_error
from cyconv import kernels

HURRIED = timing.Effort(rounds=2, most=3, block=0.002, budget=0.1, patience=0)
TINY = Layer("tiny", 2, 4, 9, 8, 6, 3, stride=2, padding=1, groups=2)
# A float32 sum is off by some 1e-7; a wrong tap or pad by 1e-1.
CLOSE = 1e-5


def test_geomean():
    assert timing.geomean([2.0, 8.0]) == pytest.approx(4.0)
    assert timing.geomean([0.5, 2.0]) == pytest.approx(1.0)
    assert math.isnan(timing.geomean([]))


def test_compare_finds_the_slower():
    runs = {"fast": Run(lambda: sleep(0.001)), "slow": Run(lambda: sleep(0.004))}
    found = timing.compare(runs, "fast", HURRIED)
    assert found["fast"].ratio == 1
    assert found["fast"].seconds >= 0.001
    assert 1.5 < found["slow"].ratio < 8


def test_compare_lets_go_of_a_run_that_spent_its_budget():
    runs = {"fast": Run(lambda: None), "slow": Run(lambda: sleep(0.06)), "base": Run(lambda: None)}
    found = timing.compare(runs, "base", timing.Effort(6, 6, 0.001, 0.1, 0))
    assert found["slow"].rounds == 1
    assert found["base"].rounds >= found["fast"].rounds > 1


def test_disturbed_blocks_are_set_aside():
    base = {0: timing.Block(1.0, True), 1: timing.Block(1.0, True)}
    mine = {0: timing.Block(2.0, True), 1: timing.Block(50.0, False)}
    assert timing.settle(mine, base) == timing.Timing(2.0, 2.0, rounds=2, quiet=1)
    alone = {1: timing.Block(50.0, False)}
    assert timing.settle(alone, base) == timing.Timing(50.0, 50.0, rounds=1, quiet=0)


@pytest.mark.parametrize("layer", [*LAYERS, *LATENCY], ids=lambda layer: layer.name)
def test_layers_are_sane(layer):
    assert layer.C % layer.groups == 0 == layer.F % layer.groups
    assert min(*layer.x_shape, *layer.w_shape, *layer.y_shape, layer.stride) >= 1
    assert layer.batch(1).y_shape == (1, *layer.y_shape[1:])
    assert any(belongs(layer) for belongs in layers.SETS.values())


def test_sets_name_layers_that_exist():
    names = [layer.name for layer in LAYERS]
    assert len(names) == len(set(names)) == 22
    assert set(names) >= layers.FLOAT64 | layers.MEMORY | layers.BATCH
    chosen = layers.SETS["3x3 stride 1, 32 channels or more"]
    assert {layer.name for layer in LAYERS if chosen(layer)} == {
        *("cifar", "vgg1_2", "vgg3_2", "vgg5"),
        *("r50_56_3x3", "r50_28_3x3", "r50_14_3x3", "r50_7_3x3"),
    }


def test_reference_on_a_sum_done_by_hand():
    layer = Layer("by hand", 1, 1, 3, 3, 1, 3, padding=1)
    ones = layers.Arrays(
        np.ones(layer.x_shape), np.ones(layer.w_shape), np.ones(1), np.ones(layer.y_shape)
    )
    inside = np.array([[4.0, 6, 4], [6, 9, 6], [4, 6, 4]])  # cells that each window covers
    expected = expect(layer, ones)
    np.testing.assert_array_equal(expected.y[0, 0], inside + 1)
    np.testing.assert_array_equal(expected.dx[0, 0], inside)
    np.testing.assert_array_equal(expected.dw[0, 0], inside)
    np.testing.assert_array_equal(expected.db, [9.0])


def test_relative_error():
    assert relative_error(np.array([1.0, 4.0]), np.array([2.0, 4.0])) == 0.25
    assert relative_error(np.array([np.nan, 4.0]), np.array([2.0, 4.0])) == math.inf
    with pytest.raises(ValueError, match="shape"):
        relative_error(np.zeros(2), np.zeros((2, 1)))


@pytest.mark.filterwarnings("ignore")  # other projects' warnings are not ours to fail on
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_every_peer_computes_the_same(groups):
    layer = Layer("same", 2, 4, 9, 9, 8, 3, stride=2, padding=1, groups=groups)
    arrays = make_arrays(layer)
    expected = expect(layer, arrays)
    for peer in [Cyconv(1), FrozenLayer(1), *available_peers(1)]:
        for mode in ("forward", "train"):
            if peer.supports(layer, np.float32) and (mode == "forward" or peer.trains):
                row = contest(layer, arrays, expected, mode, [peer], HURRIED)
                assert row[peer.name]["error"] < CLOSE, (peer.name, mode)
                assert row[peer.name]["ms"] > 0


class Liar(Peer):
    """An engine that returns zeros."""

    name = "liar"
    modules = ()

    def prepare(self, layer, arrays):
        return Prepared(Run(lambda: np.zeros(layer.y_shape)))


def test_a_wrong_peer_is_not_timed():
    arrays = make_arrays(TINY)
    row = contest(TINY, arrays, expect(TINY, arrays), "forward", [Cyconv(1), Liar()], HURRIED)
    assert "ms" in row["cyconv"]
    assert "ms" not in row["liar"]
    assert row["liar"]["error"] > 0.5


def test_a_wrong_cyconv_ends_the_run(monkeypatch):
    monkeypatch.setattr(Cyconv, "prepare", Liar.prepare)
    arrays = make_arrays(TINY)
    with pytest.raises(WrongResultError, match="tiny"):
        contest(TINY, arrays, expect(TINY, arrays), "forward", [Cyconv(1)], HURRIED)


def test_summary_names_the_mean_and_the_worst():
    rows = {
        "cifar": {"cyconv": {"ratio": 1.0}, "a": {"ratio": 4.0}, "b": {"ratio": 2.0}},
        "vgg5": {"cyconv": {"ratio": 1.0}, "a": {"ratio": 1.0}},
    }
    assert summary.mean_of(rows, "a") == summary.Mean(2.0, 1.0, "vgg5", 2, 2)
    assert summary.mean_of(rows, summary.BEST).mean == pytest.approx(math.sqrt(2))
    assert summary.mean_of(rows, "a", "1x1") is None


def test_summary_leaves_out_what_was_disturbed_throughout():
    rows = {
        "cifar": {"a": {"ratio": 2.0, "rounds": 3, "quiet": 1}},
        "vgg5": {"a": {"ratio": 900.0, "rounds": 3, "quiet": 0}},
    }
    assert summary.mean_of(rows, "a") == summary.Mean(2.0, 2.0, "cifar", 1, 2)
    del rows["cifar"]
    assert summary.mean_of(rows, "a").mean == pytest.approx(900.0)
    assert summary.mean_of(rows, "a").count == "1 of 1~"
    assert summary.disturbed({"forward": rows}) == 1.0


def described(build):
    return {"cyconv": f"backend: cython (compiled kernels, build {build})"}


def test_aims_are_those_of_the_road():
    plain, fast = (summary.aims_of(described(build)) for build in ("portable", "avx2"))
    assert summary.aims_of({"cyconv": "backend: numpy (fallback: asked for)"}) == plain
    assert summary.aims_of(described("avx512")) == summary.aims_of(described("neon")) == fast
    aims = {aim.text: aim for aim in fast}
    for aim in plain:  # the fast road is held to no less
        assert aim.text not in aims or aim.met(aims[aim.text].bound)
    tables = {"forward": {"cifar": {"cyconv": {"ratio": 1.0}, TORCH: {"ratio": 1.2}}}}
    plain, fast = (
        summary.aims_text({"machine": described(build), "tables": tables}).splitlines()
        for build in ("portable", "avx2")
    )
    assert re.search(r"^forward, geometric mean +1\.2 +>= 1\.1 +met +1 of 1 layers$", plain[0])
    assert re.search(r"^forward, geometric mean +1\.2 +>= 1\.5 +MISSED", fast[0])
    assert len(plain) == len(fast) == 3  # no best of several where the others were not there


def test_aims_against_the_best_of_several():
    names = dict(zip(("a", *ENGINES), (0.1, 3.0, 2.0, 4.0, 1.0), strict=True))
    row = {name: {"ratio": ratio} for name, ratio in names.items()}
    rows = {
        "cifar": {"cyconv": {"ratio": 1.0}, **row},
        "vgg5": {"cyconv": {"ratio": 1.0}, **row, ENGINES[1]: {"error": 1.0}},
    }
    tables = {"forward": rows, "image": rows}
    found = {aim.text: aim.value(tables) for aim in summary.FAST_AIMS}
    mean, where = found["forward, to the best of PyTorch, ONNX Runtime"]
    assert (mean, where) == (pytest.approx(math.sqrt(2 * 3)), "2 of 2 layers")
    assert found["one image, frozen, to the best with ncnn"] == (1.0, "2 of 2 layers")
    for line in rows.values():
        del line["ncnn"]
    assert summary.best_mean("image", ENGINES)(tables) is None


def test_one_image_is_that_of_a_frozen_layer(monkeypatch):
    """And keeps cyconv's name, so that all sections are read alike."""
    import cyconv

    layer = Layer("tiny", 2, 4, 9, 8, 6, 3, padding=1)
    seen = []

    def call(self, x, called=cyconv.Conv2D.__call__):
        seen.append((self.frozen, x.shape))
        return called(self, x)

    monkeypatch.setattr(cyconv.Conv2D, "__call__", call)
    tables = measure_layer(layer, ("image",), [Cyconv(1)], HURRIED)
    assert set(seen) == {(True, (1, 4, 9, 8))}
    assert tables["image"]["tiny"]["cyconv"]["base"]
    measure_layer(layer, ("forward",), [Cyconv(1)], HURRIED)
    assert set(seen) == {(True, (1, 4, 9, 8))}


def test_merge_joins_columns():
    tables = {"builds": {"cifar": {"portable": {"ms": 1.0}}}}
    merge(tables, {"builds": {"cifar": {"avx2": {"ms": 0.5}}}})
    assert tables == {"builds": {"cifar": {"portable": {"ms": 1.0}, "avx2": {"ms": 0.5}}}}


def test_extra_memory_sees_a_large_temporary():
    class Wasteful(Liar):
        def prepare(self, layer, arrays):
            def forward():
                return np.ones((64, 1 << 20), np.float32)[0, :1]  # 256 MiB for one number

            return Prepared(Run(forward))

    assert 200 < memory.extra_memory(Wasteful(), TINY, "forward") < 300


@pytest.mark.filterwarnings("ignore")
def test_quick_run_from_end_to_end(tmp_path, capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    pytest.importorskip("tqdm")
    monkeypatch.setattr(suite, "QUICK", HURRIED)
    path = tmp_path / "results.json"
    sections = ("forward", "image", "train", "accuracy", "latency")
    only = ("--only", "lenet1", "1x1x10x10")
    suite.main([*sections, "--quick", *only, "--threads", "1", "--json", str(path)])
    printed = capsys.readouterr().out
    tables = json.loads(path.read_text())["tables"]
    assert set(tables) == set(sections)
    assert tables["forward"]["lenet1"]["cyconv"]["ratio"] == 1
    assert max(tables["accuracy"]["lenet1"]["cyconv"].values()) < 5e-6
    assert "| lenet1 |" in printed
    assert "## One image, frozen Conv2D" in printed
    assert "loaded and frozen" in printed
    assert "| lenet1 |" in path.with_suffix(".md").read_text()
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    if importlib.util.find_spec("torch"):
        assert "forward, geometric mean" in printed


def test_intensity_of_a_layer_done_by_hand():
    layer = Layer("by hand", 1, 2, 3, 3, 4, 1)
    # 3 * 3 positions, 4 filters, 2 channels; 18 cells of x, 8 of w, 36 of y, of 4 bytes each
    assert roofline.intensity(layer) == pytest.approx(2 * 72 / (4 * 62))


ROOFS = {
    "microkernel": {"GFLOP/s": {"value": 500.0}},
    "np.matmul": {"GFLOP/s": {"value": 400.0}},
    "memory": {"GB/s": {"value": 50.0}},
    "last cache": {"GB/s": {"value": 200.0}},
}


def test_the_roof_slopes_up_to_the_peak():
    assert roofline.roof_at(2.0, ROOFS) == pytest.approx(100.0)
    assert roofline.roof_at(10.0, ROOFS) == roofline.roof_at(99.0, ROOFS) == 500.0


def test_report_says_how_much_of_the_roof():
    record = {"ms": 1.0, "algorithm": "direct", "FLOP/byte": 2.0, "GFLOP/s": 25.0, "quiet": 0}
    table = report.roofline_table({"tiny": {"cyconv": record}}, ROOFS)
    assert table.splitlines()[-1] == "| tiny | direct | 1~ | 2 | 25 | 25% |"


@pytest.mark.skipif(not kernels.VECTOR, reason="the plain road has no use for the microkernel")
def test_the_peak_is_that_of_a_true_product():
    """The loop that the microkernel's peak is taken from computes w @ x, in each thread's own y."""
    task, operands = roofline.microkernel_task(2)
    for index, (x, w, y) in enumerate(operands):
        task(index)
        expected = w.reshape(roofline.FILTERS, -1).astype(float) @ x[0, :, 0, 0]
        assert relative_error(y[-1, :, 0, 0], expected) < CLOSE
        assert len(x) == len(y) == roofline.IMAGES


def test_labels_of_a_crowd_keep_apart():
    pytest.importorskip("matplotlib").use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(9, 6))
    axis.set(xlim=(0, 10), ylim=(0, 10))
    records = {
        f"layer {i}": {"FLOP/byte": 5 + 0.05 * i, "GFLOP/s": 5.0, "algorithm": "direct"}
        for i in range(8)
    }
    figure.canvas.draw()
    roofline_picture.place_labels(axis, records)
    renderer = figure.canvas.get_renderer()
    boxes = [roofline_picture.label_box(text, renderer) for text in axis.texts]
    plt.close(figure)
    assert sorted(text.get_text() for text in axis.texts) == sorted(records)
    for i, box in enumerate(boxes):
        assert all(roofline_picture.overlap(box, other) == 0 for other in boxes[:i])
    assert roofline_picture.overlap((0, 0, 2, 2), (1, 1, 3, 5)) == 1


@pytest.mark.filterwarnings("ignore")
def test_roofline_from_end_to_end(tmp_path, capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    pytest.importorskip("tqdm")
    monkeypatch.setattr(suite, "QUICK", HURRIED)
    monkeypatch.setattr(roofline, "BYTES", {"memory": 1 << 20, "last cache": 1 << 18})
    path = tmp_path / "results.json"
    options = ("--quick", "--only", "lenet1", "--threads", "1", "--json", str(path))
    suite.main(["forward", "roofline", *options])
    tables = json.loads(path.read_text())["tables"]
    assert set(tables) == {"forward", "roofs", "roofline"}
    record = tables["roofline"]["lenet1"]["cyconv"]
    assert record["GFLOP/s"] * record["ms"] == pytest.approx(2e-6 * LAYERS[0].macs, rel=1e-2)
    assert record["algorithm"] in roofline_picture.COLOURS
    assert ("microkernel" in tables["roofs"]) == kernels.VECTOR
    assert "## Roofline" in capsys.readouterr().out
    for name in ("results.png", "results-roofline.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


@pytest.mark.filterwarnings("ignore")
def test_errors_by_channels_from_end_to_end(tmp_path, capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    pytest.importorskip("tqdm")
    monkeypatch.setattr(accuracy, "CHANNELS", (4, 8))
    path = tmp_path / "accuracy.json"
    suite.main(["errors", "--peers", "--threads", "1", "--json", str(path)])
    tables = json.loads(path.read_text())["tables"]
    assert list(tables["errors"]) == ["4", "8"]
    for row in tables["errors"].values():
        assert list(row) == ["auto", "gemm", "direct", "winograd"]
        assert all(0 < error < 3e-6 for errors in row.values() for error in errors.values())
        assert row["winograd"]["y"] > row["direct"]["y"]
    text = path.with_suffix(".md").read_text()
    assert "at most 5e-6" in text
    assert "| 8 |" in text
    assert "accuracy.png" in text
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert "Float32 error" in capsys.readouterr().out


def test_a_complete_run_leaves_the_roofline_to_a_run_of_its_own():
    labels = [label for label, _ in suite.plan(suite.read_arguments(["--only", "lenet1"]))]
    assert not any(label.startswith("roof") for label in labels)


@pytest.mark.parametrize("wrong", [["sideways"], ["--only", "vgg99"], ["--redraw"]])
def test_wrong_arguments_are_explained(wrong, capsys):
    with pytest.raises(SystemExit):
        suite.main(wrong)
    assert "error:" in capsys.readouterr().err
