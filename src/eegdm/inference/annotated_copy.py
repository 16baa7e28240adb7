"""Copies of recordings with the found events in them: EDF+ and BDF+ sample by sample, or FIF by
MNE.

An EDF copy is the file's own data records, byte by byte, each followed by the bytes of one more
annotation signal; the header of the file's signals is copied too. Nothing is scaled or rounded, and
no more than a stretch of the file is in memory. Format:
https://www.edfplus.info/specs/edfplus.html.

Two clocks: events count from the first sample, EDF+ counts from the start time in the header. The
time stamp of the first record is the difference; it is below 1 s where a recording starts between
two seconds, and can be large in a part that was cut out of a longer recording.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import pandas as pd

from eegdm.artifacts import atomic_folder, atomic_path
from eegdm.data.reading import EdfHeader, open_recording, read_edf_header
from eegdm.errors import UserError
from eegdm.inference.prediction import annotations_with

if TYPE_CHECKING:
    import mne

FORMATS = ("edf", "fif")
_EDF_SUFFIXES = (".edf", ".bdf")
_LABEL = {".edf": "EDF Annotations", ".bdf": "BDF Annotations"}
_TEXT_FIELDS = (16, 80, 8, 8, 8, 8, 8, 80, 8, 32)  # widths of a signal's header fields, in order
_DIGITAL_RANGE = {".edf": ("-32768", "32767"), ".bdf": ("-8388608", "8388607")}
# EDF+'s words for an unknown patient, recording and time.
_NO_IDENTITY = ("X X X X", "Startdate X X X X", "01.01.85", "00.00.00")
# A record's time stamp is an annotation list without text.
_TIME_STAMP = re.compile(rb"([+-][0-9]+(?:\.[0-9]*)?)\x14\x14")
_RECORDS_AT_ONCE_BYTES = 2**24


def copy_name(stem: str, file: Path, kind: str) -> str:
    """What the copy of a file is called; a copy of BDF is BDF."""
    return (
        f"{stem}_annotated_raw.fif" if kind == "fif" else f"{stem}_annotated{file.suffix.lower()}"
    )


def refuse_copy(file: Path, kind: str) -> None:
    """Refuse a copy that can't be made, before any work is done."""
    if kind not in FORMATS:
        raise UserError(f"copy={kind}: is unknown; choose from {', '.join(FORMATS)}")
    if kind == "edf" and file.suffix.lower() not in _EDF_SUFFIXES:
        raise UserError(
            f"{file}: copy=edf copies the samples of EDF and BDF files as they are, this is"
            f" {file.suffix}; use copy=fif"
        )


def write_copy(
    path: Path,
    file: Path,
    events: pd.DataFrame,
    kind: str,
    scratch: Path,
    keep_identity: bool = False,
    unit: str | None = None,
) -> None:
    """Write a copy of a recording with the events as annotations.

    Args:
        path: as :func:`copy_name` has it.
        events: onset_s, duration_s, label.
        kind: "edf" or "fif".
        scratch: a folder on the same disk as ``path``, for unfinished work.
        keep_identity: keep what the header says of patient, recording and date; left out else.
            Annotations that the file holds itself are kept either way.
        unit: what the file's numbers are in, if a user stated it; FIF is in volts.
    """
    refuse_copy(file, kind)
    if kind == "fif":
        _write_fif(path, open_recording(file, unit), events, keep_identity, scratch)
    else:
        with (
            atomic_path(path) as temporary,
            open(file, "rb") as source,
            open(temporary, "wb") as copy,
        ):
            _copy_edf(
                source, copy, read_edf_header(file), file.suffix.lower(), events, keep_identity
            )


# -------------------------------------------------------------------------------------------- FIF


def _write_fif(
    path: Path, raw: mne.io.BaseRaw, events: pd.DataFrame, keep_identity: bool, scratch: Path
) -> None:
    """Beyond 2 GB MNE writes parts that name each other, so they get their names at once and are
    moved together.
    """
    # First, since annotations count from the measurement date, which anonymizing moves.
    if not keep_identity:
        raw.anonymize(verbose="ERROR")
    raw.set_annotations(annotations_with(events, raw), verbose="ERROR")
    parts = scratch / "fif"
    shutil.rmtree(parts, ignore_errors=True)  # of a killed run
    with atomic_folder(parts) as folder:
        raw.save(folder / path.name, verbose="ERROR")
    # The first part names the others, so it is moved last: whoever sees it finds them all.
    for part in sorted(parts.iterdir(), reverse=True):
        os.replace(part, path.with_name(part.name))


# --------------------------------------------------------------------------------------- EDF, BDF


