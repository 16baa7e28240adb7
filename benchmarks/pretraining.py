"""Pretraining step.

Forward, backward, clipping and AdamW on 5 s of one channel a row. Peak memory is that of the whole
process. The plain implementation is not run at batch 108, where it needs more than 24 GiB.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks import machine, models, timing

LENGTH = 1000


def step(model: nn.Module, batch: int, fused: bool) -> Callable[[], Tensor]:
    """Return a training step, which returns the velocity it predicted."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.0, fused=fused)
    x, target = models.noise(2, batch, 1, LENGTH)
    index = torch.arange(batch, device=timing.DEVICE)

    def work() -> Tensor:
        optimizer.zero_grad()
        velocity = model(x, index % 50, index % models.N_CHANNELS)
        nn.functional.mse_loss(velocity, target).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return velocity.detach()

    return work


def once(side: str, batch: int, smoke: bool) -> None:
    """Take two steps, for their memory: the optimizer's is there from the second on."""
    work = step(models.side(models.backbones(smoke), side), batch, fused=side == "ours")
    work(), work()


def run(smoke: bool) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for batch, compared in (
        ((2, True), (3, False)) if smoke else ((8, True), (32, True), (108, False))
    ):
        ours, other = models.backbones(smoke)
        floor = machine.backbone_work(ours.config, batch, LENGTH, skips=True, training=True).floor()
        with torch.no_grad():
            x, index = models.noise(batch, 1, LENGTH), torch.arange(batch, device=timing.DEVICE)
            off = (
                timing.error(ours(x, index % 50, index % 22), other(x, index % 50, index % 22))
                if compared
                else None
            )
        row: dict[str, object] = {"batch": batch}
        fast = step(ours, batch, fused=True)
        if compared:
            times, slow = timing.interleaved(
                fast, step(other, batch, fused=False), repeats=1 if smoke else 3
            )
        else:
            times, slow = timing.repeated(fast, 1 if smoke else 2), None
        row |= {
            "ours s": times.least,
            "ours s, median": times.median,
            "sequences/s": batch / times.least,
        }
        row |= {"floor s": floor, "ours / floor": times.least / floor}
        row["ours GiB"] = timing.peak_gib(
            "pretraining", "once", side="ours", batch=batch, smoke=smoke
        )
        if slow is not None:
            row |= {"plain s": slow.least, "plain / ours": slow.least / times.least, "error": off}
            row["plain GiB"] = timing.peak_gib(
                "pretraining", "once", side="plain", batch=batch, smoke=smoke
            )
        rows.append(row)
    return rows
