"""What a report says of events over whole recordings is what `eegdm predict` marks in them, scored
by itself.
"""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

import eegdm
from eegdm import artifacts
from eegdm.compose import compose
from eegdm.data.recordings import Recordings
from eegdm.data.synthetic.layouts import write_chbmit
from eegdm.evaluation.decision import find_events, rule_of
from eegdm.evaluation.event_scores import average_over_subjects, count_events
from eegdm.evaluation.fitting import event_windows
from eegdm.inference import predict_signal
from eegdm.opening import open_classifier
from eegdm.stages import run_stage
from stages.tiny import SIZES

pytestmark = pytest.mark.ci

LEARNS = [
    "finetune.loss=cross_entropy",
    "finetune.monitor=kappa",
    "pretrain.epochs=4",
    "finetune.epochs=25",
    "finetune.max_lr=2e-2",
    "finetune.ema.decay=0.9",
    "windows.policy=grid+seizure",
]
"""Enough for a tiny network to tell synthetic seizures from background."""


def test_a_reports_events_are_those_that_predict_marks(tmp_path: Path) -> None:
    write_chbmit(tmp_path / "corpus", patients=(1, 2, 21, 22, 23, 24), n_recordings=2, minutes=2)
    words = [
        "corpus=chbmit",
        f"root={tmp_path}",
        f"source={tmp_path / 'corpus'}",
        "finetune.loss=cross_entropy",
        *SIZES,
    ]
    recordings, _, _, classifier, report = (
        run_stage(s, words) for s in ("preprocess", "pretrain", "cache", "finetune", "report")
    )
    (run,) = json.loads((report / "report.json").read_text())["runs"]
    model, opened = eegdm.load(classifier), Recordings(recordings)
    counts: dict[str, list] = {}
    for row in opened.table.itertuples():
        if row.session in ("chb23", "chb24"):
            found = predict_signal(opened.signal(row.recording), list(row.ch_names), model)[1]
            annotated = opened.events[opened.events.recording == row.recording]
            counts.setdefault(row.subject, []).append(
                count_events(annotated, found, row.n_times / row.sfreq)
            )
    expected = average_over_subjects(counts)
    assert (
        expected["annotated"] == 2
        and expected["subjects"] == 2
        and expected["hours"] == pytest.approx(4 * 2 / 60)
    )
    assert run["events"] == expected
    assert "false alarms per 24 h" in (report / "report.md").read_text()
    assert "event_sensitivity" in pd.read_csv(report / "report.csv")


def test_predict_and_report_find_the_same_seizures_one_by_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the raw EDF files of unseen patients, by the command that users type: each annotated
    seizure is found by `predict` if and only if it is by the report's events.
    """
    corpus = tmp_path / "corpus"
    write_chbmit(corpus, patients=(1, 2, 21, 22, 23, 24), n_recordings=4, minutes=2)
    words = ["corpus=chbmit", f"root={tmp_path}", f"source={corpus}", *SIZES, *LEARNS]
    recordings, _, _, classifier, report = (
        run_stage(s, words) for s in ("preprocess", "pretrain", "cache", "finetune", "report")
    )
    line = next(s for s in capsys.readouterr().out.splitlines() if "false alarms per h" in s)
    model = eegdm.load(classifier)
    stored = artifacts.open_artifact(classifier).summary["validation_events"]
    assert f"finds {stored['found']} of {stored['annotated']} annotated events" in line
    assert stored["annotated"] > 0

    opened = Recordings(recordings)
    (predictions,) = report.glob("predictions-*.parquet")
    table, rule = pd.read_parquet(predictions), rule_of(model)
    config, _, _ = open_classifier(
        compose(["corpus=chbmit", f"root={tmp_path}"]), classifier, opened.artifact
    )
    of_report = {
        row.recording: find_events(windows, rule)
        for row, windows in event_windows(config, table, opened, rule)
    }
    seizures = 0
    for row in opened.table.itertuples():
        if row.session not in ("chb23", "chb24"):
            continue
        found = eegdm.predict(corpus / row.file, model).events
        expected = of_report[row.recording]
        pd.testing.assert_frame_equal(
            found.reset_index(drop=True), expected, atol=1e-3, check_dtype=False
        )
        for seizure in opened.events[opened.events.recording == row.recording].itertuples():
            seizures += 1
            by_predict, by_report = (
                [overlaps(seizure, event) for event in events.itertuples()]
                for events in (found, expected)
            )
            assert by_predict == by_report
    assert seizures == 4


def overlaps(one, other) -> bool:
    return (
        one.onset_s < other.onset_s + other.duration_s
        and other.onset_s < one.onset_s + one.duration_s
    )


def test_windows_cut_around_events_say_nothing_of_whole_recordings(finished) -> None:
    (run,) = json.loads((finished.report / "report.json").read_text())["runs"]
    assert run["events"] is None
