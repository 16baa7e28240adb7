"""The page that `eegdm suggest` writes: each window to mark with its traces, what the detector
thinks of it, and why it was chosen.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.figure import Figure

from eegdm.console import clock
from eegdm.errors import UserError
from eegdm.evaluation.choosing import uncertainty
from eegdm.features.suggestions import Suggestions
from eegdm.inference.prediction_figures import traces
from eegdm.inference.prediction_files import NO_DEVICE
from eegdm.inference.preparation import PreparationSettings, Prepared, as_raw, prepare
from eegdm.report.charts import colour
from eegdm.report.pages import Element, Picture, Section, Table, Text, write_html
from eegdm.report.traces import POLARITY

CONTEXT_S = 4.0
"""What is shown before and after a window."""
MARGIN_S = 30.0
"""What is read beyond that, so that filters have settled where traces are shown."""
HOW_TO = (
    "Fill in the label of each window in to_mark.csv, which lists them in the order of this page."
    " A window has one label if that covers at least half of it; you may change onset_s and"
    " duration_s to what you mark. Leave the label empty where you can't say: nothing is learned"
    " from such a row, and its window is not suggested again. Then add the rows to your table of"
    " marks, and run the command again with that table."
)


def write_suggestion_page(
    path: Path, found: Suggestions, recordings: Path, settings: PreparationSettings
) -> None:
    """Write a self-contained HTML page.

    Args:
        recordings: the folder of the recordings.
        settings: how they are read.
    """
    windows = found.windows
    sections = [
        Section(
            "What to do",
            [Text(NO_DEVICE), Text(f"{found.sentence()}."), Text(HOW_TO), Text(POLARITY)],
        ),
        Section("How they were chosen", [Text(_how(found)), _overview(found)]),
        *(
            Section(
                f"{k + 1}: {windows.file[k]}, {clock(windows.onset_s[k])}",
                [*_about(found, k, recordings, settings)],
            )
            for k in range(len(windows))
        ),
    ]
    write_html(path, "Windows to mark next", sections)


def _how(found: Suggestions) -> str:
    rule = (
        "each is the window that most reduces {} the distance to the nearest marked or suggested"
        " window (in the logs of tokens, averaged over channels and centred per person). No person"
        " gives more than an equal share of the windows, rounded up."
    )
    if found.probabilities is None:
        return (
            "No two labels are marked twice yet, so that there is no detector. Windows are chosen"
            " one by one: " + rule.format("the sum, over all unmarked windows, of")
        )
    marked = ", ".join(f"{name} {count}" for name, count in found.n_marked.items())
    return (
        f"A detector of the marks so far (windows: {marked}) is unsure of a window if its two"
        " likeliest labels are almost equally probable. Windows are chosen one by one: "
        + rule.format("the sum, over all unmarked windows, of this uncertainty times")
    )


def _overview(found: Suggestions) -> Table:
    thought = pd.DataFrame() if found.probabilities is None else found.probabilities
    rows = [
        [
            str(k + 1),
            w.file,
            w.subject,
            clock(w.onset_s),
            f"{w.onset_s:g}",
            f"{w.duration_s:g}",
            *(f"{value:.2f}" for value in thought.iloc[k : k + 1].to_numpy().ravel()),
            f"{100 * w.speaks_for:.0f} %",
        ]
        for k, w in enumerate(found.windows.itertuples())
    ]
    header = ["number", "file", "person", "time", "onset, s", "duration, s", *thought, "speaks for"]
    caption = (
        "What the detector now thinks is in a column for each label. A window speaks for the"
        " unmarked windows that are nearer to it than to any marked or other suggested window."
    )
    return Table(header, rows, caption)


def _about(
    found: Suggestions, k: int, recordings: Path, settings: PreparationSettings
) -> Iterator[Element]:
    window = found.windows.iloc[k]
    yield Text(_why(found, k))
    try:
        figure = _traces(recordings / window.file, settings, window)
    except UserError as error:
        yield Text(f"Its traces can't be shown: {error}")
        return
    words = f"{window.file}, {clock(window.onset_s)}, {window.duration_s:g} s to mark"
    yield Picture(figure, words, "The window to mark is shaded.", wide=True)


def _why(found: Suggestions, k: int) -> str:
    share = 100 * found.windows.speaks_for[k]
    spoken = f"It speaks for {share:.0f} % of the unmarked windows."
    if found.probabilities is None:
        return spoken
    likeliest = found.probabilities.iloc[k].sort_values(ascending=False)
    thought = ", ".join(f"{name} {value:.2f}" for name, value in likeliest.items())
    unsure = float(uncertainty(found.probabilities.iloc[[k]].to_numpy())[0])
    return f"The detector thinks: {thought} (uncertainty {unsure:.2f} of 1). {spoken}"


def read_stretch(
    file: Path, settings: PreparationSettings, onset_s: float, duration_s: float
) -> tuple[Prepared, Float[np.ndarray, "channel time"], float]:
    """Read a window and what surrounds it; return how it was prepared, the filtered signal in µV
    and when that starts.

    No more of the file is read than its filters need, for it may be long.
    """
    raw = as_raw(file, settings.unit, settings.taken_for or settings.channels)
    length_s = raw.n_times / float(raw.info["sfreq"])
    start_s = max(onset_s - CONTEXT_S, 0.0)
    stop_s = min(onset_s + duration_s + CONTEXT_S, length_s)
    first_s = max(start_s - MARGIN_S, 0.0)
    raw.crop(first_s, min(stop_s + MARGIN_S, float(raw.times[-1])))
    with tempfile.TemporaryDirectory(prefix="eegdm-") as folder:
        prepared = prepare(raw, settings, Path(folder))
        start, stop = (round((second - first_s) * prepared.sfreq) for second in (start_s, stop_s))
        return prepared, 100 * prepared.read(start, stop), start_s


def _traces(file: Path, settings: PreparationSettings, window: pd.Series) -> Figure:
    prepared, microvolts, start_s = read_stretch(file, settings, window.onset_s, window.duration_s)
    event = window[["onset_s", "duration_s"]]
    return traces(microvolts, prepared.ch_names, prepared.sfreq, start_s, event, colour(1))
