"""Recordings that are being written. Only the stretch that is asked for is read, by the readers of
finished recordings.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxtyping import Float
from numpy import ndarray

from eegdm.data.edf import EDF_KINDS, CutHeaderError, EdfHeader, read_unfinished_header
from eegdm.errors import UserError
from eegdm.inference.preparation import open_file

if TYPE_CHECKING:
    import mne

# A recorder that counts its records all the time says nothing when it ends.
ENDED_AFTER_S = 10.0


class Away(Exception):
    """The recording can't be reached now, but may be later: a drive of another computer."""


class Growing(ABC):
    """A recording that is being written; has what `DerivedChannels` asks of an MNE Raw.

    Args:
        path: the file.
        unit: what its numbers are in (V, mV or uV), above what it says.
        wanted: names of channels; where signals have several rates, that of most of these is read.

    Attributes:
        n_times: the number of samples that are there.
        has_ended: no more will come.
    """

    def __init__(self, path: Path, unit: str | None, wanted: Sequence[str]) -> None:
        self.path, self._unit, self._wanted = path, unit, wanted
        self.n_times, self.has_ended = 0, False
        self._raw: mne.io.BaseRaw | None = None
        self._first = 0

    @abstractmethod
    def poll(self) -> None:
        """See how much there is.

        Raises:
            Away: the file can't be reached.
            UserError: it can't be used, or is not the one that it was.
        """

    @abstractmethod
    def fetch(self, start: int, stop: int) -> None:
        """Get samples start..stop ready to be read.

        Raises:
            Away: the file can't be reached.
            UserError: as `open_recording`.
        """

    @abstractmethod
    def close(self) -> None:
        """Take no more samples."""

    @property
    def raw(self) -> mne.io.BaseRaw:
        """The stretch that was fetched last; names, types and rate are those of the recording."""
        assert self._raw is not None
        return self._raw

    @property
    def ch_names(self) -> list[str]:
        return list(self.raw.ch_names)

    @property
    def info(self) -> mne.Info:
        return self.raw.info

    @property
    def sfreq(self) -> float:
        return float(self.raw.info["sfreq"])

    def get_channel_types(self) -> list[str]:
        """As MNE's."""
        return list(self.raw.get_channel_types())

    def get_data(
        self, picks: Sequence[int], start: int, stop: int, verbose: Any = None
    ) -> Float[ndarray, "pick time"]:
        """As MNE's: samples start..stop of the channels with these indices, in volts."""
        if not self._first <= start < stop <= self._first + self.raw.n_times:
            self.fetch(start, stop)
        first = self._first
        return self.raw.get_data(picks, start - first, stop - first, verbose=verbose)

    def _open(self, path: Path) -> mne.io.BaseRaw:
        return open_file(path, self._unit, self._wanted, self.path)


class GrowingEdf(Growing):
    """An EDF or BDF file that a recorder adds records to.

    Some of its records, behind its header, are a file of that format too: that is how a stretch is
    read, whatever a day before it holds.

    Args:
        folder: where that file lies; it is replaced whenever another stretch is fetched.
    """

    def __init__(self, path: Path, unit: str | None, wanted: Sequence[str], folder: Path) -> None:
        super().__init__(path, unit, wanted)
        self._piece = folder / f"piece{path.suffix.lower()}"
        self._header: EdfHeader | None = None
        self._n_records = self._rate = 0
        self._was_open, self._grown_at = False, time.monotonic()

    def poll(self) -> None:
        """As `Growing`."""
        try:
            size = self.path.stat().st_size
        except OSError as error:
            raise Away(error.strerror or str(error)) from error
        if not size:
            return
        try:
            header = read_unfinished_header(self.path)
        except CutHeaderError:
            return
        held = (size - header.data_offset) // header.record_bytes
        is_other = self._header is not None and header._replace(n_records=-1) != self._header
        if is_other or held < self._n_records:
            raise UserError(
                f"{self.path}: was replaced or shortened while it was watched; watch it again"
            )
        self._header = header._replace(n_records=-1)
        counted = header.n_records
        n_records = held if counted == -1 else min(held, counted)
        if n_records > self._n_records:
            self._n_records, self._grown_at = n_records, time.monotonic()
        self._was_open |= counted == -1
        is_still = time.monotonic() - self._grown_at > ENDED_AFTER_S
        is_whole = counted != -1 and held >= counted > 0
        self.has_ended = is_whole and (self._was_open or is_still)
        if self._n_records and self._raw is None:
            self.fetch(0, 1)
        self.n_times = self._n_records * self._rate

    def fetch(self, start: int, stop: int) -> None:
        """As `Growing`."""
        assert self._header is not None
        # Of the first one, the rate is not known yet.
        rate = self._rate or max(self._header.samples_per_record)
        first, last = start // rate, -(-stop // rate)
        fixed, records = self._read(self._header, first, last)
        # Bytes 236 to 244 of a header are the number of records.
        self._piece.write_bytes(fixed[:236] + f"{last - first:<8}".encode() + fixed[244:] + records)
        try:
            self._raw = self._open(self._piece)
        except UserError as error:
            fault = str(error).replace(str(self._piece), str(self.path))
            raise UserError(fault) from error
        self._rate = round(self._raw.n_times / (last - first))
        self._first = first * self._rate

    def close(self) -> None:
        """As `Growing`."""
        self._piece.unlink(missing_ok=True)

    def _read(self, header: EdfHeader, first: int, last: int) -> tuple[bytes, bytes]:
        n_bytes = (last - first) * header.record_bytes
        try:
            with self.path.open("rb") as file:
                fixed = file.read(header.data_offset)
                file.seek(header.data_offset + first * header.record_bytes)
                records = file.read(n_bytes)
        except OSError as error:
            raise Away(error.strerror or str(error)) from error
        if len(records) < n_bytes:
            raise Away("the end of it is missing")
        return fixed, records


def growing_file(path: Path, unit: str | None, wanted: Sequence[str], folder: Path) -> GrowingEdf:
    """Return a file that is being written, as a recording; arguments as of `GrowingEdf`.

    Raises:
        UserError: there is no such file, or it is of another format.
    """
    if path.suffix.lower() not in EDF_KINDS:
        raise UserError(
            f"{path}: EDF and BDF files can be watched while they are written, and streams of the"
            " Lab Streaming Layer (lsl:NAME); for others, run eegdm predict when they are finished"
        )
    if not path.is_file():
        raise UserError(f"{path} does not exist; start the recording first")
    return GrowingEdf(path, unit, wanted, folder)
