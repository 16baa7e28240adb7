"""Windows: views of recordings, by policy, labelling, edge rule and split. Nothing on disk depends
on them.

A window is (recording, start_sample, n_times); a *sample* is a window with a label, and for event
windows with the channel that was annotated, so that one window may be several samples. All tables
are pandas DataFrames.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy import ndarray

from eegdm.config import WindowConfig, did_you_mean
from eegdm.data.corpora import chbmit_split, tuev_validation_subjects
from eegdm.data.events import SPLITS
from eegdm.data.signal import first_sample
from eegdm.errors import UserError

log = logging.getLogger(__name__)

WINDOW_KEY = ["recording", "start_sample", "n_times"]
LEFT_OUT = "left out"
PUBLISHED_SPLIT = ("tuev", "synthetic", "tuab", "tusz", "chbmit")
"""Corpora that have one."""
TUEV_EVENTS = {"v2.0.1": (68_445, 15_487, 29_421), "v2.0.0": (67_436, 15_634, 29_421)}
"""Events of each release in the published train, val and test parts."""
SEIZURE_LEAD_S = 1.0  # extra windows in a seizure start this long before its onset ...
# ... and every so often, while they start before its end + SEIZURE_LEAD_S, as published
SEIZURE_STEP_S = 5.0
REFERENCE_WINDOWS = 60
"""Of a recording at most, see :meth:`WindowGrid.reference`."""
TIME_TOLERANCE_S = 1e-6
"""Times are compared up to this: sums of decimal seconds are not exact."""
LONG_EVENT = 2
"""Windows that an event must outlast for :func:`long_events` to speak of it."""


def make_samples(
    recordings: pd.DataFrame, events: pd.DataFrame, config: WindowConfig, classes: list[str]
) -> pd.DataFrame:
    """List the labelled samples of all usable recordings.

    Args:
        recordings: `recordings.parquet`; only rows with status "ok" are cut.
        events: `events.parquet`.
        config: policy, labelling and edge rule.
        classes: label of each logit.

    Returns:
        One row per sample in order of recording and event: recording, start_sample, n_times, label
            (index into classes), channel
        (name or None), onset_s.

    Raises:
        UserError: an event's label is not a class, or nothing is left to cut.
    """
    unknown = sorted(set(events.label) - set(classes))
    if unknown:
        raise UserError(
            f"events are labelled {unknown[0]!r}, which is none of corpus.classes={list(classes)}; "
            "add it there, or leave it out by corpus.label_map"
        )
    cut = _event_rows if config.policy == "event" else _grid_rows
    by_recording = dict(tuple(events.groupby("recording", sort=False)))
    none = events.iloc[:0]
    usable = recordings[recordings.status == "ok"]
    rows = [cut(r, by_recording.get(r.recording, none), config) for r in usable.itertuples()]
    rows = [r for r in rows if len(r)]
    if config.policy != "event":
        rows = _with_class(rows, config, classes)
    if not rows:
        raise UserError(
            f"windows.policy={config.policy}, duration_s={config.duration_s:g}: no window fits into"
            f" {len(usable)} recordings with {len(events)} events; use policy=grid, shorter windows"
            " or edge=wrap"
        )
    samples = pd.concat(rows, ignore_index=True)
    if config.policy == "event" and (
        n_dropped := int(events.recording.isin(usable.recording).sum()) - len(samples)
    ):
        hint = "" if config.edge == "wrap" else "; edge=wrap keeps them"
        log.warning(
            "windows.edge=%s: %d of %d events are left out, for their windows of %g s stick out of"
            " the recording%s",
            config.edge,
            n_dropped,
            len(events),
            config.duration_s,
            hint,
        )
    samples["label"] = samples.label.map({name: i for i, name in enumerate(classes)}).astype(
        "int64"
    )
    return samples


def _with_class(
    rows: list[pd.DataFrame], config: WindowConfig, classes: list[str]
) -> list[pd.DataFrame]:
    """Grid windows that have a class: those without an event are of the background, or left out.

    Raises:
        UserError: there are such windows, and the background is none of the classes.
    """
    n_background = sum(int((r.label == config.background).sum()) for r in rows)
    if config.background is not None:
        if n_background and config.background not in classes:
            n = sum(map(len, rows))
            raise UserError(
                f"windows.background={config.background}: {n_background} of {n} windows hold no"
                f" event, and the class named for them is none of corpus.classes={list(classes)};"
                " name one of those with windows.background=CLASS, or leave these windows out with"
                " windows.background=null"
            )
        return rows
    kept = [r[r.label.notna()] for r in rows]
    return [r for r in kept if len(r)]


def long_events(events: pd.DataFrame, config: WindowConfig) -> str | None:
    """A sentence on events of which a single window around their middle takes only a small part;
    None if there are none.
    """
    is_long = events.duration_s > LONG_EVENT * config.duration_s
    if config.policy != "event" or not is_long.any():
        return None
    longest = events.duration_s.max()
    return (
        f"windows.policy=event takes one window of {config.duration_s:g} s from the middle of each"
        f" event, and {is_long.sum()} of {len(events)} events are more than {LONG_EVENT} times as"
        f" long (up to {longest:g} s): the rest of them is not used. windows.policy=grid uses it;"
        " windows.background=null then leaves out what has no label"
    )


def without_windows(recordings: pd.DataFrame, samples: pd.DataFrame) -> str | None:
    """A sentence on recordings that no sample is of, as pretraining sees them; None if there are
    none.
    """
    usable = recordings.recording[recordings.status == "ok"]
    n_without = int((~usable.isin(samples.recording)).sum())
    if not n_without:
        return None
    return (
        f"{n_without} of {len(usable)} recordings hold no event and are not learned from;"
        " pretrain.windows=grid uses all"
    )


def _window_table(
    recording: str, start: np.ndarray, n_times: int, label: object, channel: object, sfreq: float
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "recording": recording,
            "start_sample": np.asarray(start, np.int64),
            "n_times": n_times,
            "label": label,
            "channel": channel,
            "onset_s": np.asarray(start) / sfreq,
        }
    )


def _event_rows(recording: Any, events: pd.DataFrame, config: WindowConfig) -> pd.DataFrame:
    """One sample per event: a window around the event's middle (as published for TUEV: an event
    of 1 s with 2 s on either side).
    """
    n_times = round(config.duration_s * recording.sfreq)
    lead = np.rint((config.duration_s - events.duration_s.to_numpy()) / 2 * recording.sfreq).astype(
        np.int64
    )
    start = np.array([first_sample(t, recording.sfreq) for t in events.onset_s], np.int64) - lead
    rows = _window_table(
        recording.recording,
        start,
        n_times,
        events.label.to_numpy(),
        events.channel.to_numpy(),
        recording.sfreq,
    )
    # The event's, which is not where its window starts.
    rows["onset_s"] = events.onset_s.to_numpy()
    if config.edge == "wrap":
        inside = (events.onset_s.to_numpy() >= 0) & (
            events.onset_s.to_numpy() * recording.sfreq < recording.n_times
        )
        return rows[inside & (n_times <= recording.n_times)]
    return rows[(start >= 0) & (start + n_times <= recording.n_times)]


def _grid_rows(recording: Any, events: pd.DataFrame, config: WindowConfig) -> pd.DataFrame:
    """Windows on a grid; a shorter tail is dropped. `grid+seizure` adds windows along each
    event.
    """
    sfreq = recording.sfreq
    n_times = round(config.duration_s * sfreq)
    start = grid(recording.n_times, n_times, round((config.step_s or config.duration_s) * sfreq))
    label = _grid_labels(start / sfreq, config, events)
    rows = _window_table(recording.recording, start, n_times, label, None, sfreq)
    if config.policy == "grid+seizure":
        extra = [_seizure_rows(recording, e, n_times) for e in events.itertuples()]
        rows = pd.concat([rows, *[e for e in extra if len(e)]], ignore_index=True)
    return rows


def grid(n_times: int, length: int, step: int) -> np.ndarray:
    """Start samples of all whole windows of ``length`` every ``step`` in a recording of ``n_times``
    samples.
    """
    return np.arange(0, n_times - length + 1, step, dtype=np.int64)


class WindowGrid(NamedTuple):
    """Where windows start and how long they are, in samples of the signal."""

    starts: Int[ndarray, " window"]
    n_times: int
    sfreq: float

    @classmethod
    def cover(cls, n_times: int, sfreq: float, window_s: float, step_s: float) -> WindowGrid:
        """Return all whole windows, one every ``step_s``.

        Raises:
            UserError: not one fits, or the step is shorter than a sample.
        """
        length = round(window_s * sfreq)
        if step_s * sfreq < 1:
            raise UserError(f"step={step_s:g} s: is shorter than a sample ({1 / sfreq:g} s)")
        if n_times < length:
            raise UserError(
                f"{n_times / sfreq:.1f} s long; this model looks at windows of {window_s:g} s"
            )
        # A step that is not a whole number of samples is rounded at each window: rounded once, its
        # error would add up over a day.
        step = step_s * sfreq
        if step.is_integer():
            return cls(grid(n_times, length, int(step)), length, sfreq)
        starts = np.rint(np.arange(int((n_times - length) / step) + 2) * step).astype(np.int64)
        return cls(starts[starts + length <= n_times], length, sfreq)

    @classmethod
    def reference(cls, n_times: int, sfreq: float, window_s: float) -> WindowGrid:
        """Return the windows that a recording is centred by: of those that follow each other at
        most :data:`REFERENCE_WINDOWS`, spread evenly, whatever their labels.

        Raises:
            UserError: not one fits.
        """
        every = cls.cover(n_times, sfreq, window_s, window_s)
        return every._replace(starts=every.starts[evenly(len(every.starts), REFERENCE_WINDOWS)])

    @property
    def onset_s(self) -> Float[ndarray, " window"]:
        return self.starts / self.sfreq


def evenly(n: int, most: int) -> Int[ndarray, " chosen"]:
    """Return at most a given number of n places, spread evenly."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(int))


