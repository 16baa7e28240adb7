"""Scores of found events against annotated ones, as SzCORE defines them for seizures (Dan et al.
2024, arXiv 2402.13005).

Both sides are put on a grid of 10 Hz, events less than 90 s apart become one, and longer ones are
cut every 300 s. An annotated event is found if anything was found within 30 s before it to 60 s
after it; what was found and touches no such stretch is a false alarm. Counts are added up over a
subject's recordings, and scores averaged over subjects.

Everything is counted in whole samples of the grid, which is why it is done here: the package
timescoring does the same in seconds of floating point, where 100.1 - 10.1 is less than 90. The two
agree except where a gap is of exactly 90 s or an event of exactly 300 s.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from eegdm.errors import UserError

GRID_HZ = 10
MERGE_S, LONGEST_S, BEFORE_S, AFTER_S = 90, 300, 30, 60
NEARLY_ALL = 0.9  # the share of a recording from which an annotation is of the whole of it

EVENT_SCORES = ("sensitivity", "precision", "f1", "false_alarms_per_day")


class EventCounts(NamedTuple):
    """What was counted in a recording, or in several: events, or seconds as SzCORE's sample-based
    scores do.
    """

    annotated: int
    found: int  # of the annotated ones
    false_alarms: int
    duration_s: float

    @classmethod
    def total(cls, counts: Iterable[EventCounts]) -> EventCounts:
        """Add up counts of several recordings."""
        return cls(*(sum(column) for column in zip(*counts, strict=True)))


def count_events(annotated: pd.DataFrame, found: pd.DataFrame, recording_s: float) -> EventCounts:
    """Compare two tables of events of one recording.

    Args:
        annotated: the truth; columns onset_s, duration_s, in any order, overlapping or not.
        found: what is judged; the same columns.
        recording_s: length of the recording; what lies outside it is cut off.

    Raises:
        UserError: the recording is shorter than a sample of the grid.
    """
    n = round(recording_s * GRID_HZ)
    if n < 1:
        raise UserError(
            f"a recording of {recording_s:g} s is too short to score events on a grid of"
            f" {GRID_HZ} Hz"
        )
    truth, claims = (_cut_long(_merge(_intervals(events, n))) for events in (annotated, found))
    claimed, within_reach, hits = _mask(claims, n), np.zeros(n, bool), 0
    for start, stop in truth:
        reach = slice(max(0, start - BEFORE_S * GRID_HZ), stop + AFTER_S * GRID_HZ)
        if claimed[reach].any():
            hits += 1
            within_reach[reach] = True
    false_alarms = sum(not within_reach[start:stop].any() for start, stop in claims)
    return EventCounts(len(truth), hits, false_alarms, n / GRID_HZ)


def event_scores(counts: EventCounts) -> dict[str, float | None]:
    """Return sensitivity, precision, F1 and false alarms per 24 h; None where there is nothing to
    divide by.
    """
    annotated, found, false_alarms, duration_s = counts
    return {
        "sensitivity": found / annotated if annotated else None,
        "precision": found / (found + false_alarms) if found + false_alarms else None,
        "f1": 2 * found / (found + false_alarms + annotated) if annotated + false_alarms else None,
        "false_alarms_per_day": false_alarms / (duration_s / 86400),
    }


def average_over_subjects(counts: Mapping[str, Sequence[EventCounts]]) -> dict[str, Any]:
    """Score each subject over all of its recordings, and average over subjects.

    Args:
        counts: of each subject, one for each of its recordings.

    Returns:
        The mean of each of :data:`EVENT_SCORES` over the subjects that have it (None if none has),
        ``std``: its standard deviation over them (of a population, as SzCORE has it), ``defined``:
        how many those are, ``subjects``, and the totals ``annotated``, ``found``,
        ``false_alarms``, ``hours``.
    """
    of_subject = [event_scores(EventCounts.total(recordings)) for recordings in counts.values()]
    total = EventCounts.total(count for recordings in counts.values() for count in recordings)
    values = {
        name: [scores[name] for scores in of_subject if scores[name] is not None]
        for name in EVENT_SCORES
    }
    return {
        **{name: float(np.mean(defined)) if defined else None for name, defined in values.items()},  # type: ignore[arg-type]
        "std": {
            name: float(np.std(defined)) if defined else None  # type: ignore[arg-type]
            for name, defined in values.items()
        },
        "defined": {name: len(defined) for name, defined in values.items()},
        "subjects": len(of_subject),
        "annotated": total.annotated,
        "found": total.found,
        "false_alarms": total.false_alarms,
        "hours": total.duration_s / 3600,
    }


def labels_are_of_recordings(
    samples: pd.DataFrame, events: pd.DataFrame, recordings: pd.DataFrame
) -> bool:
    """Whether labels belong to whole recordings: the windows of each have one label, and
    annotations cover recordings.

    Args:
        samples: with columns recording and label.
        events, recordings: as in :func:`cover_recordings`.
    """
    one_label = bool((samples.groupby("recording").label.nunique() == 1).all())
    return one_label and samples.label.nunique() > 1 and cover_recordings(events, recordings)


def cover_recordings(events: pd.DataFrame, recordings: pd.DataFrame) -> bool:
    """Whether events cover nearly the whole of at least half of the recordings that have any: then
    they mark recordings, not stretches, and neither onsets nor false alarms per hour mean anything.

    Args:
        events: columns recording, onset_s, duration_s; they may overlap.
        recordings: columns recording, n_times, sfreq.
    """
    length = dict(
        zip(
            recordings.recording,
            (recordings.n_times / recordings.sfreq * GRID_HZ).round().astype(int),
            strict=True,
        )
    )
    covered = [
        sum(stop - start for start, stop in _intervals(of_recording, length[name])) / length[name]
        for name, of_recording in events.groupby("recording")
        if length.get(name)
    ]
    return bool(covered) and float(np.mean(np.array(covered) >= NEARLY_ALL)) >= 0.5


Intervals = list[tuple[int, int]]
"""First sample and the one after the last, in order, on the grid."""


def _intervals(events: pd.DataFrame, n: int) -> Intervals:
    """The stretches of the grid that are within any event; overlapping and touching events are
    one.
    """
    start = np.rint(events.onset_s.to_numpy(float) * GRID_HZ).astype(int)
    stop = np.rint((events.onset_s + events.duration_s).to_numpy(float) * GRID_HZ).astype(int)
    mask = _mask(
        list(zip(np.maximum(start, 0).tolist(), np.maximum(stop, 0).tolist(), strict=True)), n
    )
    edges = np.flatnonzero(np.diff(mask.astype(np.int8), prepend=0, append=0)).tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))


def _mask(intervals: Intervals, n: int) -> np.ndarray:
    mask = np.zeros(n, bool)
    for start, stop in intervals:
        mask[start:stop] = True
    return mask


def _merge(intervals: Intervals) -> Intervals:
    merged: Intervals = []
    for start, stop in intervals:
        if merged and start - merged[-1][1] < MERGE_S * GRID_HZ:
            merged[-1] = (merged[-1][0], stop)
        else:
            merged.append((start, stop))
    return merged


def _cut_long(intervals: Intervals) -> Intervals:
    longest = LONGEST_S * GRID_HZ
    return [
        (at, min(at + longest, stop))
        for start, stop in intervals
        for at in range(start, stop, longest)
    ]
