"""Opening recordings from strangers: what is read, and one sentence for every fault."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import edfio
import mne
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eegdm.config import Config, CorpusConfig, RunConfig, SignalConfig, WindowConfig
from eegdm.data.montage import referential
from eegdm.data.reading import open_recording, opening_of
from eegdm.data.signal import Filtering, preprocess
from eegdm.errors import UserError
from eegdm.stages.preprocess import run

SFREQ, SECONDS = 100, 12
LABELS = ["EEG FP1-REF", "EEG F7-REF", "EEG T3-REF"]
PATIENT = "SECRET-NAME"
N_SIGNALS = len(LABELS) + 1  # and the annotations, which an EDF+ file always has


def edf(path: Path, annotations: bool | list[edfio.EdfAnnotation] = False) -> Path:
    rng = np.random.default_rng(0)
    signals = [
        edfio.EdfSignal(
            rng.standard_normal(SFREQ * SECONDS) * 30,
            SFREQ,
            label=label,
            physical_dimension="uV",
            physical_range=(-500, 500),
        )
        for label in LABELS
    ]
    patient = edfio.Patient(name=PATIENT)
    notes = [edfio.EdfAnnotation(1.0, 0.5, "spike")] if annotations is True else annotations or ()
    edfio.Edf(signals, patient=patient, annotations=notes, data_record_duration=1).write(path)
    return path


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> bytes:
    return edf(tmp_path_factory.mktemp("edf") / "a.edf").read_bytes()


def put(data: bytes, offset: int, text: str, width: int) -> bytes:
    return data[:offset] + text.encode("latin-1").ljust(width) + data[offset + width :]


def signal_field(offset: int, index: int = 0, width: int = 8) -> int:
    return 256 + offset * N_SIGNALS + index * width


def fault_of(path: Path) -> str:
    with pytest.raises(UserError) as fault:
        open_recording(path)
    text = str(fault.value)
    assert path.name in text and "\n" not in text and PATIENT not in text
    return text


def test_reads_what_mne_reads_and_leaves_it_on_disk(tmp_path):
    path = edf(tmp_path / "a.EDF", annotations=True)
    raw = open_recording(path)
    assert not raw.preload
    assert (raw.ch_names, raw.info["sfreq"], raw.n_times) == (LABELS, SFREQ, SFREQ * SECONDS)
    assert list(raw.annotations.description) == ["spike"]
    np.testing.assert_array_equal(
        raw.get_data(), mne.io.read_raw_edf(path, verbose="ERROR").get_data()
    )


@pytest.mark.parametrize(
    ("offset", "text", "width", "expected"),
    [
        (0, "text", 8, "is not an EDF file"),
        (252, "9999", 4, "it must be 2560000"),
        (252, "x", 4, "number of signals is 'x' in its header, not a whole number"),
        (252, "0", 4, "number of signals is 0 in its header, it must be at least 1"),
        (252, "-3", 4, "number of signals is -3"),
        (184, "512", 8, "length of the header is 512 in its header, it must be 1280"),
        (236, "99999999", 8, "99999999 records promised, 12 there"),
        (236, "13", 8, "13 records promised, 12 there"),
        (236, "0", 8, "holds no data records"),
        (236, "-2", 8, "number of records is -2"),
        (236, "1e3", 8, "number of records is '1e3' in its header, not a whole number"),
        (236, "1_2", 8, "not a whole number"),
        (244, "0", 8, "a record lasts 0 s"),
        (244, "-1", 8, "a record lasts -1 s"),
        (244, "nan", 8, "duration of a record is 'nan' in its header, not a number"),
        (244, "1e999", 8, "not a number"),
        (
            signal_field(104),
            "low",
            8,
            "physical minimum of signal 1 is 'low' in its header, not a number",
        ),
        (
            signal_field(112, 1),
            "",
            8,
            "physical maximum of signal 2 is '' in its header, not a number",
        ),
        (signal_field(128, 2), "inf", 8, "digital maximum of signal 3"),
        (signal_field(216), "0", 8, "samples per record of signal 1 is 0"),
        (signal_field(216), "99999999", 8, "12 records promised, 0 there"),
        (signal_field(216, 2), "-100", 8, "samples per record of signal 3 is -100"),
    ],
)
def test_a_header_that_lies_is_told_in_one_sentence(
    tmp_path, original, offset, text, width, expected
):
    path = tmp_path / "bad.edf"
    path.write_bytes(put(original, offset, text[:width], width))
    assert expected in fault_of(path)


@pytest.mark.parametrize(
    ("n_bytes", "expected"),
    [
        (0, "it is empty"),
        (100, "cut off inside"),
        (300, "cut off inside"),
        (1280, "12 records promised, 0 there"),
        (4000, "4 there"),
    ],
)
def test_a_file_cut_off(tmp_path, original, n_bytes, expected):
    path = tmp_path / "short.edf"
    path.write_bytes(original[:n_bytes])
    assert expected in fault_of(path)


def test_missing_file_folder_text_and_unknown_format(tmp_path):
    assert "does not exist" in fault_of(tmp_path / "none.edf")
    (tmp_path / "folder.edf").mkdir()
    assert "is not a file" in fault_of(tmp_path / "folder.edf")
    for name in ("notes.edf", "notes.bdf"):
        (tmp_path / name).write_text("These are notes, not a recording.\n" * 20)
        assert "unexpected first bytes" in fault_of(tmp_path / name)
    for name in ("notes.fif", "notes.vhdr", "notes.set", "notes.gdf", "notes.xyz"):
        (tmp_path / name).write_text("These are notes, not a recording.\n" * 20)
        assert "cannot be read as a recording" in fault_of(tmp_path / name)


def test_a_number_of_records_left_open_is_found_and_a_smaller_one_is_kept(tmp_path, original):
    path = tmp_path / "open.edf"
    path.write_bytes(put(original, 236, "-1", 8) + b"\x00" * 100)
    assert open_recording(path).n_times == SFREQ * SECONDS
    path.write_bytes(put(original, 236, "5", 8))
    raw = open_recording(path)
    assert raw.n_times == 5 * SFREQ and raw.get_data().shape == (3, 5 * SFREQ)


def test_signals_without_scale_or_at_another_rate_are_left_out(tmp_path, original):
    path = tmp_path / "odd.edf"
    path.write_bytes(put(original, signal_field(112, 1), "-500", 8))
    assert open_recording(path).ch_names == [LABELS[0], LABELS[2]]
    rates = dict.fromkeys(LABELS, 50) | {"ECG": 500, "SAO2": 1}
    signals = [
        edfio.EdfSignal(np.arange(4.0 * rate), rate, label=label) for label, rate in rates.items()
    ]
    edfio.Edf(signals, data_record_duration=1).write(path)
    raw = open_recording(path)
    assert raw.info["sfreq"] == 50 and raw.ch_names == LABELS
    assert opening_of(raw).notes == ("read at 50 Hz; left out, sampled at other rates: ECG, SAO2",)


def test_gaps_are_refused_and_a_gapless_edf_d_is_read(tmp_path):
    path = edf(tmp_path / "d.edf", annotations=True)
    data = path.read_bytes().replace(b"EDF+C", b"EDF+D", 1)
    path.write_bytes(data)
    assert open_recording(path).n_times == SFREQ * SECONDS
    path.write_bytes(data.replace(b"+7\x14\x14", b"+9\x14\x14"))
    assert "has 2 gaps, the first after 7 s" in fault_of(path)


def made_up() -> mne.io.RawArray:
    noise = np.random.default_rng(0).standard_normal((3, 1000)) * 3e-5
    return mne.io.RawArray(noise, mne.create_info(LABELS, 100.0, "eeg"), verbose="ERROR")


def test_bdf_is_read_and_checked(tmp_path):
    path = tmp_path / "a.bdf"
    mne.export.export_raw(path, made_up(), verbose="ERROR")
    assert open_recording(path).n_times == 1000
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    assert "cut off or damaged" in fault_of(path)
    path.write_bytes(b"0       " + data[8:])
    assert "is not a BDF file" in fault_of(path)


def test_brainvision_reads_only_beside_itself(tmp_path):
    folder = tmp_path / "inside"
    folder.mkdir()
    mne.export.export_raw(folder / "a.vhdr", made_up(), verbose="ERROR")
    assert open_recording(folder / "a.vhdr").n_times == 1000
    text = (folder / "a.vhdr").read_text("utf8")
    for name in ("a.eeg", "a.vmrk"):
        shutil.copy(folder / name, tmp_path / name)
        (folder / "b.vhdr").write_text(text.replace(name, f"../{name}"), "utf8")
        assert "only a plain name beside it" in fault_of(folder / "b.vhdr")


def test_fif_and_eeglab_are_read(tmp_path):
    raw = made_up()
    raw.save(tmp_path / "a_raw.fif", verbose="ERROR")
    mne.export.export_raw(tmp_path / "a.set", raw, verbose="ERROR")
    for name in ("a_raw.fif", "a.set"):
        opened = open_recording(tmp_path / name)
        np.testing.assert_allclose(opened.get_data(), raw.get_data(), rtol=1e-6)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_damaged_header_is_read_or_told_never_worse(tmp_path_factory, original, data):
    """Some bytes of the header at random: whatever is opened can be read to its end and
    preprocessed, or refused.
    """
    mutated = bytearray(original)
    for _ in range(data.draw(st.integers(1, 4))):
        mutated[data.draw(st.integers(0, 1279))] = data.draw(
            st.sampled_from(list(b"0123456789-.eE \x00\xffA"))
        )
    path = tmp_path_factory.mktemp("damage") / "a.edf"
    path.write_bytes(mutated)
    try:
        raw = open_recording(path)
        assert raw.get_data().shape == (len(raw.ch_names), raw.n_times)
        assert raw.n_times * 2 <= len(mutated)
        signal = preprocess(raw, referential(raw.ch_names, 1), Filtering()).signal
    except UserError as fault:
        assert "\n" not in str(fault) and PATIENT not in str(fault)
    else:
        assert np.isfinite(signal).all()


# ----------------------------------------------------------------------- what readers leave out


def test_annotations_beyond_the_data_are_counted(tmp_path):
    notes = [edfio.EdfAnnotation(t, 0.5, "spike") for t in (1.0, 50.0, 60.0, 70.0)]
    path = edf(tmp_path / "a.edf", annotations=notes)
    raw = open_recording(path)
    assert list(raw.annotations.onset) == [1.0]
    assert opening_of(raw).notes == (
        "3 annotations lie outside the recording (before its start or after its end) and were left"
        " out",
    )


def test_annotations_beyond_the_records_of_the_header_are_counted(tmp_path):
    notes = [edfio.EdfAnnotation(t, 0.5, "spike") for t in (1.0, 7.0)]
    path = edf(tmp_path / "a.edf", annotations=notes)
    path.write_bytes(put(path.read_bytes(), 236, "5", 8))
    (note,) = opening_of(open_recording(path)).notes
    assert note.startswith("1 annotation lies outside the recording")


@pytest.mark.parametrize("name", ["a.vhdr", "a.set"])
def test_annotations_beyond_the_data_of_other_formats_are_counted(tmp_path, name):
    raw = made_up().set_annotations(mne.Annotations([2.0, 4.0], [0, 0], ["one", "two"]))
    mne.export.export_raw(tmp_path / name, raw, verbose="ERROR")
    if name.endswith("vhdr"):
        markers = (tmp_path / "a.vmrk").read_text("utf8")
        (tmp_path / "a.vmrk").write_text(markers.replace(",401,", ",40001,"), "utf8")
    else:
        from scipy.io import loadmat, savemat

        mat = loadmat(tmp_path / name, squeeze_me=True, struct_as_record=False)
        held = {key: value for key, value in mat.items() if not key.startswith("__")}
        events = held["EEG"].event if "EEG" in held else held["event"]
        events[1].latency = 40_001.0
        savemat(tmp_path / name, held, appendmat=False)
    opened = open_recording(tmp_path / name)
    assert [text.split("/")[-1] for text in opened.annotations.description] == ["one"]
    (note,) = opening_of(opened).notes
    assert note.startswith("1 annotation lies outside the recording")


def test_preprocess_says_which_annotations_were_left_out(tmp_path):
    (tmp_path / "in").mkdir()
    notes = [edfio.EdfAnnotation(t, 0.5, "spike") for t in (50.0, 60.0, 70.0)]
    edf(tmp_path / "in" / "a.edf", annotations=notes)
    config = Config(
        corpus=CorpusConfig(name="folder", source=str(tmp_path / "in"), events="annotations"),
        signal=SignalConfig(missing="drop"),
        windows=WindowConfig(split="recording"),
        run=RunConfig(root=str(tmp_path / "runs")),
    )
    reason = pd.read_parquet(run(config) / "recordings.parquet").reason[0]
    assert reason.startswith("3 annotations lie outside the recording")
    assert "no annotation in the file" not in reason


def test_annotations_in_latin_1_are_read_and_those_in_utf_8_stay(tmp_path):
    notes = [edfio.EdfAnnotation(1.0, 0.5, "Anfall"), edfio.EdfAnnotation(3.0, None, "Öffnen")]
    path = edf(tmp_path / "a.edf", annotations=notes)
    path.write_bytes(path.read_bytes().replace(b"Anfall", b"\xdcbung."))
    raw = open_recording(path)
    assert list(raw.annotations.description) == ["Übung.", "Öffnen"]
    assert opening_of(raw).notes == ("annotations that are not UTF-8 were read as Latin-1",)
    assert raw.get_data().shape == (3, SFREQ * SECONDS)


# --------------------------------------------------------------------------- files of a recording


@pytest.mark.parametrize("name", ["a.vhdr", "a.set", "a_raw.fif", "a.edf"])
def test_links_into_an_annex_are_read_and_links_to_nothing_told(tmp_path, name):
    """As git-annex has it: each file is a link into another folder, under another name."""
    (tmp_path / "objects").mkdir()
    (tmp_path / "data").mkdir()
    made = tmp_path / "made"
    made.mkdir()
    if name == "a.edf":
        edf(made / name)
    elif name == "a_raw.fif":
        made_up().save(made / name, verbose="ERROR")
    else:
        mne.export.export_raw(made / name, made_up(), verbose="ERROR")
    if name == "a.set":
        with_fdt(made / name)
    for number, file in enumerate(sorted(made.iterdir())):
        target = tmp_path / "objects" / f"MD5E-s{number}{file.suffix}"
        shutil.move(file, target)
        (tmp_path / "data" / file.name).symlink_to(target)
    raw = open_recording(tmp_path / "data" / name)
    assert raw.get_data().shape[1] in (1000, SFREQ * SECONDS)
    for file in (tmp_path / "objects").iterdir():
        file.unlink()
    assert "is a link to a file that is not there" in fault_of(tmp_path / "data" / name)


def with_fdt(path: Path) -> None:
    """Move the samples of a .set file into an .fdt file beside it."""
    from scipy.io import loadmat, savemat

    mat = loadmat(path, squeeze_me=True, struct_as_record=False)
    held = {key: value for key, value in mat.items() if not key.startswith("__")}
    eeg = held["EEG"].__dict__ if "EEG" in held else held
    np.asarray(eeg["data"], "<f4").T.tofile(path.with_suffix(".fdt"))
    eeg["data"] = path.with_suffix(".fdt").name
    eeg.pop("_fieldnames", None)
    savemat(path, {"EEG": eeg}, appendmat=False)


def test_data_outside_the_folder_is_refused_and_a_short_fdt_too(tmp_path):
    folder = tmp_path / "inside"
    folder.mkdir()
    mne.export.export_raw(folder / "a.set", made_up(), verbose="ERROR")
    with_fdt(folder / "a.set")
    assert open_recording(folder / "a.set").get_data().shape == (3, 1000)
    (folder / "a.fdt").write_bytes((folder / "a.fdt").read_bytes()[:-100])
    with pytest.raises(UserError, match=r"a.fdt is cut off or damaged: 1000 samples promised, 991"):
        open_recording(folder / "a.set")
    from scipy.io import loadmat, savemat

    mat = loadmat(folder / "a.set", squeeze_me=True, struct_as_record=False)
    mat["EEG"].data = "../b.fdt"
    savemat(folder / "a.set", {"EEG": mat["EEG"]}, appendmat=False)
    np.zeros((1000, 3), "<f4").tofile(tmp_path / "b.fdt")
    (folder / "a.fdt").unlink()
    assert "takes its data from outside its folder" in fault_of(folder / "a.set")


# ----------------------------------------------------------------------------- readers that fail


def epochs_set(path: Path) -> None:
    epochs = mne.make_fixed_length_epochs(made_up(), 1.0, preload=True, verbose="ERROR")
    mne.export.export_epochs(path, epochs, verbose="ERROR")


def odd_patient(path: Path) -> None:
    data = edf(path).read_bytes()
    path.write_bytes(put(data, 8, f"X F X {PATIENT} weight=1=2", 80))


def persyst_without_a_hand(path: Path) -> None:
    path.with_suffix(".dat").write_bytes(np.zeros(2000, "<i2").tobytes())
    path.write_text(
        "[FileInfo]\nFile=a.dat\nFileType=Interleaved\nSamplingRate=100\nCalibration=1\n"
        "WaveformCount=2\nDataType=0\n[Patient]\nFirst=SECRET-NAME\nBirthDate=01/01/80\nSex=x\n"
        "TestDate=01/01/2020\nTestTime=10:00:00\n[ChannelMap]\nFp1=1\nF7=2\n"
    )


def brainvision_without_data(path: Path) -> None:
    mne.export.export_raw(path, made_up(), verbose="ERROR")
    path.with_suffix(".eeg").unlink()


def brainvision_cut_off(path: Path) -> None:
    mne.export.export_raw(path, made_up(), verbose="ERROR")
    text = path.read_text("utf8").replace("[Binary Infos]", "DataPoints=1000\n[Binary Infos]")
    path.write_text(text, "utf8")
    path.with_suffix(".eeg").write_bytes(path.with_suffix(".eeg").read_bytes()[:-120])


def set_without_fdt(path: Path) -> None:
    mne.export.export_raw(path, made_up(), verbose="ERROR")
    with_fdt(path)
    path.with_suffix(".fdt").unlink()


def fif_cut_off(path: Path) -> None:
    made_up().save(path, verbose="ERROR")
    path.write_bytes(path.read_bytes()[:-3000])


def unknown_ending(path: Path) -> None:
    path.write_bytes(b"\0" * 1000)


FAILURES = [
    ("a.set", epochs_set, "it holds epochs, not one continuous recording; use the data set from"),
    ("a.edf", odd_patient, "can't read the patient field of its header .* empty that field"),
    ("a.lay", persyst_without_a_hand, r"reader of .lay files fails on it .*; export it as EDF\+"),
    ("a.vhdr", brainvision_without_data, "a file that belongs to it is not beside it"),
    ("a.vhdr", brainvision_cut_off, "is cut off or damaged: 1000 samples promised, 99. there"),
    ("a.set", set_without_fdt, "a file that belongs to it is not beside it"),
    ("a_raw.fif", fif_cut_off, "is cut off or damaged: it ends inside its data; copy it again"),
    ("a.xyz", unknown_ending, r"knows no reader for its ending; export it as EDF\+ or BrainVision"),
]


@pytest.mark.parametrize(
    ("name", "make", "said"), FAILURES, ids=[make.__name__ for _, make, _ in FAILURES]
)
def test_a_reader_that_fails_is_told_in_a_sentence_with_what_to_do(tmp_path, name, make, said):
    make(tmp_path / name)
    text = fault_of(tmp_path / name)
    assert re.search(said, text), text
    for raw_words in ("too many values", "'hand'", "Error:", "int()", "mne."):
        assert raw_words not in text