def _seizure_rows(recording: Any, event: Any, n_times: int) -> pd.DataFrame:
    end = event.onset_s + event.duration_s
    onset = np.arange(event.onset_s - SEIZURE_LEAD_S, end + SEIZURE_LEAD_S, SEIZURE_STEP_S)
    start = np.rint(onset * recording.sfreq).astype(np.int64)
    start = start[(start >= 0) & (start + n_times <= recording.n_times)]
    return _window_table(recording.recording, start, n_times, event.label, None, recording.sfreq)


def _grid_labels(onset_s: np.ndarray, config: WindowConfig, events: pd.DataFrame) -> np.ndarray:
    """Label of each grid window: the event it shares most time with (``overlap``), or that starts
    or ends in it (``published``); the background (or None) where there is none.
    """
    label = np.full(len(onset_s), config.background, dtype=object)
    longest = np.zeros(len(onset_s))
    stop_s = onset_s + config.duration_s
    for event in events.itertuples():
        end = event.onset_s + event.duration_s
        shared = np.minimum(stop_s, end) - np.maximum(onset_s, event.onset_s)
        if config.labels == "published":
            # Second s belongs to the window (10 m, 10 m + 10]; a window wholly inside a seizure
            # counts as background (docs/deviations.md, item 6)
            hit = ((onset_s < event.onset_s) & (event.onset_s <= stop_s)) | (
                (onset_s < end) & (end <= stop_s)
            )
        else:
            hit = shared > config.min_overlap_s
        # Of events that share as much, the later row wins.
        better = hit & (shared >= longest)
        label[better] = event.label
        longest[better] = shared[better]
    return label


