"""Opening a recording that may come from a stranger: what MNE-Python reads, with every fault named
in one sentence, and with what a reader decides in silence said.

Nothing here shows what a header says about the patient.
"""

from __future__ import annotations

import os
import re
import struct
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from eegdm.data.edf import EDF_KINDS, EdfHeader, read_edf_header, read_gdf_signals
from eegdm.data.gaps import (
    annotated_gaps,
    edf_gaps,
    persyst_gaps,
    refuse_gaps,
    without_trailing_skip,
)
from eegdm.data.montage import TCP, derive
from eegdm.data.positions import match_to_montage
from eegdm.data.units import list_names, refuse_unknown_unit, to_volts, volts_per
from eegdm.errors import UserError

if TYPE_CHECKING:
    import mne

__all__ = ["EdfHeader", "Opening", "checked", "open_recording", "opening_of", "read_edf_header"]

_EXPORT_AGAIN = "export it as EDF+ or BrainVision with the program that recorded it"
_DAMAGED = "it is cut off or damaged; copy it again from where it was recorded"
# What readers say in their own words, and what that means.
_KNOWN = (
    (
        r"number of trials is \d+",
        "it holds epochs, not one continuous recording; use the data set from before it was cut"
        " into epochs",
    ),
    (r"Unsupported file type", f"MNE-Python knows no reader for its ending; {_EXPORT_AGAIN}"),
    (
        r"does not exist|[Cc]ould not find|[Nn]o such file|not found",
        "a file that belongs to it is not beside it or has another name; keep the files of a"
        " recording together, with their names",
    ),
    (
        r"is required|could not be imported|No module named|pip install",
        "MNE-Python needs another package for this format, which is not installed; see its manual,"
        " or export the recording as EDF+",
    ),
    (
        r"[Uu]nexpected end|could be read|[Tt]runcated|is smaller than|[Cc]ould not read|reshape"
        r" array|broadcast",
        _DAMAGED,
    ),
)


class Opening(NamedTuple):
    """What was decided when a recording was opened; `opening_of` finds it."""

    notes: tuple[str, ...] = ()
    """What a reader of results must know."""
    volts_per: Mapping[str, float | None] = MappingProxyType({})
    """What one of a channel's unit is in volts; None where no unit is stated."""


def opening_of(raw: mne.io.BaseRaw) -> Opening:
    """Return what was decided when `open_recording` opened this recording; empty for others."""
    kept = (raw.info["temp"] or {}) if "temp" in raw.info else {}
    return Opening(*kept.get("eegdm", ()))


def open_recording(
    path: str | Path,
    unit: str | None = None,
    *,
    units: Mapping[str, str] | None = None,
    wanted: Sequence[str] = TCP,
) -> mne.io.BaseRaw:
    """Open a recording of any format MNE reads (EDF, BDF, GDF, BrainVision, FIF, EEGLAB, ...), data
    left on disk, in volts.

    Of EDF, BDF and GDF files, signals without a scale and signals at another rate than the wanted
    channels are left out (MNE would bring all channels to the fastest rate, and wrongly where it
    reads a stretch), and there are as many records as the header says. `opening_of` says what was
    decided.

    Args:
        path: the file.
        unit: what the file's numbers are in (V, mV or uV), above what the file says.
        units: unit by channel name for channels whose unit the file does not say (BIDS
            channels.tsv).
        wanted: names of `TCP`; where signals have several rates, that of most of these is read.

    Raises:
        UserError: if the file is missing, is not what its name says, is cut off, has gaps, no
            samples, or cannot be read by MNE.
    """
    path = Path(path)
    refuse_unknown_unit(unit)
    _refuse_absent(path)
    kind = path.suffix.lower()
    header = None
    if kind in EDF_KINDS:
        header = read_edf_header(path)
        opened = _open_edf(path, header, wanted)
    elif kind == ".gdf":
        opened = _open_gdf(path, wanted)
    elif kind in (".vhdr", ".ahdr"):
        opened = _open_brainvision(path)
    else:
        opened = _open_other(path, unit)
    # Only now is it known which files the reader takes the data from; no sample was read yet.
    _refuse_outside(path, opened.raw)
    gaps = edf_gaps(path, header) if header else []
    if kind == ".lay":
        gaps += persyst_gaps(path, opened.raw.info["sfreq"], opened.raw.n_times)
    raw, trailing = without_trailing_skip(opened.raw)
    refuse_gaps(str(path), [*gaps, *annotated_gaps(raw)])
    decided, stated = to_volts(raw, opened.stated, opened.assumed, unit, units)
    return _noted(raw, [*opened.notes, *trailing, *decided], stated)


