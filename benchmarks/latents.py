"""Latents of a window of 22 channels, 5 s.

The windows of a batch are given at once. Kernel spectra are kept between calls in ours, made anew in the plain one, as published.
"""

from __future__ import annotations

import torch

from benchmarks import machine, models, timing
from eegdm.models.backbone import SSMDP

LENGTH = 1000


def once(side: str, batch: int, smoke: bool) -> None:
    """Make tokens, for the memory it takes."""
    with torch.inference_mode():
        tokens(models.side(models.backbones(smoke), side), models.noise(batch, models.N_CHANNELS, LENGTH))


def tokens(model: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Tokens by either implementation."""
    return model.tokens(x, range(models.N_CHANNELS)) if isinstance(model, SSMDP) else model.tokens(x)


@torch.inference_mode()
def run(smoke: bool) -> list[dict[str, object]]:
    ours, other = models.backbones(smoke)
    rows: list[dict[str, object]] = []
    for batch in (1, 2) if smoke else (1, 4, 16):
        x = models.noise(batch, models.N_CHANNELS, LENGTH)
        found: dict[str, torch.Tensor] = {}
        times, slow = timing.interleaved(
            lambda x=x, found=found: found.update(ours=tokens(ours, x)),
            lambda x=x, found=found: found.update(plain=tokens(other, x)),
            repeats=1 if smoke else 3,
        )
        floor = machine.backbone_work(ours.config, batch * models.N_CHANNELS, LENGTH, skips=False).floor()
        rows.append({
            "batch": batch,
            "ours s/window": times.least / batch,
            "ours s/window, median": times.median / batch,
            "floor s/window": floor / batch,
            "ours / floor": times.least / floor,
            "plain s/window": slow.least / batch,
            "plain / ours": slow.least / times.least,
            "error": timing.error(found["ours"], found["plain"]),
            "ours GiB": timing.peak_gib("latents", "once", side="ours", batch=batch, smoke=smoke),
            "plain GiB": timing.peak_gib("latents", "once", side="plain", batch=batch, smoke=smoke),
        })  # fmt: skip
    return rows
