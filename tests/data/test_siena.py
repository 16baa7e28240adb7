"""The seizure lists of the Siena Scalp EEG database: its times and its known oddities, as public
descriptions of it give them, and faults that are refused.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from eegdm.config import CorpusConfig
from eegdm.data.corpora import Source, find_sources, read_events
from eegdm.data.montage import TCP, derive
from eegdm.data.siena import read_seizures_of
from eegdm.errors import UserError

HEAD = """{name}

Data Sampling Rate: 512 Hz

Channels in EDF files:
Channel 1: Fp1
Channel 5: 1
Channel 33: EKG 1

"""
BLOCK = """Seizure n 1
File name: {file}
Registration start time: {begin}
Registration end time: 23.00.00
Seizure start time: {onset}
Seizure end time: {end}
"""


def recording(begin: str, length_s: float = 50_000) -> SimpleNamespace:
    """What is asked of an opened recording whose header has this clock."""
    hours, minutes, seconds = map(int, begin.split("."))
    started = datetime(2016, 1, 1, hours, minutes, seconds, tzinfo=UTC)
    return SimpleNamespace(n_times=length_s * 512, info={"sfreq": 512.0, "meas_date": started})


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / f"Seizures-list-{name}.txt"
    path.write_text(HEAD.format(name=name) + text)
    return path


def one(folder: Path, file: str, begin: str, onset: str, end: str) -> Path:
    return written(folder, file[:4], BLOCK.format(file=file, begin=begin, onset=onset, end=end))


def times(file: str, seizure_list: Path, raw: SimpleNamespace) -> list[list[float]]:
    table = read_seizures_of(Path(file), seizure_list, raw)
    assert set(table.label) == {"seizure"} and table.channel.isna().all()
    return table[["onset_s", "duration_s"]].values.tolist()


# ------------------------------------------------------------------------------------- the lists


@pytest.mark.parametrize(
    ("file", "listed", "begin", "onset", "end", "expected"),
    [
        ("PN00-1.edf", "PN00-1.edf", "19.39.33", "19.58.36", "19.59.46", (1143, 70)),
        # An hour too late
        ("PN00-3.edf", "PN00-3.edf", "18.15.44", "18.28.29", "19.29.29", (765, 60)),
        ("PN06-1.edf", "PNO6-1.edf", "04.21.22", "05.54.25", "05.55.29", (5583, 64)),
        ("PN11-1.edf", "PN11-.edf", "11.31.25", "13.37.19", "13.38.14", (7554, 55)),
        ("PN10-2.edf", "PN10-2.edf", "09.30.15", "11.40.13", "11.41.04 opure 11.40.43", (7798, 30)),
        (
            "PN10-3.edf",
            "PN10-3.edf",
            "13.33.18",
            "15.43.53 (CLINICAL ONSET); 15.43.59 (ELECTRIC ONSET)",
            "15.45.02",
            (7841, 63),
        ),
        ("PN12-1.2.edf", "PN12-1.2.edf", "15.51.31", "16:13.23", "16.14.26", (1312, 63)),
        # Past midnight
        ("PN07-1.edf", "PN07-1.edf", "23.18.10", "05.25.49", "05.26.51", (22059, 62)),
    ],
)
def test_times_of_the_database(tmp_path, file, listed, begin, onset, end, expected):
    seizure_list = one(tmp_path, listed, begin, onset, end)
    assert times(file, seizure_list, recording(begin)) == [list(map(float, expected))]


def test_a_preamble_names_the_file_of_all_seizures(tmp_path):
    seizure_list = written(
        tmp_path,
        "PN01",
        "File name: PN01.edf\nRegistration start time: 19.00.44\n"
        "Registration end time: 08.29.41\n\nSeizure n 1\nStart time: 21:51:02\n"
        "End time: 21.51.56\n\nSeizure n 2 (in sleep):\nStart time: 07.53.17\n"
        "End time: 07.54.31\n",
    )
    assert times("PN01-1.edf", seizure_list, recording("19.00.44")) == [[10218, 54], [46353, 74]]


def test_several_seizures_and_a_space_in_a_time(tmp_path):
    blocks = (
        "Seizure n 7\nFile name: PN10-7.8.9.edf\nRegistration start time:1 6.49.25\n"
        "Seizure start time: 17.35.13\nSeizure end time: 17.36.01\n\n",
        "Seizure n 8\nFile name: PN10-7.8.9.edf\nRegistration start time: 16.49.25\n"
        "Seizure start time:  18.20.24\nSeizure end time: 18.20.42\n\n",
        "Seizure n 9\nFile name: PN10-7.8.9.edf\n"
        "Seizure start time: 20.24.48\nSeizure end time: 20.25.03\n",
    )
    seizure_list = written(tmp_path, "PN10", "".join(blocks))
    found = times("PN10-7.8.9.edf", seizure_list, recording("16.49.25"))
    assert found == [[2748, 48], [5459, 18], [12923, 15]]


def test_the_clock_of_the_header_counts(tmp_path):
    late = one(tmp_path, "PN14-3.edf", "16.17.45", "21.10.05", "21.10.46")
    assert times("PN14-3.edf", late, recording("19.17.45")) == [[6740, 41]]
    differs = one(tmp_path, "PN05-3.edf", "06.01.23", "07.55.19", "07.55.49")
    table = read_seizures_of(Path("PN05-3.edf"), differs, recording("06.01.13"))
    assert table.onset_s.tolist() == [6846]
    assert table.attrs["notes"] == [
        "Seizures-list-PN05.txt lets the recording begin 10 s later than its header, which is used"
    ]


def test_two_times_are_noted(tmp_path):
    seizure_list = one(tmp_path, "PN10-2.edf", "09.30.15", "11.40.13", "11.41.04 opure 11.40.43")
    table = read_seizures_of(Path("PN10-2.edf"), seizure_list, recording("09.30.15"))
    assert table.attrs["notes"] == [
        "of two times of a seizure end, 11.41.04 and 11.40.43, the second is used"
    ]


# ------------------------------------------------------------------------------------------ faults


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("19.58.36", "about 19.58", ".txt:14: 'Seizure start time: about 19.58' is not a line"),
        ("19.58.36", "19.58.36 or 19.59.00", ".txt:14: 'Seizure start time: 19.58.36 or"),
        ("19.58.36", "25.58.36", ".txt:14: '25.58.36' is not a time of day"),
        ("Seizure n 1", "Seizure n one", ".txt:10: 'Seizure n one' is not a line"),
        ("Seizure n 1", "Crisis 1", ".txt: has 0 headings (Seizure n 1) and the times of 1 sei"),
        ("Seizure end time: 19.59.46", "", ".txt: a seizure of PN00-1.edf has no end"),
        ("Seizure start time: 19.58.36", "", ".txt:15: a seizure ends that has not started"),
        ("19.59.46", "19.58.36", ".txt:15: a seizure ends that has not started before"),
        ("File name: PN00-1.edf", "", ".txt:12: 'Registration start time: 19.39.33' comes before"),
        ("PN00-1.edf", "PN00_1.edf", ".txt: lists no seizure of PN00-1.edf, although"),
        ("Registration start time: 19.39.33", "", ".txt: does not say when PN00-1.edf begins"),
        ("time: 19.39.33", "time: 18.39.33", "begin at 18.39.33, its header at 19.39.33; is this"),
        ("19.59.46", "19.58.35", ".txt: a seizure of PN00-1.edf ends at 87542 s, the recording at"),
    ],
)
def test_a_list_that_is_not_understood_is_refused(tmp_path, old, new, fault):
    seizure_list = one(tmp_path, "PN00-1.edf", "19.39.33", "19.58.36", "19.59.46")
    seizure_list.write_text(seizure_list.read_text().replace(old, new))
    with pytest.raises(UserError) as caught:
        read_seizures_of(Path("PN00-1.edf"), seizure_list, recording("19.39.33"))
    message = str(caught.value)
    assert fault in message and message.startswith(str(seizure_list)) and "\n" not in message


def test_a_recording_without_a_clock_is_refused(tmp_path):
    seizure_list = one(tmp_path, "PN00-1.edf", "19.39.33", "19.58.36", "19.59.46")
    raw = SimpleNamespace(n_times=1, info={"sfreq": 512.0, "meas_date": None})
    with pytest.raises(UserError, match=r"PN00-1.edf: does not say when PN00-1.edf begins"):
        read_seizures_of(Path("PN00-1.edf"), seizure_list, raw)


# ----------------------------------------------------------------------------------------- layouts


def test_layout_of_physionet(tmp_path):
    for name in ("PN00/PN00-1.edf", "PN10/PN10-4.5.6.edf", "PN10/._PN10-1.edf", "RECORDS"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "PN00/Seizures-list-PN00.txt").touch()
    corpus = CorpusConfig(name="siena", source=str(tmp_path), events="seizure_list")
    with_list, without = find_sources(corpus)
    assert with_list == Source(
        "PN00/PN00-1",
        tmp_path / "PN00/PN00-1.edf",
        "PN00",
        None,
        "1",
        None,
        tmp_path / "PN00/Seizures-list-PN00.txt",
    )
    assert (without.recording, without.run) == ("PN10/PN10-4.5.6", "4.5.6")
    with pytest.raises(UserError, match=r"has no annotations \(.*/Seizures-list-PN10.txt is miss"):
        read_events(without, corpus, recording("00.00.00"))


@pytest.mark.parametrize(
    "spelling",
    ["EEG {}", "{}-Avg"],  # PhysioNet's, and that of the BIDS copy
)
def test_twenty_channels_are_derived(spelling):
    electrodes = (
        *("Fp1", "F3", "C3", "P3", "O1", "F7", "T3", "T5", "Fc1", "Fc5", "Cp1", "Cp5", "F9"),
        *("Fz", "CZ", "Pz", "FP2", "F4", "C4", "P4", "O2", "F8", "T4", "T6", "F10"),
    )
    names = [spelling.format(name) for name in electrodes]
    others = ["EKG EKG", "SPO2", "HR", "1", "2", "MK"]
    derived = derive([*names, *others], TCP, missing="drop")
    assert [d.name for d in derived] == [name for name in TCP if name not in ("A1-T3", "A2-T4")]
    assert not {name for d in derived for name in d.sources} & set(others)


def test_the_bids_copy_is_read_by_corpus_bids(tmp_path):
    stem = tmp_path / "sub-10/ses-01/eeg/sub-10_ses-01_task-szMonitoring_run-03"
    stem.parent.mkdir(parents=True)
    stem.with_name(stem.name + "_eeg.edf").touch()
    table = stem.with_name(stem.name + "_events.tsv")
    table.write_text(
        "onset\tduration\teventType\tconfidence\tchannels\tdateTime\trecordingDuration\n"
        "7841.0\t63.0\tsz_foc_ia\tn/a\tF7,T3\t2016-01-01 13:33:18\t8988.0\n"
    )
    corpus = CorpusConfig(name="bids", source=str(tmp_path), events="bids")
    (source,) = find_sources(corpus)
    assert (source.subject, source.session, source.run) == ("10", "01", "03")
    found = read_events(source, corpus, recording("13.33.18"))
    assert found.values.tolist() == [[None, 7841.0, 63.0, "sz_foc_ia"]]
