"""Scaling of the backbone with samples, channels and batch.

Samples: the velocity of one row of L samples without gradients, taken whole. Channels and batch:
tokens of 5 s windows. Time per unit should hardly grow (L log L, linear). Plotted in scaling.png.
"""

from __future__ import annotations

from pathlib import Path

import torch

from benchmarks import models, timing

SWEEPS = {
    "samples": (1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000),
    "channels": (1, 2, 4, 8, 16, 22),
    "batch": (1, 2, 4, 8, 16),
}
SMOKE = {"samples": (1_000, 2_000), "channels": (1, 2), "batch": (1, 2)}


@torch.inference_mode()
def once(sweep: str, size: int, smoke: bool, repeats: int = 0) -> timing.Times | None:
    """Run, and time if repeated, one case."""
    ours, _ = models.backbones(smoke)
    if sweep == "samples":
        x, zero = models.noise(1, 1, size), torch.zeros(1, dtype=torch.long, device=timing.DEVICE)
        work = lambda: ours(x, zero, zero)  # noqa: E731
    else:
        n_channels, batch = (size, 1) if sweep == "channels" else (4, size)
        x = models.noise(batch, n_channels, 1000)
        work = lambda: ours.tokens(x, range(n_channels))  # noqa: E731
    if repeats:
        return timing.repeated(work, repeats)
    work()
    return None


def run(smoke: bool) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for sweep, sizes in (SMOKE if smoke else SWEEPS).items():
        for size in sizes:
            times = once(sweep, size, smoke, repeats=1 if smoke else 2)
            assert times is not None
            peak = timing.peak_gib("scaling", "once", sweep=sweep, size=size, smoke=smoke)
            rows.append(
                {
                    "sweep": sweep,
                    "size": size,
                    "s": times.least,
                    "ms per unit": 1e3 * times.least / size,
                    "GiB": peak,
                }
            )
    return rows


def plot(rows: list[dict[str, object]], folder: Path) -> None:
    """Draw time and memory against size, log-log, with a line of slope 1."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6), layout="constrained")
    axes = figure.subplots(2, len(SWEEPS), sharex="col")
    for column, sweep in enumerate(SWEEPS):
        mine = [row for row in rows if row["sweep"] == sweep]
        size = [row["size"] for row in mine]
        for axis, key in zip(axes[:, column], ("s", "GiB"), strict=True):
            axis.loglog(size, [row[key] for row in mine], "o-")
            axis.set_ylabel("time, s" if key == "s" else "peak memory, GiB")
        linear = [mine[-1]["s"] * n / size[-1] for n in size]  # type: ignore[operator]
        axes[0, column].loglog(size, linear, "--", color="grey", label="linear")
        axes[0, column].legend()
        axes[1, column].set_xlabel(sweep)
    figure.savefig(folder / "scaling.png")