def checked(raw: mne.io.BaseRaw, unit: str | None, name: str) -> mne.io.BaseRaw:
    """Return a recording that somebody else opened, in volts and without gaps; a copy where it must
    be changed.

    Args:
        raw: the recording; it is not changed.
        unit: what its numbers are in (V, mV or uV); volts if not given.
        name: what to call it in a message.

    Raises:
        UserError: it has gaps.
    """
    refuse_unknown_unit(unit)
    before = opening_of(raw)
    whole, trailing = without_trailing_skip(raw)
    refuse_gaps(name, annotated_gaps(whole))
    if unit is None and not trailing:
        return raw
    # The caller's recording stays as it is; without_trailing_skip has copied already if it cut.
    scaled = raw.copy() if whole is raw else whole
    decided = to_volts(scaled, None, [1.0] * len(raw.ch_names), unit)[0] if unit else []
    return _noted(scaled, [*before.notes, *trailing, *decided], {} if unit else before.volts_per)


def _noted(
    raw: mne.io.BaseRaw, notes: list[str], volts_per: Mapping[str, float | None]
) -> mne.io.BaseRaw:
    """Keep with a recording what was decided of it, in the place that MNE leaves to its users."""
    # Others may use that place too.
    kept = raw.info["temp"] if "temp" in raw.info and raw.info["temp"] else {}
    raw.info["temp"] = {**kept, "eegdm": Opening(tuple(notes), dict(volts_per))}
    return raw


class _Opened(NamedTuple):
    """A recording as its reader has it."""

    raw: mne.io.BaseRaw
    notes: list[str]
    stated: list[str] | None
    """The file's word for the unit of each channel; None for a format without."""
    assumed: list[float]
    """Volts per number of the file, for each channel, as the reader took it."""


# -------------------------------------------------------------------------------- EDF, BDF and GDF


def _open_edf(path: Path, header: EdfHeader, wanted: Sequence[str]) -> _Opened:
    # MNE would divide by the width of the range, which is 0 for the dummy channels of CHB-MIT.
    has_samples = zip(header.is_signal, header.has_scale, strict=True)
    usable = [k for k, (is_signal, has_scale) in enumerate(has_samples) if is_signal and has_scale]
    if not usable:
        raise UserError(f"{path} holds no samples: none of its signals has a scale")
    rate = _wanted_rate(
        [header.labels[k] for k in usable],
        [header.units[k] for k in usable],
        [header.samples_per_record[k] for k in usable],
        wanted,
    )
    kept = [k for k in usable if header.samples_per_record[k] == rate]
    raw, notes = _read_edf(path, header, kept)
    n_times, n_annotations = header.n_records * rate, len(raw.annotations)
    # MNE counts records by the size of the file; bytes behind those that the header counts are
    # something else.
    if raw.n_times > n_times:
        raw.crop(tmax=(n_times - 1) / raw.info["sfreq"], verbose="ERROR")
        if beyond := n_annotations - len(raw.annotations):
            notes.append(_outside(beyond))
    others = [header.labels[k] for k in usable if k not in kept]
    if others:
        notes.append(
            f"read at {rate / header.record_s:g} Hz; left out, sampled at other rates:"
            f" {list_names(others)}"
        )
    stated = [header.units[k] for k in kept]
    return _Opened(raw, notes, stated, list(raw._raw_extras[0]["units"]))