def _copy_edf(
    source: BinaryIO,
    copy: BinaryIO,
    header: EdfHeader,
    suffix: str,
    events: pd.DataFrame,
    keep_identity: bool,
) -> None:
    old_header = source.read(header.data_offset)
    start_s = _start_of_first_record(source.read(header.record_bytes), header, _LABEL[suffix])
    source.seek(header.data_offset)
    texts = _records_of_events(events, header, start_s)
    # All records have the same size: the longest list decides, and shorter ones are filled with
    # zero bytes, as EDF+ wants it.
    n_samples = -(-max(map(len, texts)) // header.bytes_per_sample)
    width = n_samples * header.bytes_per_sample
    copy.write(_copied_header(old_header, header, suffix, n_samples, keep_identity))
    for first, records in _records(source, header):
        padded = b"".join(text.ljust(width, b"\0") for text in texts[first : first + len(records)])
        lists = np.frombuffer(padded, np.uint8).reshape(len(records), width)
        copy.write(np.hstack([records, lists]).tobytes())


def _start_of_first_record(record: bytes, header: EdfHeader, label: str) -> float | None:
    """Return the seconds from the header's start time to the first sample, as the file's own
    annotation signal states them; None if it has no such signal.
    """
    if label not in header.labels:
        return None
    # Of several annotation signals the first keeps the time.
    at = header.labels.index(label)
    start = sum(header.samples_per_record[:at]) * header.bytes_per_sample
    stamp = _TIME_STAMP.match(record, start)
    return float(stamp[1]) if stamp else 0.0


def _records(source: BinaryIO, header: EdfHeader) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the number of a first record, and some records as bytes (record, byte)."""
    at_once = max(1, _RECORDS_AT_ONCE_BYTES // header.record_bytes)
    for first in range(0, header.n_records, at_once):
        n = min(at_once, header.n_records - first)
        data = np.frombuffer(source.read(n * header.record_bytes), np.uint8)
        yield first, data.reshape(n, header.record_bytes)


def _records_of_events(
    events: pd.DataFrame, header: EdfHeader, start_s: float | None
) -> list[bytes]:
    """Return the annotation lists (TAL) of each record: the events that begin in it.

    Args:
        start_s: seconds from the header's start time to the first sample. None: the file has no
            annotations, so the lists also say when each record starts, the first one at 0.
    """
    texts = [b""] * header.n_records
    if start_s is None:
        texts = [
            f"{_edf_time(index * header.record_s)}\x14\x14\0".encode()
            for index in range(header.n_records)
        ]
    for event in events.itertuples():
        # An event that begins at the very end is in the last record.
        index = min(int(event.onset_s / header.record_s), header.n_records - 1)
        onset, duration = (
            _edf_time(event.onset_s + (start_s or 0.0)),
            _edf_time(event.duration_s)[1:],
        )
        # Control characters would end the list.
        label = "".join(c if ord(c) >= 32 else " " for c in str(event.label))
        texts[index] += f"{onset}\x15{duration}\x14{label}\x14\0".encode()
    return [text or b"\0" for text in texts]


def _edf_time(value: float) -> str:
    """Write a time as EDF+ has it: a sign, and no more digits than it needs, to the microsecond."""
    return f"{value:+.6f}".rstrip("0").rstrip(".")


def _copied_header(
    old: bytes, header: EdfHeader, suffix: str, n_samples: int, keep_identity: bool
) -> bytes:
    """The file's header with one more signal at its end."""
    n_signals = len(header.labels)
    fixed, signals = old[:256], old[256:]
    patient, recording, date, time = fixed[8:88], fixed[88:168], fixed[168:176], fixed[176:184]
    if not keep_identity:
        patient, recording, date, time = (
            text.encode().ljust(n) for text, n in zip(_NO_IDENTITY, (80, 80, 8, 8), strict=True)
        )
    kind = "EDF+C" if suffix == ".edf" else "BDF+C"
    sizes = f"{256 * (n_signals + 2):<8}{kind:<44}{header.n_records:<8}".encode()
    new_fixed = (
        fixed[:8]
        + patient
        + recording
        + date
        + time
        + sizes
        + fixed[244:252]
        + f"{n_signals + 1:<4}".encode()
    )
    # label, transducer, dimension, physical range, digital range, prefilter, samples per record,
    # reserved
    added = [_LABEL[suffix], "", "", "-1", "1", *_DIGITAL_RANGE[suffix], "", str(n_samples), ""]
    # EDF keeps each field of all signals together, so the new signal adds to every field.
    merged, start = [], 0
    for width, text in zip(_TEXT_FIELDS, added, strict=True):
        merged += [signals[start : start + width * n_signals], text.encode().ljust(width)]
        start += width * n_signals
    return new_fixed + b"".join(merged)
