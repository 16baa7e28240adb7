"""Labels of windows, from a table of labels of recordings."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from eegdm.config import CorpusConfig
from eegdm.data.corpora import Source, events_beside
from eegdm.data.windows import main_labels

log = logging.getLogger(__name__)

LABEL_COLUMNS = ["recording", "onset_s", "duration_s", "label"]


class Labels(NamedTuple):
    """What a table says of recordings."""

    of_windows: pd.Series
    """A row per window, null where no label applies."""
    events: pd.DataFrame
    """recording, onset_s, duration_s, label, which is "" in an open row."""


def label_windows(
    windows: pd.DataFrame, recordings: pd.DataFrame, sources: Iterable[Source], corpus: CorpusConfig
) -> Labels:
    """Return the label of each window, the one that the table's rows give at least half of it, and
    these rows.

    Args:
        windows: `windows.parquet`, in order of recording.
        recordings: `recordings.parquet`.
        sources: the recordings as :func:`eegdm.data.corpora.survey` found them.
        corpus: the settings that they were found with, which name the table.

    Raises:
        UserError: the table gives a recording only labels after its end.
    """
    length = recordings.set_index("recording").duration_s
    labels = pd.Series(pd.NA, index=windows.index, dtype="string", name="label")
    every = []
    by_name = {source.recording: source for source in sources}
    for name, own in windows.groupby("recording", sort=False):
        events = events_beside(by_name[str(name)], corpus, float(length[name]))
        for note in events.attrs["notes"]:
            log.warning("%s: %s", name, note)
        every.append(events[LABEL_COLUMNS[1:]].assign(recording=name))
        marked = events[events.label != ""]
        found = main_labels(own.onset_s.to_numpy(), float(own.duration_s.iloc[0]), marked)
        labels[own.index] = pd.array(found, dtype="string")
    events = pd.concat(every, ignore_index=True)[LABEL_COLUMNS]
    return Labels(labels, events.astype({"recording": "string", "label": "string"}))


def has_label(source: Source, corpus: CorpusConfig) -> bool:
    """Whether a table gives a recording, or a stretch of it, a label."""
    if corpus.table is None:
        return False
    return bool((events_beside(source, corpus, math.inf).label != "").any())


def share(sizes: Sequence[int], together: int) -> int:
    """Return the largest number per group that keeps all groups together at a total, at least 2."""
    own = np.array(sizes)
    allowed = [n for n in range(2, own.max() + 1) if np.minimum(own, n).sum() <= together]
    return max(allowed, default=2)
