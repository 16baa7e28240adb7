"""From probabilities of windows to events, or to one class of the whole recording: the rule that a
classifier carries in its config.json, each part of it overridable.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, Shaped
from numpy import ndarray

from eegdm.data.windows import WindowGrid
from eegdm.errors import UserError
from eegdm.evaluation.metrics import class_probabilities

if TYPE_CHECKING:
    from eegdm.models.eegdm import EEGDM

BACKGROUND = ("bckg", "background")
"""Names, in any case, of the class that is not an event where a model does not say which are."""
EVENT_COLUMNS = ["onset_s", "duration_s", "label", "probability"]
EVENTS, RECORDING = "events", "recording"
"""What a rule may decide about: stretches of a recording, or the whole of it."""
OF_EVENTS = ("threshold", "min_duration_s", "smoothing_s")
"""The parts of a rule that change nothing where it decides about whole recordings."""


@dataclass(frozen=True)
class Rule:
    """When windows make an event.

    Attributes:
        classes: of the probabilities, in the order of the logits; two where a model has one logit.
        event_classes: those that are events; the others are background.
        threshold: probability of all event classes together, smoothed, from which a window is (part
            of) an event.
        min_duration_s: shorter events are dropped.
        smoothing_s: probabilities are averaged over this many seconds first.
        temperature: logits are divided by it: calibration.
        resolution_s: the stretch in the middle of a window that it speaks for.
        decide: "events" marks stretches of a recording; "recording" gives the whole recording one
            class, the likeliest by :func:`mean_probability`.
    """

    classes: tuple[str, ...]
    event_classes: tuple[str, ...]
    threshold: float = 0.5
    min_duration_s: float = 0.0
    smoothing_s: float = 0.0
    temperature: float = 1.0
    resolution_s: float = 1.0
    decide: str = EVENTS

    def __post_init__(self) -> None:
        limits = {
            "threshold": (0, 1),
            "min_duration_s": (0, math.inf),
            "smoothing_s": (0, math.inf),
            "temperature": (1e-6, math.inf),
            "resolution_s": (1e-3, math.inf),
        }
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if not isinstance(value, int | float) or not low <= value <= high:
                raise UserError(f"{name}={value!r}: must be a number within {low:g}..{high:g}")
        if self.decide not in (EVENTS, RECORDING):
            raise UserError(f"decide={self.decide!r}: must be {EVENTS} or {RECORDING}")
        if unknown := [name for name in self.event_classes if name not in self.classes]:
            raise UserError(
                f"event class {unknown[0]!r} is none of the model's:"
                f" {', '.join(map(str, self.classes))}"
            )
        if not self.event_classes:
            raise UserError(
                "no class is an event; say which with event_classes, of"
                f" {', '.join(map(str, self.classes))}"
            )


def rule_of(model: EEGDM, **changes: Any) -> Rule:
    """Return a classifier's own rule with the changes that are not None.

    Raises:
        UserError: a value is out of range, an event class is none of the model's, or a change is of
            what makes events where whole recordings are decided about.
    """
    stored = dict(model.decision)
    one_logit = len(model.classes) == 1
    classes = tuple(
        stored.pop("classes", ())
        or (("background", *model.classes) if one_logit else model.classes)
    )
    if len(classes) != max(2, len(model.classes)):
        raise UserError(
            f"the model's decision names {len(classes)} classes for {len(model.classes)} logits;"
            " its config.json is at fault"
        )
    stored.setdefault("event_classes", [name for name in classes if name.lower() not in BACKGROUND])
    stored.setdefault("resolution_s", model.n_times / model.sfreq)
    stored |= {name: value for name, value in changes.items() if value is not None}
    if unknown := stored.keys() - Rule.__dataclass_fields__.keys():
        raise UserError(
            f"the model's decision has an unknown setting {min(unknown)!r}; a newer eegdm may"
            " know it"
        )
    rule = Rule(classes=classes, **(stored | {"event_classes": tuple(stored["event_classes"])}))
    idle = [name for name in OF_EVENTS if changes.get(name) is not None]
    if rule.decide == RECORDING and idle:
        raise UserError(
            f"{idle[0]}={changes[idle[0]]:g} has no effect with decide={RECORDING}, which gives a"
            f" recording the class of the highest mean probability; decide={EVENTS} marks stretches"
        )
    return rule


def window_table(
    windows: WindowGrid, logits: Float[ndarray, "window class"], rule: Rule
) -> pd.DataFrame:
    """Return a row per window: onset_s and duration_s of the stretch that it speaks for, and the
    probability of each class.
    """
    probability = class_probabilities(logits, rule.temperature)
    onset = windows.onset_s + (windows.n_times / windows.sfreq - rule.resolution_s) / 2
    columns = {name: probability[:, i] for i, name in enumerate(rule.classes)}
    return pd.DataFrame({"onset_s": onset, "duration_s": rule.resolution_s, **columns})


class RecordingDecision(NamedTuple):
    """What a classifier says of a whole recording, or of all recordings of a person."""

    label: str
    """The class of the highest probability."""
    probability: dict[str, float]
    """Of each class, the mean over windows."""
    n_windows: int

    @classmethod
    def of_windows(cls, windows: pd.DataFrame, rule: Rule) -> RecordingDecision:
        """Decide by the windows of :func:`window_table`."""
        mean = mean_probability(windows[list(rule.classes)].to_numpy(np.float64))
        return cls._of_mean(rule.classes, mean, len(windows))

    @classmethod
    def of_recordings(cls, decisions: Sequence[RecordingDecision]) -> RecordingDecision:
        """Decide by the windows of several recordings, of which there are decisions."""
        classes = tuple(decisions[0].probability)
        n_windows = np.array([one.n_windows for one in decisions])
        means = np.array([[one.probability[name] for name in classes] for one in decisions])
        return cls._of_mean(classes, mean_probability(means, n_windows), int(n_windows.sum()))

    @classmethod
    def _of_mean(
        cls, classes: Sequence[str], mean: Float[ndarray, " class"], n_windows: int
    ) -> RecordingDecision:
        return cls(
            classes[int(mean.argmax())],
            dict(zip(classes, map(float, mean), strict=True)),
            n_windows,
        )

    def sentence(self) -> str:
        """Return the class and all probabilities, for people to read."""
        others = ", ".join(
            f"{name} {value:.2f}" for name, value in self.probability.items() if name != self.label
        )
        windows = "1 window" if self.n_windows == 1 else f"{self.n_windows} windows"
        return (
            f"{self.label}, mean probability {self.probability[self.label]:.2f} over {windows}"
            f" ({others})"
        )


def mean_probability(
    probability: Float[ndarray, "window class"], weight: Shaped[ndarray, " window"] | None = None
) -> Float[ndarray, " class"]:
    """Return what is said of a recording or a person by the windows: their mean."""
    return np.average(probability, axis=0, weights=weight)


def apply_rule(
    windows: pd.DataFrame, rule: Rule, duration_s: float
) -> tuple[RecordingDecision | None, pd.DataFrame]:
    """Return what a rule makes of the windows of a recording: the decision about the whole of it,
    None where the rule decides about stretches; and its events, as :func:`find_events`.

    A whole recording is one event if its class is an event class, else there is none.

    Args:
        duration_s: length of the recording.
    """
    if rule.decide == EVENTS:
        return None, find_events(windows, rule)
    decision = RecordingDecision.of_windows(windows, rule)
    row = (0.0, duration_s, decision.label, decision.probability[decision.label])
    rows = [row] if decision.label in rule.event_classes else []
    return decision, _event_table(rows)


def find_events(windows: pd.DataFrame, rule: Rule) -> pd.DataFrame:
    """Join neighbouring windows of one event class into events: onset_s, duration_s, label,
    probability (its highest).

    A window is an event if the event classes together reach the threshold; its label is the
    likeliest of them.
    """
    smooth = smoothed(windows, rule)
    label = _event_labels(smooth, rule)
    return _joined(windows, smooth, label, _stretches(label), rule)


def _event_labels(
    smooth: Float[ndarray, "window event_class"], rule: Rule
) -> Int[ndarray, " window"]:
    """The index of each window's event class; -1 for none."""
    return np.where(smooth.sum(1) >= rule.threshold, smooth.argmax(1), -1)


