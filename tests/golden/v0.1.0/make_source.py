"""Write the recordings that version 0.1.0 made its folders of: `python make_source.py`."""

from pathlib import Path

import numpy as np
import pandas as pd
from edfio import Edf, EdfSignal

SFREQ, N_TIMES = 200, 4000
ELECTRODES = ("FP1", "F7", "T3", "T5")
EVENTS = ((3.0, "alpha"), (8.0, "beta"), (13.0, "alpha"), (17.0, "beta"))

rng = np.random.default_rng(0)
source = Path("source")
source.mkdir()
times = np.arange(N_TIMES) / SFREQ
rows = []
for subject in range(4):
    signals = [rng.standard_normal(N_TIMES) * 10 for _ in ELECTRODES]
    for onset_s, label in EVENTS:
        around = slice(int((onset_s - 0.5) * SFREQ), int((onset_s + 1.5) * SFREQ))
        rhythm = np.sin(2 * np.pi * (10 if label == "alpha" else 20) * times[around])
        for i, signal in enumerate(signals):
            signal[around] += 40 * (i + 1) * rhythm
        rows.append((f"s{subject}.edf", onset_s, 1.0, label, f"s{subject}"))
    channels = [
        EdfSignal(
            signal,
            SFREQ,
            label=f"EEG {name}-REF",
            physical_dimension="uV",
            physical_range=(-400, 400),
        )
        for signal, name in zip(signals, ELECTRODES, strict=True)
    ]
    Edf(channels).write(source / f"s{subject}.edf")
columns = ["file", "onset_s", "duration_s", "label", "subject"]
pd.DataFrame(rows, columns=columns).to_csv(source / "events.csv", index=False)
