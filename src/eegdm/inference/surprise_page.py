"""The page that `eegdm surprise` writes of a recording: where it is unusual, and in which way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from eegdm.console import clock
from eegdm.inference.prediction_figures import traces
from eegdm.inference.prediction_files import NO_DEVICE
from eegdm.inference.prediction_page import what_was_done
from eegdm.inference.preparation import Prepared
from eegdm.inference.surprise_figures import surprise_map
from eegdm.inference.surprising import Surprise, in_words
from eegdm.report.charts import colour
from eegdm.report.pages import Picture, Section, Table, Text, write_html
from eegdm.report.traces import POLARITY

STRETCH_S = 12.0  # of a drawn stretch: what is shown
MEANING = (
    "Surprise is the root mean square, over five frequency bands (0.5-4, 4-8, 8-13, 13-30 and"
    " 30-70 Hz), of the robust z-score of the band's power: the difference between this second and"
    " the median of the channel in this recording, in multiples of what the channel usually differs"
    " by. Ordinary seconds are near 1."
)
LIMITS = (
    "The number needs no labels and says nothing of causes: a loose electrode, a movement, a change"
    " of state and a seizure all surprise. It sees each second of each channel alone and its power"
    " alone, so that a change of waveform that leaves the power of all bands is not found. What"
    " fills most of a recording is usual in it. The absence of surprise is not evidence that a"
    " recording is normal."
)


def write_surprise_page(path: Path, name: str, found: Surprise, prepared: Prepared) -> None:
    """Write a self-contained HTML page about the recording called ``name``."""
    n_channels = len(found.ch_names)
    values = found.seconds.surprise.to_numpy().reshape(-1, n_channels)
    first = found.stretches.iloc[0]
    length = f"{name} lasts {clock(found.duration_s)}"
    words = f"Surprise of {n_channels} channels over {clock(found.duration_s)}"
    sections = [
        Section(
            "Result", [Text(NO_DEVICE), Text(f"{length}. Open {in_words(first)}."), Text(MEANING)]
        ),
        Section(
            "The whole recording",
            [
                Picture(
                    surprise_map(values, found.ch_names, found.duration_s),
                    words,
                    "Each row is a channel. Where the recording has more seconds than the picture"
                    " has columns, each column shows its most surprising second.",
                    wide=True,
                )
            ],
        ),
        Section(
            "The strangest stretches",
            [
                Text(f"In the filtered signal, by their highest surprise. {POLARITY}"),
                *(
                    stretch_picture(s.onset_s, s.duration_s, in_words(s), prepared)
                    for s in found.stretches.itertuples()
                ),
                _list(found.stretches),
            ],
        ),
        Section("What the number cannot say", [Text(LIMITS)]),
        Section("What was done to the signal", [*what_was_done(found.steps, found.notes)]),
    ]
    write_html(path, f"Surprise in {name}", sections)


def stretch_picture(onset_s: float, duration_s: float, words: str, prepared: Prepared) -> Picture:
    """Draw the filtered signal around a stretch, which is shaded."""
    last = max(prepared.n_times / prepared.sfreq - STRETCH_S, 0)
    middle = onset_s + duration_s / 2
    start = round(float(np.clip(middle - STRETCH_S / 2, 0, last)) * prepared.sfreq)
    microvolts = 100 * prepared.read(start, start + round(STRETCH_S * prepared.sfreq))
    event = pd.Series({"onset_s": onset_s, "duration_s": duration_s})
    figure = traces(
        microvolts, prepared.ch_names, prepared.sfreq, start / prepared.sfreq, event, colour(1)
    )
    return Picture(figure, words, f"{words}.", wide=True)


def _list(stretches: pd.DataFrame) -> Table:
    rows = [
        [
            clock(s.onset_s),
            f"{s.onset_s:.0f}",
            f"{s.duration_s:.0f}",
            str(s.channel),
            f"{s.surprise:.1f}",
            f"{s.band} {s.change_db:+.0f} dB",
        ]
        for s in stretches.itertuples()
    ]
    header = ["time", "onset, s", "duration, s", "strangest channel", "surprise", "band"]
    return Table(header, rows, "All seconds and channels are in the table beside this page.")
