"""`eegdm predict` on files and folders: what it writes, what a second run leaves alone, what a
fault costs.
"""

from __future__ import annotations  # noqa: I001

import html
import json
import os
import shutil
from pathlib import Path

import mne
import numpy as np
import pandas as pd
import pytest
from inference.small import lively_model, made_up

import eegdm
from eegdm import artifacts
from eegdm.errors import UserError
from eegdm.inference import chunks, prediction_folder
from eegdm.inference.prediction import Options
from eegdm.inference.prediction_files import szcore_table
from eegdm.inference.prediction_folder import Outputs, find_jobs, predict_path

PLAIN = Outputs(report=False)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(lively_model().save_pretrained(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def edf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("edf") / "recording.edf"
    mne.export.export_raw(path, made_up(20.0), fmt="edf", verbose="ERROR")
    return path


def states(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        p.name: (p.stat().st_mtime_ns, p.stat().st_size)
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def test_one_recording_leaves_its_files_and_no_others(
    edf: Path, model: str, tmp_path: Path
) -> None:
    written = predict_path(edf, model, tmp_path, Options(step_s=2.0), Outputs(copy="edf"))
    names = {
        "recording_events.tsv",
        "recording_probabilities.parquet",
        "recording_report.html",
        "recording_annotated.edf",
    }
    assert {p.name for p in written} == names
    assert {p.name for p in tmp_path.iterdir()} == names | {"recording_events.json"}
    table = pd.read_parquet(tmp_path / "recording_probabilities.parquet")
    assert list(table)[:3] == ["onset_s", "duration_s", "SPSW"]
    assert np.allclose(table.iloc[:, 2:].sum(axis=1), 1)


def test_the_sidecar_says_how_it_came_about_and_names_nobody(
    edf: Path, model: str, tmp_path: Path
) -> None:
    predict_path(edf, model, tmp_path, Options(step_s=4.0, threshold=0.25), PLAIN)
    text = (tmp_path / "recording_events.json").read_text()
    sidecar = json.loads(text)
    assert set(pd.read_csv(tmp_path / "recording_events.tsv", sep="\t")) <= sidecar.keys()
    assert sidecar["Plan"]["options"]["threshold"] == 0.25
    assert "not a medical device" in sidecar["Notice"]
    assert str(edf.parent) not in text


def test_all_that_was_decided_is_in_the_sidecar_on_the_page_and_printed(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = made_up(20.0, 120.0).drop_channels(["EEG A1-REF", "EEG A2-REF"])
    raw.info["bads"] = ["EEG O1-REF"]
    raw.apply_function(lambda x: 0 * x, picks=["EEG T6-REF", "EEG T4-REF"])
    file = tmp_path / "<b>noted_raw.fif"
    raw.save(file, verbose="ERROR")
    options = Options(missing="drop")
    expected = eegdm.predict(file, model, missing="drop")
    for part in (
        "A1-T3, A2-T4",
        "54 to 75 Hz are missing",
        "EEG O1-REF",
        "T4-T6 (100% of the time)",
    ):
        assert any(part in note for note in expected.notes), part
    predict_path(file, model, None, options)
    said = capsys.readouterr().out
    sidecar = json.loads((tmp_path / "<b>noted_raw_events.json").read_text())
    page = html.unescape((tmp_path / "<b>noted_raw_report.html").read_text())
    assert sidecar["Notes"] == expected.notes
    assert sidecar["Steps"] == expected.steps
    assert [quality["channel"] for quality in sidecar["Channels"]] == expected.ch_names
    for note in expected.notes:
        assert f"  noted    {note}\n" in said
        assert note in page
    assert all(step in page for step in expected.steps)
    predict_path(tmp_path, model, None, options)
    assert f"notes: {len(expected.notes)}, in its sidecar" in capsys.readouterr().out


def test_a_finished_recording_is_left_alone(edf: Path, model: str, tmp_path: Path) -> None:
    options = Options(step_s=4.0)
    predict_path(edf, model, tmp_path, options, PLAIN)
    before = states(tmp_path)
    predict_path(edf, model, tmp_path, options, PLAIN)
    assert states(tmp_path) == before
    predict_path(edf, model, tmp_path, Options(step_s=4.0, threshold=0.01), PLAIN)
    assert states(tmp_path)["recording_events.json"] != before["recording_events.json"]


class Killed(BaseException):
    """Like SIGKILL it is caught by nobody."""


def test_a_run_that_ended_in_the_middle_goes_on_from_its_chunks(
    edf: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "CHUNK", 4)
    options = Options(step_s=1.0)
    predict_path(edf, model, tmp_path / "whole", options, PLAIN)
    real, calls = prediction_folder.predict_in.__globals__["classifier_logits"], []

    def counted(*args: object, **kwargs: object) -> np.ndarray:
        calls.append(1)
        if len(calls) == 3:
            raise Killed
        return real(*args, **kwargs)

    monkeypatch.setitem(prediction_folder.predict_in.__globals__, "classifier_logits", counted)
    with pytest.raises(Killed):
        predict_path(edf, model, tmp_path / "killed", options, PLAIN)
    work = tmp_path / "killed" / ".recording.eegdm"
    assert sorted(p.name for p in work.glob("chunk*")) == ["chunk-000000.npy", "chunk-000001.npy"]
    signal = (work / "signal.npy").stat().st_mtime_ns
    assert not (tmp_path / "killed" / "recording_events.tsv").exists()
    predict_path(edf, model, tmp_path / "killed", options, PLAIN)
    assert len(calls) == 3 + 2  # 16 windows: chunks 3 and 4
    assert signal and not work.exists()
    for name in ("recording_events.tsv", "recording_probabilities.parquet"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_work_of_another_step_is_not_taken_over(
    edf: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*args: object) -> None:
        raise Killed

    monkeypatch.setattr(prediction_folder, "write_tables", killed)
    with pytest.raises(Killed):
        predict_path(edf, model, tmp_path / "a", Options(step_s=1.0), PLAIN)
    monkeypatch.undo()
    predict_path(edf, model, tmp_path / "a", Options(step_s=2.0), PLAIN)
    predict_path(edf, model, tmp_path / "b", Options(step_s=2.0), PLAIN)
    name = "recording_probabilities.parquet"
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_an_events_file_of_somebody_else_is_not_replaced(
    edf: Path, model: str, tmp_path: Path
) -> None:
    (tmp_path / "recording_events.tsv").write_text("onset\tduration\ttrial_type\n")
    with pytest.raises(
        UserError,
        match=r"recording_events.tsv: is there already and was not written by eegdm predict",
    ):
        predict_path(edf, model, tmp_path, Options(), PLAIN)
    assert (tmp_path / "recording_events.tsv").read_text() == "onset\tduration\ttrial_type\n"


def test_two_processes_do_not_mix_their_work(edf: Path, model: str, tmp_path: Path) -> None:
    with (
        artifacts.building(tmp_path / ".recording.eegdm", "prediction", {}, {}),
        pytest.raises(UserError, match="another process"),
    ):
        predict_path(edf, model, tmp_path, Options(), PLAIN)


@pytest.mark.parametrize(
    "by",
    [
        "one process",
        *(pytest.param(by, marks=pytest.mark.ci) for by in ("two processes", "a dask cluster")),
    ],
)
def test_a_folder_with_bad_files_gives_the_good_ones_and_a_line_for_each_bad_one(
    by: str,
    edf: Path,
    model: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    workers = 2 if by == "two processes" else 1
    cluster = request.getfixturevalue("cluster") if by == "a dask cluster" else None
    source = tmp_path / "source"
    (source / "night").mkdir(parents=True)
    shutil.copy(edf, source / "a.edf")
    shutil.copy(edf, source / "night" / "b.edf")
    (source / "text.edf").write_text("not a recording")
    out = tmp_path / "out"
    written = predict_path(source, model, out, Options(step_s=4.0), PLAIN, workers, cluster=cluster)
    said = capsys.readouterr().out
    assert {p.relative_to(out).as_posix() for p in written if p.suffix == ".tsv"} == {
        "a_events.tsv",
        "night/b_events.tsv",
    }
    assert (
        f"failed   {source / 'text.edf'}: " in said
        or f"failed   {source / 'text.edf'} is not an EDF file" in said
    )
    assert "2 of 3 recordings" in said and "1 failed" in said
    assert not list(out.rglob(".text.eegdm"))
    before = states(out)
    with pytest.raises(UserError, match="1 of 3 recordings failed"):
        predict_path(
            source, model, out, Options(step_s=4.0), PLAIN, workers, strict=True, cluster=cluster
        )
    assert states(out) == before
    alone = eegdm.predict(edf, model, step_s=4.0).windows
    for path in (out / "a_probabilities.parquet", out / "night" / "b_probabilities.parquet"):
        np.testing.assert_allclose(pd.read_parquet(path)[alone.columns], alone, rtol=0, atol=1e-5)
    assert capsys.readouterr().out.count("finished before") == 2


def test_recordings_beside_which_results_lie_are_found_but_not_our_copies(
    edf: Path, model: str, tmp_path: Path
) -> None:
    shutil.copy(edf, tmp_path / "a.edf")
    predict_path(
        tmp_path / "a.edf", model, None, Options(step_s=4.0), Outputs(report=False, copy="edf")
    )
    assert (tmp_path / "a_annotated.edf").is_file()
    assert [job.file.name for job in find_jobs(tmp_path, None)] == ["a.edf"]


def test_a_wrong_rule_is_told_once_before_any_recording(
    edf: Path, model: str, tmp_path: Path
) -> None:
    shutil.copy(edf, tmp_path / "a.edf")
    with pytest.raises(UserError, match="event class 'SEIZ' is none of the model's"):
        predict_path(tmp_path, model, None, Options(event_classes=("SEIZ",)), PLAIN)
    assert os.listdir(tmp_path) == ["a.edf"]


def test_the_table_is_what_szcore_reads(tmp_path: Path) -> None:
    from epilepsy2bids.annotations import Annotations

    events = pd.DataFrame(
        {
            "onset_s": [3.0, 9.5],
            "duration_s": [2.0, 4.25],
            "label": "seizure",
            "probability": [0.75, 0.5],
        }
    )
    for name, found in (("some", events), ("none", events.iloc[:0])):
        szcore_table(found, 20.0).to_csv(tmp_path / f"{name}.tsv", sep="\t", index=False)
    some, none = (Annotations.loadTsv(str(tmp_path / f"{name}.tsv")) for name in ("some", "none"))
    assert some.getEvents() == [(3.0, 5.0), (9.5, 13.75)]
    assert [event["confidence"] for event in some.events] == [0.75, 0.5]
    (row,) = none.events
    assert (row["onset"], row["duration"], row["eventType"].value, row["recordingDuration"]) == (
        0.0,
        20.0,
        "bckg",
        20.0,
    )
    assert list(szcore_table(events, 20.0)) == [
        "onset",
        "duration",
        "eventType",
        "confidence",
        "channels",
        "dateTime",
        "recordingDuration",
    ]
