"""Streams of the Lab Streaming Layer, recorded into BrainVision files while they come in.

A file has no gaps: where samples are lost, the next one begins.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from eegdm.data.units import volts_per
from eegdm.errors import UserError
from eegdm.inference.growing import Away, Growing

RESOLVE_S = 10.0
# By which time stamps may be off their place: more than the jitter of wireless amplifiers.
GAP_S = 0.5
_SUFFIXES = (".vhdr", ".eeg", ".vmrk")
_EXPONENTS = {"0": "V", "-3": "mV", "-6": "µV", "-9": "nV"}


class LslStream:
    """A stream of the Lab Streaming Layer, found by its name.

    Args:
        name: the stream's.
        unit: what its numbers are in (V, mV or uV), above what it says.

    Raises:
        UserError: mne-lsl is not installed; there is no such stream; it has no sampling rate, or
            says nothing of its unit.
    """

    def __init__(self, name: str, unit: str | None) -> None:
        try:
            from mne_lsl import lsl
        except ImportError as error:
            raise UserError(
                "streams of the Lab Streaming Layer need the package mne-lsl; install it with pip"
                " install 'eegdm[lsl]'"
            ) from error
        self.name, self._lsl = name, lsl
        # What came after a gap, for the next recording.
        self._left: tuple[ndarray, ndarray] | None = None
        self._last_s: float | None = None
        self._is_cut = False
        connected = self._connect(RESOLVE_S)
        if connected is None:
            others = sorted({found.name for found in lsl.resolve_streams(2.0)})
            seen = f"there are {', '.join(map(ascii, others))}" if others else "there is none"
            raise UserError(
                f"no stream {ascii(name)} of the Lab Streaming Layer answered within"
                f" {RESOLVE_S:g} s, {seen}; see docs/watch.md for networks without multicast"
            )
        self._inlet, about = connected
        self.sfreq = float(about.sfreq)
        if not self.sfreq > 0 or self._inlet.dtype == "string":
            raise UserError(
                f"stream {ascii(name)} has no sampling rate, or no numbers: it is not a recording"
            )
        names = about.get_channel_names() or [None] * about.n_channels
        self.ch_names = [name or str(k + 1) for k, name in enumerate(names)]
        self.units = _units(about.get_channel_units() or [None] * about.n_channels, unit)
        if not any(map(volts_per, self.units)):
            raise UserError(
                f"stream {ascii(name)} says of no channel what unit its numbers are in; state it"
                " with unit= (V, mV or uV)"
            )

    def pull(self) -> Float[ndarray, "time channel"] | None:
        """Return the samples that have come since the last call, perhaps not all of them; None
        where samples are lost, once.

        Raises:
            Away: the connection is lost.
        """
        if self._is_cut:
            self._is_cut = False
            return None
        (samples, stamps), self._left = self._left or self._received(), None
        if not len(stamps):
            return samples
        before = stamps[0] - 1 / self.sfreq if self._last_s is None else self._last_s
        away_s = np.abs(np.diff(stamps, prepend=before) - 1 / self.sfreq)
        gaps = np.flatnonzero(away_s > GAP_S)
        if not len(gaps):
            self._last_s = float(stamps[-1])
            return samples
        n = int(gaps[0])
        self._left, self._last_s, self._is_cut = (samples[n:], stamps[n:]), None, n > 0
        return samples[:n] if n else None

    def _received(self) -> tuple[ndarray, ndarray]:
        if self._inlet is None:
            connected = self._connect(1.0)
            if connected is None:
                raise Away("it is not on the network")
            self._inlet, about = connected
            if (about.n_channels, about.sfreq) != (len(self.ch_names), self.sfreq):
                raise UserError(
                    f"stream {ascii(self.name)} came back with {about.n_channels} channels at"
                    f" {about.sfreq:g} Hz; watch it again"
                )
        try:
            samples, stamps = self._inlet.pull_chunk(timeout=0.0, max_samples=4096)
        except Exception as error:  # liblsl's own, of several classes
            self._inlet = None
            raise Away(str(error)) from error
        # The library uses its buffers again.
        return samples.copy(), stamps.copy()

    def _connect(self, timeout_s: float) -> tuple[Any, Any] | None:
        """An open inlet and what the stream says of itself."""
        found = self._lsl.resolve_streams(timeout_s, name=self.name)
        if not found:
            return None
        # liblsl finds a stream again by its source_id, if it has one.
        inlet = self._lsl.StreamInlet(found[0], recover=bool(found[0].source_id))
        try:
            inlet.open_stream(RESOLVE_S)
            return inlet, inlet.get_sinfo(RESOLVE_S)
        except Exception:  # as above
            return None


def _units(stated: Sequence[str | None], unit: str | None) -> list[str]:
    """The unit of each channel as BrainVision spells it; "n/a" where nobody says one of voltage. A
    number is a power of ten of volts, as mne-lsl has it.
    """
    spelt = {1.0: "V", 1e-3: "mV", 1e-6: "µV", 1e-9: "nV"}
    said = [unit or _EXPONENTS.get(text or "", text) or "" for text in stated]
    return [spelt.get(volts_per(text) or 0.0, "n/a") for text in said]


class StreamRecording(Growing):
    """A stream, recorded until samples are lost.

    Args:
        stream: where samples come from.
        path: the header, ``.vhdr``; ``.eeg`` and ``.vmrk`` are written beside it. None of them may
            be there.
    """

    def __init__(self, stream: LslStream, path: Path, unit: str | None) -> None:
        super().__init__(path, unit, ())
        self._stream = stream
        self._data = path.with_suffix(".eeg").open("xb")
        path.with_suffix(".vmrk").write_text(_markers(path), encoding="utf-8")
        path.write_text(_header(path, stream), encoding="utf-8")

    @property
    def sfreq(self) -> float:
        return self._stream.sfreq

    def poll(self) -> None:
        """As `Growing`."""
        while not self.has_ended:
            samples = self._stream.pull()
            if samples is None:
                self.close()
            elif not len(samples):
                break
            else:
                self._data.write(samples.astype("<f4").tobytes())
                self.n_times += len(samples)
        if not self._data.closed:
            self._data.flush()

    def fetch(self, start: int, stop: int) -> None:
        """As `Growing`."""
        if self._raw is None or self._raw.n_times < stop:
            self._raw = self._open(self.path)

    def close(self) -> None:
        """End the recording, with a whole second: it then has a time grid that was known before."""
        if self._data.closed:
            return
        if self.sfreq.is_integer():
            self.n_times -= self.n_times % int(self.sfreq)
            self._data.truncate(4 * len(self._stream.ch_names) * self.n_times)
        self._data.close()
        self.has_ended = True
        if not self.n_times:
            for suffix in _SUFFIXES:
                self.path.with_suffix(suffix).unlink()


def free_path(folder: Path, name: str) -> Path:
    """Return where the next recording of a stream goes: NAME.vhdr, NAME-2.vhdr, ... in a folder."""
    stem = re.sub(r"[^\w.-]+", "_", name).strip(".") or "stream"
    number = 1
    while True:
        path = folder / f"{stem}{'' if number == 1 else f'-{number}'}.vhdr"
        if not any(path.with_suffix(suffix).exists() for suffix in _SUFFIXES):
            return path
        number += 1


# https://www.brainproducts.com/support-resources/brainvision-core-data-format-1-0/


def _header(path: Path, stream: LslStream) -> str:
    channels = "\n".join(
        rf"Ch{k + 1}={_field(name)},,1,{_field(unit)}"
        for k, (name, unit) in enumerate(zip(stream.ch_names, stream.units, strict=True))
    )
    return (
        "Brain Vision Data Exchange Header File Version 1.0\n\n"
        "[Common Infos]\nCodepage=UTF-8\n"
        f"DataFile={path.stem}.eeg\nMarkerFile={path.stem}.vmrk\n"
        "DataFormat=BINARY\nDataOrientation=MULTIPLEXED\n"
        f"NumberOfChannels={len(stream.ch_names)}\nSamplingInterval={1e6 / stream.sfreq!r}\n\n"
        "[Binary Infos]\nBinaryFormat=IEEE_FLOAT_32\n\n"
        f"[Channel Infos]\n{channels}\n"
    )


def _markers(path: Path) -> str:
    return (
        "Brain Vision Data Exchange Marker File Version 1.0\n\n"
        f"[Common Infos]\nCodepage=UTF-8\nDataFile={path.stem}.eeg\n\n"
        f"[Marker Infos]\nMk1=New Segment,,1,1,0,{datetime.now():%Y%m%d%H%M%S%f}\n"
    )


def _field(text: str) -> str:
    return " ".join(text.split()).replace(",", r"\1")
