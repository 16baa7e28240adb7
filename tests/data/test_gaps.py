"""Gaps, in each format's own words: refused with the place; what only looks like one is read."""

from __future__ import annotations

import re
from pathlib import Path

import edfio
import mne
import numpy as np
import pytest

import eegdm
from eegdm.data.gaps import annotated_gaps
from eegdm.data.reading import open_recording, opening_of
from eegdm.errors import UserError
from inference.small import lively_model, made_up

SFREQ = 256.0


def recording(*marks: tuple[float, float, str], seconds: float = 30.0) -> mne.io.RawArray:
    """Noise with annotations (onset_s, duration_s, text)."""
    raw = made_up(seconds, SFREQ)
    onsets, durations, texts = zip(*marks, strict=True) if marks else ((), (), ())
    return raw.set_annotations(mne.Annotations(onsets, durations, texts), verbose="ERROR")


def fif(path: Path, raw: mne.io.BaseRaw) -> Path:
    raw.save(path, buffer_size_sec=1.0, verbose="ERROR")
    return path


def eeglab(path: Path, raw: mne.io.BaseRaw) -> Path:
    mne.export.export_raw(path, raw, verbose="ERROR")
    return path


def brainvision(path: Path, markers: list[str]) -> Path:
    mne.export.export_raw(path, recording(), verbose="ERROR")
    lines = [f"Mk{number}={marker}" for number, marker in enumerate(markers, 1)]
    path.with_suffix(".vmrk").write_text(
        "Brain Vision Data Exchange Marker File, Version 1.0\n\n[Common Infos]\nCodepage=UTF-8\n"
        f"DataFile={path.stem}.eeg\n\n[Marker Infos]\n" + "\n".join(lines) + "\n",
        "utf8",
    )
    return path


def persyst(path: Path, sample_times: list[tuple[int, float]]) -> Path:
    raw = recording()
    names = [name.removeprefix("EEG ") for name in raw.ch_names]
    digital = np.round(raw.get_data() * 1e7).astype("<i2")
    path.with_suffix(".dat").write_bytes(digital.T.tobytes())
    parts = {
        "FileInfo": [
            f"File={path.stem}.dat",
            "FileType=Interleaved",
            f"SamplingRate={SFREQ:g}",
            "HeaderLength=0",
            "Calibration=0.1",
            f"WaveformCount={len(names)}",
            "DataType=0",
        ],
        "Patient": [
            "BirthDate=01/01/80",
            "TestDate=01/01/2020",
            "TestTime=10:00:00",
            "Sex=x",
            "Hand=x",
        ],
        "ChannelMap": [f"{name}={k}" for k, name in enumerate(names, 1)],
        "SampleTimes": [f"{sample}={time:.6f}" for sample, time in sample_times],
    }
    path.write_text("\n".join(f"[{name}]\n" + "\n".join(x) for name, x in parts.items()) + "\n")
    return path


def edf(path: Path, stamps: list[str], record_s: float = 1.0, kind: bytes = b"EDF+C") -> Path:
    """EDF+ or BDF+ of as many records, whose time stamps read like that."""
    rng = np.random.default_rng(0)
    is_edf = path.suffix == ".edf"
    make, whole = (edfio.EdfSignal, edfio.Edf) if is_edf else (edfio.BdfSignal, edfio.Bdf)
    n_times = round(100 * record_s * len(stamps))
    signals = [
        make(rng.normal(0, 30, n_times), 100, label=name, physical_range=(-500, 500))
        for name in ("EEG FP1-REF", "EEG F7-REF")
    ]
    # A long annotation makes room for any stamp.
    notes = [edfio.EdfAnnotation(0.0, None, "x" * 40)]
    whole(signals, annotations=notes, data_record_duration=record_s).write(path)
    data = path.read_bytes().replace(kind[:4] + b"C", kind, 1)
    label = b"EDF Annotations " if is_edf else b"BDF Annotations "
    n = int(data[252:256])
    start = 256 * (n + 1)
    widths = [int(data[256 + 216 * n + 8 * k :][:8]) * (2 if is_edf else 3) for k in range(n)]
    at = next(k for k in range(n) if data[256 + 16 * k :][:16] == label)
    records = bytearray(data)
    for number, stamp in enumerate(stamps):
        first = start + number * sum(widths) + sum(widths[:at])
        records[first : first + widths[at]] = stamp.encode().ljust(widths[at], b"\0")
    path.write_bytes(records)
    return path


