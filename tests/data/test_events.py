"""Readers of annotations, against rows written out by hand and MNE's own account of time."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from conftest import golden_folder
from eegdm.config import TUEV_CLASSES
from eegdm.data import events
from eegdm.data.montage import TCP
from eegdm.errors import UserError

REC = golden_folder("preproc_open") / "aaaaasyn_00000001.rec"


def written(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def rows(table: pd.DataFrame) -> list[tuple]:
    return [
        tuple(row)
        for row in table[["channel", "onset_s", "duration_s", "label"]].itertuples(index=False)
    ]


def fault(call, *args) -> str:
    with pytest.raises(UserError) as caught:
        call(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ------------------------------------------------------------------------------------------- .rec


def test_rec_of_the_golden_recording():
    table = events.read_rec(REC)
    expected = np.loadtxt(REC, delimiter=",")
    assert len(table) == 13 and table.label.dtype == table.channel.dtype == object
    assert table.channel.tolist() == [TCP[int(c)] for c in expected[:, 0]]
    assert table.label.tolist() == [TUEV_CLASSES[int(c) - 1] for c in expected[:, 3]]
    assert np.array_equal(table.onset_s, expected[:, 1])
    assert np.allclose(table.onset_s + table.duration_s, expected[:, 2], rtol=0, atol=1e-9)


def test_rec_end_is_kept_to_a_nanosecond(tmp_path):
    start, length = np.random.default_rng(0).uniform([[0], [1e-3]], [[3e5], [2e3]], (2, 500))
    end = start + length
    path = written(
        tmp_path,
        "a.rec",
        "".join(f"0,{a!r},{b!r},6\n" for a, b in zip(start.tolist(), end.tolist(), strict=True)),
    )
    table = events.read_rec(path)
    assert np.abs(table.onset_s + table.duration_s - end).max() < 1e-9


@pytest.mark.parametrize(
    "text",
    [
        "3,10.0,11.0,1\n21,0,1,6\n",
        "3,10.0,11.0,1\r\n21,0,1,6\r\n",
        "\n\n3,10.0,11.0,1\n   \n21,0,1,6",
        "\ufeff3, 1e1 ,+11.,1\r\n\r\n 21,0.0,1E0,06 \r\n",
    ],
)
def test_rec_spellings_that_mean_the_same(tmp_path, text):
    assert rows(events.read_rec(written(tmp_path, "a.rec", text))) == [
        (TCP[3], 10.0, 1.0, "SPSW"),
        (TCP[21], 0.0, 1.0, "BCKG"),
    ]


def test_empty_rec_has_the_columns(tmp_path):
    table = events.read_rec(written(tmp_path, "a.rec", "\n"))
    assert table.dtypes.astype(str).to_dict() == {
        "channel": "object",
        "onset_s": "float64",
        "duration_s": "float64",
        "label": "object",
    }
    assert len(table) == 0


@pytest.mark.parametrize(
    "line, told",
    [
        ("22,1,2,1", "channel='22' must be a whole number from 0 to 21"),
        ("-1,1,2,1", "channel='-1'"),
        ("1.0,1,2,1", "channel='1.0'"),
        ("../../etc/passwd,1,2,1", "channel='../../etc/passwd'"),
        ("0,1,2,7", "code='7' must be a whole number from 1 to 6"),
        ("0,1,2,0", "code='0'"),
        ("0,1,2,²", "code="),
        ("0,1,1,6", "end_s=1 must be after start_s=1"),
        ("0,2,1,6", "end_s=1 must be after start_s=2"),
        ("0,-1,1,6", "start_s='-1'"),
        ("0,nan,1,6", "start_s='nan'"),
        ("0,1,inf,6", "end_s='inf'"),
        ("0,1,1e999,6", "end_s='1e999'"),
        ("0,1_0,20,6", "start_s='1_0'"),
        ("0,one,20,6", "start_s='one' must be a number of seconds from 0 on"),
        ("0,1,2", "'0,1,2' must be channel,start_s,end_s,code"),
        ("0,1,2,6,7", "must be channel,start_s,end_s,code"),
        ("0 1 2 6", "must be channel,start_s,end_s,code"),
    ],
)
def test_rec_faults_name_line_and_number(tmp_path, line, told):
    path = written(tmp_path, "a.rec", f"0,0,1,6\n\n{line}\n0,0,1,6\nnothing\n")
    message = fault(events.read_rec, path)
    assert (
        message.startswith(f"{path}:3: ")
        and told in message
        and message.endswith("(and 1 more bad rows)")
    )


def test_rec_that_is_no_text_or_not_there(tmp_path):
    assert "can't be read as text" in fault(
        events.read_rec, written(tmp_path, "a.rec", b"\xff\xfe\x00\x01")
    )
    assert (
        fault(events.read_rec, tmp_path / "none.rec")
        == f"{tmp_path / 'none.rec'}: can't be read as text (No such file or directory)"
    )


def test_one_bad_row_is_told_alone(tmp_path):
    path = written(tmp_path, "a.rec", "0,0,1,6\n0,0,1,7\n")
    assert fault(events.read_rec, path) == f"{path}:2: code='7' must be a whole number from 1 to 6"


# ----------------------------------------------------------------------------------------- tables

TABLE = """file,onset_s,duration_s,label,channel,subject,session,run,split,remark
a/x.edf,10,2.5,spike,T7-P7,p1,1,2,train,
./a/x.edf,1e1,0,"slow, wave",,p1,1,2,train,seen twice

