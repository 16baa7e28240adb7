"""Headers of EDF, BDF and GDF files, checked against the file before a reader sees them, for a
header can promise more than memory holds.

Formats: https://www.edfplus.info/specs/edf.html, https://arxiv.org/abs/cs/0608052 (GDF). Nothing
here shows what a header says about the patient.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from eegdm.errors import UserError

# For EDF and BDF alike: first bytes of the file, bytes per sample.
EDF_KINDS = {".edf": (b"0       ", 2), ".bdf": (b"\xffBIOSEMI", 3)}
KIND_NAMES = {".edf": "an EDF", ".bdf": "a BDF"}
ANNOTATIONS = ("EDF Annotations", "BDF Annotations")
_HEADER_INTEGER = re.compile(r"[+-]?[0-9]+")
_HEADER_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_FIXED = 256  # bytes of the header before the signals' part, and of that part per signal
_STAMP = re.compile(rb"([+-]?[0-9]+(?:\.[0-9]*)?)\x14[\x14\x00]")
_COPY_AGAIN = "copy it again from where it was recorded"
# Codes of ISO/IEEE 11073-10101; their last five bits are the decimal prefix.
_GDF_UNITS = {4256: "V", 4274: "mV", 4275: "uV", 4276: "nV"}


class CutHeaderError(UserError):
    """The file ends inside its header: it is cut off, or a recorder has just begun to write it."""


class EdfHeader(NamedTuple):
    """What an EDF or BDF header says of the data; one entry of each list per signal."""

    labels: list[str]
    units: list[str]
    """Physical dimensions as they stand there."""
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

    @property
    def is_signal(self) -> list[bool]:
        """Which entries hold samples, not annotations."""
        return [label not in ANNOTATIONS for label in self.labels]


def read_edf_header(path: Path) -> EdfHeader:
    """Read and check the header of an EDF or BDF file.

    Raises:
        UserError: naming the first field that is not a number, out of range, or at odds with the
            size of the file.
    """
    return _with_records(path, read_unfinished_header(path), path.stat().st_size)


def read_unfinished_header(path: Path) -> EdfHeader:
    """Read the header of an EDF or BDF file that is perhaps still being written: the number of
    records is what stands there, -1 while a recorder does not know it.

    Raises:
        CutHeaderError: the header is not there yet.
        UserError: as :func:`read_edf_header`, but for the number of records.
    """
    magic, bytes_per_sample = EDF_KINDS[path.suffix.lower()]
    if not path.is_file():
        raise UserError(f"{path} is not a file")
    size = path.stat().st_size
    with path.open("rb") as file:
        fixed = file.read(_FIXED)
        if not fixed.startswith(magic):
            raise UserError(
                f"{path} is not {KIND_NAMES[path.suffix.lower()]} file: "
                + ("it is empty" if size == 0 else "unexpected first bytes")
            )
        if len(fixed) < _FIXED:
            raise CutHeaderError(f"{path} is cut off inside its header; {_COPY_AGAIN}")
        n_signals = _header_integer(path, fixed[252:256], "number of signals", minimum=1)
        # The length follows from the number of signals: where they differ, one of them is damaged.
        _header_integer(
            path,
            fixed[184:192],
            "length of the header",
            minimum=(wanted := _FIXED * (n_signals + 1)),
            maximum=wanted,
        )
        signals = file.read(_FIXED * n_signals)
    if len(signals) < _FIXED * n_signals:
        raise CutHeaderError(f"{path} is cut off inside its header; {_COPY_AGAIN}")
    record_s = _header_number(path, fixed[244:252], "duration of a record")
    # EDF+ allows 0 s for a file of annotations alone, which holds no EEG.
    if not record_s > 0:
        raise UserError(
            f"{path}: a record lasts {record_s:g} s by its header; it must be longer than 0"
        )
    return EdfHeader(
        labels=[field.strip().decode("latin-1") for field in _fields(signals, n_signals, 0, 16)],
        units=[unit_text(field) for field in _fields(signals, n_signals, 96, 8)],
        samples_per_record=[
            _header_integer(path, field, f"samples per record of signal {index + 1}", minimum=1)
            for index, field in enumerate(_fields(signals, n_signals, 216, 8))
        ],
        has_scale=_scales(path, signals, n_signals),
        n_records=_header_integer(path, fixed[236:244], "number of records", minimum=-1),
        record_s=record_s,
        is_discontinuous=fixed[192:197] in (b"EDF+D", b"BDF+D"),
        bytes_per_sample=bytes_per_sample,
    )


def _with_records(path: Path, header: EdfHeader, size: int) -> EdfHeader:
    """The header with its number of records, found from the file if the recorder left it at -1,
    checked against it else.
    """
    # -1 stands there while a recorder writes, and stays if it was switched off.
    held = (size - header.data_offset) // header.record_bytes
    promised = held if header.n_records == -1 else header.n_records
    if promised == 0:
        raise UserError(f"{path} holds no data records")
    if promised > held:
        raise UserError(
            f"{path} is cut off or damaged: {promised} records promised, {held} there;"
            f" {_COPY_AGAIN}"
        )
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
            _header_number(path, field, f"{name} of signal {index + 1}")
            for index, field in enumerate(_fields(signals, n_signals, at, 8))
        ]
        for at, name in names.items()
    )
    ranges = zip(physical_low, physical_high, digital_low, digital_high, strict=True)
    # A physical range may fall, which turns the signal upside down; a digital one may not.
    return [low != high and lowest < highest for low, high, lowest, highest in ranges]


def unit_text(field: bytes) -> str:
    """A physical dimension; EDF allows ASCII alone, but UTF-8 and Latin-1 are found too."""
    text = field.split(b"\x00")[0]
    try:
        return text.decode("utf-8").strip()
    except UnicodeDecodeError:
        return text.decode("latin-1").strip()


def _text(field: bytes) -> str:
    # Fields are padded with spaces; some writers end them with a zero byte, as C does.
    return field.split(b"\x00")[0].strip().decode("latin-1")


def _header_integer(
    path: Path, field: bytes, what: str, minimum: int, maximum: int | None = None
) -> int:
    text = _text(field)
    if not _HEADER_INTEGER.fullmatch(text):
        raise UserError(f"{path}: {what} is {ascii(text)} in its header, not a whole number")
    value = int(text)
    if value < minimum or (maximum is not None and value > maximum):
        allowed = (
            f"at least {minimum}"
            if maximum is None
            else f"{minimum}"
            if minimum == maximum
            else f"{minimum} to {maximum}"
        )
        raise UserError(f"{path}: {what} is {value} in its header, it must be {allowed}")
    return value


def _header_number(path: Path, field: bytes, what: str) -> float:
    # Some recorders write their country's decimal comma, which MNE reads too.
    text = _text(field).replace(",", ".")
    if not _HEADER_NUMBER.fullmatch(text) or not np.isfinite(float(text)):
        raise UserError(f"{path}: {what} is {ascii(text)} in its header, not a number")
    return float(text)


# --------------------------------------------------------------------------- time between records


class Stamps(NamedTuple):
    """When records start by the file's own stamps; records without one are left out."""

    record: Int[ndarray, " stamp"]
    onset_s: Float[ndarray, " stamp"]
    resolution_s: float
    """What the stamps are rounded to."""


