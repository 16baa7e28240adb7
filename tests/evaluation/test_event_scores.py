"""Event scores equal those of the package timescoring, which SzCORE is scored by; and cases that
can be counted by hand.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from timescoring.annotations import Annotation
from timescoring.scoring import EventScoring

from eegdm.errors import UserError
from eegdm.evaluation.event_scores import (
    EventCounts,
    average_over_subjects,
    count_events,
    cover_recordings,
    event_scores,
    labels_are_of_recordings,
)

HOUR = 3600


def table(*events: tuple[float, float]) -> pd.DataFrame:
    """Events by their start and end in seconds."""
    return pd.DataFrame(
        [(start, end - start) for start, end in events], columns=["onset_s", "duration_s"]
    )


def reference(annotated: pd.DataFrame, found: pd.DataFrame, recording_s: int) -> EventScoring:
    """What timescoring says of masks at 10 Hz, as SzCORE's evaluation makes them of its event
    files.
    """
    masks = []
    for events in (annotated, found):
        mask = np.zeros(recording_s * 10, bool)
        for row in events.itertuples():
            mask[round(row.onset_s * 10) : round((row.onset_s + row.duration_s) * 10)] = True
        masks.append(Annotation(mask, 10))
    return EventScoring(*masks)


def seconds_of(step: float) -> st.SearchStrategy[pd.DataFrame]:
    """Up to eight events within 2000 s, some longer than 300 s, at multiples of a step."""
    event = st.tuples(st.integers(0, int(1400 / step)), st.integers(1, int(600 / step)))
    return st.lists(event, max_size=8).map(
        lambda events: table(*((start * step, (start + length) * step) for start, length in events))
    )


def assert_equal(annotated: pd.DataFrame, found: pd.DataFrame) -> None:
    theirs, ours = reference(annotated, found, HOUR), count_events(annotated, found, HOUR)
    assert (ours.annotated, ours.found, ours.false_alarms) == (theirs.refTrue, theirs.tp, theirs.fp)
    scores = event_scores(ours)
    for name, value in [
        ("sensitivity", theirs.sensitivity),
        ("precision", theirs.precision),
        ("f1", theirs.f1),
    ]:
        assert (
            scores[name] is None
            if np.isnan(value)
            else scores[name] == pytest.approx(value, abs=1e-12)
        )
    assert scores["false_alarms_per_day"] == pytest.approx(theirs.fpRate, abs=1e-9)


@settings(max_examples=300, deadline=None)
@given(seconds_of(1), seconds_of(1))
def test_equals_timescoring_on_whole_seconds(annotated: pd.DataFrame, found: pd.DataFrame) -> None:
    """Seconds are exact in floating point, so gaps of exactly 90 s and events of exactly 300 s are
    among the cases.
    """
    assert_equal(annotated, found)


@settings(max_examples=200, deadline=None)
@given(seconds_of(15), seconds_of(15))
def test_equals_timescoring_at_the_limits_themselves(
    annotated: pd.DataFrame, found: pd.DataFrame
) -> None:
    """Multiples of 15 s meet 30, 60, 90 and 300 s all the time."""
    assert_equal(annotated, found)


@settings(max_examples=300, deadline=None)
@given(seconds_of(0.7), seconds_of(0.7))
def test_equals_timescoring_between_seconds(annotated: pd.DataFrame, found: pd.DataFrame) -> None:
    """No gap is of exactly 90 s and no event of a multiple of 300 s, where floating point would
    decide: 0.7 s divides neither.
    """
    assert_equal(annotated, found)


def test_half_a_minute_before_and_a_minute_after_still_count() -> None:
    seizure = table((1000, 1050))
    for found, hits, alarms in [
        (table((960, 970)), 0, 1),
        (table((960, 970.1)), 1, 0),
        (table((1110, 1120)), 0, 1),
        (table((1109.9, 1120)), 1, 0),
        (table((1020, 1030)), 1, 0),
    ]:
        assert count_events(seizure, found, HOUR)[:3] == (1, hits, alarms), found


def test_a_gap_of_90_s_parts_events_and_a_shorter_one_does_not_whatever_the_tenths() -> None:
    assert (
        count_events(table((0.1, 10.1), (100.1, 110.1)), table(), HOUR).annotated == 2
    )  # 100.1 - 10.1 is 89.99999999999999
    assert count_events(table((0.1, 10.1), (100.0, 110.0)), table(), HOUR).annotated == 1


def test_long_events_are_cut_every_five_minutes() -> None:
    assert count_events(table((0, 900)), table((310, 320)), HOUR)[:3] == (
        3,
        2,
        0,
    )  # 0-300 reaches to 360, 600-900 from 570 on
    assert count_events(table((0, 901)), table(), HOUR).annotated == 4


def test_scores_are_averaged_over_subjects_not_recordings() -> None:
    counts = {
        "a": [EventCounts(3, 3, 0, 1800.0), EventCounts(1, 0, 1, 1800.0)],
        "b": [EventCounts(0, 0, 2, 7200.0)],
    }
    found = average_over_subjects(counts)
    assert (
        found["sensitivity"] == 0.75 and found["defined"]["sensitivity"] == 1
    )  # b has none that could be found
    assert found["precision"] == pytest.approx((0.75 + 0) / 2)
    assert found["f1"] == pytest.approx((2 * 3 / 8 + 0) / 2)
    assert found["false_alarms_per_day"] == pytest.approx((24 + 24) / 2)
    assert (found["annotated"], found["found"], found["false_alarms"], found["hours"]) == (
        4,
        3,
        3,
        3.0,
    )


def test_nothing_to_find_and_nothing_found_has_no_sensitivity_and_no_alarms() -> None:
    scores = event_scores(count_events(table(), table(), HOUR))
    assert scores == {
        "sensitivity": None,
        "precision": None,
        "f1": None,
        "false_alarms_per_day": 0.0,
    }


def test_a_recording_without_length_is_refused() -> None:
    with pytest.raises(UserError, match="too short"):
        count_events(table(), table(), 0.01)


# ----------------------------------------------------------------- labels of whole recordings


def annotated(*events: tuple[str, float, float]) -> pd.DataFrame:
    """Events by recording, start and end in seconds."""
    rows = [(name, start, end - start) for name, start, end in events]
    return pd.DataFrame(rows, columns=["recording", "onset_s", "duration_s"])


MINUTES = pd.DataFrame({"recording": ["a", "b", "c"], "n_times": 60 * 200, "sfreq": 200.0})


@pytest.mark.parametrize(
    ("events", "covered"),
    [
        ([("a", 0, 60), ("b", 0, 60)], True),
        ([("a", -5, 300), ("b", 2, 60)], True),  # beyond the recording; nearly all of it
        ([("a", 0, 30), ("a", 25, 60)], True),  # together
        ([("a", 0, 60), ("a", 0, 60), ("b", 0, 20), ("c", 5, 25)], False),  # one of three
        ([("a", 10, 40), ("b", 0, 20)], False),
        ([("a", 10, 40), ("a", 10, 40), ("a", 10, 40)], False),  # the same stretch on channels
        ([], False),
    ],
)
def test_annotations_that_cover_recordings_label_recordings(events, covered):
    assert cover_recordings(annotated(*events), MINUTES) == covered


def test_labels_of_recordings_are_one_for_each_and_cover_it():
    whole = annotated(("a", 0, 60), ("b", 0, 60))
    samples = pd.DataFrame({"recording": ["a", "a", "b", "c"], "label": [1, 1, 1, 0]})
    assert labels_are_of_recordings(samples, whole, MINUTES)
    assert not labels_are_of_recordings(samples.assign(label=[1, 0, 1, 0]), whole, MINUTES)
    assert not labels_are_of_recordings(samples.assign(label=1), whole, MINUTES)
    short = annotated(("a", 10, 15), ("b", 0, 5))
    assert not labels_are_of_recordings(samples, short, MINUTES)
