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
from scipy.special import softmax
from torch import Tensor

from eegdm.errors import UserError
from eegdm.evaluation import people_scores
from eegdm.evaluation.across_people import LabelledWindows
from eegdm.evaluation.metrics import fit_temperature
from eegdm.evaluation.people_scores import SCORE_WORDS
from eegdm.evaluation.ridge import fit_ridge, inner_products, standardisation
from eegdm.models.linear import LinearHead

GROUP_LEVELS = ("people", "recordings", "marks")
"""What may be left out to test a head, the most telling first; a mark is an unbroken run of windows
of one label in a recording."""
RECORDINGS, WINDOWS = "recordings", "windows"
"""What may be scored; windows are also what is left out to choose a penalty where nothing else is
left."""
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

    def calibration(self, marked: Marked) -> float:
        """Return what the decisions are to be multiplied by to be logits."""
        learn = np.flatnonzero(marked.learn)
        return calibrate(self.decisions[learn], marked.label[learn])


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
    factor = found.calibration(marked)
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
    """What to expect of a detector: scores of heads on what they did not learn from, beside heads
    that were chosen and judged alike on other features of the same windows.

    Attributes:
        across: what was left out in turn: people, recordings or marks.
        n_groups: how many of them.
        unit: what is scored: windows, or recordings by the mean probability of their windows.
        n_units: how many of each class were judged.
        scores: features, score (auroc, balanced_accuracy), value, low, high (95 %, from draws of
            the groups with replacement, widened as those of `eegdm evaluate` are; missing where
            fewer than three groups hold a class). The detector's own features come first.
        differences: the detector's own features minus others, on the same draws: minus, score,
            value, low, high.
        recall: share of each class's units that the detector's heads decide rightly.
    """

    across: str
    n_groups: int
    unit: str
    n_units: dict[str, int]
    scores: pd.DataFrame
    differences: pd.DataFrame
    recall: dict[str, float]

    def sentence(self) -> str:
        """Return the detector's own scores, for people to read."""
        own = self.scores[self.scores.features == self.scores.features.iloc[0]]
        of = " of whole recordings" if self.unit == RECORDINGS else ""
        found = ", ".join(f"{SCORE_WORDS[row.score]}{of} {_said(row)}" for row in own.itertuples())
        alike = "; neighbours in a recording are alike, so expect less of other recordings"
        return (
            f"across {self.n_groups} {self.across}: {found}"
            f"{alike if self.across == GROUP_LEVELS[-1] else ''}"
        )

    def comparisons(self) -> list[str]:
        """Return a sentence for each of the other features: AUROC, and whether the detector's own
        are better.
        """
        said = []
        own = self.scores.features.iloc[0]
        auroc = self.scores[self.scores.score == "auroc"].set_index("features").value
        for row in self.differences[self.differences.score == "auroc"].itertuples():
            ranked = f"{row.minus}, with a head chosen alike: AUROC {auroc[row.minus]:.2f}"
            if pd.isna(row.low):
                verdict = "there are too few to say which is better"
            else:
                interval = f"{row.value:+.2f} ({row.low:+.2f} to {row.high:+.2f})"
                word = (
                    "better" if row.low > 0 else "worse" if row.high < 0 else "not shown to differ"
                )
                verdict = f"tokens of {own} are {word}, {interval}"
            said.append(f"{ranked}; {verdict}")
        return said


def _said(row: Any) -> str:
    if pd.isna(row.low):
        return f"{row.value:.2f} (too few for an interval)"
    return f"{row.value:.2f} ({row.low:.2f} to {row.high:.2f})"


def expect(marked: Marked, found: Mapping[str, CrossFitted], unit: str = WINDOWS) -> Expectation:
    """Score decisions about labelled windows, or about recordings that have one label each.

    Args:
        marked: the windows.
        found: by name of the features behind them, the detector's own first.
        unit: windows or recordings.
    """
    rows = np.flatnonzero(marked.label >= 0)
    own = next(iter(found.values()))
    names, group = np.unique(marked.group[own.level][rows], return_inverse=True)
    label, recording = marked.label[rows], marked.group[RECORDINGS][rows]
    units = (
        people_scores.joined(label, group, recording)
        if unit == RECORDINGS
        else people_scores.Units(label, group, np.arange(len(rows)))
    )
    counts = {}
    for name, one in found.items():
        # Of recordings the mean probability decides, as the detector's rule does
        logits = one.decisions[rows] * one.calibration(marked)
        counts[name] = people_scores.count_people(units, units.mean(softmax(logits, axis=1)))
    first = next(iter(counts.values()))
    holders = (first.n > 0).sum(axis=0)
    weight = (
        np.ones((1, len(names)))
        if holders.min() < LEAST_FOR_INTERVAL
        else people_scores.draws(LabelledWindows(label, group, recording, marked.classes)).weight
    )
    drawn = {name: people_scores.score(counted, weight) for name, counted in counts.items()}
    wider = people_scores.widening(len(own.heads))
    scores, differences = [], []
    of_own = next(iter(drawn.values()))
    for name, values in drawn.items():
        for score in ("auroc", "balanced_accuracy"):
            interval = people_scores.interval(values[score], wider, (0.0, 1.0))
            scores.append({"features": name, "score": score, **interval})
            if values is not of_own:
                interval = people_scores.interval(of_own[score] - values[score], wider)
                differences.append({"minus": name, "score": score, **interval})
    recall = first.hits.sum(axis=0) / first.n.sum(axis=0)
    numbers = {"value": float, "low": float, "high": float}
    return Expectation(
        own.level,
        len(names),
        unit,
        {name: int(n) for name, n in zip(marked.classes, first.n.sum(axis=0), strict=True)},
        pd.DataFrame(scores).astype(numbers),
        pd.DataFrame(differences, columns=["minus", "score", *numbers]).astype(numbers),
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