def _stretches(label: Int[ndarray, " window"]) -> list[tuple[int, int]]:
    """First window and stop of each run of equal labels."""
    # -2 is not a label, so that the first and the last window begin and end a stretch too.
    edges = np.flatnonzero(np.diff(label, prepend=-2, append=-2))
    return [(int(first), int(stop)) for first, stop in pairwise(edges)]


def _joined(
    windows: pd.DataFrame,
    smooth: Float[ndarray, "window event_class"],
    label: Int[ndarray, " window"],
    stretches: Sequence[tuple[int, int]],
    rule: Rule,
) -> pd.DataFrame:
    """The events among stretches of windows."""
    onset, stop_s = windows.onset_s.to_numpy(), (windows.onset_s + windows.duration_s).to_numpy()
    rows = [
        (
            onset[first],
            stop_s[stop - 1] - onset[first],
            rule.event_classes[label[first]],
            float(smooth[first:stop, label[first]].max()),
        )
        for first, stop in stretches
        if label[first] >= 0
    ]
    events = _event_table(rows)
    return events[events.duration_s >= rule.min_duration_s - 1e-9].reset_index(drop=True)


class Follower:
    """Finds the events of windows that come one after another: those that :func:`find_events` finds
    among all of them, each as soon as it has ended.

    Args:
        rule: when windows make an event.
        step_s: seconds from one window to the next.

    Attributes:
        delay: windows by which smoothing delays what is known.
    """

    def __init__(self, rule: Rule, step_s: float) -> None:
        self._rule, self._width = rule, _smoothing_width(step_s, rule)
        self.delay = self._width // 2
        # What may still be part of an event, and before it what smoothing looks back on.
        self._kept: pd.DataFrame | None = None
        self._n_before = 0
        self._begun_s = -math.inf

    def add(self, windows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Take in the next windows; return the events that have ended, and the one that has begun,
        as far as it is known, the first time that it is as long as an event must be.
        """
        kept = [windows] if self._kept is None else [self._kept, windows]
        rows = pd.concat(kept, ignore_index=True)
        smooth = _smoothed(rows, self._rule, self._width)
        # Smoothing of the last ones waits for windows to come.
        known = slice(self._n_before, max(len(rows) - self.delay, self._n_before))
        label = _event_labels(smooth[known], self._rule)
        stretches = _stretches(label)
        last = stretches[-1:]
        ended, begun = (
            _joined(rows[known], smooth[known], label, some, self._rule)
            for some in (stretches[:-1], last)
        )
        begun = begun[begun.onset_s > self._begun_s]
        if len(begun):
            self._begun_s = float(begun.onset_s.iloc[0])
        first = self._n_before
        if last:
            start, stop = last[0]
            first += stop if label[start] < 0 else start
        before = max(first - self.delay, 0)
        self._kept, self._n_before = rows[before:], first - before
        return ended, begun


def _event_table(rows: list[tuple[float, float, str, float]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=EVENT_COLUMNS).astype(
        {"onset_s": float, "duration_s": float, "probability": float}
    )


def smoothed(windows: pd.DataFrame, rule: Rule) -> Float[ndarray, "window event_class"]:
    """Return the probabilities of the event classes, averaged over an odd number of windows; over
    fewer at the ends.
    """
    most = len(windows) - 1 + len(windows) % 2
    return _smoothed(windows, rule, min(_smoothing_width(_step(windows), rule), most))


def _smoothing_width(step_s: float, rule: Rule) -> int:
    return 1 + 2 * max(0, round((rule.smoothing_s / step_s - 1) / 2))


def _smoothed(
    windows: pd.DataFrame, rule: Rule, width: int
) -> Float[ndarray, "window event_class"]:
    probability = windows[list(rule.event_classes)].to_numpy(np.float64)
    # Mode "same" would return as many as the longer of the two has.
    box, same = np.ones(width), slice(width // 2, width // 2 + len(windows))
    count = np.convolve(np.ones(len(windows)), box)[same]
    return np.stack([np.convolve(p, box)[same] / count for p in probability.T], axis=1)


def _step(windows: pd.DataFrame) -> float:
    return (
        float(windows.onset_s.diff().median())
        if len(windows) > 1
        else float(windows.duration_s.iloc[0])
    )