def stamped(*onsets: float) -> list[str]:
    return [f"+{onset:g}\x14\x14" for onset in onsets]


# ----------------------------------------------------------------------------- what is a gap


def _fif_skip(folder: Path) -> Path:
    return fif(folder / "a_raw.fif", recording((10.0, 5.0, "BAD_ACQ_SKIP")))


def _fif_later_first_sample(folder: Path) -> Path:
    raw = recording((50.0, 5.0, "BAD_ACQ_SKIP"), seconds=90.0).crop(40.0, 69.0)
    return fif(folder / "a_raw.fif", raw)


def _fif_joined(folder: Path) -> Path:
    joined = mne.concatenate_raws(
        [recording(seconds=10.0), recording(seconds=20.0)], verbose="ERROR"
    )
    return fif(folder / "a_raw.fif", joined)


def _eeglab_boundary(folder: Path) -> Path:
    return eeglab(folder / "a.set", recording((10.0, 0.0, "boundary")))


def _eeglab_number(folder: Path) -> Path:
    return eeglab(folder / "a.set", recording((5.0, 0.0, "2"), (10.0, 0.0, "-99")))


def _brainvision_segment(folder: Path) -> Path:
    second = 1 + round(10 * SFREQ)
    markers = [
        "New Segment,,1,1,0,20200101120000000000",
        f"New Segment,,{second},1,0,20200101130000000000",
    ]
    return brainvision(folder / "a.vhdr", markers)


def _brainvision_comment(folder: Path) -> Path:
    second = 1 + round(10 * SFREQ)
    return brainvision(folder / "a.vhdr", ["New Segment,,1,1,0", f"Comment,boundary,{second},1,0"])


def _persyst_jump(folder: Path) -> Path:
    return persyst(folder / "a.lay", [(0, 36_000.0), (2560, 36_040.0), (5120, 36_050.0)])


def _edf_continuous(folder: Path) -> Path:
    return edf(folder / "a.edf", stamped(*range(10), *range(40, 50)))


def _edf_continuous_first_of_many_stamps(folder: Path) -> Path:
    """Stamps that can't be read are left out where the header says that there are no gaps."""
    return edf(folder / "a.edf", [*stamped(*range(9)), "", *stamped(*range(12, 20))])


def _edf_discontinuous(folder: Path) -> Path:
    return edf(folder / "a.edf", stamped(*range(10), *range(12, 20)), kind=b"EDF+D")


def _bdf_continuous(folder: Path) -> Path:
    return edf(folder / "a.bdf", stamped(*range(10), *range(40, 50)), kind=b"BDF+C")


def _edf_annotated(folder: Path) -> Path:
    """As EEGLAB exports its boundaries."""
    stamps = stamped(*range(20))
    stamps[3] += "\x00+10\x14boundary\x14"
    return edf(folder / "a.edf", stamps)


GAPS = [
    (_fif_skip, "1 gap, the first after 10 s (annotation 'BAD_ACQ_SKIP')"),
    (_fif_later_first_sample, "1 gap, the first after 10 s (annotation 'BAD_ACQ_SKIP')"),
    (_fif_joined, "gaps, the first after 10 s (annotation 'BAD boundary')"),
    (_eeglab_boundary, "1 gap, the first after 10 s (annotation 'boundary')"),
    (_eeglab_number, "1 gap, the first after 10 s (annotation '-99"),
    (_brainvision_segment, "1 gap, the first after 10 s (annotation 'New Segment')"),
    (_brainvision_comment, "1 gap, the first after 10 s (annotation 'Comment/boundary')"),
    (_persyst_jump, "1 gap, the first after 10 s (its SampleTimes)"),
    (_edf_continuous, "1 gap, the first after 10 s (time stamps of its records)"),
    (_edf_continuous_first_of_many_stamps, "1 gap, the first after 10 s (time stamps"),
    (_edf_discontinuous, "1 gap, the first after 10 s (time stamps of its records)"),
    (_bdf_continuous, "1 gap, the first after 10 s (time stamps of its records)"),
    (_edf_annotated, "1 gap, the first after 10 s (annotation 'boundary')"),
]


