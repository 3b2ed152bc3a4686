"""examples/large_image.py, on an image that is not so large."""

import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pytest

for name in ["dask", "distributed", "matplotlib", "psutil", "tqdm"]:
    pytest.importorskip(name)

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("large_image", EXAMPLES / "large_image.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CYCONV_NUM_THREADS", "1")  # which it would set, for all tests after it
        patch.setitem(sys.modules, "large_image", module)  # where a worker looks for its functions
        spec.loader.exec_module(module)
        yield module


def test_it_finds_the_stars(example, tmp_path, capsys):
    picture = tmp_path / "picture.png"
    sizes = ["--size", "800", "--chunk", "200", "--stars", "80"]
    assert example.main([*sizes, "--workers", "0", "--output", str(picture)]) == 0
    assert picture.read_bytes()[:4] == b"\x89PNG"
    printed = capsys.readouterr().out
    seen, stars, crossing_seen, crossing, wrong = map(
        int,
        re.search(
            r"(\d+) of (\d+) stars found; (\d+) of the (\d+) across .* not there: (\d+)", printed
        ).groups(),
    )
    assert stars == 80
    assert seen >= 78
    assert crossing >= 5
    assert crossing_seen >= crossing - 1
    assert wrong == 0
    assert 50 < float(re.search(r"peak memory of all processes: (\d+) MB", printed)[1]) < 10_000


def test_stars_across_borders_are_whole(example):
    """The sky less its noise is the same in whatever chunks it is made."""

    def light(chunk):
        images = [
            example.sky(120, chunk, count).compute(scheduler="synchronous") for count in (40, 0)
        ]
        return images[0] - images[1]

    np.testing.assert_allclose(light(40), light(120), rtol=0, atol=1e-4)
    assert light(40).max() > 3


def test_what_is_near(example):
    places = np.array([[10.0, 10.0], [50.0, 50.0]])
    others = np.array([[90.0, 10.0], [51.5, 48.5], [10.0, 13.0], [13.0, 10.0]])
    assert example.near(places, others).tolist() == [False, True]


def test_of_twins_the_brighter_is_kept(example):
    found = np.array([[10, 10, 8], [14, 6, 9], [30, 10, 8], [30, 15, 9], [35, 10, 7.5]])
    kept = example.without_twins(found)
    assert sorted(map(tuple, kept)) == [(14, 6), (30, 10), (30, 15), (35, 10)]


def test_it_fails_below_its_goal(example, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(example, "GOAL", 1.1)
    options = ["--size", "400", "--chunk", "200", "--stars", "9", "--workers", "0"]
    assert example.main([*options, "--output", str(tmp_path / "p.png")]) == 1
    assert "that is less than" in capsys.readouterr().out