y.edf,,,,,p2,,,test,no events
"""


def as_table_file(folder: Path, kind: str) -> Path:
    if kind == "csv":
        return written(folder, "t.csv", TABLE.replace("\n", "\r\n"))
    plain = written(folder, "t.csv", TABLE)
    if kind == "tsv":
        pd.read_csv(plain, dtype=str).to_csv(folder / "t.tsv", sep="\t", index=False)
    else:
        pd.read_csv(plain).to_parquet(
            folder / "t.parquet"
        )  # session and run as floats, since one is missing
    return folder / f"t.{kind}"


@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet"])
def test_table_reads_the_same_from_every_format(tmp_path, kind):
    table = events.read_event_table(as_table_file(tmp_path, kind))
    assert rows(table)[:2] == [("T3-T5", 10.0, 2.5, "spike"), (None, 10.0, 0.0, "slow, wave")]
    assert table.file.tolist() == ["a/x.edf", "a/x.edf", "y.edf"]
    assert table[["subject", "session", "run", "split"]].values.tolist() == [
        ["p1", "1", "2", "train"]
    ] * 2 + [["p2", None, None, "test"]]
    assert table.label[2] == "" and math.isnan(table.onset_s[2])


def test_a_row_with_times_and_no_label_is_open(tmp_path):
    text = "file,onset_s,duration_s,label\nx.edf,1,2,\nx.edf,3,2,spike\nx.edf,,,\n"
    table = events.read_event_table(written(tmp_path, "t.csv", text))
    assert rows(table)[:2] == [(None, 1.0, 2.0, ""), (None, 3.0, 2.0, "spike")]
    assert table.label[2] == "" and math.isnan(table.onset_s[2])


@pytest.mark.parametrize(
    "header, told",
    [
        ("file,onset,duration_s,label", "has no column 'onset_s'; did you mean \"onset\"?"),
        ("path,onset_s,duration_s,label", "has no column 'file'"),
        (
            "file,onset_s,end,Label",
            (
                "has no column 'duration_s'; has no column 'label'; did you mean \"Label\"?; its"
                " columns are 'file', 'on"
            ),
        ),
        (
            "file,onset_s,duration_s,label,label",
            "names a column twice: 'file', 'onset_s', 'duration_s', 'label', 'label'",
        ),
        (",".join(map(str, range(40))), "'28', '29'"),
        (",".join(map(str, [*range(40), 0])), "'28', '29'"),
        ("file;onset_s;duration_s", "has no column 'label'; its columns are 'file', 'onset_s'"),
        ("", "is empty"),
    ],
)
def test_table_header_faults(tmp_path, header, told):
    path = written(tmp_path, "t.csv", header + "\n")
    message = fault(events.read_event_table, path)
    assert told in message and message.startswith(f"{path}: ") and "'30'" not in message


@pytest.mark.parametrize(
    "row, told",
    [
        ("a.edf,x,1,spike,,", "onset_s='x' must be a number of seconds from 0 on"),
        ("a.edf,-1,1,spike,,", "onset_s='-1'"),
        ("a.edf,1,nan,spike,,", "duration_s='nan'"),
        ("a.edf,1,,spike,,", "duration_s=''"),
        ("a.edf,1,,,,", "duration_s=''"),
        (
            "a.edf,1,1,spike,F7-T4,",
            (
                f"channel='F7-T4' is none of the TCP pairs {', '.join(TCP)}; did you mean"
                ' "F8-T4"?; leave it empty'
            ),
        ),
        ("a.edf,1,1,spike,FP1-F9,", 'did you mean "FP1-F7"?'),
        (
            "a.edf,1,1,spike,,training",
            "split='training' must be train, val, test; did you mean \"train\"?",
        ),
        ("../a.edf,1,1,spike,,", "file='../a.edf' must be a path below"),
        ("x/../../a.edf,1,1,spike,,", "must be a path below"),
        ("/etc/passwd,1,1,spike,,", "file='/etc/passwd' must be a path below"),
        (",1,1,spike,,", "file='' must be a path below"),
        ("a.edf,1,1,spike", "has 4 cells, the header has 6"),
        ("a.edf,1,1,spike,,,", "has 7 cells"),
    ],
)
def test_table_faults_name_the_row(tmp_path, row, told):
    path = written(
        tmp_path,
        "t.csv",
        f"file,onset_s,duration_s,label,channel,split\n\na.edf,1,1,spike,,\n{row}\n{row}\n",
    )
    message = fault(events.read_event_table, path)
    assert (
        message.startswith(f"{path}:4: ")
        and told in message
        and message.endswith("(and 1 more bad rows)")
    )


def test_damaged_tables_are_refused(tmp_path):
    assert "unexpected end" in fault(
        events.read_event_table,
        written(tmp_path, "t.csv", 'file,onset_s,duration_s,label\n"a.edf,1,1,x\n'),
    )
    assert "can't be read as Parquet" in fault(
        events.read_event_table, written(tmp_path, "t.parquet", b"PAR1 and no more")
    )
    assert "must be .csv, .tsv or .parquet" in fault(
        events.read_event_table, written(tmp_path, "t.xlsx", b"PK")
    )
    assert "can't be read as text" in fault(
        events.read_event_table, written(tmp_path, "t.csv", b"\xff\xfe")
    )


def test_parquet_text_must_be_utf8(tmp_path):
    path = tmp_path / "t.parquet"
    pd.DataFrame({"file": ["a"], "onset_s": [1], "duration_s": [1], "label": ["spike"]}).to_parquet(
        path, compression=None
    )
    path.write_bytes(path.read_bytes().replace(b"spike", b"sp\xffke"))
    assert fault(events.read_event_table, path) == f"{path}: holds text that is not UTF-8"


def test_parquet_faults_count_rows(tmp_path):
    pd.DataFrame(
        {"file": ["a", "b"], "onset_s": [1.0, math.inf], "duration_s": [1, 1], "label": ["x", "y"]}
    ).to_parquet(tmp_path / "t.pq")
    assert f"{tmp_path / 't.pq'}:2: onset_s='inf'" in fault(
        events.read_event_table, tmp_path / "t.pq"
    )


# ------------------------------------------------------------------------------------ annotations


@pytest.mark.parametrize("dated", [False, True])
def test_annotations_count_from_the_first_sample_kept(dated):
    import mne

    raw = mne.io.RawArray(
        np.zeros((2, 2000)), mne.create_info(["EEG T7-P7", "Fz"], 100.0, "eeg"), verbose=False
    )
    if dated:
        raw.set_meas_date(1_000_000_000)
    notes = mne.Annotations(
        [1, 6, 9], [0, 2, 0.5], ["BAD_x", "T1", "T2"], ch_names=[(), (), ("EEG T7-P7",)]
    )
    raw.set_annotations(notes)
    cropped = raw.copy().crop(5.0, 15.0)
    assert rows(events.from_annotations(raw)) == [
        (None, 1.0, 0.0, "BAD_x"),
        (None, 6.0, 2.0, "T1"),
        ("T3-T5", 9.0, 0.5, "T2"),
    ]
    assert rows(events.from_annotations(cropped)) == [
        (None, 1.0, 2.0, "T1"),
        ("T3-T5", 4.0, 0.5, "T2"),
    ]


@pytest.mark.real
def test_annotations_of_real_edf(shared):
    import mne

    raw = mne.io.read_raw_edf(shared / "data/eegmmidb/S001R04.edf", verbose="error")
    table = events.from_annotations(raw)
    assert table.label.value_counts().to_dict() == {"T0": 15, "T1": 8, "T2": 7}
    assert np.allclose(
        np.diff(table.onset_s), table.duration_s[:-1], atol=0.11
    )  # one after the other, in steps of 0.1 s


# ------------------------------------------------------------------------------------------- BIDS

SZCORE = """onset\tduration\teventType\tconfidence\tchannels\tdateTime\trecordingDuration
0.0\t12.5\tbckg\tn/a\tn/a\t2020-01-01 00:00:00\t60.0
12.5\t20\tsz_foc_ia\tn/a\tall\t2020-01-01 00:00:00\t60.0
"""
TRIALS = "onset\tduration\ttrial_type\tvalue\n1.5\tn/a\tleft\t1\n2\t0\tn/a\t2\nn/a\tn/a\tn/a\t3\n2\t1\t\t5\n3\t1\tright\t4\n"  # noqa: E501


def test_bids_dialects(tmp_path):
    seizures = events.read_bids_events(written(tmp_path, "sub-1_events.tsv", SZCORE))
    assert rows(seizures) == [(None, 0.0, 12.5, "bckg"), (None, 12.5, 20.0, "sz_foc_ia")]
    trials = events.read_bids_events(written(tmp_path, "sub-2_events.tsv", TRIALS))
    assert rows(trials) == [(None, 1.5, 0.0, "left"), (None, 3.0, 1.0, "right")]
    assert (
        rows(events.read_bids_events(written(tmp_path, "sub-3_events.tsv", SZCORE.splitlines()[0])))
        == []
    )
    assert (
        rows(events.read_bids_events(written(tmp_path, "sub-4_events.tsv", TRIALS.splitlines()[0])))
        == []
    )


@pytest.mark.parametrize(
    "text, told",
    [
        (SZCORE.replace("20\tsz", "n/a\tsz"), ":3: duration='n/a'"),
        (SZCORE.replace("12.5\t20", "-12.5\t20"), ":3: onset='-12.5'"),
        (SZCORE.replace("eventType", "event_type"), "has no column 'trial_type'"),
        (SZCORE.replace("duration\t", "length\t"), "has no column 'duration'"),
        (SZCORE.replace("\t60.0", "", 1), ":2: has 6 cells, the header has 7"),
        ("", "is empty"),
    ],
)
def test_bids_faults(tmp_path, text, told):
    path = written(tmp_path, "x_events.tsv", text)
    message = fault(events.read_bids_events, path)
    assert told in message and message.startswith(str(path))


# ----------------------------------------------------------------------------------------- labels


def labelled(*labels: str) -> pd.DataFrame:
    return events.event_table(
        events.Event(None, float(i), 1.0, label) for i, label in enumerate(labels)
    )


def test_map_labels_keeps_what_is_named():
    table = labelled("T1", "T0", "T2", "T1")
    mapped = events.map_labels(table, {"T1": "move", "T2": "move"})
    assert rows(mapped) == [
        (None, 0.0, 1.0, "move"),
        (None, 2.0, 1.0, "move"),
        (None, 3.0, 1.0, "move"),
    ]
    assert mapped.index.tolist() == [0, 1, 2] and mapped.columns.tolist() == table.columns.tolist()
    assert events.map_labels(table, {}) is table
    assert (
        len(events.map_labels(table, {"other": "x"}))
        == 0
        == len(events.map_labels(labelled(), {"T1": "x"}))
    )


def test_map_labels_patterns_give_way_to_exact_names():
    mapped = events.map_labels(
        labelled("sz", "sz_foc", "bckg", "sz_gen", "s?"),
        {"sz*": "seizure", "sz_gen": "general", "s?": "odd"},
    )
    assert mapped.label.tolist() == ["seizure", "seizure", "general", "odd"]


# -------------------------------------------------------------------------------- strangers' text


def test_shown_text_is_quoted_on_one_line_and_60_characters_at_most():
    assert events.shown("a\nb\u202e") == r"'a\nb\u202e'"
    assert events.shown("x" * 60) == repr("x" * 60)
    assert events.shown("x" * 61) == repr("x" * 57 + "...")


# ------------------------------------------------------------- whole recordings, odd rows, Latin-1


@pytest.mark.parametrize(
    "text",
    [
        "file,label\na.edf,rest\nb.edf,\n",
        "file,label,subject\na.edf,rest,p1\nb.edf,,p2\n",
        "file,onset_s,duration_s,label\na.edf,,,rest\nb.edf,,,\n",
    ],
)
def test_labels_of_whole_recordings(tmp_path, text):
    table = events.read_event_table(written(tmp_path, "t.csv", text))
    assert table.label.tolist() == ["rest", ""] and table.onset_s[0] == 0
    assert math.isnan(table.duration_s[0]) and math.isnan(table.onset_s[1])


@pytest.mark.parametrize("column", ["onset", "Start", "time", "stop_s", "duration", "onset_sec"])
def test_times_by_another_name_are_not_taken_for_whole_recordings(tmp_path, column):
    path = written(tmp_path, "t.csv", f"file,label,{column}\na.edf,rest,3\n")
    assert "has no column 'onset_s'" in fault(events.read_event_table, path)


def test_semicolons_and_decimal_commas_of_spreadsheets(tmp_path):
    path = written(
        tmp_path, "t.csv", "file;onset_s;duration_s;label\na.edf;1,5;2;slow, wave\nb.edf;3.5;1;x\n"
    )
    assert rows(events.read_event_table(path)) == [
        (None, 1.5, 2.0, "slow, wave"),
        (None, 3.5, 1.0, "x"),
    ]


def test_latin_1_is_read_and_said(tmp_path, caplog):
    text = "file,onset_s,duration_s,label\nmüller.edf,1,2,Öffnen\n"
    table = events.read_event_table(written(tmp_path, "t.csv", text.encode("latin-1")))
    assert (table.file[0], table.label[0]) == ("müller.edf", "Öffnen")
    assert "t.csv is not UTF-8 and was read as Latin-1" in caplog.text
    bids = "onset\tduration\ttrial_type\n1\t2\tÖffnen\n"
    found = events.read_bids_events(written(tmp_path, "x_events.tsv", bids.encode("latin-1")))
    assert rows(found) == [(None, 1.0, 2.0, "Öffnen")]
    assert found.attrs["notes"] == [
        "x_events.tsv is not UTF-8 and was read as Latin-1 (Windows-1252)"
    ]


def test_absolute_paths_below_the_corpus_are_relative_ones(tmp_path):
    text = f"file,label\n{tmp_path}/data/a/x.edf,rest\n"
    path = written(tmp_path, "t.csv", text)
    assert events.read_event_table(path, tmp_path / "data").file.tolist() == ["a/x.edf"]
    for root in (None, tmp_path / "other", tmp_path / "dat"):
        assert "must be a path below the folder" in fault(events.read_event_table, path, root)


def test_bids_rows_that_no_window_can_use_are_left_out_and_counted(tmp_path):
    text = "onset\tduration\ttrial_type\n-0.5\t1\tleft\n1\t1\tright\nn/a\t1\tleft\n4\tn/a\tx\n"
    found = events.read_bids_events(written(tmp_path, "x_events.tsv", text))
    assert rows(found) == [(None, 1.0, 1.0, "right"), (None, 4.0, 0.0, "x")]
    assert found.attrs["notes"] == [
        "2 of 4 rows of x_events.tsv have an onset that is n/a or before the recording and are left"
        " out (line 2: onset='-0.5')"
    ]
    wrong = written(tmp_path, "y_events.tsv", text.replace("n/a\t1", "one\t1"))
    assert "onset='one' must be a number" in fault(events.read_bids_events, wrong)


# ----------------------------------------------------------------------------------------- classes


def test_classes_are_the_labels_of_a_map_sorted():
    assert events.classes_of(["b", "a", "b"], {}) == ["a", "b"]
    assert events.classes_of(["sz_1", "sz_2", "bckg", "x"], {"sz*": "seizure", "bckg": "rest"}) == [
        "rest",
        "seizure",
    ]


def test_labels_that_are_no_class_are_refused_with_the_nearest():
    events.refuse_other_classes(["rest"], ["rest", "task"])
    message = fault(events.refuse_other_classes, ["rest", "tsak"], ["rest", "task"])
    assert "'tsak', which is none of corpus.classes=['rest', 'task']; did you mean \"task\"?" in (
        message
    )