def _read_edf(
    path: Path, header: EdfHeader, kept: Sequence[int]
) -> tuple[mne.io.BaseRaw, list[str]]:
    """Read some of the signals; annotations that are no UTF-8 are taken as Latin-1, one by one."""
    is_left_out = [is_signal and k not in kept for k, is_signal in enumerate(header.is_signal)]
    options: dict[str, Any] = {
        "exclude": [label for label, out in zip(header.labels, is_left_out, strict=True) if out]
    }
    names = [header.labels[k] for k in kept]
    # MNE leaves out by name. Where a name is on both sides, the numbers that MNE appends to
    # repeated names tell the signals apart, at the price of opening the file once more.
    if set(names) & set(options["exclude"]):
        signals = [k for k, is_signal in enumerate(header.is_signal) if is_signal]
        unique = _read_by_mne(path, encoding="latin1")[0].ch_names
        options["exclude"] = [
            name for k, name in zip(signals, unique, strict=True) if is_left_out[k]
        ]
        options["exclude_after_unique"] = True
    try:
        raw, notes = _read_by_mne(path, **options)
    except UserError as fault:
        # EDF+ wants UTF-8, but recorders write what their computer has. Latin-1 reads any bytes, so
        # each text that is UTF-8 after all is put right afterwards.
        if not isinstance(getattr(fault.__cause__, "__cause__", None), UnicodeDecodeError):
            raise
        raw, notes = _read_by_mne(path, **options, encoding="latin1")
        raw.annotations.rename({text: _decoded(text) for text in set(raw.annotations.description)})
        notes.append("annotations that are not UTF-8 were read as Latin-1")
    if "exclude_after_unique" in options:
        # Names that are unique among those kept get back what the file calls them.
        once = [name for name in names if names.count(name) == 1]
        numbered = zip(raw.ch_names, names, strict=True)
        raw.rename_channels({unique: name for unique, name in numbered if name in once})
    return raw, notes


def _decoded(text: str) -> str:
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        return text


def _open_gdf(path: Path, wanted: Sequence[str]) -> _Opened:
    """MNE can't leave out signals of GDF, but reads the fastest rightly whatever else there is."""
    signals = read_gdf_signals(path)
    rates = signals.samples_per_record
    rate = _wanted_rate(signals.labels, signals.units, rates, wanted)
    if rate < max(rates):
        faster = [name for name, r in zip(signals.labels, rates, strict=True) if r > rate]
        raise UserError(
            f"{path} has signals that are faster than its EEG ({list_names(faster)}), which"
            " MNE-Python can't read apart; export the EEG alone, or convert the file to EDF"
        )
    raw, notes = _read_by_mne(path)
    # A sample takes one byte or more, whatever its type.
    if raw.n_times * len(raw.ch_names) > path.stat().st_size:
        raise UserError(
            f"{path} is cut off or damaged: its header promises more samples than the file has"
            " bytes; copy it again from where it was recorded"
        )
    assumed = list(raw._raw_extras[0]["units"])
    kept = [k for k, r in enumerate(rates) if r == rate]
    if len(kept) < len(rates):
        slower = [raw.ch_names[k] for k in range(len(rates)) if k not in kept]
        raw.drop_channels(slower)
        notes.append(
            f"read at {raw.info['sfreq']:g} Hz; left out, sampled at other rates:"
            f" {list_names(slower)}"
        )
    return _Opened(raw, notes, [signals.units[k] for k in kept], [assumed[k] for k in kept])


