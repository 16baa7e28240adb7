"""Other models at the same input: 22 channels, 5 s, batch 1 and 16, window to logits without gradients.

CBraMod, BIOT and Labram as braindecode has them, untrained; skipped where braindecode is not installed.
"""

from __future__ import annotations

import importlib.util

import torch

from benchmarks import latents, models, timing

NAMES = ("CBraMod", "BIOT", "Labram")


@torch.inference_mode()
def run(smoke: bool) -> list[dict[str, object]]:
    backbone, fusion = models.backbones(smoke)[0], models.fusions(smoke)[0]
    found = {"EEGDM": lambda x: fusion(latents.tokens(backbone, x))}
    size = {"EEGDM": sum(p.numel() for model in (backbone, fusion) for p in model.parameters())}
    missing: list[dict[str, object]] = []
    if importlib.util.find_spec("braindecode") is None:
        missing = [{"model": name, "note": "braindecode is not installed"} for name in NAMES]
    else:
        import braindecode.models

        for name in NAMES:
            other = getattr(braindecode.models, name)(n_chans=models.N_CHANNELS, n_outputs=6, n_times=latents.LENGTH, sfreq=200)
            found[name], size[name] = other.to(timing.DEVICE).eval(), sum(p.numel() for p in other.parameters())
    rows: list[dict[str, object]] = []
    for batch in (1, 2) if smoke else (1, 16):
        x = models.noise(batch, models.N_CHANNELS, latents.LENGTH)
        for name, model in found.items():
            times = timing.repeated(lambda model=model, x=x: model(x), 1 if smoke else 3)
            rows.append({"model": name, "parameters": size[name], "batch": batch, "s/window": times.least / batch})
    return rows + missing
