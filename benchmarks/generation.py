"""Generation: one step of the reverse process on 22 channels, 5 s.

Kernel spectra are kept between steps in ours, made anew in the plain one. Three steps of each are timed; times are per step.
"""

from __future__ import annotations

import torch

from benchmarks import machine, models, timing
from eegdm.models.diffusion import NoiseSchedule

LENGTH, STEPS = 1000, (49, 48, 47)


@torch.inference_mode()
def run(smoke: bool) -> list[dict[str, object]]:
    ours, other = models.backbones(smoke)
    schedule = NoiseSchedule()
    channel = torch.arange(models.N_CHANNELS, device=timing.DEVICE)
    start = models.noise(models.N_CHANNELS, 1, LENGTH)
    found: dict[str, torch.Tensor] = {}

    def draw(name: str, model: torch.nn.Module) -> None:
        x = start
        for step in STEPS:
            x, _ = schedule.reverse_step(x, model(x, torch.full_like(channel, step), channel), step, start)
        found[name] = x

    times, slow = timing.interleaved(lambda: draw("ours", ours), lambda: draw("plain", other), repeats=1 if smoke else 3)
    floor = machine.backbone_work(ours.config, models.N_CHANNELS, LENGTH, skips=True).floor()
    least = times.least / len(STEPS)
    return [{
        "ours s": least,
        "ours s, median": times.median / len(STEPS),
        "floor s": floor,
        "ours / floor": least / floor,
        "plain s": slow.least / len(STEPS),
        "plain / ours": slow.least / times.least,
        "error": timing.error(found["ours"], found["plain"]),
    }]  # fmt: skip
