"""The five stages on synthetic corpora in the layouts of TUAB, TUSZ and Siena."""

from __future__ import annotations

import json
from collections import Counter
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from eegdm.compose import compose
from eegdm.data.synthetic.layouts import write_siena, write_tuab, write_tusz
from eegdm.data.synthetic.simulate import SEIZURE_CLASS, one_seizure, record
from eegdm.opening import open_data
from eegdm.stages import run_stage
from stages.tiny import SIZES

pytestmark = pytest.mark.ci


def five_stages(words: list[str], source: Path) -> tuple[Path, Path]:
    """Run all stages; return recordings and report."""
    recordings = run_stage("preprocess", [*words, f"source={source}", "workers=1"])
    for stage in ("pretrain", "cache", "finetune"):
        run_stage(stage, words)
    return recordings, run_stage("report", words)


def test_normal_and_abnormal_recordings(tmp_path: Path) -> None:
    source = tmp_path / "tuab"
    write_tuab(source, n_train=6, n_eval=3, minutes=1.0)
    words = ["corpus=tuab", f"root={tmp_path / 'runs'}", *SIZES]
    recordings, report = five_stages(words, source)
    table = pd.read_parquet(recordings / "recordings.parquet")
    assert Counter(table.split) == {"train": 7, "test": 4} and set(table.status) == {"ok"}
    events = pd.read_parquet(recordings / "events.parquet")
    assert events.recording.is_unique and set(events.duration_s) == {60.0}
    assert all(f"/{e.label}/" in e.recording for e in events.itertuples())

    _, data = open_data(compose(words))
    samples = data.samples
    assert set(samples.n_times) == {2000} and len(samples) == 11 * 6  # windows of 10 s, 200 Hz
    is_abnormal = samples.recording.str.contains("/abnormal/")
    assert (samples.label == is_abnormal).all()
    is_eval = samples.recording.str.contains("/eval/")
    assert ((samples.split == "test") == is_eval).all()
    subject = samples.recording.map(table.set_index("recording").subject)
    assert (samples.split.groupby(subject).nunique() == 1).all()
    assert subject[samples.split == "val"].nunique() == 1  # a fifth of six

    said = json.loads((report / "report.json").read_text())
    assert said["classes"] == ["normal", "abnormal"]
    scores = {"balanced_accuracy", "auc_pr", "auroc"}
    assert scores <= set(said["summary"])
    (of_recordings,) = said["recordings_and_people"]["recording"]["EEGDM"]
    assert of_recordings["n"] == 4 and scores <= set(of_recordings["scores"])
    assert "Every recording has one label" in (report / "report.md").read_text()
    (predictions,) = report.glob("predictions-*.parquet")
    assert len(pd.read_parquet(predictions)) == is_eval.sum()


def test_seizures_against_background(tmp_path: Path) -> None:
    source = tmp_path / "tusz"
    write_tusz(source, n_train=4, n_dev=1, n_eval=1, minutes=1.5)
    words = ["corpus=tusz", f"root={tmp_path / 'runs'}", *SIZES]
    recordings, report = five_stages(words, source)
    table = pd.read_parquet(recordings / "recordings.parquet")
    assert Counter(table.split) == {"train": 8, "val": 2, "test": 2}
    assert set(table.status) == {"ok"}
    n_channels = table.ch_names.map(len)
    lacks_ears = table.recording.str.contains("_a/")
    assert set(n_channels[lacks_ears]) == {20} and set(n_channels[~lacks_ears]) == {22}
    events = pd.read_parquet(recordings / "events.parquet")
    assert len(events) == 6 and set(events.label) == {"seiz"} and events.channel.isna().all()

    _, data = open_data(compose(words))
    samples, seizure = data.samples, events.set_index("recording")
    assert set(samples.n_times) == {1000} and len(samples) == 12 * 18
    for row in samples.itertuples():
        overlap = False
        if row.recording in seizure.index:
            event = seizure.loc[row.recording]
            stop = event.onset_s + event.duration_s
            overlap = event.onset_s < row.onset_s + 5 and row.onset_s < stop
        assert row.label == overlap
    part = {"train": "train", "dev": "val", "eval": "test"}
    assert samples.split.tolist() == [part[name.split("/")[1]] for name in samples.recording]

    said = json.loads((report / "report.json").read_text())
    assert said["classes"] == ["background", "seizure"]
    assert {"balanced_accuracy", "auc_pr", "auroc"} <= set(said["summary"])
    assert {"sensitivity", "precision", "f1", "false_alarms_per_day"} <= set(_keys(said))


def test_windows_of_published_tables_of_tusz(tmp_path: Path) -> None:
    source = tmp_path / "tusz"
    write_tusz(source, n_train=4, n_dev=1, n_eval=1, minutes=1.5)
    words = ["corpus=tusz", f"root={tmp_path / 'runs'}", *SIZES]
    _, report = five_stages([*words, "windows.duration_s=12"], source)
    said = json.loads((report / "report.json").read_text())
    assert {"balanced_accuracy", "auc_pr", "auroc"} <= set(said["summary"])
    (predictions,) = report.glob("predictions-*.parquet")
    assert len(pd.read_parquet(predictions)) == 2 * 7  # whole windows of 12 s in 90 s


def test_types_of_seizures_on_channels(tmp_path: Path) -> None:
    source = tmp_path / "tusz"
    write_tusz(source, n_train=2, n_dev=1, n_eval=1, n_recordings=1, minutes=1.5)
    words = ["corpus=tusz", "events=csv", f"root={tmp_path / 'runs'}"]
    recordings = run_stage("preprocess", [*words, f"source={source}", "workers=1"])
    events = pd.read_parquet(recordings / "events.parquet")
    assert set(events.label) == {"fnsz"} and set(events.groupby("recording").channel.nunique()) == {
        22
    }


def test_seizures_by_times_of_day(tmp_path: Path) -> None:
    source = tmp_path / "siena"
    write_siena(source, patients=(0, 1, 6, 7, 10), minutes=1.5)
    words = ["corpus=siena", f"root={tmp_path / 'runs'}", *SIZES]
    recordings, report = five_stages(words, source)
    table = pd.read_parquet(recordings / "recordings.parquet")
    assert set(table.status) == {"ok"} and set(table.ch_names.map(len)) == {20}
    assert table.subject.tolist() == ["PN00", "PN01", "PN06", "PN07", "PN10"]
    events = pd.read_parquet(recordings / "events.parquet").set_index("recording")
    assert len(events) == 5 and set(events.label) == {"seizure"}
    for patient in table.subject:
        simulation = record(0, patient, 1, 512, partial(one_seizure, minutes=1.5))
        (seizure,) = [event for event in simulation.events if event.label == SEIZURE_CLASS]
        event = events.loc[f"{patient}/{patient}-1"]
        stop = seizure.onset_s + seizure.duration_s
        assert event.onset_s == round(seizure.onset_s)
        assert event.onset_s + event.duration_s == round(stop)

    _, data = open_data(compose(words))
    assert set(data.samples.n_times) == {1000} and len(data.samples) == 5 * 18
    said = json.loads((report / "report.json").read_text())
    assert said["classes"] == ["background", "seizure"]
    assert {"sensitivity", "false_alarms_per_day", "auc_pr"} <= set(_keys(said))


def _keys(said: object) -> list[str]:
    """All names in what JSON holds."""
    if isinstance(said, dict):
        return [*said, *(key for value in said.values() for key in _keys(value))]
    return [key for value in said for key in _keys(value)] if isinstance(said, list) else []
