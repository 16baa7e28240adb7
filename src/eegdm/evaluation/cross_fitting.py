"""Linear heads for a few labelled windows, and what to expect of them: heads that learn from some
people, recordings or marks judge the others.

Nothing is chosen or scaled on what a head is asked about: readout and penalty are chosen within the
windows that it learns from, by the same kind of division where they allow one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from eegdm.errors import UserError
from eegdm.evaluation import people_scores
from eegdm.evaluation.across_people import LabelledWindows
from eegdm.evaluation.metrics import fit_temperature
from eegdm.evaluation.people_scores import Units
from eegdm.evaluation.ridge import fit_ridge, inner_products, standardisation
from eegdm.models.linear import LinearHead

GROUP_LEVELS = ("people", "recordings", "marks")
"""What may be left out to test a head, the most telling first; a mark is an unbroken run of windows
of one label in a recording."""
WINDOWS = "windows"
"""What is left out to choose a penalty where nothing else is left."""
N_FOLDS, MOST_GROUPS = 5, 8
LEAST_FOR_INTERVAL = 3
FLOOR = 1e-3
"""Of a typical token, so that the log of a silent channel is finite."""
AT_ONCE = 256  # windows

StoredTokens = Float[Tensor, "window block query channel feature"]
ReadRows = Callable[[Int[np.ndarray, " row"]], StoredTokens]
"""Gives the tokens of windows, averaged over pools."""


@dataclass(frozen=True)
class Marked:
    """Windows of marked recordings, in order of recording and time.

    Attributes:
        label: index of the class, -1 where a window has none.
        learn: which of the labelled windows heads learn from.
        group: for each of :data:`LEVELS` the person, recording or mark of each window.
        classes: names.
    """

    label: Int[np.ndarray, " window"]
    learn: Bool[np.ndarray, " window"]
    group: Mapping[str, Int[np.ndarray, " window"]]
    classes: Sequence[str]


class Readout(NamedTuple):
    """A way to read tokens: of all blocks or of the deeper half, of each channel or their mean."""

    deep: bool
    per_channel: bool

    def blocks(self, tokens: StoredTokens) -> StoredTokens:
        """Return the tokens of the blocks that are read."""
        return tokens[:, tokens.shape[1] // 2 :] if self.deep else tokens


CANDIDATE_READOUTS = tuple(Readout(deep, each) for each in (False, True) for deep in (False, True))


class Fitted(NamedTuple):
    """A head, and how it was chosen."""

    head: LinearHead
    readout: Readout
    penalty: float
    chosen_over: str
    """What was left out to choose readout and penalty: one of :data:`LEVELS` or windows."""

    def decide(self, tokens: StoredTokens) -> Float[np.ndarray, "window class"]:
        """Return the logits of windows."""
        with torch.inference_mode():
            return self.head.classify(self.readout.blocks(tokens)).numpy().astype(np.float64)


class CrossFitted(NamedTuple):
    """What heads say of windows that they did not learn from."""

    level: str
    """What was left out: one of :data:`LEVELS`."""
    decisions: Float[np.ndarray, "window class"]
    """NaN where no head was asked."""
    heads: list[Fitted]


def marks(
    label: Int[np.ndarray, " window"], recording: Int[np.ndarray, " window"]
) -> Int[np.ndarray, " window"]:
    """Number the runs of consecutive windows that share recording and label."""
    changes = (np.diff(label) != 0) | (np.diff(recording) != 0)
    return np.append(0, np.cumsum(changes))


def cross_fit(marked: Marked, read: ReadRows) -> CrossFitted:
    """Decide about each window by a head that learned nothing of its person; of its recording or
    its mark where people, or recordings, are too few.

    Raises:
        UserError: a class has one mark alone.
    """
    level = _level(marked, np.flatnonzero(marked.learn))
    if level is None:
        raise UserError(_one_mark(marked))
    learn = np.flatnonzero(marked.learn)
    tokens, group = read(learn), marked.group[level]
    decisions = np.full((len(marked.label), len(marked.classes)), np.nan)
    heads = []
    for held_out in _group_folds(group[learn], marked.label[learn]):
        own = ~np.isin(group[learn], held_out)
        heads.append(fit_head(marked, learn[own], tokens[torch.from_numpy(own)]))
        asked = np.isin(group, held_out)
        if level == "marks":  # what lies between marks is neither learned nor left out
            asked &= marked.label >= 0
        for rows in in_parts(np.flatnonzero(asked)):
            decisions[rows] = heads[-1].decide(read(rows))
    return CrossFitted(level, decisions, heads)


def fit_head(marked: Marked, learn: Int[np.ndarray, " learn"], tokens: StoredTokens) -> Fitted:
    """Fit a head to windows; of the readouts and penalties the one with the least error on people
    (recordings, marks, windows) that are left out in turn.

    Args:
        learn: which windows, all labelled.
        tokens: theirs.
    """
    level = _level(marked, learn)
    group = np.arange(len(learn)) if level is None else marked.group[level][learn]
    label, n_classes = marked.label[learn], len(marked.classes)
    best: tuple[float, Fitted] | None = None
    for readout in CANDIDATE_READOUTS:
        own = readout.blocks(tokens)
        _, n_blocks, n_queries, n_channels, d_model = own.shape
        head = LinearHead(
            n_blocks, n_queries, n_channels, n_classes, d_model, readout.per_channel, floor_of(own)
        ).eval()
        values = head.values(own).flatten(1).numpy()
        rows = np.arange(len(learn))
        found = fit_ridge(inner_products(values, rows, rows), label[None], n_classes, group)
        error = float(found.error[0])
        if best is None or error < best[0]:
            _fill(head, values, found.weights[0], found.offset[0])
            chosen_over = level or WINDOWS
            best = error, Fitted(head, readout, float(found.penalty[0]), chosen_over)
    assert best is not None
    return best[1]


def fit_calibrated(marked: Marked, read: ReadRows) -> tuple[Fitted, CrossFitted]:
    """Fit a head to all windows to learn from, with logits that are calibrated on what heads like
    it say of windows that they did not learn from; return these decisions too, as such logits.

    Raises:
        UserError: as :func:`cross_fit`.
    """
    found = cross_fit(marked, read)
    learn = np.flatnonzero(marked.learn)
    fitted = fit_head(marked, learn, read(learn))
    factor = calibrate(found.decisions[learn], marked.label[learn])
    scale_logits(fitted.head, factor)
    return fitted, found._replace(decisions=found.decisions * factor)


def floor_of(tokens: StoredTokens) -> float:
    """Return what is added to tokens before the log is taken.

    Raises:
        UserError: half of them are zero.
    """
    floor = FLOOR * float(tokens.median())
    if not floor > 0:
        raise UserError(
            "half of the signal is flat: its tokens are zero, and nothing can be learned from them"
        )
    return floor


@torch.no_grad()
def _fill(head: LinearHead, values: np.ndarray, weights: np.ndarray, offset: np.ndarray) -> None:
    """Turn weights of windows into weights of values."""
    mean, spread = standardisation(values)
    standard = (values - mean) / spread
    weight = standard.T.astype(np.float64) @ weights / values.shape[1]
    shape = head.value_mean.shape
    head.value_mean.copy_(torch.from_numpy(mean).view(shape))
    head.value_spread.copy_(torch.from_numpy(spread).view(shape))
    head.out.weight.copy_(torch.from_numpy(weight.T))
    head.out.bias.copy_(torch.from_numpy(offset))


def calibrate(
    decisions: Float[np.ndarray, "window class"], label: Int[np.ndarray, " window"]
) -> float:
    """Return what decisions are to be multiplied by to be logits.

    One more window of each class, like the mean of its own, is counted as of another class: a few
    windows that are all decided rightly do not make certainty.
    """
    scale = float((decisions - decisions.mean(axis=1, keepdims=True)).std()) or 1.0
    logits = (decisions - decisions.mean(axis=1, keepdims=True)) / scale
    n_classes = decisions.shape[1]
    typical = np.stack([logits[label == k].mean(axis=0) for k in range(n_classes)])
    wrong = (np.arange(n_classes) + 1) % n_classes
    temperature = fit_temperature(np.concatenate([logits, typical]), np.append(label, wrong))
    return 1.0 / (scale * float(temperature))


@torch.no_grad()
def scale_logits(head: LinearHead, factor: float) -> None:
    """Multiply a head's logits."""
    head.out.weight.mul_(factor)
    head.out.bias.mul_(factor)


