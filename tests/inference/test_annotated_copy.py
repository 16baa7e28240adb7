"""Copies hold the recording's own bytes, the events, and no name."""

from __future__ import annotations  # noqa: I001

import datetime
import re
from pathlib import Path

import edfio
import mne
import numpy as np
import pandas as pd
import pytest
from inference.small import made_up

from eegdm.errors import UserError
from eegdm.data.reading import read_edf_header
from eegdm.inference.annotated_copy import copy_name, write_copy

EVENTS = pd.DataFrame(
    {
        "onset_s": [0.0, 3.25, 3.5, 19.75],
        "duration_s": [1.0, 2.5, 0.125, 0.25],
        "label": ["SPSW", "Anfall, groß", "SPSW", "x\x14\x00y"],
        "probability": 0.9,
    }
)
SHOWN = ["SPSW", "Anfall, groß", "SPSW", "x  y"]


@pytest.fixture
def edf(tmp_path: Path) -> Path:
    """An EDF+ with a patient and an annotation of its own, records of 1 s."""
    raw = made_up(20.0, 200.0, ("Fp1", "F7", "T3", "T5", "O1"))
    signals = [
        edfio.EdfSignal(
            1e6 * x, 200.0, label=name, physical_dimension="uV", prefiltering="HP:0.1Hz"
        )
        for name, x in zip(raw.ch_names, raw.get_data(), strict=True)
    ]
    patient = edfio.Patient(code="MCH-0234567", sex="F", name="Haagse_Harry")
    path = tmp_path / "source" / "recording.edf"
    path.parent.mkdir()
    edfio.Edf(
        signals, patient=patient, annotations=[edfio.EdfAnnotation(5.0, 1.0, "eyes open")]
    ).write(path)
    return path


def plain(edf: Path) -> Path:
    """The same as EDF without annotations."""
    found = edfio.read_edf(edf)
    found.drop_annotations("eyes open")
    path = edf.with_name("plain.edf")
    edfio.Edf(list(found.signals), patient=found.patient).write(path)
    return path


def copied(file: Path, kind: str, tmp_path: Path, **options: bool) -> Path:
    path = tmp_path / copy_name(file.stem, file, kind)
    write_copy(path, file, EVENTS, kind, tmp_path, **options)
    return path


def listed(raw: mne.io.BaseRaw, *own: str) -> list[tuple[float, float, str]]:
    return [
        (a["onset"], a["duration"], a["description"])
        for a in raw.annotations
        if a["description"] not in own
    ]


EXPECTED = list(zip(EVENTS.onset_s, EVENTS.duration_s, SHOWN, strict=True))


@pytest.mark.parametrize("has_own", [True, False])
def test_edf_samples_are_copied_byte_by_byte(has_own: bool, edf: Path, tmp_path: Path) -> None:
    source = edf if has_own else plain(edf)
    copy = copied(source, "edf", tmp_path)
    before, after = edfio.read_edf(source), edfio.read_edf(copy)
    assert [s.label for s in after.signals] == [s.label for s in before.signals]
    for old, new in zip(before.signals, after.signals, strict=True):
        assert old.digital.tobytes() == new.digital.tobytes()
        assert (old.physical_range, old.digital_range, old.prefiltering) == (
            new.physical_range,
            new.digital_range,
            new.prefiltering,
        )


@pytest.mark.parametrize("has_own", [True, False])
def test_mne_reads_the_events_of_an_edf_copy(has_own: bool, edf: Path, tmp_path: Path) -> None:
    raw = mne.io.read_raw(copied(edf if has_own else plain(edf), "edf", tmp_path), verbose="ERROR")
    assert listed(raw, "eyes open") == EXPECTED
    assert ("eyes open" in raw.annotations.description) == has_own
    assert raw.n_times == 4000


@pytest.mark.parametrize("kind", ["edf", "fif"])
def test_a_copy_names_nobody_unless_asked(kind: str, edf: Path, tmp_path: Path) -> None:
    for keep, expected in ((False, False), (True, True)):
        content = copied(edf, kind, tmp_path, keep_identity=keep).read_bytes()
        assert (b"Harry" in content) == expected
    assert b"0234567" not in copied(edf, kind, tmp_path).read_bytes()


def test_mne_reads_the_events_of_a_fif_copy(edf: Path, tmp_path: Path) -> None:
    raw = mne.io.read_raw(copied(edf, "fif", tmp_path), verbose="ERROR")
    samples = [
        round(200 * (a["onset"] - raw.first_time))
        for a in raw.annotations
        if a["description"] != "eyes open"
    ]
    assert samples == [round(200 * onset) for onset in EVENTS.onset_s]
    original = mne.io.read_raw(edf, verbose="ERROR").get_data()
    assert np.abs(raw.get_data() - original).max() <= 1e-6 * np.abs(original).max()


