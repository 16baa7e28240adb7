"""The rule by which windows become events is fitted on what it is applied to."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from eegdm.config import Config
from eegdm.evaluation.decision import Rule, find_events
from eegdm.evaluation.event_scores import EventCounts, count_events, event_scores
from eegdm.evaluation.fitting import decided_about, event_windows, fit_decision

LENGTH_S, WINDOW_S = 4000, 10.0


def corpus(false_alarm_windows: int) -> tuple[Config, pd.DataFrame, SimpleNamespace]:
    """Two recordings with a seizure of 80 s each, found in all its windows, and false alarms far
    from it; extra windows off the grid.
    """
    config = Config()
    config.corpus.classes, config.corpus.event_classes = ["background", "seizure"], ["seizure"]
    config.windows.policy, config.windows.duration_s, config.windows.background = (
        "grid+seizure",
        WINDOW_S,
        "background",
    )
    starts = np.arange(0, LENGTH_S, WINDOW_S)
    seizure = (starts >= 1000) & (starts < 1080)
    alarm = np.zeros(len(starts), bool)
    for first in (50, 200, 300, 350):
        alarm[first : first + false_alarm_windows] = True
    logit = np.where(seizure, 5.0, np.where(alarm, 5.0, -5.0))
    rows = []
    for name in ("a", "b"):
        grid = pd.DataFrame(
            {
                "recording": name,
                "start_sample": (starts * 200).astype(int),
                "n_times": 2000,
                "label": seizure.astype(int),
                "logit_background": 0.0,
                "logit_seizure": logit,
            }
        )
        rows += [grid, grid.iloc[100:101].assign(start_sample=grid.start_sample.iloc[100] + 1000)]
    table = pd.DataFrame({"recording": ["a", "b"], "sfreq": 200.0, "n_times": LENGTH_S * 200})
    events = pd.DataFrame(
        {"recording": ["a", "b"], "onset_s": 1000.0, "duration_s": 80.0, "label": "seizure"}
    )
    return config, pd.concat(rows, ignore_index=True), SimpleNamespace(table=table, events=events)


@pytest.mark.parametrize(
    ("false_alarm_windows", "expected_s"), [(0, 10.0), (1, 20.0), (2, 30.0), (4, 50.0)]
)
def test_it_keeps_false_alarms_out_and_is_no_longer_than_that(
    false_alarm_windows: int, expected_s: float
) -> None:
    """False alarms as probable as the seizure fall only to a shortest event beyond them."""
    rule, counts = fit_decision(*corpus(false_alarm_windows))
    assert (rule.min_duration_s, rule.smoothing_s) == (expected_s, WINDOW_S)
    assert counts is not None
    assert (counts.annotated, counts.found, counts.false_alarms) == (2, 2, 0)
    assert counts.duration_s == 2 * LENGTH_S


def test_windows_around_events_can_not_tell() -> None:
    config, val, recordings = corpus(2)
    config.windows.policy = "event"
    rule, counts = fit_decision(config, val, recordings)
    assert (rule.min_duration_s, rule.smoothing_s, counts) == (1.0, 1.0, None)


@pytest.mark.parametrize("policy", ["grid", "grid+seizure"])
def test_events_as_short_as_a_window_are_found_where_the_windows_say_so(policy: str) -> None:
    """Isolated windows at 0.9 on a background of 0.05: the threshold is fitted on the very
    probabilities that it is applied to, so that a classifier without a fault marks them all.
    """
    config, _, _ = corpus(0)
    config.windows.policy, config.windows.duration_s = policy, 5.0
    starts = np.arange(0, LENGTH_S, 5.0)
    is_seizure = np.isin(starts, [500.0, 1200.0, 2000.0, 3300.0])
    probability = np.where(is_seizure, 0.9, 0.05)
    val = pd.DataFrame(
        {
            "recording": "a",
            "start_sample": (starts * 200).astype(int),
            "n_times": 1000,
            "label": is_seizure.astype(int),
            "logit_background": 0.0,
            "logit_seizure": np.log(probability / (1 - probability)),
        }
    )
    table = pd.DataFrame({"recording": ["a"], "sfreq": 200.0, "n_times": LENGTH_S * 200})
    events = pd.DataFrame(
        {"recording": "a", "onset_s": starts[is_seizure], "duration_s": 5.0, "label": "seizure"}
    )
    recordings = SimpleNamespace(table=table, events=events)
    rule, counts = fit_decision(config, val, recordings)
    assert counts is not None and (counts.annotated, counts.found, counts.false_alarms) == (4, 4, 0)
    ((_, windows),) = event_windows(config, val, recordings, rule)
    found = find_events(windows, rule)
    np.testing.assert_array_equal(found.onset_s, starts[is_seizure])
    np.testing.assert_array_equal(found.duration_s, 5.0)


def test_noise_that_single_windows_can_not_part_from_seizures_is_smoothed_away() -> None:
    """Seizures of many windows, and lone windows of the same probability: smoothing is kept where
    it serves, and its threshold is that of smoothed probabilities.
    """
    config, val, recordings = corpus(0)
    in_order = val.sort_values(["recording", "start_sample"]).reset_index(drop=True)
    for name in ("a", "b"):
        on_grid = in_order.index[(in_order.recording == name) & (in_order.start_sample % 2000 == 0)]
        in_order.loc[on_grid[20:90:2], "logit_seizure"] = 5.0
        in_order.loc[on_grid[101:107:2], "logit_seizure"] = -5.0
    rule, counts = fit_decision(config, in_order, recordings)
    best = max(
        event_f1(config, in_order, recordings, threshold, smoothing, windows)
        for threshold in (0.1, 0.3, 0.5, 0.7, 0.9)
        for smoothing in (10.0, 30.0)
        for windows in range(1, 7)
    )
    assert counts is not None and event_scores(counts)["f1"] >= best


def event_f1(config, val, recordings, threshold, smoothing_s, n_windows) -> float:
    """F1 over events of one rule, by hand."""
    rule = Rule(
        ("background", "seizure"), ("seizure",), threshold, n_windows * 10.0, smoothing_s, 1.0, 10.0
    )
    counts = [
        count_events(
            recordings.events[recordings.events.recording == row.recording],
            find_events(windows, rule),
            LENGTH_S,
        )
        for row, windows in event_windows(config, val, recordings, rule)
    ]
    return event_scores(EventCounts.total(counts))["f1"] or 0.0


def test_labels_of_whole_recordings_are_no_events_to_count() -> None:
    """One label from the first sample to the last: the rule is fitted on windows, and neither
    found events nor false alarms are reported.
    """
    config, val, recordings = corpus(0)
    recordings.events = pd.DataFrame(
        {"recording": ["a"], "onset_s": 0.0, "duration_s": float(LENGTH_S), "label": "seizure"}
    )
    rng = np.random.default_rng(0)
    val["label"] = (val.recording == "a").astype(int)
    val["logit_seizure"] = rng.normal(np.where(val.recording == "a", 1.0, -1.0))
    rule, counts = fit_decision(config, val, recordings)
    assert counts is None and rule.min_duration_s == WINDOW_S
    assert "false alarms" not in fit_decision(config, val, recordings).sentence()


def test_labels_of_whole_recordings_make_a_rule_of_recordings() -> None:
    config, val, recordings = corpus(0)
    whole = pd.DataFrame(
        {
            "recording": ["a", "b"],
            "onset_s": 0.0,
            "duration_s": float(LENGTH_S),
            "label": ["background", "seizure"],
        }
    )
    samples = val.assign(label=(val.recording == "b").astype(int))
    assert decided_about(samples, whole, recordings.table) == "recording"
    assert decided_about(val, recordings.events, recordings.table) == "events"
    fitted = fit_decision(config, samples, recordings, decide="recording")
    assert fitted.settings["decide"] == "recording" and fitted.counts is None
    assert "each recording gets one class" in fitted.sentence()
    alone = fit_decision(config, samples[samples.label == 1], recordings, decide="recording")
    assert alone.settings["decide"] == "recording"
