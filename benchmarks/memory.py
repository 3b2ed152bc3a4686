"""Peak memory of one call, beyond its inputs and outputs, in a fresh process.

    python -m benchmarks.memory PEER LAYER MODE BATCH THREADS

prints it in MiB. A process of its own, because memory once taken is rarely given back, and what an
earlier call left behind would serve a later one for nothing.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from .layers import BY_NAME, Arrays, Layer, make_arrays
from .peers import Cyconv, Mode, Peer, available_peers

MIB = 1 << 20
STATUS = Path("/proc/self/status")


def extra_memory(peer: Peer, layer: Layer, mode: Mode) -> float:
    """MiB by which the peak passes what was resident before the call, less the outputs."""
    # What a first call brings along once, whatever its size: imports, pools, threads' stacks.
    small = Layer("warm-up", 1, layer.groups, 16, 16, layer.groups, 3, 1, 1, layer.groups)
    call(peer, small, make_arrays(small), mode)
    arrays = make_arrays(layer)
    prepared = peer.prepare(layer, arrays)
    run = prepared.run(mode)
    with run.inside():
        before = reset_peak()
        results = run.call()
        peak = peak_memory()
    outputs = results if mode == "train" else (results,)
    return (peak - before - sum(prepared.to_numpy(out).nbytes for out in outputs)) / MIB


def call(peer: Peer, layer: Layer, arrays: Arrays, mode: Mode) -> Any:
    run = peer.prepare(layer, arrays).run(mode)
    with run.inside():
        return run.call()


def reset_peak() -> int:
    """Bring the recorded peak down to what is resident now (Linux), and return that, in bytes."""
    if not STATUS.exists():
        return peak_memory()
    Path("/proc/self/clear_refs").write_text("5")
    return read_status("VmRSS")


def peak_memory() -> int:
    """The highest resident size so far, in bytes."""
    if STATUS.exists():
        return read_status("VmHWM")
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def read_status(field: str) -> int:
    line = next(ln for ln in STATUS.read_text().splitlines() if ln.startswith(field + ":"))
    return int(line.split()[1]) * 1024


def main(name: str, layer: str, mode: Mode, batch: str, threads: str) -> None:
    n = int(threads)
    peer = Cyconv(n) if name == Cyconv.name else available_peers(n, [name])[0]
    print(json.dumps(extra_memory(peer, BY_NAME[layer].batch(int(batch)), mode)))


if __name__ == "__main__":
    main(*sys.argv[1:])  # type: ignore[arg-type]
