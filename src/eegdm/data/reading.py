"""Opening a recording that may come from a stranger: what MNE-Python reads, with every fault told
in one sentence.

EDF and BDF headers are checked against the file before MNE sees them, for a header can promise more
than memory holds. Format: https://www.edfplus.info/specs/edf.html. Nothing here shows what a header
says about the patient.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from eegdm.errors import UserError

if TYPE_CHECKING:
    import mne

# For the two formats alike: first bytes of the file, bytes per sample.
_KINDS = {".edf": (b"0       ", 2), ".bdf": (b"\xffBIOSEMI", 3)}
_INTEGER = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_FIXED = 256  # bytes of the header before the signals' part, and of that part per signal
_ANNOTATIONS = ("EDF Annotations", "BDF Annotations")


class EdfHeader(NamedTuple):
    """What an EDF or BDF header says of the data; one entry of each list per signal."""

    labels: list[str]
    samples_per_record: list[int]
    has_scale: list[bool]
    n_records: int
    record_s: float
    is_discontinuous: bool
    bytes_per_sample: int

    @property
    def data_offset(self) -> int:
        return _FIXED * (len(self.labels) + 1)

    @property
    def record_bytes(self) -> int:
        return sum(self.samples_per_record) * self.bytes_per_sample


def open_recording(path: str | Path) -> mne.io.Raw:
    """Open a recording of any format MNE reads (EDF, BDF, GDF, BrainVision, FIF, EEGLAB, ...), data
    left on disk.

    Of EDF and BDF files, signals without a scale and signals faster than most others are left out
    (MNE would bring all channels to the fastest rate), and there are as many records as the header
    says.

    Raises:
        UserError: if the file is missing, is not what its name says, is cut off, has gaps, no
            samples, or cannot be read by MNE.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path} does not exist")
    kind = path.suffix.lower()
    if kind in _KINDS:
        header = read_edf_header(path)
        raw = _read(path, exclude=_left_out(header))
        n_times = header.n_records * _common_rate(header)
        if raw.n_times > n_times:
            raw.crop(tmax=(n_times - 1) / raw.info["sfreq"], verbose="ERROR")
        return raw
    if kind in (".vhdr", ".ahdr"):
        _check_brainvision(path)
    raw = _read(path)
    folder = path.resolve().parent
    outside = [
        name
        for name in raw.filenames
        if name is not None and not Path(name).resolve().is_relative_to(folder)
    ]
    if outside:
        raise UserError(
            f"{path} takes its data from outside its folder; keep the files of a recording together"
        )
    if kind == ".gdf" and raw.n_times * len(raw.ch_names) > path.stat().st_size:
        raise UserError(
            f"{path} is cut off or damaged: its header promises more samples than the file has"
            " bytes"
        )
    return raw


def _read(path: Path, **options: Any) -> mne.io.Raw:
    import mne

    try:
        with mne.utils.use_log_level("ERROR"):
            raw = mne.io.read_raw(path, preload=False, **options)
    except Exception as fault:  # readers fail in every way there is
        reason = " ".join(str(fault).split())[:200]
        raise UserError(
            f"{path} cannot be read as a recording: {reason or type(fault).__name__}"
        ) from fault
    if raw.n_times == 0 or not raw.ch_names:
        raise UserError(f"{path} holds no samples")
    return raw


# ------------------------------------------------------------------------------------ EDF and BDF


def read_edf_header(path: Path) -> EdfHeader:
    """Read and check the header of an EDF or BDF file.

    Raises:
        UserError: naming the first field that is no number, out of range, or at odds with the size
            of the file.
    """
    magic, bytes_per_sample = _KINDS[path.suffix.lower()]
    if not path.is_file():
        raise UserError(f"{path} is no file")
    size = path.stat().st_size
    with path.open("rb") as file:
        fixed = file.read(_FIXED)
        if not fixed.startswith(magic):
            raise UserError(
                f"{path} is no {path.suffix[1:].upper()} file: "
                + ("it is empty" if size == 0 else "it begins differently")
            )
        if len(fixed) < _FIXED:
            raise UserError(f"{path} is cut off inside its header")
        n_signals = _integer(path, fixed[252:256], "number of signals", least=1)
        _integer(
            path,
            fixed[184:192],
            "length of the header",
            least=(wanted := _FIXED * (n_signals + 1)),
            most=wanted,
        )
        signals = file.read(_FIXED * n_signals)
    if len(signals) < _FIXED * n_signals:
        raise UserError(f"{path} is cut off inside its header")
    record_s = _number(path, fixed[244:252], "duration of a record")
    if not record_s > 0:
        raise UserError(
            f"{path}: a record lasts {record_s:g} s by its header; it must be longer than 0"
        )
    header = EdfHeader(
        labels=[field.strip().decode("latin-1") for field in _fields(signals, n_signals, 0, 16)],
        samples_per_record=[
            _integer(path, field, f"samples per record of signal {index + 1}", least=1)
            for index, field in enumerate(_fields(signals, n_signals, 216, 8))
        ],
        has_scale=_scales(path, signals, n_signals),
        n_records=_integer(path, fixed[236:244], "number of records", least=-1),
        record_s=record_s,
        is_discontinuous=fixed[192:197] in (b"EDF+D", b"BDF+D"),
        bytes_per_sample=bytes_per_sample,
    )
    header = _with_records(path, header, size)
    if header.is_discontinuous:
        _refuse_gaps(path, header)
    return header