def main_labels(
    onset_s: Float[ndarray, " window"], duration_s: float, events: pd.DataFrame
) -> ndarray:
    """Return for each window the label whose events together cover most of it, if that is at least
    half of the window; None where no label does, or where two labels cover as much.

    Args:
        onset_s: where the windows start, in seconds.
        duration_s: their length in seconds.
        events: an event table without open durations; the channels don't matter.
    """
    events = events[events.duration_s > 0]
    labels = sorted(events.label.unique())
    covered = np.zeros((len(labels) + 1, len(onset_s)))  # the last row: nothing
    for row, label in zip(covered, labels, strict=False):
        own = events[events.label == label]
        start, stop = _merged(own.onset_s.to_numpy(), (own.onset_s + own.duration_s).to_numpy())
        until = np.cumsum(stop - start)  # seconds of the label up to each stop
        times = np.column_stack([start, stop]).ravel()
        seconds = np.column_stack([until - (stop - start), until]).ravel()
        row += np.interp(onset_s + duration_s, times, seconds)
        row -= np.interp(onset_s, times, seconds)
    order = covered.argsort(axis=0)
    most = np.take_along_axis(covered, order[-1:], axis=0)[0]
    second = np.take_along_axis(covered, order[-2:-1], axis=0)[0] if labels else most
    is_clear = (most >= duration_s / 2 - TIME_TOLERANCE_S) & (most - second > TIME_TOLERANCE_S)
    found = np.array([*labels, None], dtype=object)[order[-1]]
    found[~is_clear] = None
    return found


def _merged(
    start: Float[ndarray, " event"], stop: Float[ndarray, " event"]
) -> tuple[Float[ndarray, " interval"], Float[ndarray, " interval"]]:
    """Unite intervals that overlap or touch; sorted by time."""
    by_start = np.argsort(start, kind="stable")
    start, stop = start[by_start], stop[by_start]
    reach = np.maximum.accumulate(stop)
    first = np.concatenate([[True], start[1:] > reach[:-1]])
    return start[first], reach[np.concatenate([first[1:], [True]])]


