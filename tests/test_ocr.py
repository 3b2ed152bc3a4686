"""examples/ocr.py: a real detector in the reference evaluator, and ONNX Runtime."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

NEEDED = ["rapidocr_onnxruntime", "onnx", "onnxruntime", "matplotlib", "skimage", "PIL"]
for name in NEEDED:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"no {name} here", allow_module_level=True)

EXAMPLES = Path(__file__).parents[1] / "examples"
pytestmark = pytest.mark.filterwarnings("ignore")  # onnx's own, and those of what it imports


@pytest.fixture(scope="module")
def ocr():
    spec = importlib.util.spec_from_file_location("ocr", EXAMPLES / "ocr.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_runs_and_agrees_with_onnx_runtime(ocr, tmp_path, capsys):
    picture = tmp_path / "picture.png"
    assert ocr.main(["--quick", "--output", str(picture)]) == 0
    assert picture.read_bytes()[:4] == b"\x89PNG"
    printed = capsys.readouterr().out
    assert float(re.search(r"differs by at most (\S+)", printed)[1]) < 1e-3
    assert 7 <= int(re.search(r"(\d+) pieces of text", printed)[1]) <= 9


def test_it_fails_where_results_differ(ocr, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(ocr, "TOLERANCE", -1)
    assert ocr.main(["--quick", "--scale", "0.5", "--output", str(tmp_path / "p.png")]) == 1
    assert "that is more than" in capsys.readouterr().out


def test_the_plain_evaluator_gives_the_same(ocr):
    _, model = ocr.load_model()
    x = ocr.as_input(ocr.load_photograph(None, 0.3))
    assert x.shape == (1, 3, 64, 128)
    ours, _ = ocr.run(ocr.ReferenceEvaluator(model, new_ops=ocr.operators()), x)
    plain, _ = ocr.run(ocr.ReferenceEvaluator(model), x)
    assert abs(ours - plain).max() < 1e-4


def test_lines_are_found_however_they_lie(ocr):
    """A bar from (20, 30) to (80, 60), three pixels wide: the box is as long, and wider."""
    start, end = np.array([20.0, 30.0]), np.array([80.0, 60.0])
    along = (end - start) / np.linalg.norm(end - start)
    rows, columns = np.indices((100, 100))
    places = np.stack([columns, rows], axis=-1) - (start + end) / 2
    inside = (abs(places @ along) < np.linalg.norm(end - start) / 2) & (
        abs(places @ [-along[1], along[0]]) < 2
    )
    (corners,) = ocr.find_lines(inside.astype(np.float32))
    np.testing.assert_allclose(corners.mean(axis=0), (start + end) / 2, atol=0.5)
    sides = np.linalg.norm(np.diff(corners, axis=0), axis=1)
    short, long = sorted(sides[:2])
    assert 67 < long < 78
    assert 5 < short < 12
    assert not ocr.find_lines(np.zeros((100, 100), np.float32))
