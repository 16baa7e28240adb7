"""Synthetic corpora on disk, in the layouts that users have: TUEV, TUAB, TUSZ, CHB-MIT, Siena, a
flat folder, BIDS.

The EEG comes from :mod:`eegdm.data.synthetic.simulate`; this file knows names, text files and EDF.
A recording is the same whatever other recordings are written beside it.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from datetime import datetime, time, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from eegdm.artifacts import atomic_path, write_json
from eegdm.data.montage import TCP, bipolar
from eegdm.data.synthetic.simulate import (
    CLASSES,
    SEIZURE_CLASS,
    SimulatedEvent,
    Simulation,
    one_seizure,
    record,
    rest,
    six_classes,
)
from eegdm.data.synthetic.sources import HEAD_ELECTRODES

RANGE_UV = (-3276.8, 3276.7)
"""What 16 bits hold at 0.1 µV per step."""

_OLDER_NAMES = {"FT9": "T1", "FT10": "T2"}
_NEWER_NAMES = {
    "FP1": "Fp1",
    "FP2": "Fp2",
    "FZ": "Fz",
    "CZ": "Cz",
    "PZ": "Pz",
    "T3": "T7",
    "T4": "T8",
    "T5": "P7",
    "T6": "P8",
}

CHBMIT_CHANNELS = (
    "FP1-F7",
    "F7-T7",
    "T7-P7",
    "P7-O1",
    "FP1-F3",
    "F3-C3",
    "C3-P3",
    "P3-O1",
    "FP2-F4",
    "F4-C4",
    "C4-P4",
    "P4-O2",
    "FP2-F8",
    "F8-T8",
    "T8-P8",
    "P8-O2",
    "FZ-CZ",
    "CZ-PZ",
    "P7-T7",
    "T7-FT9",
    "FT9-FT10",
    "FT10-T8",
    "T8-P8",
)
"""As in chb01 of the database, T8-P8 twice."""


# ------------------------------------------------------------------------------------------- TUEV


def write_tuev(
    folder: Path,
    n_train: int = 12,
    n_eval: int = 4,
    minutes: float = 4.0,
    seed: int = 0,
    sfreq: int = 250,
) -> list[Path]:
    """Write a corpus in the layout of TUEV: an EDF and a ``.rec`` for each subject of ``edf/train``
    and ``edf/eval``.

    Args:
        folder: where ``edf`` will be.
        n_train: subjects of ``edf/train``.
        n_eval: subjects of ``edf/eval``; none is in both.
        minutes: length of each recording, 1 or more.
        seed: another seed makes other subjects.
        sfreq: sampling rate in Hz.

    Returns:
        The EDF files, in order of split and subject.

    Raises:
        UserError: ``minutes`` is too short for all six classes.
    """
    subjects = [("train", _letters("aaaaa", i)) for i in range(n_train)]
    subjects += [("eval", _letters("aaaab", i)) for i in range(n_eval)]
    files = []
    for split, name in subjects:
        path = Path(folder) / "edf" / split / name / f"{name}_00000001.edf"
        simulation = record(seed, name, 1, sfreq, partial(six_classes, minutes=minutes))
        _write_text(path.with_suffix(".rec"), _rec(simulation.events))
        files.append(_write_edf(path, sfreq, _tuh_signals(simulation)))
    return files


def _letters(head: str, number: int) -> str:
    """Eight letters, as TUH names its patients."""
    # The last three are the number to base 26.
    return head + "".join(chr(ord("a") + number // 26**place % 26) for place in (2, 1, 0))


def _rec(events: Iterable[SimulatedEvent]) -> str:
    rows = [
        f"{channel},{event.onset_s},{round(event.onset_s + event.duration_s, 2)},{CLASSES.index(event.label) + 1}\n"  # noqa: E501
        for event in events
        for channel in event.channels
    ]
    return "".join(rows)


def _tuh_signals(
    simulation: Simulation, reference: str = "REF", lacking: Sequence[str] = ()
) -> list[tuple[str, np.ndarray]]:
    eeg = [
        (f"EEG {_OLDER_NAMES.get(name, name)}-{reference}", row)
        for name, row in zip(HEAD_ELECTRODES, simulation.potential_uV, strict=True)
        if name not in lacking
    ]
    # Channels that are no EEG stand in every file of TUEV; readers must not take them for it.
    unused = np.zeros_like(simulation.ecg_uV)
    others = [(f"EEG EKG1-{reference}", simulation.ecg_uV), (f"PHOTIC-{reference}", unused)]
    return [*eeg, *others, ("IBI", unused)]


# ------------------------------------------------------------------------------------- TUAB, TUSZ


def write_tuab(
    folder: Path,
    n_train: int = 8,
    n_eval: int = 4,
    minutes: float = 2.0,
    seed: int = 0,
    sfreq: int = 250,
) -> list[Path]:
    """Write a corpus in the layout of TUAB: ``edf/train`` and ``edf/eval`` with recordings that are
    background alone (``normal``) or hold discharges, eye movements and artefacts (``abnormal``).

    Every other subject is normal, beginning with the first; the first of each part comes again, in
    an abnormal second session.

    Args:
        folder: where ``edf`` will be.
        n_train: subjects of ``edf/train``.
        n_eval: subjects of ``edf/eval``; none is in both.
        minutes: length of each recording, 1 or more.
        seed: another seed makes other subjects.
        sfreq: sampling rate in Hz.

    Returns:
        The EDF files, in order of split, subject and session.

    Raises:
        UserError: ``minutes`` is too short for all six classes.
    """
    plans = {"normal": rest, "abnormal": six_classes}
    files = []
    for split, number, name in _tuh_subjects({"train": n_train, "eval": n_eval}):
        labels = ("normal", "abnormal") if number == 0 else (("normal", "abnormal")[number % 2],)
        for session, label in enumerate(labels, start=1):
            plan = partial(plans[label], minutes=minutes)
            path = Path(folder) / "edf" / split / label / "01_tcp_ar"
            signals = _tuh_signals(record(seed, name, session, sfreq, plan))
            files.append(_write_edf(path / f"{name}_s{session:03d}_t000.edf", sfreq, signals))
    return files


TUSZ_MONTAGES = {
    "01_tcp_ar": ("REF", ()),
    "02_tcp_le": ("LE", ()),
    "03_tcp_ar_a": ("REF", ("A1", "A2")),
    "04_tcp_le_a": ("LE", ("A1", "A2")),
}
"""What the electrodes are measured against, and which of them are lacking."""
TUSZ_CHANNELS = tuple(
    {"C4-CZ": "CZ-C4", "T4-C4": "C4-T4", "A2-T4": "T4-A2"}.get(name, name) for name in TCP
)
"""The TCP channels as the annotations of TUSZ spell them."""


def write_tusz(
    folder: Path,
    n_train: int = 6,
    n_dev: int = 2,
    n_eval: int = 2,
    n_recordings: int = 2,
    minutes: float = 2.0,
    seed: int = 0,
    sfreq: int = 250,
) -> list[Path]:
    """Write a corpus in the layout of TUSZ: an EDF, a ``.csv`` and a ``.csv_bi`` for each recording
    below ``edf/train``, ``edf/dev`` and ``edf/eval``.

    Every other recording, beginning with the first, holds one seizure of 20-60 s. The subjects of a
    part have the montages of :data:`TUSZ_MONTAGES` in turn.

    Args:
        folder: where ``edf`` will be.
        n_train: subjects of ``edf/train``.
        n_dev: subjects of ``edf/dev``.
        n_eval: subjects of ``edf/eval``; none is in two parts.
        n_recordings: recordings of each subject.
        minutes: length of each recording, 1.5 or more.
        seed: another seed makes other subjects.
        sfreq: sampling rate in Hz.

    Returns:
        The EDF files, in order of split, subject and number.

    Raises:
        UserError: ``minutes`` is too short for a seizure.
    """
    files = []
    for split, number, name in _tuh_subjects({"train": n_train, "dev": n_dev, "eval": n_eval}):
        montage = list(TUSZ_MONTAGES)[number % len(TUSZ_MONTAGES)]
        reference, lacking = TUSZ_MONTAGES[montage]
        session = Path(folder) / "edf" / split / name / "s001_2010" / montage
        for token in range(n_recordings):
            plan = rest if token % 2 else one_seizure
            simulation = record(seed, name, token + 1, sfreq, partial(plan, minutes=minutes))
            path = session / f"{name}_s001_t{token:03d}.edf"
            channels = [c for c in TUSZ_CHANNELS if not set(c.split("-")) & set(lacking)]
            for suffix, label, names in ((".csv_bi", "seiz", ["TERM"]), (".csv", "fnsz", channels)):
                text = _tusz_annotation(path.stem, simulation, label, names)
                _write_text(path.with_suffix(suffix), text)
            signals = _tuh_signals(simulation, reference, lacking)
            files.append(_write_edf(path, sfreq, signals))
    return files


def _tusz_annotation(name: str, simulation: Simulation, label: str, channels: Sequence[str]) -> str:
    """Seizures and the background between them, on each channel from the first to the last
    second.
    """
    length_s = simulation.potential_uV.shape[1] / simulation.sfreq
    stretches, stop_s = [], 0.0
    for event in simulation.events:
        if event.label == SEIZURE_CLASS:
            stretches.append((stop_s, event.onset_s, "bckg"))
            stop_s = event.onset_s + event.duration_s
            stretches.append((event.onset_s, stop_s, label))
    stretches.append((stop_s, length_s, "bckg"))
    rows = [
        f"{channel},{start:.4f},{stop:.4f},{what},1.0000\n"
        for channel in channels
        for start, stop, what in stretches
    ]
    head = (
        "# version = csv_v1.0.0",
        f"# bname = {name}",
        f"# duration = {length_s:.4f} secs",
        "# montage_file = nedc_eas_default_montage.txt",
        "#",
        "channel,start_time,stop_time,label,confidence",
    )
    return "\n".join(head) + "\n" + "".join(rows)


def _tuh_subjects(numbers: dict[str, int]) -> Iterable[tuple[str, int, str]]:
    """The subjects of each part: part, number within it from 0, name."""
    for letter, (part, n) in zip("abc", numbers.items(), strict=False):
        yield from ((part, i, _letters(f"aaaa{letter}", i)) for i in range(n))


# ---------------------------------------------------------------------------------------- CHB-MIT


def write_chbmit(
    folder: Path,
    patients: Sequence[int] = (1, 2, 21, 23),
    n_recordings: int = 2,
    minutes: float = 3.0,
    seed: int = 0,
) -> list[Path]:
    """Write a corpus in the layout of CHB-MIT: ``chbNN/chbNN_YY.edf`` at 256 Hz and
    ``chbNN/chbNN-summary.txt``.

    Every other recording, beginning with the first, holds one seizure of 20-60 s.

    Args:
        folder: where ``chb01`` and so on will be.
        patients: their numbers; of the database, 1 to 24.
        n_recordings: recordings of each patient.
        minutes: length of each recording, 1.5 or more.
        seed: another seed makes other patients.

    Returns:
        The EDF files, in order of patient and number.

    Raises:
        UserError: ``minutes`` is too short for a seizure.
    """
    sfreq = 256
    files = []
    for patient in patients:
        name = f"chb{patient:02d}"
        summary = [_chbmit_channels(sfreq)]
        for number in range(1, n_recordings + 1):
            plan = one_seizure if number % 2 else rest
            simulation = record(seed, name, number, sfreq, partial(plan, minutes=minutes))
            path = Path(folder) / name / f"{name}_{number:02d}.edf"
            files.append(_write_edf(path, sfreq, _chbmit_signals(simulation)))
            summary.append(_chbmit_entry(path.name, number, simulation))
        _write_text(Path(folder) / name / f"{name}-summary.txt", "\n".join(summary))
    return files


def _chbmit_signals(simulation: Simulation) -> list[tuple[str, np.ndarray]]:
    rows = dict(zip(HEAD_ELECTRODES, simulation.potential_uV, strict=True))
    pairs = [(name, bipolar(name)) for name in CHBMIT_CHANNELS]
    return [(name, rows[pair[0]] - rows[pair[1]]) for name, pair in pairs if pair]


def _chbmit_channels(sfreq: int) -> str:
    stars = "*" * 25
    names = "".join(
        f"Channel {number}: {name}\n" for number, name in enumerate(CHBMIT_CHANNELS, start=1)
    )
    return (
        f"Data Sampling Rate: {sfreq} Hz\n{stars}\n\nChannels in EDF Files:\n{stars[:22]}\n{names}"
    )


def _chbmit_entry(file_name: str, number: int, simulation: Simulation) -> str:
    length = timedelta(seconds=simulation.potential_uV.shape[1] / simulation.sfreq)
    # CHB-MIT's recordings follow each other with gaps of some seconds.
    start = timedelta(hours=9) + (number - 1) * (length + timedelta(seconds=5))
    seizures = [event for event in simulation.events if event.label == SEIZURE_CLASS]
    lines = [
        f"File Name: {file_name}",
        f"File Start Time: {start}",
        f"File End Time: {start + length}",
        f"Number of Seizures in File: {len(seizures)}",
    ]
    for event in seizures:
        lines += [
            f"Seizure Start Time: {event.onset_s:.0f} seconds",
            f"Seizure End Time: {event.onset_s + event.duration_s:.0f} seconds",
        ]
    return "\n".join(lines) + "\n"


# ------------------------------------------------------------------------------------------ Siena

SIENA_CHANNELS = (
    *("Fp1", "F3", "C3", "P3", "O1", "F7", "T3", "T5", "Fz", "Cz", "Pz"),
    *("Fp2", "F4", "C4", "P4", "O2", "F8", "T4", "T6"),
)
"""The electrodes that the database shares with the simulator; it has ten others between them."""


def write_siena(
    folder: Path,
    patients: Sequence[int] = (0, 1, 6, 10),
    n_recordings: int = 1,
    minutes: float = 2.0,
    seed: int = 0,
) -> list[Path]:
    """Write a corpus in the layout of the Siena Scalp EEG database: ``PN00/PN00-1.edf`` at 512 Hz
    and ``PN00/Seizures-list-PN00.txt``.

    Every recording holds one seizure of 20-60 s and begins half a minute before midnight. The lists
    of patients 1 and 6 have the oddities of the database: file and start named before the first
    seizure, another wording, colons (1), and a letter O for the digit in the file's name (6).

    Args:
        folder: where ``PN00`` and so on will be.
        patients: their numbers; of the database, 0 to 17.
        n_recordings: recordings of each patient; patient 1 has one whatever this says.
        minutes: length of each recording, 1.5 or more.
        seed: another seed makes other patients.

    Returns:
        The EDF files, in order of patient and number.

    Raises:
        UserError: ``minutes`` is too short for a seizure.
    """
    sfreq, files = 512, []
    for patient in patients:
        name = f"PN{patient:02d}"
        said = [f"{name}\n\nData Sampling Rate: {sfreq} Hz\n\nChannels in EDF files:"]
        said += [f"Channel {i}: {channel}" for i, channel in enumerate(SIENA_CHANNELS, start=1)]
        for number in range(1, 2 if patient == 1 else n_recordings + 1):
            plan = partial(one_seizure, minutes=minutes)
            simulation = record(seed, name, number, sfreq, plan)
            path = Path(folder) / name / f"{name}-{number}.edf"
            start = datetime(2017, 1, 1, 23, 59, 30)
            files.append(_write_edf(path, sfreq, _siena_signals(simulation), start=start.time()))
            said += _siena_entry(path.name, number, simulation, start)
        _write_text(Path(folder) / name / f"Seizures-list-{name}.txt", "\n".join(said) + "\n")
    return files


def _siena_signals(simulation: Simulation) -> list[tuple[str, np.ndarray]]:
    rows = dict(zip(HEAD_ELECTRODES, simulation.potential_uV, strict=True))
    eeg = [(f"EEG {name}", rows[name.upper()]) for name in SIENA_CHANNELS]
    unused = np.zeros_like(simulation.ecg_uV)
    others = [(name, unused) for name in ("SPO2", "HR", "1", "2", "MK")]
    return [*eeg, ("EKG EKG", simulation.ecg_uV), *others]


def _siena_entry(
    file_name: str, number: int, simulation: Simulation, start: datetime
) -> Iterable[str]:
    """What the list says of a recording, with the oddities of its patient."""
    (seizure,) = (event for event in simulation.events if event.label == SEIZURE_CLASS)
    length_s = simulation.potential_uV.shape[1] / simulation.sfreq
    begin, end, onset, offset = (
        (start + timedelta(seconds=round(after_s))).strftime("%H.%M.%S")
        for after_s in (0, length_s, seizure.onset_s, seizure.onset_s + seizure.duration_s)
    )
    heading = f"Seizure n {number}"
    recording = [
        f"File name: {file_name.replace('PN06', 'PNO6').replace('PN01-1', 'PN01')}",
        f"Registration start time: {begin}",
        f"Registration end time:  {end}",
    ]
    if file_name.startswith("PN01"):
        onset = onset.replace(".", ":")
        return ["", *recording, "", heading, f"Start time: {onset}", f"End time: {offset}"]
    times = [f"Seizure start time: {onset}", f"Seizure end time:{offset}"]
    return ["", f"{heading}:", *recording, *times]


# ------------------------------------------------------------------------------ flat folder, BIDS


def write_folder(
    folder: Path,
    events: Literal["table", "annotations"] = "table",
    n_subjects: int = 4,
    n_runs: int = 2,
    minutes: float = 1.5,
    seed: int = 0,
    sfreq: int = 160,
) -> list[Path]:
    """Write recordings ``s01_run1.edf`` side by side, electrodes named as in the 10-05 system, of
    the six classes.

    Args:
        folder: where the files will be.
        events: "table" writes events to ``events.csv`` (file, onset_s, duration_s, label, subject,
            run), "annotations" into the files (EDF+).
        n_subjects: subjects ``s01`` and so on.
        n_runs: recordings of each subject.
        minutes: length of each recording, 1 or more.
        seed: another seed makes other subjects.
        sfreq: sampling rate in Hz.

    Returns:
        The EDF files, in order of subject and run.

    Raises:
        UserError: ``minutes`` is too short for all six classes.
    """
    files, rows = [], []
    for subject, run, simulation in _simulated_runs(seed, n_subjects, n_runs, minutes, sfreq):
        path = Path(folder) / f"{subject}_run{run}.edf"
        inside = simulation.events if events == "annotations" else []
        files.append(_write_edf(path, sfreq, _newer_signals(simulation), inside))
        rows += [
            (path.name, event.onset_s, event.duration_s, event.label, subject, run)
            for event in simulation.events
        ]
    if events == "table":
        _write_rows(
            Path(folder) / "events.csv",
            ("file", "onset_s", "duration_s", "label", "subject", "run"),
            rows,
        )
    return files


def write_bids(
    folder: Path,
    n_subjects: int = 4,
    n_runs: int = 2,
    minutes: float = 1.5,
    seed: int = 0,
    sfreq: int = 160,
) -> list[Path]:
    """Write a BIDS-EEG dataset (1.9.0) of the six classes:
    ``sub-01/eeg/sub-01_task-rest_run-01_eeg.edf`` and so on.

    The classes are the ``trial_type`` of each ``_events.tsv``.

    Args:
        folder: root of the dataset.
        n_subjects: subjects ``sub-01`` and so on.
        n_runs: recordings of each subject.
        minutes: length of each recording, 1 or more.
        seed: another seed makes other subjects.
        sfreq: sampling rate in Hz.

    Returns:
        The EDF files, in order of subject and run.

    Raises:
        UserError: ``minutes`` is too short for all six classes.
    """
    folder, files = Path(folder), []
    for subject, run, simulation in _simulated_runs(seed, n_subjects, n_runs, minutes, sfreq):
        stem = folder / f"sub-{subject[1:]}" / "eeg" / f"sub-{subject[1:]}_task-rest_run-{run:02d}"
        signals = _newer_signals(simulation)
        _write_rows(
            stem.with_name(f"{stem.name}_events.tsv"),
            ("onset", "duration", "trial_type"),
            [(event.onset_s, event.duration_s, event.label) for event in simulation.events],
        )
        _write_rows(
            stem.with_name(f"{stem.name}_channels.tsv"),
            ("name", "type", "units", "sampling_frequency"),
            [(name, "ECG" if name == "ECG" else "EEG", "uV", sfreq) for name, _ in signals],
        )
        write_json(stem.with_name(f"{stem.name}_eeg.json"), _bids_sidecar(simulation))
        files.append(_write_edf(stem.with_name(f"{stem.name}_eeg.edf"), sfreq, signals))
    participants = [(f"sub-{subject[1:]}",) for subject in _subjects(n_subjects)]
    _write_rows(folder / "participants.tsv", ("participant_id",), participants)
    write_json(
        folder / "dataset_description.json",
        {"Name": "Synthetic EEG", "BIDSVersion": "1.9.0", "DatasetType": "raw"},
    )
    _write_text(folder / "README", "Synthetic EEG generated by eegdm; no person was recorded.\n")
    return files


def _subjects(n_subjects: int) -> list[str]:
    return [f"s{number:02d}" for number in range(1, n_subjects + 1)]


def _simulated_runs(
    seed: int, n_subjects: int, n_runs: int, minutes: float, sfreq: int
) -> Iterable[tuple[str, int, Simulation]]:
    for subject in _subjects(n_subjects):
        for run in range(1, n_runs + 1):
            yield (
                subject,
                run,
                record(seed, subject, run, sfreq, partial(six_classes, minutes=minutes)),
            )


def _newer_signals(simulation: Simulation) -> list[tuple[str, np.ndarray]]:
    eeg = [
        (_NEWER_NAMES.get(name, name), row)
        for name, row in zip(HEAD_ELECTRODES, simulation.potential_uV, strict=True)
    ]
    return [*eeg, ("ECG", simulation.ecg_uV)]


def _bids_sidecar(simulation: Simulation) -> dict[str, Any]:
    return {
        "TaskName": "rest",
        "SamplingFrequency": simulation.sfreq,
        "EEGReference": "a distant point",
        "PowerLineFrequency": simulation.mains_hz,
        "SoftwareFilters": "n/a",
        "RecordingDuration": simulation.potential_uV.shape[1] / simulation.sfreq,
        "RecordingType": "continuous",
    }


# ------------------------------------------------------------------------------------------ files


def _write_edf(
    path: Path,
    sfreq: int,
    signals: Iterable[tuple[str, np.ndarray]],
    events: Sequence[SimulatedEvent] = (),
    start: time | None = None,
) -> Path:
    """Write an EDF (with events an EDF+) that names no person, and begins at midnight if nothing
    else is given. The amplifier saturates at its range.
    """
    from edfio import Edf, EdfAnnotation, EdfSignal

    leads = [
        EdfSignal(
            np.clip(row, *RANGE_UV),
            sfreq,
            label=name,
            physical_dimension="uV",
            physical_range=RANGE_UV,
        )
        for name, row in signals
    ]
    notes = [
        EdfAnnotation(event.onset_s, event.duration_s, event.label) for event in events
    ] or None
    with atomic_path(path) as temporary:
        Edf(leads, starttime=start, data_record_duration=1, annotations=notes).write(temporary)
    return path


def _write_rows(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with (
        atomic_path(path) as temporary,
        open(temporary, "w", newline="", encoding="utf-8") as stream,
    ):
        writer = csv.writer(
            stream, delimiter="\t" if path.suffix == ".tsv" else ",", lineterminator="\n"
        )
        writer.writerows([columns, *rows])


def _write_text(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