def distinct(samples: pd.DataFrame) -> pd.DataFrame:
    """The distinct windows of samples, in order of first occurrence."""
    return samples[WINDOW_KEY].drop_duplicates(ignore_index=True)


def pretraining_view(samples: pd.DataFrame, recordings: pd.DataFrame) -> pd.DataFrame:
    """The published single-channel view: one row per distinct window and channel, windows in order
    of first occurrence.

    The label is the class on that (window, channel), the last row winning, and -1 where nothing was
    annotated.
    """
    names = recordings.set_index("recording").ch_names
    ids = recordings.set_index("recording").channel_ids
    windows = distinct(samples)
    windows["ch_name"] = windows.recording.map(names)
    windows["channel_id"] = windows.recording.map(ids)
    windows["row"] = windows.recording.map(names.map(lambda n: np.arange(len(n))))
    view = windows.explode(["ch_name", "channel_id", "row"], ignore_index=True)
    # An event is marked on some channels only; of several on one window and channel the last
    # counts, as published.
    last = samples.dropna(subset="channel").drop_duplicates([*WINDOW_KEY, "channel"], keep="last")
    view = view.merge(
        last[[*WINDOW_KEY, "channel", "label"]],
        how="left",
        left_on=[*WINDOW_KEY, "ch_name"],
        right_on=[*WINDOW_KEY, "channel"],
    )
    view["label"] = view.label.fillna(-1).astype("int64")
    return view.drop(columns="channel").astype({"channel_id": "int64", "row": "int64"})


# ----------------------------------------------------------------------------------------- splits


def assign_splits(
    recordings: pd.DataFrame,
    corpus: str,
    config: WindowConfig,
    events: pd.DataFrame | None = None,
) -> pd.Series:
    """Return "train", "val", "test" or, for ``config.leave_out``, "left out" for each row of
    `recordings.parquet`.

    A random division and k folds divide those who have labels, so that each part has some: where
    only events become samples, people (or sessions, ...) without any event are in "train" whatever
    the seed and the fold. The parts are the same for every stage that is given the same events.

    Args:
        recordings: `recordings.parquet`.
        corpus: the corpus's name.
        config: how to divide.
        events: `events.parquet`; without it everybody is divided.

    Raises:
        UserError: the split needs a column that is empty, leaves one part without recordings, or is
            to leave out what is not there.
    """
    split = pd.Series(LEFT_OUT, index=recordings.index, name="split")
    used = recordings[~_is_left_out(recordings, config)]
    if config.split == "published":
        split[used.index] = published_split(used, corpus, config)
    elif config.split == "none":
        split[used.index] = "test"
        return split
    elif config.split == "column":
        split[used.index] = _by_column(used)
    elif config.split == "kfold":
        units = _split_units(used, config.kfold_unit)
        split[used.index] = _divided(units, _kfold, used, config, events)
    else:
        units = _split_units(used, config.split)
        split[used.index] = _divided(units, _random, used, config, events)
    empty = [part for part in SPLITS if not (split == part).any()]
    if "train" in empty or ("test" in empty and config.test_fraction > 0):
        raise UserError(
            f"windows.split={config.split}: no recording is left for {empty[0]} (of"
            f" {len(recordings)} recordings); choose another split or fractions"
        )
    return split


def _is_left_out(recordings: pd.DataFrame, config: WindowConfig) -> pd.Series:
    names = set(recordings.subject) | set(recordings.session.dropna())
    for name in config.leave_out:
        if name not in names:
            raise UserError(
                f"windows.leave_out={name}: no recording is of this subject or"
                f" session{did_you_mean(name, names)}"
            )
    return recordings.subject.isin(config.leave_out) | recordings.session.isin(config.leave_out)


def published_split(recordings: pd.DataFrame, corpus: str, config: WindowConfig) -> np.ndarray:
    """The parts that the publications use of TUEV (and of synthetic corpora in its layout), TUAB,
    TUSZ and CHB-MIT.
    """
    if corpus == "chbmit":
        return np.array([chbmit_split(int(s[3:5])) for s in recordings.session])
    if corpus == "tusz":
        return recordings.split.to_numpy()
    # TUEV and TUAB have training and evaluation only; publications take some people of the former
    # to validate.
    split = recordings.split.to_numpy()
    subjects = sorted(set(recordings.subject[split == "train"]))
    held_out = tuev_validation_subjects(subjects, config.split_seed, config.val_fraction)
    return np.where((split == "train") & recordings.subject.isin(held_out), "val", split)


