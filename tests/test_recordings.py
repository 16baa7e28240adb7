"""From probabilities to events, and to the table that others read."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from eegdm.recordings import find_events, szcore_table

DECISION = {"classes": ["A", "B", "BCKG"], "event_classes": ["A", "B"], "threshold": 0.5, "min_duration_s": 1.0}


def windows(*rows: tuple[float, float]) -> pd.DataFrame:
    a, b = np.array(rows).T
    return pd.DataFrame({"onset_s": 2.0 + np.arange(len(rows)), "duration_s": 1.0, "A": a, "B": b, "BCKG": 1 - a - b})


def test_neighbouring_windows_of_a_class_are_one_event() -> None:
    events = find_events(windows((0.1, 0), (0.6, 0.1), (0.9, 0), (0.2, 0.5), (0.1, 0.1), (0, 0.8)), DECISION)
    assert events[["onset_s", "duration_s", "label"]].values.tolist() == [[3.0, 2.0, "A"], [5.0, 1.0, "B"], [7.0, 1.0, "B"]]
    assert events.probability.tolist() == pytest.approx([0.9, 0.5, 0.8])


def test_threshold_minimum_duration_and_smoothing_are_respected() -> None:
    table = windows((0.6, 0), (0, 0), (0.6, 0), (0.6, 0), (0.7, 0))
    assert len(find_events(table, DECISION)) == 2
    assert len(find_events(table, DECISION, threshold=0.65)) == 1
    assert find_events(table, DECISION | {"min_duration_s": 2.0}).onset_s.tolist() == [4.0]
    smooth = find_events(table, DECISION | {"smoothing_s": 3.0, "threshold": 0.35})
    assert smooth[["onset_s", "duration_s"]].values.tolist() == [[3.0, 4.0]]


def test_no_window_over_the_threshold_is_no_event() -> None:
    assert find_events(windows((0.1, 0.1), (0.2, 0.1)), DECISION).empty


def test_a_recording_without_events_is_one_row_of_background() -> None:
    empty = find_events(windows((0.1, 0.1)), DECISION)
    assert szcore_table(empty, 12.5)[["onset", "duration", "eventType", "confidence"]].values.tolist() == [[0.0, 12.5, "bckg", "n/a"]]


def test_the_table_has_szcores_columns() -> None:
    table = szcore_table(find_events(windows((0.9, 0)), DECISION), 60.0)
    assert list(table) == ["onset", "duration", "eventType", "confidence", "channels", "dateTime", "recordingDuration"]
    assert table.iloc[0].tolist() == [2.0, 1.0, "A", 0.9, "all", "n/a", 60.0]
