"""Which recordings a folder holds, whose they are, where their events stand, and the published
splits.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import mne
import numpy as np
import pytest
from omegaconf import OmegaConf

from conftest import ROOT, golden_folder
from eegdm.config import Config, CorpusConfig, check, leaves
from eegdm.data import corpora
from eegdm.data.corpora import (
    Source,
    chbmit_split,
    find_sources,
    read_events,
    recording_ids,
    tuev_validation_subjects,
)
from eegdm.data.runs import eegmmidb_events
from eegdm.errors import UserError

CONF = ROOT / "src/eegdm/conf/corpus"


class Recording:
    """What `read_events` asks of an opened recording of one minute."""

    n_times, info = 6000, {"sfreq": 100.0}


def made(root: Path, *names: str, **texts: str) -> Path:
    """Create empty files, and files with text (`a__rec="..."` is a.rec)."""
    for name, text in [
        *((name, "") for name in names),
        *((name.replace("__", "."), text) for name, text in texts.items()),
    ]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def told(sources: list[Source]) -> list[tuple]:
    return [
        (s.recording, s.subject, s.session, s.run, s.split, s.annotation and s.annotation.name)
        for s in sources
    ]


def fault(corpus: CorpusConfig) -> str:
    with pytest.raises(UserError) as caught:
        find_sources(corpus)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ------------------------------------------------------------------------------------------- TUEV

TUEV = (
    "edf/train/aaaaaaar/aaaaaaar_00000001.edf",
    "edf/train/aaaaaaar/aaaaaaar_00000001.rec",
    "edf/train/aaaaaaar/aaaaaaar_00000001.htk",
    "edf/train/aaaaaabs/aaaaaabs_00000002.edf",
    "edf/eval/000/bckg_000_a_.edf",
    "edf/eval/000/bckg_000_a_.rec",
    "edf/eval/000/bckg_000_a_.lab",
    "edf/train/aaaaaaar/._aaaaaaar_00000001.edf",
    "docs/about.edf",
)


@pytest.mark.parametrize("name", ["tuev", "synthetic"])
@pytest.mark.parametrize("below", ["", "edf"])
def test_tuev_layout(tmp_path, name, below):
    sources = find_sources(CorpusConfig(name=name, source=str(made(tmp_path, *TUEV) / below)))
    prefix = "" if below else "edf/"
    assert told(sources) == [
        (prefix + "eval/000/bckg_000_a_", "000", None, None, "test", "bckg_000_a_.rec"),
        (
            prefix + "train/aaaaaaar/aaaaaaar_00000001",
            "aaaaaaar",
            None,
            None,
            "train",
            "aaaaaaar_00000001.rec",
        ),
        (prefix + "train/aaaaaabs/aaaaaabs_00000002", "aaaaaabs", None, None, "train", None),
    ]
    assert all(source.file.is_file() for source in sources)


def test_events_from_rec(tmp_path):
    corpus = CorpusConfig(name="tuev", source=str(made(tmp_path, *TUEV)))
    without, quiet = find_sources(corpus)[2], find_sources(corpus)[1]
    assert len(read_events(quiet, corpus, Recording)) == 0
    with pytest.raises(
        UserError,
        match=r"aaaaaabs_00000002.edf: has no annotations \(.*/aaaaaabs_00000002.rec is missing\)",
    ):
        read_events(without, corpus, Recording)
    quiet.annotation.write_text("3,58.5,60.5,6\n")  # may end beyond the recording
    assert read_events(quiet, corpus, Recording).values.tolist() == [["T5-O1", 58.5, 2.0, "BCKG"]]
    quiet.annotation.write_text("3,60.5,61.5,6\n")
    with pytest.raises(
        UserError, match="an event starts at 60.5 s, aaaaaaar_00000001.edf ends at 60 s"
    ):
        read_events(quiet, corpus, Recording)
    assert (
        len(
            read_events(
                without, CorpusConfig(name="tuev", source=corpus.source, events="none"), Recording
            )
        )
        == 0
    )


def test_published_validation_subjects_of_tuev():
    golden = json.loads((golden_folder("preproc_open") / "split.json").read_text())
    picked = tuev_validation_subjects(
        reversed(golden["subjects"] * 2), golden["seed"], golden["pct"]
    )
    assert picked == golden["val_subjects"] == tuev_validation_subjects(golden["subjects"])
    assert tuev_validation_subjects([]) == [] == tuev_validation_subjects(["a", "b"])


# ---------------------------------------------------------------------------------------- CHB-MIT


@pytest.mark.real
def test_chbmit_layout_with_the_names_of_every_real_recording(tmp_path, shared):
    records = (shared / "data/chbmit/annotations/RECORDS").read_text().split()
    made(
        tmp_path,
        *records,
        "chb01/chb01-summary.txt",
        "chb01/chb01_03.edf.seizures",
        "README.edf",
        "chb1/chb1_01.edf",
    )
    sources = find_sources(CorpusConfig(name="chbmit", source=str(tmp_path), events="summary"))
    assert [source.recording for source in sources] == sorted(
        record.removesuffix(".edf") for record in records
    )
    by_id = {source.recording: source for source in sources}
    assert by_id["chb01/chb01_03"].annotation == tmp_path / "chb01/chb01-summary.txt"
    assert by_id["chb02/chb02_16+"][2:6] == ("chb02", "chb02", "16+", None)
    assert by_id["chb17/chb17a_03"][2:6] == ("chb17", "chb17", "a_03", None)
    assert by_id["chb21/chb21_01"][2:6] == ("chb01", "chb21", "01", None)
    assert len({(source.session, source.run) for source in sources}) == len(records) == 686
    assert len({source.subject for source in sources}) == 23


@pytest.mark.real
def test_events_of_chbmit(tmp_path, shared):
    summary = (shared / "data/chbmit/annotations/chb01/chb01-summary.txt").read_text()
    made(
        tmp_path,
        "chb01/chb01_01.edf",
        "chb01/chb01_03.edf",
        "chb02/chb02_01.edf",
        **{"chb01/chb01-summary__txt": summary},
    )
    corpus = CorpusConfig(name="chbmit", source=str(tmp_path), events="summary")
    quiet, seizing, without = find_sources(corpus)
    recording = Recording()
    recording.n_times = 3600 * 100
    assert len(read_events(quiet, corpus, recording)) == 0
    assert read_events(seizing, corpus, recording).values.tolist() == [
        [None, 2996.0, 40.0, "seizure"]
    ]
    with pytest.raises(UserError, match="chb02-summary.txt is missing"):
        read_events(without, corpus, recording)


def test_published_split_of_chbmit():
    parts = [chbmit_split(patient) for patient in range(1, 25)]
    assert parts == ["train"] * 20 + ["val"] * 2 + ["test"] * 2
    for patient in (0, 25):
        with pytest.raises(UserError, match="patients 1 to 24"):
            chbmit_split(patient)


# ------------------------------------------------------------------------------ eegmmidb, EEGMAT


def test_layouts_of_eegmmidb_and_eegmat(tmp_path):
    made(
        tmp_path / "motor",
        "S001/S001R01.edf",
        "S001/S001R01.edf.event",
        "S001/S001R15.edf",
        "S001/notes.edf",
        "S109/S109R14.edf",
        "S1/S1R01.edf",
    )
    corpus = CorpusConfig(name="eegmmidb", source=str(tmp_path / "motor"), events="runs")
    assert told(find_sources(corpus)) == [
        ("S001/S001R01", "S001", None, "01", None, None),
        ("S109/S109R14", "S109", None, "14", None, None),
    ]
    made(
        tmp_path / "sums", "Subject00_1.edf", "Subject00_2.edf", "Subject00_3.edf", "Subject0_1.edf"
    )
    corpus = CorpusConfig(name="eegmat", source=str(tmp_path / "sums"), events="runs")
    sources = find_sources(corpus)
    assert told(sources) == [
        ("Subject00_1", "Subject00", None, "1", None, None),
        ("Subject00_2", "Subject00", None, "2", None, None),
    ]
    whole = [read_events(source, corpus, Recording).values.tolist() for source in sources]
    assert whole == [[[None, 0.0, 60.0, "rest"]], [[None, 0.0, 60.0, "arithmetic"]]]


@pytest.mark.parametrize(
    ("run", "t0", "t1", "t2"),
    [  # as the page of the database says, run by run
        ("03", "rest", "executed_left_fist", "executed_right_fist"),
        ("04", "rest", "imagined_left_fist", "imagined_right_fist"),
        ("05", "rest", "executed_both_fists", "executed_both_feet"),
        ("06", "rest", "imagined_both_fists", "imagined_both_feet"),
        ("07", "rest", "executed_left_fist", "executed_right_fist"),
        ("08", "rest", "imagined_left_fist", "imagined_right_fist"),
        ("09", "rest", "executed_both_fists", "executed_both_feet"),
        ("10", "rest", "imagined_both_fists", "imagined_both_feet"),
        ("11", "rest", "executed_left_fist", "executed_right_fist"),
        ("12", "rest", "imagined_left_fist", "imagined_right_fist"),
        ("13", "rest", "executed_both_fists", "executed_both_feet"),
        ("14", "rest", "imagined_both_fists", "imagined_both_feet"),
    ],
)
def test_what_annotations_mean_in_a_run_of_eegmmidb(run, t0, t1, t2):
    raw = mne.io.RawArray(np.zeros((1, 6000)), mne.create_info(["Cz.."], 100.0), verbose="ERROR")
    raw.set_annotations(
        mne.Annotations([0, 4.2, 8.3, 12.5], [4.2, 4.1, 4.2, 4.1], ["T0", "T2", "T0", "T1"])
    )
    events = eegmmidb_events(run, raw)
    assert events.values.tolist() == [
        [None, 0.0, 4.2, t0],
        [None, 4.2, 4.1, t2],
        [None, 8.3, 4.2, t0],
        [None, 12.5, 4.1, t1],
    ]
    raw.set_annotations(mne.Annotations([0], [1], ["T3"]))
    with pytest.raises(UserError, match=f"run {run}: has an annotation 'T3'; .* T0, T1, T2"):
        eegmmidb_events(run, raw)


@pytest.mark.parametrize(("run", "label"), [("01", "eyes_open"), ("02", "eyes_closed")])
def test_a_baseline_of_eegmmidb_is_one_event(tmp_path, run, label):
    made(tmp_path, f"S001/S001R{run}.edf")
    corpus = CorpusConfig(name="eegmmidb", source=str(tmp_path), events="runs")
    (source,) = find_sources(corpus)
    assert read_events(source, corpus, Recording).values.tolist() == [[None, 0.0, 60.0, label]]


def test_other_corpora_have_no_such_runs():
    with pytest.raises(UserError, match="events=runs: only corpus=eegmmidb and corpus=eegmat"):
        check(Config(corpus=CorpusConfig(name="tuev", events="runs")))


# ------------------------------------------------------------------------------------------- BIDS


def test_bids_layout(tmp_path):
    first, second = (
        "sub-01/ses-02/eeg/sub-01_ses-02_task-rest_run-03",
        "sub-02/eeg/sub-02_task-rest",
    )
    made(
        tmp_path,
        f"{first}_eeg.edf",
        f"{first}_events.tsv",
        f"{first}_eeg.json",
        f"{second}_eeg.vhdr",
        f"{second}_eeg.eeg",
        "derivatives/x/sub-02/eeg/sub-02_eeg.edf",
        "sub-02/meg/sub-02_meg.fif",
    )
    corpus = CorpusConfig(name="bids", source=str(tmp_path), events="bids")
    sources = find_sources(corpus)
    assert told(sources) == [
        (f"{first}_eeg", "01", "02", "03", None, "sub-01_ses-02_task-rest_run-03_events.tsv"),
        (f"{second}_eeg", "02", None, None, None, None),
    ]
    sources[0].annotation.write_text("onset\tduration\teventType\n3\t4\tsz\n")
    assert read_events(sources[0], corpus, Recording).values.tolist() == [[None, 3.0, 4.0, "sz"]]
    with pytest.raises(UserError, match="sub-02_task-rest_events.tsv is missing"):
        read_events(sources[1], corpus, Recording)


# ----------------------------------------------------------------------------- any folder, tables


@pytest.mark.parametrize(
    "file, subject, session, run",
    [
        ("S001R04.edf", "S001", None, "04"),
        ("S001/S001R04.edf", "S001", None, "04"),
        ("sub-01_ses-02_run-03_eeg.edf", "01", "02", "03"),
        ("study.v2/sub-01/ses-02/eeg/sub-01_ses-02_task-rest_run-03_eeg.vhdr", "01", "02", "03"),
        ("sub-A/night 1.bdf", "A", None, None),
        ("chb01_03_seizure.edf", "chb01_03_seizure", None, None),
        ("x/REC.2020.01.EDF", "REC.2020.01", None, None),
        ("x/p7_raw.fif.gz", "p7_raw", None, None),
        ("RUN1R2.set", "RUN1R2", None, None),
    ],
)
def test_default_pattern(tmp_path, file, subject, session, run):
    corpus = CorpusConfig(name="folder", source=str(made(tmp_path, file)), events="none")
    assert [source[2:5] for source in find_sources(corpus)] == [(subject, session, run)]


def test_folder_takes_what_mne_reads_and_nothing_hidden(tmp_path):
    made(
        tmp_path,
        "b/x.edf",
        "a/x.edf",
        "a/x.bdf",
        "a/y.vhdr",
        "a/y.eeg",
        "a/y.vmrk",
        "notes.txt",
        ".git/z.edf",
        "._x.edf",
        "z.fif.gz",
    )
    (tmp_path / "folder.edf").mkdir()
    sources = find_sources(CorpusConfig(name="folder", source=str(tmp_path), events="annotations"))
    assert [source.recording for source in sources] == ["a/x.bdf", "a/x.edf", "a/y", "b/x", "z"]
    assert [source.file.name for source in sources] == [
        "x.bdf",
        "x.edf",
        "y.vhdr",
        "x.edf",
        "z.fif.gz",
    ]


def test_recording_ids_are_distinct():
    names = ["a.edf", "a.bdf", "a.edf.bdf", "b.EDF", "c"]
    assert recording_ids(names) == ["a.edf", "a.bdf", "a.edf.bdf", "b", "c"]


@pytest.mark.parametrize(
    "pattern, part",
    [
        ("(?P<subject>", "is not a valid regular expression"),
        ("(.*)", "has no group (?P<subject>...)"),
        (r"(?P<subject>\d+)(?P<sesion>x)", "has a group 'sesion'; did you mean \"session\"?"),
        (
            r"p(?P<subject>\d+)\.edf",
            "q2.edf: corpus.pattern=p(?P<subject>\\d+)\\.edf finds no subject in its path",
        ),
    ],
)
def test_pattern_faults(tmp_path, pattern, part):
    made(tmp_path, "p1.edf", "q2.edf")
    assert part in fault(
        CorpusConfig(name="folder", source=str(tmp_path), events="none", pattern=pattern)
    )


TABLE = """file,onset_s,duration_s,label,subject,session,run,split
a/x.edf,5,1,late,anna,1,2,train
y.edf,2,1,left,ben,,,test
a/x.edf,1,1,early,anna,,,train
"""


def with_table(folder: Path, text: str = TABLE, **settings: str) -> CorpusConfig:
    made(folder / "data", "a/x.edf", "b/y.edf", "b/z.edf")
    made(folder, events__csv=text)
    return CorpusConfig(
        name="folder",
        source=str(folder / "data"),
        events="table",
        table=str(folder / "events.csv"),
        **settings,
    )


def test_table_says_whose_and_what(tmp_path):
    corpus = with_table(
        tmp_path, pattern=r"/(?P<subject>z)\."
    )  # fits only the file that the table does not name
    x, y, z = find_sources(corpus)
    assert told([x, y, z]) == [
        ("a/x", "anna", "1", "2", "train", "events.csv"),
        ("b/y", "ben", None, None, "test", "events.csv"),
        ("b/z", "z", None, None, None, "events.csv"),
    ]
    assert read_events(x, corpus, Recording).values.tolist() == [
        [None, 5.0, 1.0, "late"],
        [None, 1.0, 1.0, "early"],
    ]
    assert read_events(y, corpus, Recording).values.tolist() == [[None, 2.0, 1.0, "left"]]
    assert len(read_events(z, corpus, Recording)) == 0


def test_table_is_read_once_until_it_changes(tmp_path, monkeypatch):
    reads = []
    read_table = corpora.events.read_event_table
    monkeypatch.setattr(
        corpora.events, "read_event_table", lambda *at: reads.append(at) or read_table(*at)
    )
    corpus = with_table(tmp_path)
    for source in find_sources(corpus) * 3:
        read_events(source, corpus, Recording)
    assert len(reads) == 1
    with_table(tmp_path, TABLE.replace("left", "right"))
    os.utime(corpus.table, ns=(1, 1))
    assert read_events(find_sources(corpus)[1], corpus, Recording).label.tolist() == ["right"]
    assert len(reads) == 2


def test_table_that_knows_more_files_than_are_there(tmp_path, caplog):
    corpus = with_table(tmp_path, TABLE + "gone.edf,1,1,left,carl,,,test\n")
    with caplog.at_level(logging.WARNING):
        assert len(find_sources(corpus)) == 3
    assert "1 of 3 files are not below" in caplog.text and "'gone.edf'" in caplog.text


@pytest.mark.parametrize(
    "old, new, part",
    [
        ("early,anna", "early,ben", "gives x.edf more than one subject: 'anna', 'ben'"),
        ("y.edf", "/etc/passwd", ":3: file='/etc/passwd' must be a path below"),
        ("y.edf", "../data/b/y.edf", ":3: file='../data/b/y.edf' must be a path below"),
        ("test", "tset", ":3: split='tset' must be train, val, test"),
        ("file,", "name,", "has no column 'file'"),
        (
            TABLE,
            "file,onset_s,duration_s,label\nx.bdf,1,1,a\n",
            "names none of the 3 recordings below",
        ),
        (TABLE, "file,onset_s,duration_s,label\n", "names none of the 3 recordings below"),
    ],
)
def test_table_faults(tmp_path, old, new, part):
    assert part in fault(with_table(tmp_path, TABLE.replace(old, new)))


def test_open_rows_of_a_table_are_kept_apart_and_refused_where_they_would_be_background(tmp_path):
    corpora.refuse_open_rows(with_table(tmp_path, TABLE + "b/z.edf,,,,zoe,,,\n"))
    corpus = with_table(tmp_path, TABLE + "a/x.edf,7,2,,anna,,,\nb/z.edf,4,1,,zoe,,,\n")
    x, _, z = find_sources(corpus)
    assert corpora.events_beside(x, corpus, 60.0).label.tolist() == ["late", "early", ""]
    assert z.subject == "zoe" and corpora.table_labels(corpus) == ["early", "late", "left"]
    with pytest.raises(
        UserError, match=r"of a/x.edf at 7 s is empty \(and 1 more such rows\); fill"
    ):
        corpora.refuse_open_rows(corpus)


def test_bare_names_in_a_table_must_mean_one_file(tmp_path):
    corpus = with_table(tmp_path)
    made(tmp_path / "data", "c/y.edf")
    assert "'y.edf' is the name of 2 files" in fault(corpus)
    assert "can't be read (No such file" in fault(
        CorpusConfig(name="folder", source=corpus.source, events="table", table="none.csv")
    )


@pytest.mark.real
def test_folder_with_real_recordings(shared):
    import mne

    corpus = CorpusConfig(name="folder", source=str(shared / "data/eegmmidb"), events="annotations")
    sources = find_sources(corpus)
    assert [(source.subject, source.run) for source in sources] == [
        ("S001", f"{run:02}") for run in range(3, 11)
    ]
    raw = mne.io.read_raw(sources[1].file, verbose="error")
    assert read_events(sources[1], corpus, raw).label.value_counts().to_dict() == {
        "T0": 15,
        "T1": 8,
        "T2": 7,
    }


# ---------------------------------------------------------------------------- faults and settings


@pytest.mark.parametrize(
    "name, part",
    [
        ("tuev", "edf/train/<subject>/<file>.edf"),
        ("synthetic", "edf/eval/<subject>/<file>.edf"),
        ("tuab", "edf/train|eval/normal|abnormal/01_tcp_ar/<subject>_<session>_<token>.edf"),
        ("tusz", "edf/train|dev|eval/<subject>/<session>/<montage>/<subject>_<session>"),
        ("chbmit", "chb01/chb01_01.edf"),
        ("siena", "PN00/PN00-1.edf"),
        ("eegmmidb", "S001/S001R01.edf"),
        ("eegmat", "Subject00_1.edf"),
        ("bids", "sub-*/[ses-*/]eeg/*_eeg.edf|.bdf|.vhdr|.set"),
        ("folder", "files that end in .edf, .bdf"),
    ],
)
def test_folders_without_recordings(tmp_path, name, part):
    made(tmp_path, "readme.txt")
    message = fault(CorpusConfig(name=name, source=str(tmp_path)))
    assert message.startswith(f"{tmp_path}: holds no recordings") and part in message
    assert "is not a folder" in fault(CorpusConfig(name=name, source=str(tmp_path / "readme.txt")))
    assert "source=DIR" in fault(CorpusConfig(name=name, source=None))


def test_every_corpus_file_says_only_what_differs():
    names = {path.stem for path in CONF.glob("*.yaml")}
    assert names == {
        "tuev",
        "synthetic",
        "tuab",
        "tusz",
        "chbmit",
        "siena",
        "eegmmidb",
        "eegmat",
        "folder",
        "bids",
    }
    assert names == set(corpora._LAYOUTS)
    default = {name: value for name, _, value in leaves(Config())}
    for name in names:
        assert (CONF / f"{name}.yaml").read_text().startswith("# @package _global_\n")
        written = OmegaConf.load(CONF / f"{name}.yaml")
        config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), written))
        changed = {key for key, _, value in leaves(check(config)) if value != default[key]}
        assert config.corpus.name == name
        said = {f"{section}.{key}" for section, values in written.items() for key in values}
        assert said - {"corpus.name"} == changed - {"corpus.name"}


def test_chbmit_settings_as_published():
    config = OmegaConf.merge(OmegaConf.structured(Config), OmegaConf.load(CONF / "chbmit.yaml"))
    assert (
        config.signal.highpass,
        config.signal.lowpass,
        config.signal.notch,
        config.signal.sfreq,
    ) == (0.5, 75, [60], 200)
    assert (config.windows.duration_s, config.windows.labels, config.finetune.pos_weight) == (
        10,
        "overlap",
        150.51,
    )
    assert np.array_equal(config.corpus.classes, ["background", "seizure"])


# ------------------------------------------------------- tables: where they lie, whole recordings


def test_a_table_lies_in_the_current_folder_or_below_the_source(tmp_path, monkeypatch):
    corpus = with_table(tmp_path)
    (tmp_path / "events.csv").rename(tmp_path / "data" / "own.csv")
    corpus.table = "own.csv"
    monkeypatch.chdir(tmp_path)
    assert len(find_sources(corpus)) == 3  # below the source
    (tmp_path / "own.csv").write_text(TABLE.replace("anna", "berta"))
    assert find_sources(corpus)[0].subject == "berta"  # the current folder goes first
    corpus.table = "none.csv"
    message = fault(corpus)
    assert f"the current folder {tmp_path}" in message and f"source={tmp_path / 'data'}" in message


def test_absolute_paths_in_a_table(tmp_path):
    corpus = with_table(tmp_path, TABLE.replace("a/x.edf", f"{tmp_path}/data/a/x.edf"))
    assert [source.subject for source in find_sources(corpus)][0] == "anna"
    assert "must be a path below" in fault(with_table(tmp_path, TABLE.replace("a/x", "/etc/a/x")))


def test_a_label_without_times_is_of_the_whole_recording(tmp_path):
    corpus = with_table(tmp_path, "file,label\na/x.edf,adhd\ny.edf,control\n")
    x, y, z = find_sources(corpus)
    assert read_events(x, corpus, Recording).values.tolist() == [[None, 0.0, 60.0, "adhd"]]
    assert read_events(y, corpus, Recording).values.tolist() == [[None, 0.0, 60.0, "control"]]
    assert len(read_events(z, corpus, Recording)) == 0
    assert corpora.table_labels(corpus) == ["adhd", "control"]
    twice = with_table(tmp_path / "two", "file,label\na/x.edf,adhd\nx.edf,control\n")
    assert "more than one label for the whole recording: 'adhd', 'control'" in fault(twice)


def test_events_beyond_the_end_are_counted_and_refused_where_none_is_left(tmp_path):
    corpus = with_table(
        tmp_path, "file,onset_s,duration_s,label\na/x.edf,5,1,a\na/x.edf,61,1,b\ny.edf,5000,1,a\n"
    )
    x, y, _ = find_sources(corpus)
    found = read_events(x, corpus, Recording)
    assert found.label.tolist() == ["a"]
    assert found.attrs["notes"] == [
        "1 of 2 events start after the recording's end (60 s) and are left out, the first at 61 s"
    ]
    with pytest.raises(UserError, match="an event starts at 5000 s, y.edf ends at 60 s"):
        read_events(y, corpus, Recording)
