"""What a detector of the marks so far thinks of windows, and which of them to mark next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from eegdm.console import say
from eegdm.data.windows import evenly
from eegdm.evaluation.across_people import centred
from eegdm.evaluation.choosing import choose, spoken_for, uncertainty
from eegdm.evaluation.cross_fitting import (
    AT_ONCE,
    Marked,
    ReadRows,
    fit_calibrated,
    floor_of,
    in_parts,
    marks,
)
from eegdm.features.labels import share
from eegdm.models.linear import LinearHead

MAX_COMPARED = 3000
"""Unmarked windows, and marked ones, that are compared with each other: of each person as many as
keep all together at this number."""


class Thought(NamedTuple):
    """What a detector of the marks so far thinks of every window."""

    classes: Sequence[str]
    probability: Float[np.ndarray, "window class"]


@dataclass(frozen=True)
class Suggestions:
    """Windows to mark next.

    Attributes:
        windows: in the order of choice: recording, file, subject, onset_s, duration_s and
            speaks_for, the share of the unmarked windows to which it is nearer than any marked or
            other suggested one.
        probabilities: what a detector of the marks so far thinks, a column for each class and a row
            for each of ``windows``; None while the marks allow no detector.
        n_marked: of each label that the detector knows, how many windows are marked.
        n_unmarked: how many windows no row of the table touches.
        path: the folder with the page and the table to fill in.
    """

    windows: pd.DataFrame
    probabilities: pd.DataFrame | None
    n_marked: dict[str, int]
    n_unmarked: int
    path: Path

    def sentence(self) -> str:
        """Return how many windows of how many people these are."""
        people = self.windows.subject.nunique()
        return (
            f"{len(self.windows)} of {self.n_unmarked} unmarked windows, of {people}"
            f" {'person' if people == 1 else 'people'}"
        )


def think(windows: Marked, read: ReadRows) -> Thought | None:
    """Return what a head of the marks so far thinks of all windows; None with fewer than two
    classes.
    """
    if len(windows.classes) < 2:
        return None
    learn = np.flatnonzero(windows.learn)
    own = Marked(
        windows.label[learn],
        windows.learn[learn],
        {level: group[learn] for level, group in windows.group.items()},
        windows.classes,
    )
    head, _ = fit_calibrated(own, lambda rows: read(learn[rows]))
    every = np.arange(len(windows.label))
    logits = np.concatenate([head.decide(read(rows)) for rows in in_parts(every)])
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return Thought(windows.classes, odds / odds.sum(axis=1, keepdims=True))


def choose_windows(
    read: ReadRows,
    is_open: Bool[np.ndarray, " window"],
    person: Int[np.ndarray, " window"],
    n: int,
    thought: Thought | None,
) -> tuple[Int[np.ndarray, " chosen"], Float[np.ndarray, " chosen"]]:
    """Choose unmarked windows, in order; return their rows and the share that each speaks for.

    Windows are as alike as the logs of their tokens are, averaged over channels and centred per
    person. Of more than :data:`MAX_COMPARED`, those of a person that are least certain are
    compared, or without a head some that are spread evenly.
    """
    from sklearn.metrics import euclidean_distances

    unsure = None if thought is None else uncertainty(thought.probability)
    candidates = compared(np.flatnonzero(is_open), person, unsure)
    marked = compared(np.flatnonzero(~is_open), person, None)
    rows = np.sort(np.append(candidates, marked))
    values = centred(_log_tokens(read, rows), person[rows])
    own, others = values[np.isin(rows, candidates)], values[np.isin(rows, marked)]
    far = np.full(len(own), np.inf, np.float32)
    to_marked = euclidean_distances(own, others).min(axis=1) if len(others) else far
    distance = euclidean_distances(own)
    weight = np.ones(len(own), np.float32) if unsure is None else unsure[candidates]
    chosen = choose(distance, to_marked, weight.astype(np.float32), person[candidates], n)
    return candidates[chosen], spoken_for(distance, to_marked, chosen)


def compared(
    rows: Int[np.ndarray, " row"],
    person: Int[np.ndarray, " window"],
    unsure: Float[np.ndarray, " window"] | None,
) -> Int[np.ndarray, " compared"]:
    """Return of each person as many rows as keep all together at :data:`MAX_COMPARED`: the least
    certain, or some that are spread evenly.
    """
    if len(rows) <= MAX_COMPARED:
        return rows
    of_people = [rows[person[rows] == who] for who in np.unique(person[rows])]
    most = share([len(own) for own in of_people], MAX_COMPARED)
    kept = [
        own[evenly(len(own), most)]
        if unsure is None
        else own[np.argsort(-unsure[own], kind="stable")[:most]]
        for own in of_people
    ]
    return np.sort(np.concatenate(kept))


def _log_tokens(read: ReadRows, rows: Int[np.ndarray, " row"]) -> Float[np.ndarray, "row value"]:
    """The logs of tokens as a head sees them, averaged over channels."""
    some = read(rows[evenly(len(rows), AT_ONCE)])
    _, n_blocks, n_queries, n_channels, d_model = some.shape
    head = LinearHead(n_blocks, n_queries, n_channels, 2, d_model, floor=floor_of(some))
    return np.concatenate([head.values(read(part)).flatten(1).numpy() for part in in_parts(rows)])


def learnable(label: pd.Series, recording: pd.Series) -> pd.Series:
    """Return labels without those that are marked once, which no head can be tested on."""
    numbers, names = pd.factorize(label)
    run = pd.Series(marks(numbers, pd.factorize(recording)[0]), index=label.index)
    n_marks = run.groupby(label).nunique()
    for name in n_marks[n_marks < 2].index:
        say(f"suggest: {name!r} is marked once, so it is not learned yet")
    return label.where(label.isin(n_marks[n_marks > 1].index), None)