def _with_records(path: Path, header: EdfHeader, size: int) -> EdfHeader:
    """The header with its number of records, found from the file if the recorder left it at -1,
    checked against it else.
    """
    held = (size - header.data_offset) // header.record_bytes
    promised = held if header.n_records == -1 else header.n_records
    if promised == 0:
        raise UserError(f"{path} holds no data records")
    if promised > held:
        raise UserError(f"{path} is cut off or damaged: {promised} records promised, {held} there")
    return header._replace(n_records=promised)


def _fields(signals: bytes, n_signals: int, offset: int, width: int) -> list[bytes]:
    """The entries of one field, which lie together for all signals; `offset` is within a signal's
    256 bytes.
    """
    start = offset * n_signals
    return [
        signals[start + index * width : start + (index + 1) * width] for index in range(n_signals)
    ]


def _scales(path: Path, signals: bytes, n_signals: int) -> list[bool]:
    """Whether each signal's physical and digital ranges are more than a point (dummy channels of
    CHB-MIT are not).
    """
    names = {
        104: "physical minimum",
        112: "physical maximum",
        120: "digital minimum",
        128: "digital maximum",
    }
    physical_low, physical_high, digital_low, digital_high = (
        [
            _number(path, field, f"{name} of signal {index + 1}")
            for index, field in enumerate(_fields(signals, n_signals, at, 8))
        ]
        for at, name in names.items()
    )
    ranges = zip(physical_low, physical_high, digital_low, digital_high, strict=True)
    return [low != high and least < most for low, high, least, most in ranges]


def _text(field: bytes) -> str:
    return field.split(b"\x00")[0].strip().decode("latin-1")


def _integer(path: Path, field: bytes, what: str, least: int, most: int | None = None) -> int:
    text = _text(field)
    if not _INTEGER.fullmatch(text):
        raise UserError(f"{path}: {what} is {ascii(text)} in its header, not a whole number")
    value = int(text)
    if value < least or (most is not None and value > most):
        allowed = (
            f"at least {least}"
            if most is None
            else f"{least}"
            if least == most
            else f"{least} to {most}"
        )
        raise UserError(f"{path}: {what} is {value} in its header, it must be {allowed}")
    return value


def _number(path: Path, field: bytes, what: str) -> float:
    text = _text(field).replace(
        ",", "."
    )  # some recorders write their country's decimal comma, MNE reads it too
    if not _NUMBER.fullmatch(text) or not np.isfinite(float(text)):
        raise UserError(f"{path}: {what} is {ascii(text)} in its header, not a number")
    return float(text)


def _common_rate(header: EdfHeader) -> int:
    """Samples per record of most signals; of several such, the largest."""
    counts = Counter(
        samples
        for label, samples in zip(header.labels, header.samples_per_record, strict=True)
        if label not in _ANNOTATIONS
    )
    if not counts:
        return 0
    return max(counts, key=lambda samples: (counts[samples], samples))


def _left_out(header: EdfHeader) -> list[str]:
    rate = _common_rate(header)
    signals = zip(header.labels, header.samples_per_record, header.has_scale, strict=True)
    return [
        label
        for label, samples, scaled in signals
        if label not in _ANNOTATIONS and (samples > rate or not scaled)
    ]


def _refuse_gaps(path: Path, header: EdfHeader) -> None:
    """EDF+D allows time to pass between records; MNE reads them as if it did not."""
    at = next((index for index, label in enumerate(header.labels) if label in _ANNOTATIONS), None)
    if at is None:
        raise UserError(
            f"{path} may have gaps (EDF+D) and does not say where: it has no annotation signal"
        )
    start = sum(header.samples_per_record[:at]) * header.bytes_per_sample
    stop = start + header.samples_per_record[at] * header.bytes_per_sample
    shape = (header.n_records, header.record_bytes)
    stamps = np.memmap(path, np.uint8, "r", header.data_offset, shape)[:, start:stop]
    onsets = np.array(
        [
            _number(path, bytes(stamp).split(b"\x14")[0], "time stamp of a record")
            for stamp in stamps
        ]
    )
    gaps = np.flatnonzero(np.abs(np.diff(onsets) - header.record_s) > 1e-3)
    if len(gaps):
        raise UserError(
            f"{path} has {len(gaps)} gaps, the first after"
            f" {onsets[gaps[0]] - onsets[0] + header.record_s:g} s; split it there into files"
            " without gaps"
        )


# ------------------------------------------------------------------------------------ BrainVision


def _check_brainvision(path: Path) -> None:
    """Let the names of the data and marker files in a BrainVision header be names only."""
    text = path.read_bytes().decode("latin-1")
    for name in re.findall(r"^\s*(?:DataFile|MarkerFile)\s*=\s*(.*?)\s*$", text, re.MULTILINE):
        if "/" in name or "\\" in name or name == "..":
            raise UserError(
                f"{path} names the file {ascii(name)}; only a plain name beside it is allowed"
            )