def _wanted_rate(
    labels: Sequence[str], units: Sequence[str], rates: Sequence[int], wanted: Sequence[str]
) -> int:
    """The rate at which most of the wanted channels can be derived; else that of most signals that
    are EEG by their names, of most voltages, of most signals; of several such, the fastest.
    """

    # Tuples compare from the left: a later count decides only between rates that tie before it.
    def rank(rate: int) -> tuple[int, ...]:
        at_rate = [k for k, r in enumerate(rates) if r == rate]
        names = [labels[k] for k in at_rate]
        voltages = [k for k in at_rate if volts_per(units[k]) is not None]
        return _n_derived(names, wanted), _n_placed(names), len(voltages), len(names), rate

    return max(set(rates), key=rank) if len(set(rates)) > 1 else rates[0]


def _n_derived(names: Sequence[str], wanted: Sequence[str]) -> int:
    try:
        return len(derive(names, wanted, "drop"))
    except UserError:
        return 0


def _n_placed(names: Sequence[str]) -> int:
    try:
        return len(match_to_montage(names, TCP))
    except UserError:
        return 0


# ------------------------------------------------------------------------- BrainVision and others


def _open_brainvision(path: Path) -> _Opened:
    text = _header_text(path)
    # The header names its data file: a stranger's may name any file of this computer.
    for name in re.findall(r"^\s*(?:DataFile|MarkerFile)\s*=\s*(.*?)\s*$", text, re.MULTILINE):
        if "/" in name or "\\" in name or name == "..":
            raise UserError(
                f"{path} names the file {ascii(name)}; only a plain name beside it is allowed"
            )
    raw, notes = _read_by_mne(path)
    promised = re.search(r"^\s*DataPoints\s*=\s*(\d+)\s*$", text, re.MULTILINE)
    if promised and raw.n_times < int(promised[1]):
        raise UserError(
            f"{path} is cut off or damaged: {promised[1]} samples promised, {raw.n_times} there;"
            " copy it again from where it was recorded"
        )
    # Places on the head ([Coordinates]) stand under the same keys in a section of their own.
    section = re.search(r"^\[Channel Infos\]\s*$(.*?)(?=^\[|\Z)", text, re.M | re.S | re.I)
    lines = re.findall(r"^\s*Ch(\d+)\s*=(.*?)\s*$", section[1] if section else "", re.MULTILINE)
    entries = {int(number): line.split(",") for number, line in lines}
    parts = [entries.get(number + 1, []) for number in range(len(raw.ch_names))]
    # A unit that is left out means microvolts in this format.
    stated = [fields[3].strip() or "uV" if len(fields) > 3 else "uV" for fields in parts]
    return _Opened(raw, notes, stated, [float(ch["range"]) for ch in raw.info["chs"]])


def _header_text(path: Path) -> str:
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _open_other(path: Path, unit: str | None) -> _Opened:
    raw, notes = _read_by_mne(path)
    if path.suffix.lower() == ".fif":
        for file in raw.filenames:
            _refuse_cut_fif(Path(str(file)))
    # Formats that state no unit: numbers are taken for volts, those of EEGLAB for microvolts.
    volts_per_number = {".fif": 1.0, ".gz": 1.0, ".set": 1e-6}.get(path.suffix.lower())
    if volts_per_number is None and unit is not None:
        raise UserError(
            f"{path}: unit={unit} can be stated for EDF, BDF, GDF, BrainVision, EEGLAB and FIF"
            " files; others say it themselves"
        )
    for file in raw.filenames:
        if file is not None and Path(file).suffix.lower() == ".fdt":
            # EEGLAB's data file is bare float32: its size says how many samples it holds.
            held = Path(file).stat().st_size // (4 * len(raw.ch_names))
            if held < raw.n_times:
                raise UserError(
                    f"{file} is cut off or damaged: {raw.n_times} samples promised, {held} there;"
                    " copy it again from where it was recorded"
                )
    return _Opened(raw, notes, None, [volts_per_number or 1.0] * len(raw.ch_names))


