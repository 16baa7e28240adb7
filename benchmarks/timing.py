"""Timing and peak memory."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

DEVICE = torch.device("cpu")
"""Where benchmarks run; set by :func:`use`, and by it in the child processes that measure memory.
"""


def use(device: str) -> None:
    """Run benchmarks on ``device``."""
    global DEVICE
    DEVICE = torch.device(device)


def seconds(work: Callable[[], object]) -> float:
    """Time one call: by the clock, on a GPU by device events."""
    if DEVICE.type != "cuda":
        start = time.perf_counter()
        work()
        return time.perf_counter() - start
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    first.record()
    work()
    last.record()
    torch.cuda.synchronize()
    return first.elapsed_time(last) / 1e3


class Times(NamedTuple):
    """The least and the middle of several times, in seconds."""

    least: float
    median: float


def repeated(work: Callable[[], object], repeats: int) -> Times:
    """Time ``work`` after a first call."""
    work()
    return _times([seconds(work) for _ in range(repeats)])


def interleaved(
    ours: Callable[[], object], plain: Callable[[], object], repeats: int, plain_repeats: int = 1
) -> tuple[Times, Times]:
    """Time two implementations in turn, so that both meet the same machine; ours is called once
    before, the slow one not.
    """
    ours()
    found: tuple[list[float], list[float]] = [], []
    for turn in range(repeats):
        found[0].append(seconds(ours))
        if turn < plain_repeats:
            found[1].append(seconds(plain))
    return _times(found[0]), _times(found[1])


class Comparison(NamedTuple):
    """Ours and the plain implementation of the same work, and how far apart their outputs are."""

    ours: Times
    plain: Times
    error: float

    def columns(self, floor: float, n: int, unit: str) -> dict[str, object]:
        """Return a row's cells: seconds per unit, of which the work did ``n``, beside the floor in
        seconds of the whole.
        """
        return {
            f"ours s/{unit}": self.ours.least / n,
            f"ours s/{unit}, median": self.ours.median / n,
            f"floor s/{unit}": floor / n,
            "ours / floor": self.ours.least / floor,
            f"plain s/{unit}": self.plain.least / n,
            "plain / ours": self.plain.least / self.ours.least,
            "error": self.error,
        }


def compare(work: Callable[[str], torch.Tensor], smoke: bool) -> Comparison:
    """Time ``work("ours")`` and ``work("plain")`` in turns, and compare what they return."""
    found: dict[str, torch.Tensor] = {}
    times = interleaved(
        lambda: found.update(ours=work("ours")),
        lambda: found.update(plain=work("plain")),
        1 if smoke else 3,
    )
    return Comparison(*times, error(found["ours"], found["plain"]))


def peak_gib(module: str, function: str, **arguments: object) -> float:
    """Return the peak memory of ``benchmarks.module.function(**arguments)`` in a process of its
    own, in GiB.

    On the CPU the process's largest resident set, Python and torch (about 0.3 GiB) included; on a
    GPU what its allocator held. Linux's ``ru_maxrss`` would not do: a child begins with its
    parent's.
    """
    command = [
        sys.executable,
        "-m",
        "benchmarks.timing",
        str(DEVICE),
        module,
        function,
        json.dumps(arguments),
    ]
    finished = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return float(finished.stdout.splitlines()[-1])


def error(got: torch.Tensor, expected: torch.Tensor, most: float = 1e-5) -> float:
    """Return the largest difference in units of the largest magnitude; refuse to time what does not
    agree.
    """
    off = ((got - expected).abs().max() / expected.abs().max()).item()
    if not off <= most:
        raise AssertionError(f"outputs differ by {off:.1e} of their scale, more than {most:.0e}")
    return off


def _times(found: list[float]) -> Times:
    return Times(min(found), sorted(found)[len(found) // 2])


def _child() -> None:
    device, module, function, arguments = sys.argv[1:]
    from benchmarks import timing  # this module runs as __main__ here; topics read the other one

    timing.use(device)
    work = getattr(__import__(f"benchmarks.{module}", fromlist=[function]), function)
    work(**json.loads(arguments))
    if device.startswith("cuda"):
        print(torch.cuda.max_memory_allocated() / 2**30)
    else:
        print(_largest_resident_set() / 2**30)


def _largest_resident_set() -> float:
    """Bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        return 1024.0 * next(
            int(line.split()[1])
            for line in status.read_text().splitlines()
            if line.startswith("VmHWM:")
        )
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # macOS: in bytes


if __name__ == "__main__":
    _child()