def _by_column(recordings: pd.DataFrame) -> np.ndarray:
    missing = recordings[~recordings.split.isin(SPLITS)]
    if len(missing):
        row = missing.iloc[0]
        raise UserError(
            f"windows.split=column: {row.recording} has split={row.split!r}; each recording needs"
            " train, val or test"
        )
    return recordings.split.to_numpy()


def _split_units(recordings: pd.DataFrame, unit: str) -> pd.Series:
    """What stays together: a subject, or a session or run of one."""
    if unit == "recording":
        return recordings.recording
    if unit != "subject" and recordings[unit].isna().any():
        row = recordings[recordings[unit].isna()].iloc[0]
        raise UserError(
            f"windows.split by {unit}: {row.recording} has no {unit}; name it in the table or by"
            " corpus.pattern"
        )
    return (
        recordings.subject
        if unit == "subject"
        else recordings.subject + "/" + recordings[unit].astype(str)
    )


def _divided(
    units: pd.Series,
    divide: Callable[[pd.Series, WindowConfig], np.ndarray],
    recordings: pd.DataFrame,
    config: WindowConfig,
    events: pd.DataFrame | None,
) -> np.ndarray:
    """The part of each recording: units without an event learn only, the others are divided."""
    is_only_events = config.policy == "event" or config.background is None
    if events is None or events.empty or not is_only_events:
        return divide(units, config)
    # A part without any labelled unit could neither be learned from nor scored.
    labelled = set(units[recordings.recording.isin(events.recording)])
    has_labels = units.isin(labelled)
    part = np.full(len(units), "train", dtype=object)
    part[has_labels.to_numpy()] = divide(units[has_labels], config)
    return part


def _random(units: pd.Series, config: WindowConfig) -> np.ndarray:
    # Sorted, so that the order in which recordings were found changes nothing.
    names = np.array(sorted(units.unique()))
    order = np.random.default_rng(config.split_seed).permutation(names)
    # A part that is asked for has someone, however few there are.
    n_test = round(config.test_fraction * len(names)) or int(config.test_fraction > 0)
    n_val = round(config.val_fraction * (len(names) - n_test)) or int(config.val_fraction > 0)
    part = {
        name: "test" if i < n_test else "val" if i < n_test + n_val else "train"
        for i, name in enumerate(order)
    }
    return units.map(part).to_numpy()


def _kfold(units: pd.Series, config: WindowConfig) -> np.ndarray:
    names = np.array(sorted(units.unique()))
    if len(names) < config.n_folds:
        raise UserError(
            f"windows.n_folds={config.n_folds}: only {len(names)} {config.kfold_unit}s to divide"
        )
    # Dealt out in turn, so that folds differ by no more than one; the next fold validates, and over
    # all folds everybody tests once and validates once.
    order = np.random.default_rng(config.split_seed).permutation(names)
    fold = {name: i % config.n_folds for i, name in enumerate(order)}
    number = units.map(fold).to_numpy()
    validating = (config.fold + 1) % config.n_folds
    return np.where(number == config.fold, "test", np.where(number == validating, "val", "train"))


# ---------------------------------------------------------------------------- events of each part


def events_per_split(
    recordings: pd.DataFrame, events: pd.DataFrame, corpus: str, config: WindowConfig
) -> pd.DataFrame:
    """Count events: a row per label, a column for each of train, val and test of the published
    split.
    """
    part = dict(zip(recordings.recording, published_split(recordings, corpus, config), strict=True))
    return pd.crosstab(events.label, events.recording.map(part)).reindex(
        columns=list(SPLITS), fill_value=0
    )


def describe_event_counts(counts: pd.DataFrame, corpus: str) -> Iterator[str]:
    """Say how many events of each class each part has and, for TUEV, which release has as many."""
    for part in SPLITS:
        of_class = ", ".join(f"{label} {n:,}" for label, n in counts[part].items() if n)
        yield f"events in the published {part} part: {of_class or 'none'} ({counts[part].sum():,})"
    if corpus == "tuev":
        n_events = tuple(int(counts[part].sum()) for part in SPLITS)
        fitting = [release for release, published in TUEV_EVENTS.items() if published == n_events]
        releases = "; ".join(
            f"{release} has {_counts_and_sum(published)}"
            for release, published in TUEV_EVENTS.items()
        )
        fits = (
            f"these are the events of TUEV {fitting[0]}"
            if fitting
            else "this fits no release of TUEV"
        )
        yield f"{_counts_and_sum(n_events)} events in train / val / test: {fits} ({releases})"


def _counts_and_sum(counts: tuple[int, ...]) -> str:
    return f"{' / '.join(f'{n:,}' for n in counts)} ({sum(counts):,})"
