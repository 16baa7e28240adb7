"""Backbones that people train without a GPU: tokens of windows of 22 channels, and training steps.

Width 32 is that of recipe `small` and of the backbone `mini`, width 64 that of recipe `mini_a`.
Both have 8 blocks. Windows last 5 s, and an item is a window, or a sequence of a training step.
"""

from __future__ import annotations

import torch

from benchmarks import machine, models, timing
from benchmarks.latents import LENGTH, tokens
from benchmarks.pretraining import step

SIZES = {
    width: {"d_model": width, "n_blocks": 8, "d_state": 32, "d_cond": 2 * width, "d_embed": width}
    for width in (32, 64)
}


def run(smoke: bool) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for width, sizes in ({16: models.SMALL_BACKBONE} if smoke else SIZES).items():
        pair = models.backbones(smoke, sizes)
        for batch in (1,) if smoke else (1, 16):
            rows.append(
                {"width": width, "work": f"tokens, batch {batch}"} | _tokens(pair, batch, smoke)
            )
        batch = 2 if smoke else 64
        rows.append(
            {"width": width, "work": f"training step, batch {batch}"} | _step(pair, batch, smoke)
        )
    return rows


@torch.inference_mode()
def _tokens(pair: tuple, batch: int, smoke: bool) -> dict[str, object]:
    x = models.noise(batch, models.N_CHANNELS, LENGTH)
    found = timing.compare(lambda side: tokens(models.side(pair, side), x), smoke)
    n_rows = batch * models.N_CHANNELS
    floor = machine.backbone_work(pair[0].config, n_rows, LENGTH, skips=False).floor()
    return found.columns(floor, batch, "item")


def _step(pair: tuple, batch: int, smoke: bool) -> dict[str, object]:
    ours, other = (step(model, batch, fused=model is pair[0]) for model in pair)
    times, slow = timing.interleaved(ours, other, repeats=1 if smoke else 5)
    floor = machine.backbone_work(pair[0].config, batch, LENGTH, skips=True, training=True).floor()
    return {
        "ours s/item": times.least / batch,
        "ours s/item, median": times.median / batch,
        "floor s/item": floor / batch,
        "ours / floor": times.least / floor,
        "plain s/item": slow.least / batch,
        "plain / ours": slow.least / times.least,
    }