# ------------------------------------------------------------------------------------ expectation


@dataclass(frozen=True)
class Expectation:
    """What to expect of a detector: scores of heads on what they did not learn from.

    Attributes:
        across: what was left out in turn: people, recordings or marks.
        n_groups: how many of them.
        n_windows: labelled windows that were judged, of each class.
        scores: a row for AUROC and balanced accuracy: score, value, low, high (95 % of draws of
            the groups with replacement; missing where a class has fewer than three).
        recall: share of each class's windows that are decided rightly.
    """

    across: str
    n_groups: int
    n_windows: dict[str, int]
    scores: pd.DataFrame
    recall: dict[str, float]

    def sentence(self) -> str:
        """Return the scores, for people to read."""
        found = ", ".join(_said(row) for row in self.scores.itertuples())
        own = "; neighbours in a recording are alike, so expect less of other recordings"
        return (
            f"across {self.n_groups} {self.across}: {found}"
            f"{own if self.across == GROUP_LEVELS[-1] else ''}"
        )


def _said(row: Any) -> str:
    name = "AUROC" if row.score == "auroc" else row.score.replace("_", " ")
    if pd.isna(row.low):
        return f"{name} {row.value:.2f} (too few for an interval)"
    return f"{name} {row.value:.2f} ({row.low:.2f} to {row.high:.2f})"


