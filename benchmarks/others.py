"""Other models at the same input: 22 channels, 5 s, batch 1 and 16, window to logits without
gradients.

CBraMod, BIOT and Labram as braindecode has them, untrained; named with the reason where braindecode
can't be imported.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch

from benchmarks import latents, models, timing

NAMES = ("CBraMod", "BIOT", "Labram")


@torch.inference_mode()
def run(smoke: bool) -> list[dict[str, object]]:
    backbone, fusion = models.backbones(smoke)[0], models.fusions(smoke)[0]
    found: dict[str, Callable[[torch.Tensor], object]] = {
        "EEGDM": lambda x: fusion(latents.tokens(backbone, x))
    }
    size = {"EEGDM": sum(p.numel() for model in (backbone, fusion) for p in model.parameters())}
    missing: list[dict[str, object]] = []
    try:
        import braindecode.models
    except (
        ImportError,
        OSError,
    ) as error:  # OSError: braindecode needs torchaudio, which may not load beside a CPU torch
        missing = [
            {"model": name, "note": f"braindecode can't be imported: {error}"} for name in NAMES
        ]
    else:
        for name in NAMES:
            other = getattr(braindecode.models, name)(
                n_chans=models.N_CHANNELS, n_outputs=6, n_times=latents.LENGTH, sfreq=200
            )
            found[name], size[name] = (
                other.to(timing.DEVICE).eval(),
                sum(p.numel() for p in other.parameters()),
            )
            if (
                name == "Labram"
            ):  # asks which of its 128 channels they are; which doesn't change the work
                found[name] = functools.partial(
                    other,
                    ch_names=list(
                        braindecode.models.labram.LABRAM_CHANNEL_ORDER[: models.N_CHANNELS]
                    ),
                )
    rows: list[dict[str, object]] = []
    for batch in (1, 2) if smoke else (1, 16):
        x = models.noise(batch, models.N_CHANNELS, latents.LENGTH)
        for name, model in found.items():
            times = timing.repeated(lambda model=model, x=x: model(x), 1 if smoke else 3)
            rows.append(
                {
                    "model": name,
                    "parameters": size[name],
                    "batch": batch,
                    "s/window": times.least / batch,
                }
            )
    return rows + missing
