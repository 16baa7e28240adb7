"""Eager, compiled, and as a CUDA graph: tokens of a window, and a training step.

On a GPU a small batch waits for launches of kernels, which `torch.compile` and CUDA graphs save. On
a CPU neither pays (a compiler takes minutes over the tiles that fit its caches), so only eager is
timed there. This topic has not run on a GPU yet; what fails there is a row that says why.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks import models, pretraining, timing

LENGTH, BATCH = 1000, 32


def run(smoke: bool) -> list[dict[str, object]]:
    ways = {"eager": _eager}
    if timing.DEVICE.type == "cuda":
        ways |= {"compiled": torch.compile, "CUDA graph": _graph}
    rows = []
    for what, sequences, make in (
        ("tokens", models.N_CHANNELS, _tokens),
        ("training step", BATCH, _training_step),
    ):
        for how, wrap in ways.items():
            row: dict[str, object] = {"what": what, "how": how}
            try:
                times = timing.repeated(wrap(make(smoke)), 1 if smoke else 5)
            except Exception as error:  # what can't be compiled or captured is what is to be known
                row["failed"] = str(error).strip().splitlines()[0][:200]
            else:
                row |= {"s": times.least, "sequences/s": sequences / times.least}
            rows.append(row)
    return rows


def _tokens(smoke: bool) -> Callable[[], Tensor]:
    backbone, _ = models.backbones(smoke)
    x = models.noise(1, models.N_CHANNELS, LENGTH)

    @torch.no_grad()
    def work() -> Tensor:
        return backbone.tokens(x, range(models.N_CHANNELS))

    return work


def _training_step(smoke: bool) -> Callable[[], Tensor]:
    backbone, _ = models.backbones(smoke)
    return pretraining.step(backbone, 2 if smoke else BATCH, fused=True)


def _eager(work: Callable[[], Tensor]) -> Callable[[], Tensor]:
    return work


def _graph(work: Callable[[], Tensor]) -> Callable[[], object]:
    """Record the work once, to be replayed as a whole."""
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):  # allocations and lazy initialisations come before recording
        for _ in range(3):
            work()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay
