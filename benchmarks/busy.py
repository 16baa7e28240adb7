"""A busy machine: tokens of a window while another process keeps every core busy

The window has 22 channels of 5 s; idle and busy are measured in one run, the middle of several
times each. "loss" is busy over idle. Sharing every core with one process doubles any time; more is
lost where threads wait for one another. Ours may lose at most twice what the plain implementation
loses. `OMP_WAIT_POLICY=PASSIVE` is how the commands run; without it threads spin while they wait.

    python -m benchmarks.busy [--smoke]
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch

from benchmarks import latents, models, timing

BY_HAND = "python -m benchmarks.busy"
"""It keeps every core busy, so that no other topic is timed beside it."""
LIMIT = 2.0


def run(smoke: bool) -> list[dict[str, object]]:
    """Return a row for each implementation and one with the ratio of their losses."""
    backbones = models.backbones(smoke)
    window = models.noise(1, models.N_CHANNELS, latents.LENGTH)
    work = {
        side: partial(latents.tokens, models.side(backbones, side), window)
        for side in ("ours", "plain")
    }
    repeats = {"ours": 1 if smoke else 7, "plain": 1 if smoke else 3}
    n_busy = len(os.sched_getaffinity(0))
    with torch.inference_mode():
        timing.error(work["ours"](), work["plain"]())
        idle = {side: _median(work[side], repeats[side]) for side in work}
        with busy_processes(n_busy):
            busy = {side: _median(work[side], repeats[side]) for side in work}
    loss = {side: busy[side] / idle[side] for side in work}
    policy = os.environ.get("OMP_WAIT_POLICY", "not set")
    rows: list[dict[str, object]] = [
        {
            "tokens of a window": side,
            "idle (s)": idle[side],
            f"beside {n_busy} busy processes (s)": busy[side],
            "loss": loss[side],
            "OMP_WAIT_POLICY": policy,
        }
        for side in work
    ]
    ratio = loss["ours"] / loss["plain"]
    return [*rows, {"tokens of a window": f"ours / plain (at most {LIMIT:g})", "loss": ratio}]


@contextmanager
def busy_processes(n: int) -> Iterator[None]:
    """Keep so many processes computing."""
    command = [sys.executable, "-c", "while True: pass"]
    processes = [subprocess.Popen(command) for _ in range(n)]
    try:
        time.sleep(1.0)  # until all have started
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _median(work: Callable[[], object], repeats: int) -> float:
    return timing.repeated(work, repeats).median


if __name__ == "__main__":
    from benchmarks.__main__ import table

    print(table(run("--smoke" in sys.argv)))