def _refuse_cut_fif(path: Path) -> None:
    """Follow the tags of a FIF file to its end: MNE reads one that is cut off as a shorter one."""
    size, at = path.stat().st_size, 0
    with path.open("rb") as file:
        while at + 16 <= size:
            file.seek(at)
            # A tag has kind, type, length, and where the next one is (0: behind it; -1: nowhere).
            _, _, length, following = struct.unpack(">4i", file.read(16))
            after = following if following > 0 else at + 16 + length
            if following == -1 or after <= at:
                return
            at = after
    if at != size:
        raise UserError(
            f"{path} is cut off or damaged: it ends inside its data; copy it again from where it"
            " was recorded"
        )


# ---------------------------------------------------------------------------------- every format


def _refuse_absent(path: Path) -> None:
    if path.exists():
        return
    if path.is_symlink():
        raise UserError(
            f"{path} is a link to a file that is not there; fetch it first (`datalad get` or"
            " `git annex get` in a data set of theirs)"
        )
    raise UserError(f"{path} does not exist")


def _refuse_outside(path: Path, raw: mne.io.BaseRaw) -> None:
    """Refuse data files elsewhere; links beside the recording may lead anywhere, as git-annex
    has it.
    """
    # Not resolve(): it would follow the links by which git-annex stores every file elsewhere.
    folder = os.path.abspath(path.parent)
    for name in raw.filenames:
        if name is not None and not Path(os.path.abspath(name)).is_relative_to(folder):
            raise UserError(
                f"{path} takes its data from outside its folder; keep the files of a recording"
                " together"
            )


def _read_by_mne(path: Path, **options: Any) -> tuple[mne.io.BaseRaw, list[str]]:
    """Open a recording by MNE, and what it leaves out."""
    import mne

    try:
        with mne.utils.use_log_level("WARNING"), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            raw = mne.io.read_raw(path, preload=False, **options)
    # MNE's readers have no exception in common.
    except Exception as fault:
        raise UserError(_failure_message(path, fault)) from fault
    if raw.n_times == 0 or not raw.ch_names:
        raise UserError(f"{path} holds no samples")
    return raw, _left_out_by_reader([str(warning.message) for warning in caught])


def _outside(n: int) -> str:
    return (
        "1 annotation lies outside the recording (before its start or after its end) and was left"
        " out"
        if n == 1
        else f"{n} annotations lie outside the recording (before its start or after its end) and"
        " were left out"
    )


def _left_out_by_reader(warned: Sequence[str]) -> list[str]:
    """Of what MNE warns of, what a user would miss."""
    notes = []
    for text in warned:
        if match := re.match(r"Omitted (\d+) annotation", text):
            notes.append(_outside(int(match[1])))
        elif match := re.match(r"(\d+) events have an onset that is NaN", text):
            notes.append(f"events without a time, left out: {match[1]}")
        elif re.match(r"MarkerFile .* not found; no annotations", text):
            notes.append("its marker file is missing, so it has no annotations")
    return notes


def _failure_message(path: Path, fault: Exception) -> str:
    """Why a reader failed and what to do, without its own words, which may quote the patient."""
    text = str(fault)
    reason = next((says for pattern, says in _KNOWN if re.search(pattern, text)), None)
    if reason is None and path.suffix.lower() in EDF_KINDS and _has_odd_patient(path):
        reason = (
            "MNE-Python can't read the patient field of its header (a word with more than one"
            " equals sign); empty that field with an EDF header editor"
        )
    if reason is None and isinstance(fault, EOFError | MemoryError | struct.error):
        reason = _DAMAGED
    if reason is None:
        reason = (
            f"MNE-Python's reader of {path.suffix} files fails on it ({type(fault).__name__}): it"
            f" is damaged, or of a kind that the reader does not know; {_EXPORT_AGAIN}"
        )
    return f"{path} cannot be read as a recording: {reason}"


def _has_odd_patient(path: Path) -> bool:
    with path.open("rb") as file:
        words = file.read(88)[8:].split()
    # EDF+: code, sex, birthday and name come first; words of others' own follow, as key=value.
    return any(word.count(b"=") > 1 for word in words[4:])
