"""Labels of windows, from a table of labels of recordings."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import pandas as pd

from eegdm.config import CorpusConfig
from eegdm.data.corpora import Source, table_events
from eegdm.data.windows import main_labels

log = logging.getLogger(__name__)


def label_windows(
    windows: pd.DataFrame, recordings: pd.DataFrame, sources: Iterable[Source], corpus: CorpusConfig
) -> pd.Series:
    """Return the label of each window: the one that the table's rows give at least half of it.

    Args:
        windows: `windows.parquet`, in order of recording.
        recordings: `recordings.parquet`.
        sources: the recordings as :func:`eegdm.data.corpora.survey` found them.
        corpus: the settings that they were found with, which name the table.

    Returns:
        A column of text, null where no label applies.

    Raises:
        UserError: the table gives a recording only labels after its end.
    """
    length = recordings.set_index("recording").duration_s
    labels = pd.Series(pd.NA, index=windows.index, dtype="string", name="label")
    by_name = {source.recording: source for source in sources}
    for name, own in windows.groupby("recording", sort=False):
        events = table_events(by_name[str(name)], corpus, float(length[name]))
        for note in events.attrs["notes"]:
            log.warning("%s: %s", name, note)
        found = main_labels(own.onset_s.to_numpy(), float(own.duration_s.iloc[0]), events)
        labels[own.index] = pd.array(found, dtype="string")
    return labels