def record_stamps(path: Path, header: EdfHeader) -> Stamps:
    """Read the time stamps of the records of an EDF+ or BDF+ file; none if it has no annotation
    signal.

    Raises:
        UserError: the file may have gaps (EDF+D) and a record's time can't be read.
    """
    if all(header.is_signal):
        if header.is_discontinuous:
            raise UserError(
                f"{path} may have gaps (EDF+D) and does not say where: it has no annotation signal"
            )
        return Stamps(np.zeros(0, int), np.zeros(0), 1.0)
    at = header.is_signal.index(False)
    start = sum(header.samples_per_record[:at]) * header.bytes_per_sample
    stop = start + header.samples_per_record[at] * header.bytes_per_sample
    shape = (header.n_records, header.record_bytes)
    # Mapped, so that only the annotations of each record are read, not the samples between them.
    fields = np.memmap(path, np.uint8, "r", header.data_offset, shape)[:, start:stop]
    matches = [_STAMP.match(bytes(field)) for field in fields]
    if header.is_discontinuous and None in matches:
        record = matches.index(None)
        text = bytes(fields[record]).split(b"\x14")[0][:20].decode("latin-1")
        raise UserError(
            f"{path} may have gaps (EDF+D), and the time stamp of record {record + 1} is"
            f" {ascii(text)}, not a number; export it again from the program that wrote it"
        )
    stamps = [match[1] for match in matches if match is not None]
    decimals = max((len(stamp.partition(b".")[2]) for stamp in stamps), default=0)
    return Stamps(
        np.array([k for k, match in enumerate(matches) if match is not None], int),
        np.array([float(stamp) for stamp in stamps]),
        10.0**-decimals,
    )


# ------------------------------------------------------------------------------------------- GDF


class GdfSignals(NamedTuple):
    """What a GDF header says of its signals, an entry per signal."""

    labels: list[str]
    units: list[str]
    """As EDF spells them; "" for what is not a voltage."""
    samples_per_record: list[int]


def read_gdf_signals(path: Path) -> GdfSignals:
    """Read names, units and rates of a GDF file's signals, which lie where EDF has them.

    Raises:
        UserError: the file is not a GDF file or is cut off.
    """
    with path.open("rb") as file:
        fixed = file.read(_FIXED)
        if not fixed.startswith(b"GDF") or len(fixed) < _FIXED:
            raise UserError(
                f"{path} cannot be read as a recording: it is not a GDF file (unexpected first"
                " bytes)"
            )
        # From 1.9 on the number of signals has two bytes, and units are codes.
        is_version_2 = fixed[4:5] >= b"2" or fixed[4:8] >= b"1.9"
        n_signals = int.from_bytes(fixed[252 : 254 if is_version_2 else 256], "little")
        signals = file.read(_FIXED * n_signals)
    if len(signals) < _FIXED * n_signals or not n_signals:
        raise UserError(f"{path} is cut off inside its header; {_COPY_AGAIN}")
    if is_version_2:
        # The field of 8 bytes that held the unit's text: 6 are no longer used, 2 are the code.
        codes = np.frombuffer(signals, "<u2", n_signals, 102 * n_signals)
        units = [_GDF_UNITS.get(int(code), "") for code in codes]
    else:
        units = [unit_text(field) for field in _fields(signals, n_signals, 96, 8)]
    return GdfSignals(
        [_text(field) for field in _fields(signals, n_signals, 0, 16)],
        units,
        np.frombuffer(signals, "<i4", n_signals, 216 * n_signals).tolist(),
    )
