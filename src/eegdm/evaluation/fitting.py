"""The rule by which a classifier's windows become events, fitted on the validation recordings.

Every parameter is fitted on what it will be applied to: the threshold on probabilities that are
smoothed as `eegdm predict` smooths them, over the grid that it lays over whole recordings. Where
windows are cut around events there is no such grid; the rule then judges single windows, and does
not smooth.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from eegdm.config import Config
from eegdm.data.recordings import Recordings
from eegdm.data.windows import WINDOW_KEY, WindowGrid
from eegdm.evaluation.decision import (
    EVENTS,
    RECORDING,
    Rule,
    find_events,
    smoothed,
    window_table,
)
from eegdm.evaluation.event_scores import (
    EventCounts,
    count_events,
    cover_recordings,
    event_scores,
    labels_are_of_recordings,
)
from eegdm.evaluation.metrics import fit_event_threshold, fit_temperature
from eegdm.evaluation.scoring import logits_from_table

SMOOTHINGS = (1, 3)
"""Windows over which probabilities may be averaged; the smaller one is kept where both do equally
well, since it blurs less."""
MAX_WINDOWS = 6
"""What the shortest event may be at most, in windows."""


class FittedDecision(NamedTuple):
    """A rule, and what it makes of the validation recordings."""

    rule: Rule
    counts: EventCounts | None
    """Annotated events of the validation recordings, those found, and false alarms; None where
    windows do not cover their recordings, labels are of whole recordings, or several classes are
    events."""

    @property
    def settings(self) -> dict[str, Any]:
        """The rule as plain JSON, as a classifier carries it in its config.json."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self.rule).items()}

    def sentence(self, which: str = "validation recordings") -> str:
        """Return what the rule does to the recordings it was fitted on, for people to read."""
        rule = self.rule
        if rule.decide == RECORDING:
            return (
                "labels are of whole recordings, so each recording gets one class: the likeliest by"
                " the mean probability of its windows"
            )
        how = (
            f"threshold {rule.threshold:.3f}, smoothing {rule.smoothing_s:g} s, shortest event"
            f" {rule.min_duration_s:g} s"
        )
        if self.counts is None:
            return (
                f"{how}; events are counted only where windows cover recordings in which some begin"
                " and end"
            )
        detected = f"{self.counts.found} of {self.counts.annotated} annotated events"
        per_hour = self.counts.false_alarms / (self.counts.duration_s / 3600)
        return f"{how}: finds {detected} of the {which}, {per_hour:.2f} false alarms per h"


class GridRecording(NamedTuple):
    """One recording that windows cover, on its grid."""

    windows: pd.DataFrame  # of eegdm.evaluation.decision.window_table
    is_event: np.ndarray  # of each window
    annotated: pd.DataFrame
    duration_s: float


def fit_decision(
    config: Config, val: pd.DataFrame, recordings: Recordings, decide: str = EVENTS
) -> FittedDecision:
    """Fit temperature, threshold, smoothing and shortest event on the validation samples.

    Args:
        val: validation samples with their logits, see
            :func:`eegdm.evaluation.scoring.score_samples`.
        recordings: those that the samples were cut from.
        decide: what the rule decides about, see :func:`decided_about`.
    """
    resolution_s = _resolution_s(config)
    rule = Rule(
        classes=tuple(config.corpus.classes),
        event_classes=tuple(config.corpus.event_classes),
        smoothing_s=resolution_s,
        min_duration_s=resolution_s,
        resolution_s=resolution_s,
        decide=decide,
    )
    if val.label.nunique() < 2:
        return FittedDecision(rule, None)
    logits, label = logits_from_table(val), val.label.to_numpy()
    rule = replace(rule, temperature=float(fit_temperature(logits, label)))
    on_grid = _on_grid(config, val, recordings, rule)
    return fit_rule(rule, logits, label, on_grid, recordings.events, recordings.table)


def decided_about(samples: pd.DataFrame, events: pd.DataFrame, recordings: pd.DataFrame) -> str:
    """Return what a classifier that learned from these labels decides about.

    Args:
        samples, events, recordings: as in
            :func:`eegdm.evaluation.event_scores.labels_are_of_recordings`.
    """
    return RECORDING if labels_are_of_recordings(samples, events, recordings) else EVENTS


def fit_rule(
    rule: Rule,
    logits: Float[np.ndarray, "window class"],
    label: Int[np.ndarray, " window"],
    on_grid: Sequence[GridRecording],
    events: pd.DataFrame,
    recordings: pd.DataFrame,
) -> FittedDecision:
    """Fit threshold, smoothing and shortest event; calibration stays that of the rule.

    Args:
        rule: what is not fitted, and the smoothing and shortest event of one window.
        logits, label: of single windows, which decide where no recording is covered.
        on_grid: the recordings that windows cover, if some of their windows are events and some
            are not; else none.
        events: annotated events: recording, onset_s, duration_s, label.
        recordings: recording, n_times, sfreq of those that may have events.
    """
    if on_grid:
        own = events[events.label.isin(rule.event_classes)]
        countable = (
            rule.decide == EVENTS
            and len(rule.event_classes) == 1
            and not cover_recordings(own, recordings)
        )
        return _fit_on_grid(rule, on_grid, countable)
    columns = window_table(WindowGrid(np.zeros(len(label), int), 1, 1.0), logits, rule)
    is_event = _is_event(rule, label)
    if is_event.any() and not is_event.all():
        probability = columns[list(rule.event_classes)].to_numpy().sum(1)
        rule = replace(rule, threshold=fit_event_threshold(is_event.astype(int), probability))
    return FittedDecision(rule, None)


