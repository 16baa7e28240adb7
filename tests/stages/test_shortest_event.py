"""The shortest event that a classifier marks is the one that does best on the validation
recordings.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from eegdm.config import Config
from eegdm.evaluation.scoring import SMOOTHING, fit_decision

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
    ("false_alarm_windows", "expected_s"), [(0, 10.0), (1, 10.0), (2, 30.0), (4, 50.0)]
)
def test_it_keeps_false_alarms_out_and_is_no_longer_than_that(
    false_alarm_windows: int, expected_s: float
) -> None:
    """False alarms as probable as the seizure: a lone one falls to smoothing, longer ones only to a
    shortest event beyond them.
    """
    decision = fit_decision(*corpus(false_alarm_windows))
    assert decision["smoothing_s"] == SMOOTHING * WINDOW_S
    assert decision["min_duration_s"] == expected_s


def test_windows_around_events_can_not_tell() -> None:
    config, val, recordings = corpus(2)
    config.windows.policy = "event"
    assert fit_decision(config, val, recordings)["min_duration_s"] == 1.0
