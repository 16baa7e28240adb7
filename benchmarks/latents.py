"""Latents of a window of 22 channels, 5 s.

The windows of a batch are given at once. Kernel spectra are kept between calls in ours, made anew
in the plain one, as published.
"""

from __future__ import annotations

import torch

from benchmarks import machine, models, timing
from eegdm.models.backbone import SSMDP

LENGTH = 1000


def once(side: str, batch: int, smoke: bool) -> None:
    """Make tokens, for the memory it takes."""
    with torch.inference_mode():
        tokens(
            models.side(models.backbones(smoke), side),
            models.noise(batch, models.N_CHANNELS, LENGTH),
        )


def tokens(model: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Tokens by either implementation."""
    return (
        model.tokens(x, range(models.N_CHANNELS)) if isinstance(model, SSMDP) else model.tokens(x)
    )


@torch.inference_mode()
def run(smoke: bool) -> list[dict[str, object]]:
    backbones = models.backbones(smoke)
    rows: list[dict[str, object]] = []
    for batch in (1, 2) if smoke else (1, 4, 16):
        x = models.noise(batch, models.N_CHANNELS, LENGTH)
        found = timing.compare(lambda side, x=x: tokens(models.side(backbones, side), x), smoke)
        floor = machine.backbone_work(
            backbones[0].config, batch * models.N_CHANNELS, LENGTH, skips=False
        ).floor()
        peaks = {
            f"{side} GiB": timing.peak_gib("latents", "once", side=side, batch=batch, smoke=smoke)
            for side in ("ours", "plain")
        }
        rows.append({"batch": batch, **found.columns(floor, batch, "window"), **peaks})
    return rows