@pytest.mark.parametrize(("make", "said"), GAPS, ids=[make.__name__[1:] for make, _ in GAPS])
def test_gaps_of_every_format_are_refused_with_their_place(tmp_path, make, said):
    path = make(tmp_path)
    with pytest.raises(UserError) as fault:
        open_recording(path)
    text = str(fault.value)
    assert text.startswith(f"{path} has ") and said in text and "split it there" in text
    with pytest.raises(UserError, match=re.escape(said)):
        eegdm.predict(path, lively_model(), missing="drop")


@pytest.mark.parametrize("function", [eegdm.predict, eegdm.embed])
def test_gaps_of_a_raw_are_refused_too(function):
    joined = mne.concatenate_raws(
        [recording(seconds=10.0), recording(seconds=20.0)], verbose="ERROR"
    )
    with pytest.raises(UserError, match="the recording has 2 gaps, the first after 10 s"):
        function(joined, lively_model())


# -------------------------------------------------------------------- what only looks like one


def _brainvision_start(folder: Path) -> Path:
    markers = [
        "Comment,start,1,1,0",
        "New Segment,,1,1,0,20200101120000000000",
        "New Segment,,1,1,0",
    ]
    return brainvision(folder / "a.vhdr", markers)


def _eeglab_start(folder: Path) -> Path:
    return eeglab(folder / "a.set", recording((0.0, 0.0, "boundary"), (5.0, 0.0, "boundary_test")))


def _eeglab_end(folder: Path) -> Path:
    return eeglab(folder / "a.set", recording((30.0, 0.0, "boundary")))


def _persyst_drift_and_midnight(folder: Path) -> Path:
    times = [(0, 86_395.0), (2560, 5.0009), (5120, 15.0018), (10**9, 3.0)]
    return persyst(folder / "a.lay", times)


def _edf_annotations_alone(folder: Path) -> Path:
    """No time stamp in any record but the first."""
    return edf(folder / "a.edf", ["+0\x14\x14", *["+3.5\x150.5\x14spike\x14"] * 9])


def _edf_rounded_stamps(folder: Path) -> Path:
    """Records of 0.3 s with stamps of one digit, and stamps cut off at whole seconds."""
    return edf(folder / "a.edf", [f"+{int(0.3 * k)}\x14\x14" for k in range(30)], record_s=0.3)


def _edf_late_start(folder: Path) -> Path:
    return edf(folder / "a.edf", stamped(*(0.75 + k for k in range(10))))


def _marks_of_bad_stretches(folder: Path) -> Path:
    return fif(folder / "a_raw.fif", recording((3.0, 2.0, "BAD_muscle"), (7.0, 1.0, "bad")))


NONE = [
    _brainvision_start,
    _eeglab_start,
    _eeglab_end,
    _persyst_drift_and_midnight,
    _edf_annotations_alone,
    _edf_rounded_stamps,
    _edf_late_start,
    _marks_of_bad_stretches,
]


@pytest.mark.parametrize("make", NONE, ids=[make.__name__[1:] for make in NONE])
def test_what_only_looks_like_a_gap_is_read(tmp_path, make):
    raw = open_recording(make(tmp_path))
    assert raw.n_times > 800 and np.isfinite(raw.get_data()).all()


def test_what_mne_pads_an_edf_file_with_is_left_out_and_said(tmp_path):
    original = recording(seconds=10.3)
    mne.export.export_raw(tmp_path / "a.edf", original, fmt="edf", verbose="ERROR")
    raw = open_recording(tmp_path / "a.edf")
    assert raw.n_times == original.n_times
    np.testing.assert_allclose(raw.get_data(), original.get_data(), atol=1e-7)
    (note,) = opening_of(raw).notes
    assert note == "the last 0.699 s are marked as no data and were left out"
    assert list(raw.annotations.description) == [] and annotated_gaps(raw) == []
