"""TUAB and TUSZ: names, layouts, annotations and parts, and the check of a folder of TUH."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import mne
import numpy as np
import pandas as pd
import pytest

from eegdm.compose import compose
from eegdm.config import Config, CorpusConfig, WindowConfig, check
from eegdm.data.corpora import events_beside, find_sources, read_events
from eegdm.data.events import map_labels
from eegdm.data.montage import TCP, derive
from eegdm.data.synthetic.layouts import write_tuab, write_tuev, write_tusz
from eegdm.data.tuh import read_name, read_seizures, subjects_below
from eegdm.data.tuh_check import TUH_CORPORA, check_tuh
from eegdm.data.windows import assign_splits, make_samples
from eegdm.errors import UserError
from stages.tiny import command_line

HEAD = """\
# version = csv_v1.0.0
# bname = aaaaaaac_s001_t000
# duration = 1750.0000 secs
# montage_file = $NEDC_NFC/lib/nedc_eas_default_montage.txt
#
channel,start_time,stop_time,label,confidence
"""


def made(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def written(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text)
    return folder / name


def fault(call, *args) -> str:
    with pytest.raises(UserError) as caught:
        call(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ------------------------------------------------------------------------------ names and layouts


@pytest.mark.parametrize(
    "name, says",
    [
        ("aaaaaaaq_s004_t000.edf", ("aaaaaaaq", "s004", "t000")),
        ("aaaaaaaq_s0041_t000.edf", None),
        ("aaaaaaaq_s004_t000_1.edf", None),
        ("AAAAAAAQ_s004_t000.edf", None),
        ("00000258_s003_t000.edf", None),  # as in releases before 2022
        ("aaaaaaar_00000001.edf", None),
    ],
)
def test_what_a_name_says(name, says):
    assert read_name(Path("anywhere") / name) == says


TUAB = (
    "edf/train/normal/01_tcp_ar/aaaaaaaq_s004_t000.edf",
    "edf/train/abnormal/01_tcp_ar/aaaaaaaq_s005_t001.edf",
    "edf/eval/abnormal/01_tcp_ar/aaaaamye_s001_t000.edf",
    "edf/eval/normal/01_tcp_ar/._aaaaamye_s001_t000.edf",
    "edf/eval/strange/01_tcp_ar/aaaaamye_s001_t000.edf",
    "DOCS/example.edf",
)
TUSZ = (
    "edf/train/aaaaaaac/s001_2002/02_tcp_le/aaaaaaac_s001_t000.edf",
    "edf/train/aaaaaaac/s001_2002/02_tcp_le/aaaaaaac_s001_t000.csv",
    "edf/train/aaaaaaac/s001_2002/02_tcp_le/aaaaaaac_s001_t000.csv_bi",
    "edf/dev/aaaaaajy/s004_2010/03_tcp_ar_a/aaaaaajy_s004_t002.edf",
    "edf/eval/aaaaaqvx/s003_2015/01_tcp_ar/aaaaaqvx_s003_t000.edf",
    "edf/train/01_tcp_ar/002/00000258/s003_2003_07_22/00000258_s003_t000.edf",
)


@pytest.mark.parametrize("below", ["", "edf"])
def test_layout_of_tuab(tmp_path, below):
    corpus = CorpusConfig(name="tuab", source=str(made(tmp_path, *TUAB) / below), events="folders")
    sources = find_sources(corpus)
    assert [(s.subject, s.session, s.run, s.split, s.annotation) for s in sources] == [
        ("aaaaamye", "s001", "t000", "test", None),
        ("aaaaaaaq", "s005", "t001", "train", None),
        ("aaaaaaaq", "s004", "t000", "train", None),
    ]
    labels = [events_beside(source, corpus, 60.0).values.tolist() for source in sources]
    assert labels == [[[None, 0.0, 60.0, name]] for name in ("abnormal", "abnormal", "normal")]


@pytest.mark.parametrize("below", ["", "edf"])
def test_layout_of_tusz(tmp_path, below):
    corpus = CorpusConfig(name="tusz", source=str(made(tmp_path, *TUSZ) / below), events="csv_bi")
    sources = find_sources(corpus)
    assert [(s.subject, s.session, s.run, s.split) for s in sources] == [
        ("aaaaaajy", "s004", "t002", "val"),
        ("aaaaaqvx", "s003", "t000", "test"),
        ("aaaaaaac", "s001", "t000", "train"),
    ]
    assert [s.annotation and s.annotation.name for s in sources] == [
        None,
        None,
        "aaaaaaac_s001_t000.csv_bi",
    ]
    typed = find_sources(CorpusConfig(name="tusz", source=str(tmp_path), events="csv"))
    assert typed[-1].annotation == sources[-1].annotation.with_suffix(".csv")


def test_recordings_with_other_names_are_refused(tmp_path):
    made(tmp_path, *TUSZ)
    session = tmp_path / "edf/dev/aaaaaajy/s004_2010/03_tcp_ar_a"
    made(session, "recording.edf", "aaaaaajy_s004_t02.edf")
    message = fault(find_sources, CorpusConfig(name="tusz", source=str(tmp_path)))
    assert "is not named by subject, session and token" in message
    assert ", nor are 1 others;" in message and str(session) in message


def test_labels_in_folders_are_tuabs_alone():
    with pytest.raises(UserError, match="events=folders: only corpus=tuab"):
        check(Config(corpus=CorpusConfig(name="tusz", events="folders")))


@pytest.mark.parametrize("reference", ["REF", "LE"])
@pytest.mark.parametrize("has_ears", [True, False])
def test_montages_of_tusz(reference, has_ears):
    names = sorted({name for pair in TCP for name in pair.split("-")})
    names = [name for name in names if has_ears or name not in ("A1", "A2")]
    names = [f"EEG {name}-{reference}" for name in names] + [f"EEG EKG1-{reference}", "IBI"]
    found = {d.name: (d.plus, d.minus) for d in derive(names, TCP, missing="drop")}
    expected = {
        pair: tuple(f"EEG {name}-{reference}" for name in pair.split("-"))
        for pair in TCP
        if has_ears or not {"A1", "A2"} & set(pair.split("-"))
    }
    assert found == expected and len(found) == (22 if has_ears else 20)


# ------------------------------------------------------------------------------------ annotations


def rows(table: pd.DataFrame) -> list[list]:
    return table[["channel", "onset_s", "duration_s", "label"]].values.tolist()


def test_seizures_of_all_channels(tmp_path):
    text = HEAD + (
        "TERM,0.0000,36.8868,bckg,1.0000\n"
        "TERM,36.8868,183.3055,seiz,1.0000\n"
        "TERM,183.3055,1750.0000,bckg,1.0000\n"
    )
    for name, content in (("a.csv_bi", text), ("b.csv_bi", text.replace("\n", "\r\n"))):
        table = read_seizures(written(tmp_path, name, content))
        assert rows(table) == [[None, 36.8868, 146.4187, "seiz"]]


def test_channels_of_seizures_in_either_polarity(tmp_path):
    text = HEAD + (
        "FP1-F7,0.0,10.0,bckg,1.0\nFP1-F7,10.0,25.5,fnsz,0.8\n"
        "CZ-C4,12.0,25.5,fnsz,1.0\nC4-T4,12.0,25.5,cpsz,1.0\nT4-A2,12.0,25.5,fnsz,1.0\n"
        "A1-T3,0.0,30.0,bckg,1.0\n"
    )
    assert rows(read_seizures(written(tmp_path, "a.csv", text))) == [
        ["FP1-F7", 10.0, 15.5, "fnsz"],
        ["C4-CZ", 12.0, 13.5, "fnsz"],
        ["T4-C4", 12.0, 13.5, "cpsz"],
        ["A2-T4", 12.0, 13.5, "fnsz"],
    ]


@pytest.mark.parametrize(
    "text",
    [
        "label,stop_time,channel,start_time\nseiz,20,TERM,5\nbckg,5,TERM,0\n",
        "confidence,label,channel,start_time,stop_time\n\n1.0,seiz,TERM, 5.0 ,2e1\n",
        "\ufeff# version = csv_v1.0.0\nchannel,start_time,stop_time,label,note\nTERM,5,20,seiz,a\n",
        "channel,start_time,stop_time,label\n# a comment, in between\nTERM,5.0,20.0,seiz",
    ],
)
def test_spellings_that_mean_the_same(tmp_path, text):
    assert rows(read_seizures(written(tmp_path, "a.csv_bi", text))) == [[None, 5.0, 15.0, "seiz"]]


def test_a_recording_without_seizures_has_no_events(tmp_path):
    only_background = HEAD + "TERM,0.0000,1750.0000,bckg,1.0000\n"
    for text in (HEAD, only_background):
        table = read_seizures(written(tmp_path, "a.csv_bi", text))
        assert len(table) == 0 and [*table] == ["channel", "onset_s", "duration_s", "label"]


@pytest.mark.parametrize(
    "line, told",
    [
        ("FZ-CZ,1,2,fnsz,1", "channel='FZ-CZ' must be TERM or one of the TCP pairs FP1-F7"),
        (",1,2,fnsz,1", "channel=''"),
        ("TERM,1,2,,1", "label is empty"),
        ("TERM,2,2,seiz,1", "stop_time=2 must be after start_time=2"),
        ("TERM,3,2,seiz,1", "stop_time=2 must be after start_time=3"),
        ("TERM,-1,2,seiz,1", "start_time='-1' must be a number of seconds from 0 on"),
        ("TERM,1,nan,bckg,1", "stop_time='nan'"),
        ("TERM,one,2,bckg,1", "start_time='one'"),
        ("TERM,1,2,seiz", "has 4 cells, the header has 5"),
        ("TERM 1 2 seiz 1", "has 1 cells, the header has 5"),
    ],
)
def test_faults_name_the_line(tmp_path, line, told):
    path = written(tmp_path, "a.csv", f"{HEAD}TERM,0,1,bckg,1\n{line}\nTERM,5,6,seiz,1\n")
    message = fault(read_seizures, path)
    assert message.startswith(f"{path}:8: ") and told in message


@pytest.mark.parametrize(
    "text, told",
    [
        ("", "is empty"),
        (HEAD.rpartition("channel")[0], "is empty; the first line must name the columns"),
        ("channel,start_time,end_time,label\n", "has no column 'stop_time'"),
        ("TERM,0,20,seiz,1\n", "has no column 'channel'"),
        ("channel,channel,start_time,stop_time,label\n", "names a column twice"),
    ],
)
def test_files_that_are_something_else(tmp_path, text, told):
    assert told in fault(read_seizures, written(tmp_path, "a.csv_bi", text))


def test_annotations_that_are_missing_or_another_recordings(tmp_path):
    corpus = CorpusConfig(name="tusz", source=str(made(tmp_path, *TUSZ)), events="csv_bi")
    without, _, source = find_sources(corpus)
    message = fault(events_beside, without, corpus, 60.0)
    assert message.startswith(f"{without.file}: has no annotations (")
    assert "aaaaaajy_s004_t002.csv_bi is missing); events=none reads it without" in message
    nothing = CorpusConfig(name="tusz", source=corpus.source, events="none")
    assert len(read_events(without, nothing, _Recording)) == 0

    written(source.annotation.parent, source.annotation.name, f"{HEAD}TERM,50,70.5,seiz,1\n")
    inside = events_beside(source, corpus, 60.0)
    assert rows(inside) == [[None, 50.0, 20.5, "seiz"]]  # its end is not the recording's
    assert rows(read_events(source, corpus, _Recording)) == rows(inside)
    late = f"{HEAD}TERM,10,20,seiz,1\nTERM,61,70,seiz,1\n"
    written(source.annotation.parent, source.annotation.name, late)
    assert "an event starts at 61 s, aaaaaaac_s001_t000.edf ends at 60 s" in fault(
        events_beside, source, corpus, 60.0
    )


class _Recording:
    """What `read_events` asks of an opened recording of one minute."""

    n_times, info = 6000, {"sfreq": 100.0}


# ------------------------------------------------------------------------------ windows and parts


def test_background_on_other_channels_does_not_outweigh_a_seizure(tmp_path):
    """Windows are labelled as by hand: seizure where any channel has one."""
    text = HEAD + (
        "FP1-F7,0,11,bckg,1\nFP1-F7,11,14,fnsz,1\nFP1-F7,14,30,bckg,1\nP4-O2,0,30,bckg,1\n"
    )
    config = compose(["corpus=tusz"])
    events = read_seizures(written(tmp_path, "a.csv", text)).assign(recording="a")
    events = map_labels(events, config.corpus.label_map)
    table = pd.DataFrame(
        {"recording": ["a"], "status": ["ok"], "sfreq": [200.0], "n_times": [6000]}
    )
    samples = make_samples(table, events, config.windows, config.corpus.classes)
    assert samples.onset_s.tolist() == [0, 5, 10, 15, 20, 25]
    assert samples.label.tolist() == [0, 0, 1, 0, 0, 0]


def test_parts_of_tuab_keep_people_together():
    rng = np.random.default_rng(0)
    subjects = [f"aaaaa{a}{b}{c}" for a in "ab" for b in "abcde" for c in "abcde"]
    train = pd.DataFrame({"subject": rng.choice(subjects, 300), "split": "train"})
    evaluation = pd.DataFrame({"subject": ["zzzzzzzz"] * 20, "split": "test"})
    table = pd.concat([train, evaluation], ignore_index=True)
    table = table.assign(recording=[f"r{i}" for i in range(len(table))], session="s001")
    split = assign_splits(table, "tuab", WindowConfig())
    assert (split[table.split == "test"] == "test").all()
    parts = table.assign(split=split).groupby("subject").split.nunique()
    assert (parts == 1).all()
    n_train = train.subject.nunique()
    assert table.subject[split == "val"].nunique() == int(0.2 * n_train)


def test_parts_of_tusz_are_its_own():
    table = pd.DataFrame({"subject": list("abc"), "session": "s001", "recording": list("xyz")})
    table["split"] = ["train", "val", "test"]
    assert assign_splits(table, "tusz", WindowConfig()).tolist() == ["train", "val", "test"]


# --------------------------------------------------------------------------------- synthetic twins


def test_twin_of_tuab(tmp_path):
    files = write_tuab(tmp_path, n_train=3, n_eval=2, minutes=1.0)
    names = [file.relative_to(tmp_path / "edf").as_posix() for file in files]
    assert names == [
        "train/normal/01_tcp_ar/aaaaaaaa_s001_t000.edf",
        "train/abnormal/01_tcp_ar/aaaaaaaa_s002_t000.edf",
        "train/abnormal/01_tcp_ar/aaaaaaab_s001_t000.edf",
        "train/normal/01_tcp_ar/aaaaaaac_s001_t000.edf",
        "eval/normal/01_tcp_ar/aaaabaaa_s001_t000.edf",
        "eval/abnormal/01_tcp_ar/aaaabaaa_s002_t000.edf",
        "eval/abnormal/01_tcp_ar/aaaabaab_s001_t000.edf",
    ]
    raws = [mne.io.read_raw_edf(file, verbose="ERROR") for file in files[:2]]
    assert all(len(derive(raw.ch_names, TCP)) == 22 for raw in raws)
    assert raws[0].n_times == 60 * 250 and not np.allclose(*(raw.get_data()[:5] for raw in raws))


def test_twin_of_tusz_says_the_same_in_both_files(tmp_path):
    sizes = {"n_train": 4, "n_dev": 1, "n_eval": 1, "n_recordings": 1}
    files = write_tusz(tmp_path, **sizes, minutes=1.5, sfreq=100)
    assert [file.parent.name for file in files[:4]] == [
        "01_tcp_ar",
        "02_tcp_le",
        "03_tcp_ar_a",
        "04_tcp_le_a",
    ]
    for file, n_channels in zip(files, (22, 22, 20, 20, 22, 22), strict=True):
        raw = mne.io.read_raw_edf(file, verbose="ERROR")
        assert len(derive(raw.ch_names, TCP, missing="drop")) == n_channels
        (seizure,) = read_seizures(file.with_suffix(".csv_bi")).itertuples(index=False)
        assert 20 <= seizure.duration_s <= 60 and seizure.label == "seiz"
        assert seizure.onset_s + seizure.duration_s <= raw.times[-1]
        typed = read_seizures(file.with_suffix(".csv"))
        assert len(typed) == n_channels == typed.channel.nunique()
        assert set(typed.label) == {"fnsz"}
        assert (typed.onset_s == seizure.onset_s).all()
        assert (typed.duration_s == seizure.duration_s).all()


# -------------------------------------------------------------------------------- check of a folder


def said_of(lines: Iterable[str]) -> tuple[list[str], str]:
    """What is yielded, and the fault at its end."""
    said: list[str] = []
    try:
        for line in lines:
            said.append(line)
    except UserError as error:
        return said, str(error)
    return said, ""


def test_tuev_is_checked_where_it_lies(tmp_path):
    first, second, *_ = write_tuev(tmp_path, n_train=5, n_eval=2, minutes=1.2)
    *lines, counts = check_tuh("tuev", tmp_path)
    assert lines[0] == f"{tmp_path}: 7 recordings of 7 subjects, 0 damaged"
    n_events = sum(len(file.read_text().splitlines()) for file in tmp_path.rglob("*.rec"))
    assert f"({n_events:,}) events in train / val / test: this fits no release of TUEV" in counts
    assert (
        "v2.0.1 has 68,445 / 15,487 / 29,421 (113,353)" in counts
        and "v2.0.0 has 67,436 / 15,634 / 29,421 (112,491)" in counts
    )

    os.truncate(first, first.stat().st_size - 1)
    second.with_suffix(".rec").unlink()
    said, ended = said_of(check_tuh("tuev", tmp_path))
    assert "2 of 7 recordings are damaged" in ended
    assert said[0].startswith(f"damaged  {first} is cut off")
    assert said[1].startswith(f"damaged  {second}: has no annotations (")


def test_tuab_is_checked_where_it_lies(tmp_path, monkeypatch):
    write_tuab(tmp_path, n_train=4, n_eval=2, minutes=1.0, sfreq=100)
    lines = list(check_tuh("tuab", tmp_path))
    assert lines == [
        f"{tmp_path}: 8 recordings of 6 subjects, 0 damaged",
        "montages: 01_tcp_ar 8",
        "train: 2 normal, 3 abnormal",
        "eval: 1 normal, 2 abnormal",
        "these are not the counts of TUAB v3.0.1, which has train: 1,371 normal, 1,346 abnormal;"
        " eval: 150 normal, 126 abnormal",
        "subjects in more than one part: none",
    ]
    known = {"train": {"normal": 2, "abnormal": 3}, "eval": {"normal": 1, "abnormal": 2}}
    monkeypatch.setitem(TUH_CORPORA, "tuab", TUH_CORPORA["tuab"]._replace(published=known))
    assert list(check_tuh("tuab", tmp_path))[4] == "these are the counts of TUAB v3.0.1"


def test_published_counts_add_up():
    tuab, tusz = (TUH_CORPORA[name].published for name in ("tuab", "tusz"))
    labels = sum((Counter(part) for part in tuab.values()), Counter())
    assert labels == {"normal": 1_521, "abnormal": 1_472} and labels.total() == 2_993
    assert sum(part["recordings"] for part in tusz.values()) == 7_361
    assert sum(part["subjects"] for part in tusz.values()) == 675


def test_tusz_is_checked_where_it_lies(tmp_path):
    files = write_tusz(tmp_path, n_train=2, n_dev=1, n_eval=1, minutes=1.5, sfreq=100)
    whole = list(check_tuh("tusz", tmp_path))
    assert whole[:5] == [
        f"{tmp_path}: 8 recordings of 4 subjects, 0 damaged",
        "montages: 01_tcp_ar 6, 02_tcp_le 2",
        "train: 4 recordings, 2 subjects, 2 seizures",
        "dev: 2 recordings, 1 subjects, 1 seizures",
        "eval: 2 recordings, 1 subjects, 1 seizures",
    ]
    assert whole[5].startswith("these are not the counts of TUSZ v2.0.3, which has train: 4,664")
    assert whole[6:] == ["subjects in more than one part: none"]

    files[0].with_suffix(".csv_bi").unlink()
    files[2].with_suffix(".csv_bi").write_text(f"{HEAD}TERM,91,95,seiz,1\n")
    os.truncate(files[4], files[4].stat().st_size - 1)
    files[6].rename(files[6].with_name("aaaaaaaa_s001_t005.edf"))
    files[6].with_suffix(".csv_bi").rename(files[6].with_name("aaaaaaaa_s001_t005.csv_bi"))
    said, ended = said_of(check_tuh("tusz", tmp_path))
    assert "3 of 8 recordings are damaged" in ended
    assert sum(line.startswith("damaged  ") for line in said[:3]) == 3
    assert "aaaaaaaa_s001_t000.csv_bi is missing" in "".join(said[:3])
    assert "an event starts at 91 s" in "".join(said[:3]) and "is cut off" in "".join(said[:3])
    assert said[-1] == "subjects in more than one part: 1: aaaaaaaa"


def test_people_whom_two_corpora_share(tmp_path):
    sizes = {"n_train": 2, "n_dev": 1, "n_eval": 1, "n_recordings": 1}
    write_tusz(tmp_path / "tusz", **sizes, minutes=1.5, sfreq=100)
    made(
        tmp_path / "tuev",
        "edf/train/aaaaaaaa/aaaaaaaa_00000001.edf",
        "edf/train/aaaaaaab/aaaaaaab_00000001.edf",
        "edf/train/aaaacaaa/aaaacaaa_00000001.edf",
        "edf/train/aaaacaaa/._aaaabaaa_00000001.edf",
        "edf/eval/000/bckg_000_a_.edf",
    )
    assert subjects_below(tmp_path / "tuev") == {"aaaaaaaa", "aaaaaaab", "aaaacaaa"}
    lines = list(check_tuh("tusz", tmp_path / "tusz", tmp_path / "tuev"))
    also = f"subjects are also in {tmp_path / 'tuev'}"
    assert lines[-3:] == [
        f"train: 2 of 2 {also}; windows.leave_out=[aaaaaaaa,aaaaaaab]",
        f"dev: 0 of 1 {also}",
        f"eval: 1 of 1 {also}; windows.leave_out=[aaaacaaa]",
    ]
    (tmp_path / "empty").mkdir()
    message = fault(list, check_tuh("tusz", tmp_path / "tusz", tmp_path / "empty"))
    assert message.startswith(f"--against {tmp_path / 'empty'}: holds no EDF file")


@pytest.mark.ci
def test_how_to_get_tuh_corpora_is_told_in_words(tmp_path):
    for name, folder in (
        ("tuev", "tuh_eeg_events, v2.0.1"),
        ("tuab", "tuh_eeg_abnormal, v3.0.1"),
        ("tusz", "tuh_eeg_seizure, v2.0.3"),
    ):
        told = command_line("download", name, cwd=tmp_path)
        assert told.returncode == 0 and "Temple University Hospital" in told.stdout
        assert "form" in told.stdout and folder in told.stdout
    unknown = command_line("download", "tueg", cwd=tmp_path)
    assert unknown.returncode == 2 and unknown.stderr.startswith(
        "eegdm: download tueg: chbmit, siena, eegmmidb, eegmat are downloaded, tuev, tuab, tusz"
    )
    misplaced = command_line("download", "chbmit", "--against", "DIR", cwd=tmp_path)
    assert misplaced.returncode == 2 and "leave it out for chbmit" in misplaced.stderr
