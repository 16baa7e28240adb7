"""What this machine can do, measured: the floors under every stage."""

from __future__ import annotations

import datetime
import functools
import os
import platform
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks import timing


class Rates(NamedTuple):
    """Measured rates, per second, with all threads."""

    matmul: float
    """Multiplications and additions, float32, of a large square product."""
    fft: float
    """Samples through a real FFT of 2,048 samples, in cache."""
    gate: float
    """Sigmoids, in cache."""
    bandwidth: float
    """Bytes read or written by a copy of 256 MB."""


@functools.cache
def rates() -> Rates:
    """Measure; the best of some tries, once per process."""
    device, n = timing.DEVICE, 1024 if timing.DEVICE.type == "cpu" else 8192
    square, product = torch.randn(2, n, n, device=device), torch.empty(n, n, device=device)
    signals = torch.randn(128, 2048, device=device)
    gates = torch.empty_like(signals)
    source, copy = torch.ones(2, 2**25, device=device)
    turns = 20

    def rate(amount: float, work) -> float:  # noqa: ANN001
        return amount / timing.repeated(work, 9).least

    def again(work) -> None:  # noqa: ANN001
        for _ in range(turns):  # results are let go at once, so that their memory stays in cache
            work()

    with torch.inference_mode():
        return Rates(
            rate(2 * n**3, lambda: torch.mm(square[0], square[1], out=product)),
            rate(turns * signals.numel(), lambda: again(lambda: torch.fft.rfft(signals))),
            rate(turns * signals.numel(), lambda: again(lambda: torch.sigmoid(signals, out=gates))),
            rate(2 * 4 * copy.numel(), lambda: copy.copy_(source)),
        )


class Work(NamedTuple):
    """The work of a stage that no implementation with FFTs is spared."""

    matmul: float
    fft: float
    gate: float

    def floor(self) -> float:
        """Return the seconds it takes at this machine's rates."""
        measured = rates()
        return self.matmul / measured.matmul + self.fft / measured.fft + self.gate / measured.gate


def backbone_work(
    config: dict[str, int], rows: int, length: int, skips: bool, training: bool = False
) -> Work:
    """Count a backbone's passes over ``rows`` signals of ``length`` samples.

    A block multiplies by (2 F, F) and (F, F), twice the latter with skips, and transforms 2 F
    signals of twice the length there and back. A training step has three times the products and,
    with what the forward pass could keep, four transforms.
    """
    F, blocks = config["d_model"], config["n_blocks"]
    products = blocks * 2 * F * F + (blocks - 1) * F * F + (blocks * F * F if skips else 0)
    samples = rows * length
    return Work(
        matmul=2.0 * samples * products * (3 if training else 1),
        fft=2.0 * samples * blocks * 2 * F * (4 if training else 2),
        gate=float(samples * blocks * 2 * F),
    )


def facts() -> dict[str, object]:
    """Return what the results depend on: machine, versions, load, measured rates."""
    measured = rates()
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "load before": round(os.getloadavg()[0], 1),
        "torch": torch.__version__,
        "matmul GFLOP/s": round(measured.matmul / 1e9, 1),
        "FFT Gsample/s": round(measured.fft / 1e9, 2),
        "gate G/s": round(measured.gate / 1e9, 2),
        "copy GB/s": round(measured.bandwidth / 1e9, 1),
    }


def _processor() -> str:
    if timing.DEVICE.type == "cuda":
        return torch.cuda.get_device_name()
    known = Path("/proc/cpuinfo")
    lines = known.read_text().splitlines() if known.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
