"""A classifier that takes milliseconds, and recordings for it."""

from __future__ import annotations

from typing import Any

import mne
import numpy as np
import torch

from eegdm import EEGDM
from eegdm.config import TUEV_CLASSES
from eegdm.data.montage import derive
from eegdm.data.signal import Filtering, compand, preprocess
from eegdm.models.latents import extract

ELECTRODES = (
    "Fp1",
    "Fp2",
    "F7",
    "F3",
    "F4",
    "F8",
    "T3",
    "C3",
    "Cz",
    "C4",
    "T4",
    "T5",
    "P3",
    "P4",
    "T6",
    "O1",
    "O2",
    "A1",
    "A2",
)
DECISION = {
    "classes": list(TUEV_CLASSES),
    "event_classes": list(TUEV_CLASSES[:5]),
    "threshold": 0.5,
    "resolution_s": 1.0,
    "smoothing_s": 3.0,
    "min_duration_s": 1.0,
}


def small_model(seed: int = 0, **settings: Any) -> EEGDM:
    """A classifier with random weights."""
    torch.manual_seed(seed)
    settings = {"signal": {"mu": 255.0}, "decision": DECISION} | settings
    return EEGDM(
        backbone={"d_model": 8, "n_blocks": 2, "d_state": 4, "d_cond": 8, "d_embed": 8},
        fusion={"depth": 1, "n_tokens": 2, "n_heads": 2, "standardise": True},
        **settings,
    ).eval()


def lively_model(**settings: Any) -> EEGDM:
    """A classifier whose probabilities differ from window to window: tokens and logits have mean 0
    and a spread of 1 in `made_up`.
    """
    model = small_model(**settings)
    raw = made_up()
    signal = preprocess(raw, derive(raw.ch_names, model.channels), Filtering()).signal
    x = torch.from_numpy(
        compand(np.stack([signal[:, k : k + 1000] for k in range(0, 7000, 500)])).astype(np.float32)
    )
    with torch.no_grad():
        model.fusion.fit_tokens(
            extract(model.backbone, x, model.channel_ids, model.spec),
            torch.ones(len(x), len(model.channels), dtype=torch.bool),
        )
        logits = model(x)
        model.fusion.out.weight.div_(logits.std(0)[:, None])
        model.fusion.out.bias.sub_(logits.mean(0)).div_(logits.std(0))
    return model


def made_up(
    seconds: float = 40.0, sfreq: float = 256.0, names: tuple[str, ...] = ELECTRODES, seed: int = 0
) -> mne.io.RawArray:
    """A referential recording of 1/f noise in volts, 30 µV, with a louder stretch that moves
    through the channels.
    """
    rng = np.random.default_rng(seed)
    n_times = round(seconds * sfreq)
    spectrum = np.fft.rfft(rng.standard_normal((len(names), n_times)))
    noise = np.fft.irfft(spectrum / np.sqrt(1 + np.arange(spectrum.shape[1])), n_times)
    loud = 1 + 4 * (np.abs(np.arange(n_times) / n_times - 0.5) < 0.15)
    info = mne.create_info([f"EEG {name}-REF" for name in names], sfreq, "eeg")
    return mne.io.RawArray(3e-5 * noise / noise.std() * loud, info, verbose="ERROR")
