"""The sections beside the layer table: latency, threads, growth with batch, memory, builds."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from .contest import Row, Tables, contest, timed
from .layers import MEMORY_BATCH, Layer, make_arrays
from .peers import TORCH, Cyconv, Mode, Peer, Prepared, Run
from .reference import expect
from .timing import Effort, compare

MODES: tuple[Mode, ...] = ("forward", "train")


def latency(layer: Layer, peers: Sequence[Peer], effort: Effort) -> Tables:
    """A layer so small that what is timed is the road to the kernel."""
    arrays = make_arrays(layer)
    expected = expect(layer, arrays)
    rows = {
        f"{layer.name} {mode}": contest(layer, arrays, expected, mode, peers, effort)
        for mode in MODES
    }
    return {"latency": rows}


def threads(layer: Layer, most: int, effort: Effort) -> Tables:
    """From one thread to all: 1, 2, 4, ... and `most`."""
    counts = sorted({most, *(1 << i for i in range(most.bit_length()) if 1 << i <= most)})
    arrays = make_arrays(layer)
    rows: dict[str, Row] = {}
    for mode in MODES:
        runs = {str(n): Cyconv(n).prepare(layer, arrays).run(mode) for n in counts}
        rows[f"{layer.name} {mode}"] = {
            count: timed(timing) | {"speedup": 1 / timing.ratio}
            for count, timing in compare(runs, "1", effort).items()
        }
    return {"threads": rows}


def batch(layer: Layer, most_threads: int, effort: Effort) -> Tables:
    """Batches of 1 to 64: the time an image must not grow."""
    sizes = [1, 2, 4, 8, 16, 32, 64]
    cyconv = Cyconv(most_threads)
    prepared = {n: cyconv.prepare(layer.batch(n), make_arrays(layer.batch(n))) for n in sizes}

    def grown(runs: dict[str, Run]) -> Row:
        return {
            size: timed(timing) | {"images": int(size), "growth": timing.ratio / int(size)}
            for size, timing in compare(runs, "1", effort).items()
        }

    fresh = {
        f"{layer.name} {mode}": grown({str(n): prepared[n].run(mode) for n in sizes})
        for mode in MODES
    }
    given = grown({str(n): into(prepared[n], layer.batch(n)) for n in sizes})
    return {"batch": fresh, "batch given": {f"{layer.name} forward": given}}


def into(prepared: Prepared, layer: Layer) -> Run:
    """The forward pass into the same memory at every call. Into new memory, where that is large, it
    also waits for the system, which clears each page before it hands it out."""
    y = np.zeros(layer.y_shape, np.float32)
    return Run(partial(prepared.forward.call, out=y), prepared.forward.inside)


def memory(layer: Layer, peers: Sequence[Peer]) -> Tables:
    """Peak memory beyond inputs and outputs, each case in a process of its own."""
    rows: dict[str, Row] = {}
    for mode in MODES:
        row = rows[f"{layer.name} {mode}"] = {}
        for peer in peers:
            if (mode == "train" and not peer.trains) or not peer.supports(layer, np.float32):
                continue
            case = [peer.name, layer.name, mode, str(MEMORY_BATCH), str(peer.threads)]
            printed = run_python(["-m", "benchmarks.memory", *case], {})
            row[peer.name] = {"MiB": json.loads(printed.splitlines()[-1])}
    return {"memory": rows}


def builds() -> dict[str, dict[str, str]]:
    """The builds that cyconv has here, and the environment that makes it take each of them."""
    candidates = {"numpy": {"CYCONV_PURE_PYTHON": "1", "CYCONV_REQUIRE_COMPILED": "0"}}
    for build in ("portable", "avx2", "avx512", "neon"):
        candidates[build] = {"CYCONV_SIMD": build}
    found: dict[str, dict[str, str]] = {}
    for name, environment in candidates.items():
        # A build that this machine lacks is answered with a lower one: ask what is running.
        running = re.search(r"build (\w+)", run_python(["-m", "cyconv"], environment))
        found.setdefault(running[1] if running else name, environment)
    return found


def build(name: str, environment: dict[str, str], arguments: list[str]) -> Tables:
    """Forward and training step of one build, in a process of its own, against PyTorch NCHW.

    Each build is held against the same peer, so the builds can be compared with one another.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "build.json"
        command = ["-m", "benchmarks", *MODES, "--peers", TORCH, "--json", str(path), "--no-report"]
        run_python([*command, *arguments], environment)
        measured = json.loads(path.read_text())["tables"]
    return {
        f"builds {mode}": {
            layer: {name: {"ms": row["cyconv"]["ms"], "ratio": row[TORCH]["ratio"]}}
            for layer, row in measured[mode].items()
            if TORCH in row
        }
        for mode in MODES
    }


def run_python(arguments: list[str], environment: dict[str, str]) -> str:
    """What a fresh interpreter prints; its error output is shown if it fails."""
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)} failed:\n{done.stderr[-2000:]}")
    return done.stdout
