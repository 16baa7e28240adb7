"""The tables of a folder of features: recordings, windows, and channels of windows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from eegdm import artifacts
from eegdm.config import CorpusConfig
from eegdm.data.windows import WindowGrid
from eegdm.errors import UserError
from eegdm.features.labels import label_windows
from eegdm.features.recording import Cut, Job
from eegdm.features.store import EVENTS, INDEX, RECORDINGS, WINDOWS

COLUMNS = {
    "recording": "string",
    "file": "string",
    "size": "int64",
    "subject": "string",
    "session": "string",
    "run": "string",
    "sfreq": "Float64",
    "duration_s": "Float64",
    "n_times": "Int64",
    "n_windows": "Int64",
    "ch_names": "object",
    "taken_for": "object",
    "distance_mm": "object",
    "origins": "object",
    "status": "string",
    "reason": "string",
    "notes": "object",
}
"""The columns of `recordings.parquet`."""


def write_store_tables(
    folder: Path, jobs: Sequence[Job], corpus: CorpusConfig, cut: Cut
) -> pd.DataFrame:
    """Write the tables of recordings, windows, events where there are labels, and channels of
    windows; return the first.
    """
    rows = []
    for job in jobs:
        source, row = job.source, artifacts.read_json(job.part)["row"]
        about = {"recording": source.recording, "subject": source.subject}
        rows.append({**row, **about, "session": source.session, "run": source.run})
    recordings = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
    usable = recordings[recordings.status == "ok"]
    if usable.empty:
        artifacts.abandon(folder)
        reasons = "; ".join(f"{r.file}: {r.reason}" for r in recordings.head(3).itertuples())
        raise UserError(
            f"{corpus.source}: none of {len(recordings)} recordings could be used ({reasons})"
        )
    windows = pd.concat([_window_rows(r, cut) for r in usable.itertuples()], ignore_index=True)
    if corpus.table is not None:
        labels = label_windows(windows, usable, [job.source for job in jobs], corpus)
        windows["label"] = labels.of_windows
        artifacts.write_table(folder / EVENTS, labels.events)
    artifacts.write_table(folder / RECORDINGS, recordings)
    artifacts.write_table(folder / WINDOWS, windows)
    _write_index(folder / INDEX, usable, windows)
    return recordings


def _window_rows(recording: Any, cut: Cut) -> pd.DataFrame:
    grid = WindowGrid.cover(
        recording.n_times, recording.sfreq, cut.window_s, cut.step_s or cut.window_s
    )
    return pd.DataFrame(
        {
            "recording": recording.recording,
            "window": np.arange(len(grid.starts)),
            "onset_s": grid.onset_s,
            "duration_s": grid.n_times / grid.sfreq,
        }
    ).astype({"recording": "string"})


def _write_index(path: Path, recordings: pd.DataFrame, windows: pd.DataFrame) -> None:
    """Write a row per window and channel, a recording at a time: all of them may not fit into
    memory.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = pa.dictionary(pa.int32(), pa.string())
    schema = pa.schema(
        [
            ("recording", text),
            ("onset_s", pa.float64()),
            ("duration_s", pa.float64()),
            ("channel", text),
            ("row", pa.int64()),
        ]
    )
    of_recording = dict(tuple(windows.groupby("recording", sort=False)))
    with (
        artifacts.atomic_path(path) as temporary,
        pq.ParquetWriter(
            temporary,
            schema,
            compression="zstd",
            use_dictionary=[name for name in schema.names if name != "row"],
            column_encoding={"row": "DELTA_BINARY_PACKED"},
        ) as writer,
    ):
        for r in recordings.itertuples():
            own, n_channels = of_recording[r.recording], len(r.ch_names)
            columns = [
                np.repeat(r.recording, len(own) * n_channels),
                np.repeat(own.onset_s.to_numpy(), n_channels),
                np.repeat(own.duration_s.to_numpy(), n_channels),
                np.tile(np.array(r.ch_names, str), len(own)),
                np.arange(len(own) * n_channels),
            ]
            arrays = [
                pa.array(column).cast(field.type)
                for column, field in zip(columns, schema, strict=True)
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