def test_a_bdf_is_copied_as_bdf(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    signals = [
        edfio.BdfSignal(rng.normal(0, 30, 2000), 200.0, label=name, physical_dimension="uV")
        for name in ("Fp1", "F7")
    ]
    source = tmp_path / "recording.bdf"
    edfio.Bdf(signals).write(source)
    events = EVENTS[EVENTS.onset_s < 10]
    copy = tmp_path / copy_name("recording", source, "edf")
    write_copy(copy, source, events, "edf", tmp_path)
    assert copy.suffix == ".bdf"
    raw, before = mne.io.read_raw(copy, verbose="ERROR"), mne.io.read_raw(source, verbose="ERROR")
    assert listed(raw) == EXPECTED[:3]
    assert np.array_equal(raw.get_data(), before.get_data())


def test_what_can_not_be_copied_is_told_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(
        UserError,
        match=(
            r"copy=edf copies the samples of EDF and BDF files as they are, this is .vhdr; use"
            r" copy=fif"
        ),
    ):
        write_copy(tmp_path / "x.edf", tmp_path / "x.vhdr", EVENTS, "edf", tmp_path)
    with pytest.raises(UserError, match="copy=pdf: is unknown; choose from edf, fif"):
        write_copy(tmp_path / "x.edf", tmp_path / "x.edf", EVENTS, "pdf", tmp_path)


# ------------------------------------------------------- files whose first record has a time stamp

ROOM = "." * 60  # in the file's own annotations, for longer time stamps
STARTS_S = (0.0, 0.75, 0.001953, 1000.0, 36000.25, -0.5)


def stamped(path: Path, start_s: float, record_s: float) -> Path:
    """An EDF+ or BDF+ whose first sample is `start_s` after the header's start time, as in a part
    of a longer recording; its own annotation lies 5 s after the first sample.
    """
    ecg = np.random.default_rng(0).normal(0, 30, 4000)
    signal, file = (
        (edfio.EdfSignal, edfio.Edf) if path.suffix == ".edf" else (edfio.BdfSignal, edfio.Bdf)
    )
    file(
        [signal(ecg, 200.0, label="C3", physical_dimension="uV")],
        starttime=datetime.time(10, 20, 30),
        data_record_duration=record_s,
        annotations=[edfio.EdfAnnotation(5.0, 1.0, "eyes open" + ROOM)],
    ).write(path)
    header = read_edf_header(path)
    content = bytearray(path.read_bytes())
    at = sum(header.samples_per_record[:-1]) * header.bytes_per_sample
    for start in range(header.data_offset + at, len(content), header.record_bytes):
        lists = slice(start, start + header.record_bytes - at)
        moved = re.sub(
            rb"\+([0-9.]+)", lambda m: b"%+.9g" % (float(m[1]) + start_s), bytes(content[lists])
        )
        moved = moved.replace(ROOM.encode(), b"").rstrip(b"\0")
        content[lists] = moved.ljust(header.record_bytes - at, b"\0")
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("suffix", [".edf", ".bdf"])
@pytest.mark.parametrize("record_s", [1.0, 0.25])
@pytest.mark.parametrize("start_s", STARTS_S)
def test_events_of_a_copy_count_from_the_first_sample_wherever_the_first_record_starts(
    start_s: float, record_s: float, suffix: str, tmp_path: Path
) -> None:
    source = stamped(tmp_path / f"part{suffix}", start_s, record_s)
    own = [a["onset"] for a in mne.io.read_raw(source, verbose="ERROR").annotations]
    assert own == pytest.approx([5.0])
    copy = copied(source, "edf", tmp_path)
    raw = mne.io.read_raw(copy, verbose="ERROR")
    found = [
        (round(200 * onset), duration, label) for onset, duration, label in listed(raw, "eyes open")
    ]
    assert found == [(round(200 * onset), *rest) for onset, *rest in EXPECTED]
    assert [onset for onset, _, label in listed(raw) if label == "eyes open"] == pytest.approx(own)
    read = edfio.read_edf if suffix == ".edf" else edfio.read_bdf
    annotations = {a.text: a.onset for a in read(copy).annotations}
    assert annotations["eyes open"] == pytest.approx(5.0, abs=1e-6)
    assert annotations["Anfall, groß"] == pytest.approx(3.25, abs=1e-6)
