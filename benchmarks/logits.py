"""Window to logits: 22 channels, 5 s, backbone and fusion transformer."""

from __future__ import annotations

import torch

from benchmarks import latents, machine, models, timing


@torch.inference_mode()
def run(smoke: bool) -> list[dict[str, object]]:
    backbones, fusions = models.backbones(smoke), models.fusions(smoke)
    rows: list[dict[str, object]] = []
    for batch in (1, 2) if smoke else (1, 16):
        x = models.noise(batch, models.N_CHANNELS, latents.LENGTH)
        found: dict[str, torch.Tensor] = {}

        def work(side: str, x: torch.Tensor = x, found: dict = found) -> None:
            found[side] = models.side(fusions, side)(latents.tokens(models.side(backbones, side), x))

        times, slow = timing.interleaved(lambda: work("ours"), lambda: work("plain"), repeats=1 if smoke else 3)
        floor = machine.backbone_work(backbones[0].config, batch * models.N_CHANNELS, latents.LENGTH, skips=False).floor()
        rows.append({
            "batch": batch,
            "ours s/window": times.least / batch,
            "ours s/window, median": times.median / batch,
            "backbone's floor s/window": floor / batch,
            "plain s/window": slow.least / batch,
            "plain / ours": slow.least / times.least,
            "error": timing.error(found["ours"], found["plain"]),
        })  # fmt: skip
    return rows