def _resolution_s(config: Config) -> float:
    """Seconds that a window speaks for: the event in its middle (1 s, as TUEV's are), or its step
    on a grid.
    """
    w = config.windows
    if w.policy == "event":
        return min(1.0, w.duration_s)
    return min(w.step_s or w.duration_s, w.duration_s)


def _is_event(rule: Rule, label: np.ndarray) -> np.ndarray:
    return np.isin(np.array(rule.classes)[label], rule.event_classes)


def _on_grid(
    config: Config, val: pd.DataFrame, recordings: Recordings, rule: Rule
) -> list[GridRecording]:
    """The validation recordings that windows cover without a gap; none if they are cut around
    events, or if all or none of the windows are events.
    """
    if config.windows.policy == "event":
        return []
    covered = []
    for row, windows, label in _window_tables(config, val, recordings, rule):
        if len(windows) == _n_windows(config, row):
            annotated = recordings.events[
                (recordings.events.recording == row.recording)
                & recordings.events.label.isin(rule.event_classes)
            ]
            covered.append(
                GridRecording(windows, _is_event(rule, label), annotated, row.n_times / row.sfreq)
            )
    return both_kinds(covered)


def both_kinds(covered: list[GridRecording]) -> list[GridRecording]:
    """Return the recordings, none if all or none of their windows are events."""
    truth = np.concatenate([r.is_event for r in covered] or [np.zeros(0, bool)])
    return covered if truth.any() and not truth.all() else []


def _n_windows(config: Config, row: Any) -> int:
    step_s = config.windows.step_s or config.windows.duration_s
    grid = WindowGrid.cover(int(row.n_times), row.sfreq, config.windows.duration_s, step_s)
    return len(grid.starts)


def _fit_on_grid(
    rule: Rule, recordings: Sequence[GridRecording], countable: bool
) -> FittedDecision:
    """Try each smoothing with the threshold that fits it and each shortest event; of equals the
    first, which changes the probabilities least, is kept.

    Args:
        countable: whether events can be counted; else windows decide, which know no durations.
    """
    best: tuple[float, Rule] | None = None
    truth = np.concatenate([r.is_event for r in recordings])
    for n_smoothed in SMOOTHINGS:
        smooth = replace(rule, smoothing_s=n_smoothed * rule.resolution_s)
        probability = np.concatenate([smoothed(r.windows, smooth).sum(1) for r in recordings])
        threshold = fit_event_threshold(truth.astype(int), probability)
        for n_windows in range(1, MAX_WINDOWS + 1):
            candidate = replace(
                smooth, threshold=threshold, min_duration_s=n_windows * rule.resolution_s
            )
            if countable:
                score = event_scores(_count_all(candidate, recordings))["f1"] or 0.0
            else:
                score = _window_f1(candidate, truth, probability)
            if best is None or score > best[0]:
                best = score, candidate
            if not countable:
                break
    assert best is not None
    counts = _count_all(best[1], recordings) if countable else None
    return FittedDecision(best[1], counts)


def _window_f1(rule: Rule, truth: np.ndarray, probability: np.ndarray) -> float:
    called = probability >= rule.threshold
    return float(2 * (called & truth).sum() / (called.sum() + truth.sum()))


def _count_all(rule: Rule, recordings: Sequence[GridRecording]) -> EventCounts:
    return EventCounts.total(
        count_events(r.annotated, find_events(r.windows, rule), r.duration_s) for r in recordings
    )


def event_windows(
    config: Config, samples: pd.DataFrame, recordings: Recordings, rule: Rule
) -> Iterator[tuple[Any, pd.DataFrame]]:
    """Yield each recording's row and the windows of its grid with their probabilities, without
    extra windows along seizures.
    """
    for row, windows, _ in _window_tables(config, samples, recordings, rule):
        yield row, windows


def _window_tables(
    config: Config, samples: pd.DataFrame, recordings: Recordings, rule: Rule
) -> Iterator[tuple[Any, pd.DataFrame, np.ndarray]]:
    step_s = config.windows.step_s or config.windows.duration_s
    rows = {row.recording: row for row in recordings.table.itertuples()}
    for name, of_recording in samples.groupby("recording"):
        row: Any = rows[name]
        of_grid = of_recording[of_recording.start_sample % round(step_s * row.sfreq) == 0]
        grid = of_grid.drop_duplicates(WINDOW_KEY).sort_values("start_sample")
        length = round(config.windows.duration_s * row.sfreq)
        windows = WindowGrid(grid.start_sample.to_numpy(), length, row.sfreq)
        yield row, window_table(windows, logits_from_table(grid), rule), grid.label.to_numpy()
