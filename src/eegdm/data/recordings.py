"""A recordings folder, open for reading: its tables, and windows of its signals in model units."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd
from jaxtyping import Float

from eegdm import artifacts
from eegdm.data.events import map_labels
from eegdm.data.montage import CHANNEL_ID
from eegdm.data.signal import (
    PUBLISHED_UNITS,
    ModelUnits,
    published_chbmit_window,
    robust_spread,
    wrap,
)
from eegdm.errors import UserError, one_line

# Memory maps kept open in a process: each holds a file descriptor, and many systems allow 1024.
_OPEN_SIGNALS = 256


def _open_signal(path: Path) -> np.ndarray:
    return _map_signal(path, artifacts.file_state(path))


@functools.lru_cache(maxsize=_OPEN_SIGNALS)
def _map_signal(path: Path, state: tuple[int, ...]) -> np.ndarray:
    """Map a signal; one that was replaced in the meantime has another state, and is mapped
    anew.
    """
    try:
        signal = np.load(path, mmap_mode="r", allow_pickle=False)
    # NumPy parses the header with Python's own tokenizer, which raises errors of its own
    except Exception as error:
        raise UserError(
            f"{path}: can't be read as a recording's signal ({one_line(error)})"
        ) from error
    if signal.ndim != 2 or signal.dtype != np.float32:
        raise UserError(
            f"{path}: holds {signal.dtype} of shape {signal.shape}, expected float32 (channels,"
            " samples)"
        )
    return signal


class Recordings:
    """A recordings folder, open for reading.

    Args:
        path: the folder.
        units: what windows are given in.
        rate: factor by which windows are resampled when they are read.
        label_map: label in the files -> class; empty keeps all labels as they are.

    Attributes:
        table: `recordings.parquet`, the recordings with status "ok" only.
        events: `events.parquet`, with classes for labels.
    """

    def __init__(
        self,
        path: Path,
        units: ModelUnits = PUBLISHED_UNITS,
        rate: float = 1.0,
        label_map: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.artifact = artifacts.open_artifact(path, "recordings")
        every = artifacts.read_table(self.artifact / "recordings.parquet")
        self.failures = every[every.status != "ok"][["recording", "reason"]].reset_index(drop=True)
        self.table = every[every.status == "ok"].reset_index(drop=True)
        events = artifacts.read_table(self.artifact / "events.parquet")
        # Format 1 mapped labels before it stored them.
        self.events = events if self.artifact.format == 1 else map_labels(events, label_map)
        self.units, self.rate = units, rate
        self._measured: dict[str, float | None] = {}
        self.per_window = bool(self.artifact.config["signal"]["per_window"])
        self._files = {r.recording: self.artifact / r.signal for r in self.table.itertuples()}
        # The table may be a stranger's: a path out of the folder is in no manifest.
        outside = [name for name in self.table.signal if name not in self.artifact.files]
        if outside:
            raise UserError(
                f"{path}: recordings.parquet names {outside[0]!r}, no file of this folder; run"
                " `eegdm preprocess` again"
            )
        if self.table.empty:
            raise UserError(
                f"{path}: no recording could be used; `eegdm info {path}` lists the reasons"
            )

    @property
    def ch_names(self) -> list[str]:
        """All channels that any recording has, in montage order."""
        ids: dict[str, int] = {}
        for r in self.table.itertuples():
            ids.update(zip(r.ch_names, r.channel_ids, strict=True))
        # Channels of the montage by their id; referential ones, whose ids are all -1, by name.
        return sorted(ids, key=lambda name: (ids[name] < 0, ids[name], name))

    @property
    def sfreq(self) -> float:
        """Sampling frequency of the windows that :meth:`window` gives, in Hz."""
        rates = sorted(set(self.table.sfreq))
        if len(rates) > 1:
            raise UserError(
                f"{self.artifact.path}: recordings have different sampling frequencies {rates}"
            )
        # Windows that are treated one by one lie on disk at the file's rate (256 Hz).
        return self.rate * (200.0 if self.per_window else float(rates[0]))

    def require_channel_ids(self) -> None:
        """Refuse channels that the backbone has no id for."""
        if unknown := [name for name in self.ch_names if name not in CHANNEL_ID]:
            raise UserError(
                f"{self.artifact.path}: the backbone knows the 22 TCP channels, not"
                f" {', '.join(unknown[:5])}; run `eegdm preprocess` with signal.montage=tcp or"
                " chbmit"
            )

    def signal(self, recording: str) -> np.ndarray:
        """Return the memory-mapped float32 signal (channel, time), in 100 µV, before companding."""
        return _open_signal(self._files[recording])

    def in_units(self, units: ModelUnits) -> Recordings:
        """Return the same recordings, whose windows are in other model units."""
        other = copy.copy(self)
        other.units, other._measured = units, {}
        return other

    def typical_spread(self, recordings: Iterable[str]) -> float:
        """Return the median of the robust spreads of some recordings, in 100 µV."""
        return float(np.median([robust_spread(self.signal(name)) for name in recordings]))

    def window(
        self, recording: str, start: int, n_times: int, row: int | None = None
    ) -> Float[np.ndarray, "channel time"]:
        """Return a window in model units (see :class:`ModelUnits`), of one channel (its row) or
        all; it wraps at the recording's ends.
        """
        signal = self.signal(recording)
        # A slice of one row, not the row: the window keeps its axis of channels.
        cut = wrap(signal if row is None else signal[row : row + 1], start, n_times)
        if self.per_window:
            return published_chbmit_window(cut * 100.0).astype(np.float32)
        if self.rate != 1.0:
            cut = _resampled(cut, self.rate)
        if recording not in self._measured:
            self._measured[recording] = self.units.measure(signal)
        return self.units.shown(cut, self._measured[recording])


def _resampled(window: np.ndarray, rate: float) -> np.ndarray:
    """Resample a window on its own, by MNE's defaults."""
    from mne.filter import resample

    return resample(window.astype(np.float64), up=rate, verbose="error").astype(np.float32)


def channel_places(
    table: pd.DataFrame, channels: Sequence[str]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return for each recording which of its rows are among the channels, and where there; rows of
    other channels are left out.

    Args:
        table: `recordings.parquet`, of which `recording` and `ch_names` are read.
        channels: names of a model's channels.

    Raises:
        UserError: a recording has none of the channels.
    """
    column = {name: j for j, name in enumerate(channels)}
    places = {}
    for r in table.itertuples():
        rows = [i for i, name in enumerate(r.ch_names) if name in column]
        if not rows:
            raise UserError(
                f"{r.recording}: has none of the channels {', '.join(channels)}; it has"
                f" {', '.join(r.ch_names)}"
            )
        places[r.recording] = np.array(rows), np.array([column[r.ch_names[i]] for i in rows])
    return places
