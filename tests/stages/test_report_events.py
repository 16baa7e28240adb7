"""What a report says of events over whole recordings is what `eegdm predict` marks in them, scored
by itself.
"""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

import eegdm
from eegdm.data.recordings import Recordings
from eegdm.data.synthetic.layouts import write_chbmit
from eegdm.evaluation.event_scores import average_over_subjects, count_events
from eegdm.inference import predict_signal
from eegdm.stages import run_stage
from stages.tiny import SIZES

pytestmark = pytest.mark.ci


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


def test_windows_cut_around_events_say_nothing_of_whole_recordings(finished) -> None:
    (run,) = json.loads((finished.report / "report.json").read_text())["runs"]
    assert run["events"] is None
