"""Who else is using the processor: a time taken in company says little about who was timed."""

from __future__ import annotations

import os
from pathlib import Path
from time import perf_counter, process_time, sleep

STAT = Path("/proc/stat")
LOADAVG = Path("/proc/loadavg")


def wait_for_quiet(pause: float, patience: float) -> None:
    """Sleep until nobody else ran for `pause` seconds, or until `patience` is at an end.

    Our own spinning workers count as somebody. Where there is no /proc it is a plain pause.
    """
    step = pause / 6
    give_up = perf_counter() + max(pause, patience)
    quiet = 0
    while quiet < 6 and perf_counter() < give_up:
        sleep(step)
        quiet = quiet + 1 if running_threads() <= 1 else 0


def running_threads() -> int:
    """Threads of the whole machine that run or could run now; the one that asks is among them."""
    if not LOADAVG.exists():
        return 1
    return int(LOADAVG.read_text().split()[3].partition("/")[0])


class Bystanders:
    """Made at the start of an interval; `load()` gives the cores others kept busy since then.

    Counts other processes and what the hypervisor took away. Where there is no /proc/stat it sees
    nobody. Exact to a few clock ticks, so an interval should last 50 ms or more.
    """

    def __init__(self) -> None:
        self.start = perf_counter()
        self.own = process_time()
        self.all = busy_seconds()

    def load(self) -> float:
        others = (busy_seconds() - self.all) - (process_time() - self.own)
        return max(0.0, others / (perf_counter() - self.start))


def busy_seconds() -> float:
    """Processor seconds since boot, all cores, not counting idle ones and waits for a disk."""
    if not STAT.exists():
        return process_time()
    with STAT.open() as lines:
        # cpu user nice system idle iowait irq softirq steal (guest time is within user)
        user, nice, system, _, _, *rest = (int(n) for n in lines.readline().split()[1:9])
    return (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK")