def expect(marked: Marked, found: CrossFitted) -> Expectation:
    """Score the decisions on labelled windows."""
    rows = np.flatnonzero(marked.label >= 0)
    label, decisions = marked.label[rows], found.decisions[rows]
    names, group = np.unique(marked.group[found.level][rows], return_inverse=True)
    counted = people_scores.count_people(Units(label, group, np.arange(len(rows))), decisions)
    holders = (counted.n > 0).sum(axis=0)
    if holders.min() < LEAST_FOR_INTERVAL:
        weight = np.ones((1, len(names)))
    else:
        windows = LabelledWindows(label, group, group, marked.classes)
        weight = people_scores.draws(windows).weight
    drawn = people_scores.score(counted, weight)
    scores = [
        {"score": name, **people_scores.interval(drawn[name])}
        for name in ("auroc", "balanced_accuracy")
    ]
    recall = counted.hits.sum(axis=0) / counted.n.sum(axis=0)
    return Expectation(
        found.level,
        len(names),
        {name: int((label == k).sum()) for k, name in enumerate(marked.classes)},
        pd.DataFrame(scores).astype({"low": float, "high": float}),
        dict(zip(marked.classes, map(float, recall), strict=True)),
    )


# ---------------------------------------------------------------------------------------- division


def _level(marked: Marked, rows: Int[np.ndarray, " row"]) -> str | None:
    """The first level at which leaving any one group out leaves every class."""
    for level in GROUP_LEVELS:
        if min(_holders(marked, level, rows)) > 1:
            return level
    return None


def _holders(marked: Marked, level: str, rows: Int[np.ndarray, " row"]) -> list[int]:
    """How many groups hold each class."""
    group, label = marked.group[level][rows], marked.label[rows]
    return [len(np.unique(group[label == k])) for k in range(len(marked.classes))]


def _one_mark(marked: Marked) -> str:
    holders = _holders(marked, GROUP_LEVELS[-1], np.flatnonzero(marked.learn))
    name = marked.classes[int(np.argmin(holders))]
    return (
        f"{name!r} is marked once: mark it a second time, if possible in another recording, so that"
        " a head can be tested on what it did not learn from"
    )


def _group_folds(
    group: Int[np.ndarray, " window"], label: Int[np.ndarray, " window"]
) -> list[Int[np.ndarray, " group"]]:
    """The groups of each fold: one by one if they are few, else shared out so that the others hold
    every class.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    names = np.unique(group)
    if len(names) > MOST_GROUPS:
        splitter = StratifiedGroupKFold(N_FOLDS, shuffle=True, random_state=0)
        divisions = list(splitter.split(label, label, group))
        if all(len(np.unique(label[learn])) == len(np.unique(label)) for learn, _ in divisions):
            return [np.unique(group[test]) for _, test in divisions]
    return [names[k : k + 1] for k in range(len(names))]


def in_parts(rows: Int[np.ndarray, " row"]) -> Iterator[Int[np.ndarray, " row"]]:
    """Yield rows whose tokens fit into memory together."""
    for start in range(0, len(rows), AT_ONCE):
        yield rows[start : start + AT_ONCE]
