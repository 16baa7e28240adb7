"""Window to logits: 22 channels, 5 s, backbone and fusion transformer.

The floor is that of the backbone alone.
"""

from __future__ import annotations

import torch

from benchmarks import latents, machine, models, timing


@torch.inference_mode()
def run(smoke: bool) -> list[dict[str, object]]:
    backbones, fusions = models.backbones(smoke), models.fusions(smoke)
    rows: list[dict[str, object]] = []
    for batch in (1, 2) if smoke else (1, 16):
        x = models.noise(batch, models.N_CHANNELS, latents.LENGTH)
        found = timing.compare(
            lambda side, x=x: models.side(fusions, side)(
                latents.tokens(models.side(backbones, side), x)
            ),
            smoke,
        )
        floor = machine.backbone_work(
            backbones[0].config, batch * models.N_CHANNELS, latents.LENGTH, skips=False
        ).floor()
        rows.append({"batch": batch, **found.columns(floor, batch, "window")})
    return rows
