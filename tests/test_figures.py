"""The figures of the documentation can be drawn."""

import importlib
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

FIGURES = Path(__file__).parents[1] / "docs" / "figures"


@pytest.mark.parametrize("name", ["im2col", "col2im", "tiles", "winograd", "openmp"])
def test_figure_is_drawn(name, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(FIGURES))  # where Python looks when a script is run
    path = importlib.import_module(name).draw(tmp_path)
    assert path == tmp_path / f"{name}.svg"
    drawn, kept = path.read_text("utf-8"), (FIGURES / path.name).read_text("utf-8")
    assert drawn.startswith("<?xml")
    # Another Matplotlib may write another file, but not half of one.
    assert 0.7 * len(kept) < len(drawn) < 1.4 * len(kept)
