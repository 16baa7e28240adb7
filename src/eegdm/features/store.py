"""A folder of features, open for reading: tables of recordings and windows, and memory-mapped
arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray

from eegdm import artifacts
from eegdm.data.files import file_name
from eegdm.errors import UserError
from eegdm.features.extractors import Description

STORE_KIND = "embeddings"
RECORDINGS, WINDOWS, INDEX = "recordings.parquet", "windows.parquet", "index.parquet"
EVENTS = "events.parquet"
ARRAYS = "features"
ABOUT = "about.json"


class Stacked(NamedTuple):
    """The features of all recordings."""

    values: Float[ndarray, "window ..."]
    table: pd.DataFrame
    """The same rows: recording, file, subject, session, run, window, onset_s, duration_s and,
    where there are labels, label."""
    ch_names: list[str]
    """Of the second axis, if that is the channel."""


@dataclass(frozen=True)
class FeatureStore:
    """A finished folder of features.

    Attributes:
        path: the folder.
        artifact: its manifest; the fingerprint identifies all of its content.
        recordings: a row per recording that was found; of those with status "ok" there are
            features.
        windows: a row per window, in order of recording and time: recording, window, onset_s,
            duration_s and, where a table gave labels, label (null where none applies).
        features: what each array holds, by its name.
    """

    path: Path
    artifact: artifacts.Artifact
    recordings: pd.DataFrame
    windows: pd.DataFrame
    features: dict[str, Description]

    @classmethod
    def open(cls, path: str | Path) -> FeatureStore:
        """Open a finished folder.

        Raises:
            UserError: it is unfinished, of another kind, or a file is missing or damaged.
        """
        artifact = artifacts.open_artifact(Path(path), STORE_KIND)
        return cls(
            artifact.path,
            artifact,
            artifacts.read_table(artifact / RECORDINGS),
            artifacts.read_table(artifact / WINDOWS),
            read_descriptions(artifact.path),
        )

    @property
    def events(self) -> pd.DataFrame:
        """The rows of the table that gave labels: recording, onset_s, duration_s, label ("" where
        nobody has marked the stretch yet); without a table, none.
        """
        if EVENTS in self.artifact.files:
            return artifacts.read_table(self.artifact / EVENTS)
        return pd.DataFrame(columns=["recording", "onset_s", "duration_s", "label"])

    @property
    def names(self) -> list[str]:
        """The recordings that have features."""
        return list(self.recordings.recording[self.recordings.status == "ok"])

    @property
    def labelled_names(self) -> list[str]:
        """Those of them to which, or to a stretch of which, the table gave a label."""
        labelled = set(self.events.recording[self.events.label != ""])
        return [name for name in self.names if name in labelled]

    def array(self, name: str, recording: str) -> Float[np.memmap, "window ..."]:
        """Return the features of a recording, memory-mapped; the axes are those of
        ``features[name]``, and the channels the recording's ch_names.

        Raises:
            UserError: there are no such features, or the file is damaged.
        """
        self._require(name)
        row = self.recordings[self.recordings.recording == recording]
        if row.empty or row.status.iloc[0] != "ok":
            reason = "no such recording" if row.empty else row.reason.iloc[0]
            raise UserError(f"{self.path}: has no features of {recording} ({reason})")
        path = array_path(self.path, name, recording)
        if path.relative_to(self.path).as_posix() not in self.artifact.files:
            raise UserError(f"{self.path}: has no {name} of {recording}; run its command again")
        try:
            values = np.load(path, mmap_mode="r", allow_pickle=False)
        # NumPy parses the header with Python's own tokenizer, which raises errors of its own
        except Exception as error:
            raise UserError(f"{path}: can't be read as an array ({error})") from error
        expected = int(row.n_windows.iloc[0])
        if values.dtype != np.float32 or values.shape[:1] != (expected,):
            raise UserError(
                f"{path}: holds {values.dtype} of shape {values.shape}, expected float32 of"
                f" {expected} windows"
            )
        return values

    def stack(self, name: str, ch_names: Sequence[str] | None = None) -> Stacked:
        """Return the features of all recordings as one array in memory.

        Args:
            name: of the features.
            ch_names: which channels, in which order; by default those that every recording has, in
                the order of the first.

        Raises:
            UserError: a recording lacks a channel, or the recordings have none in common.
        """
        self._require(name)
        found = self.recordings[self.recordings.status == "ok"]
        has_channels = self.features[name].axes[1:2] == ("channel",)
        if ch_names is None:
            ch_names = self.common_channels()
        wanted = list(ch_names)
        stacked, done = np.empty(0, np.float32), 0
        for r in found.itertuples():
            values: ndarray = self.array(name, r.recording)
            if has_channels:
                own = list(r.ch_names)
                if lacking := [channel for channel in wanted if channel not in own]:
                    raise UserError(
                        f"{self.path}: {r.recording} has no channel {lacking[0]}; it has"
                        f" {', '.join(own)}"
                    )
                values = values[:, [own.index(channel) for channel in wanted]]
            if not done:
                stacked = np.empty((len(self.windows), *values.shape[1:]), np.float32)
            if values.shape[1:] != stacked.shape[1:]:
                raise UserError(
                    f"{self.path}: {name} of {r.recording} have the shape {values.shape[1:]}, those"
                    f" before {stacked.shape[1:]}"
                )
            stacked[done : done + len(values)] = values
            done += len(values)
        about = ["recording", "file", "subject", "session", "run"]
        table = self.windows.merge(self.recordings[about], on="recording", how="left")
        rest = [column for column in self.windows if column != "recording"]
        return Stacked(stacked, table[[*about, *rest]], wanted)

    def common_channels(self) -> list[str]:
        """Return the channels that every recording has, in the order of the first.

        Raises:
            UserError: there are none.
        """
        every = [list(names) for names in self.recordings.ch_names[self.recordings.status == "ok"]]
        common = [name for name in every[0] if all(name in names for names in every)]
        if not common:
            raise UserError(
                f"{self.path}: its recordings have no channel in common; name channels, or make it"
                " of recordings with the same electrodes"
            )
        return common

    def _require(self, name: str) -> None:
        if name not in self.features:
            raise UserError(
                f"{self.path}: holds no features called {name!r}, but"
                f" {', '.join(sorted(self.features))}"
            )


def array_path(folder: Path, name: str, recording: str) -> Path:
    """Where the features of a recording lie."""
    return folder / ARRAYS / name / f"{file_name(recording)}.npy"


def read_descriptions(folder: Path) -> dict[str, Description]:
    """Return what each array of a folder holds, by its name."""
    found = {}
    for path in sorted((folder / ARRAYS).glob(f"*/{ABOUT}")):
        about = artifacts.read_json(path)
        found[path.parent.name] = Description(
            about["fingerprint"], tuple(about["axes"]), about["coordinates"]
        )
    return found
