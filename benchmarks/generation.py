"""Generation: one step of the reverse process on 22 channels, 5 s.

Kernel spectra are kept between steps in ours, made anew in the plain one. Three steps of each are
timed; times are per step.
"""

from __future__ import annotations

import torch

from benchmarks import machine, models, timing
from eegdm.models.diffusion import NoiseSchedule

LENGTH, STEPS = 1000, (49, 48, 47)


@torch.inference_mode()
def run(smoke: bool) -> list[dict[str, object]]:
    backbones = models.backbones(smoke)
    schedule = NoiseSchedule()
    channel = torch.arange(models.N_CHANNELS, device=timing.DEVICE)
    start = models.noise(models.N_CHANNELS, 1, LENGTH)

    def draw(side: str) -> torch.Tensor:
        model, x = models.side(backbones, side), start
        for step in STEPS:
            x, _ = schedule.reverse_step(
                x, model(x, torch.full_like(channel, step), channel), step, start
            )
        return x

    floor = machine.backbone_work(
        backbones[0].config, models.N_CHANNELS, LENGTH, skips=True
    ).floor()
    return [timing.compare(draw, smoke).columns(len(STEPS) * floor, len(STEPS), "step")]
