"""Scores across people with intervals over people, of decisions that differ in the features behind
them.

A draw of people with replacement gives each person a weight. AUROC and balanced accuracy of a draw
follow from counts within people and between pairs of them, so that thousands of draws cost a matrix
product, and all kinds of features are judged on the same draws: differences are paired.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, Shaped

from eegdm.evaluation.across_people import Decisions, LabelledWindows

N_DRAWS = 2000
SCORES = ("auroc", "balanced_accuracy", "auroc_within", "balanced_accuracy_within")
"""Over all units together; and "within", the mean over people of each one's own score, among those
who hold several classes."""
SCORE_WORDS = {
    "auroc_within": "AUROC within people",
    "auroc": "AUROC",
    "balanced_accuracy": "balanced accuracy",
}
"""How those that people read of are called in a sentence."""
LEVELS = ("window", "recording", "person")
"""What is scored: each window, or the mean decision over the windows of one label of a recording or
person."""


CHANCE_COLUMNS = ["features", "level", "score", "value", "mean", "low", "high", "p", "n"]


class Units(NamedTuple):
    """What is scored one by one."""

    label: Int[np.ndarray, " unit"]
    person: Int[np.ndarray, " unit"]
    """Number of the person."""
    of_window: Int[np.ndarray, " window"]
    """The unit that each window belongs to."""

    def mean(self, values: Float[np.ndarray, "window class"]) -> Float[np.ndarray, "unit class"]:
        total = np.zeros((len(self.label), values.shape[1]))
        np.add.at(total, self.of_window, values)
        return total / np.bincount(self.of_window)[:, None]


def units_of(
    windows: LabelledWindows, level: str, label: Int[np.ndarray, " window"] | None = None
) -> Units:
    """Return the units of a level of :data:`LEVELS`, with other labels if there are any."""
    label = windows.label if label is None else label
    _, person = np.unique(windows.person, return_inverse=True)
    if level == "window":
        return Units(label, person, np.arange(len(person)))
    return joined(label, person, windows.recording if level == "recording" else windows.person)


def joined(
    label: Int[np.ndarray, " window"],
    person: Int[np.ndarray, " window"],
    place: Shaped[np.ndarray, " window"],
) -> Units:
    """Return units of the windows of a person that share place and label."""
    _, number = np.unique(place, return_inverse=True)
    key = np.stack([person, number, label], axis=1)
    _, first, of = np.unique(key, axis=0, return_index=True, return_inverse=True)
    return Units(label[first], person[first], of.ravel())


class Counts(NamedTuple):
    """What scores of any draw of people follow from."""

    n: Int[np.ndarray, "person class"]
    hits: Int[np.ndarray, "person class"]
    """Units of each class that are decided rightly."""
    above: Float[np.ndarray, "class person person"]
    """Pairs of a first person's unit of the class and a second's of another class in which the
    first is ranked higher; ties are halves."""


def count_people(units: Units, decision: Float[np.ndarray, "unit class"]) -> Counts:
    """Count what :func:`score` needs."""
    n_people, n_classes = units.person.max() + 1, decision.shape[1]
    n, hits = np.zeros((2, n_people, n_classes), dtype=int)
    np.add.at(n, (units.person, units.label), 1)
    right = decision.argmax(axis=1) == units.label
    np.add.at(hits, (units.person[right], units.label[right]), 1)
    # Of two classes, both have the same AUROC
    ranked = range(1, 2) if n_classes == 2 else range(n_classes)
    above = np.zeros((len(ranked), n_people, n_people))
    for index, k in enumerate(ranked):
        rank_by = decision[:, 1] - decision[:, 0] if n_classes == 2 else decision[:, k]
        own = units.label == k
        for other in range(n_people):
            against = np.sort(rank_by[~own & (units.person == other)])
            below = np.searchsorted(against, rank_by[own], "left")
            equal_or_below = np.searchsorted(against, rank_by[own], "right")
            above[index, :, other] = np.bincount(
                units.person[own], (below + equal_or_below) / 2, n_people
            )
    return Counts(n, hits, above)


def score(
    found: Counts, weight: Float[np.ndarray, "draw person"]
) -> dict[str, Float[np.ndarray, " draw"]]:
    """Return :data:`SCORES` where each person counts as often as the weight says; NaN where they
    are not defined. The AUROC of more than two classes is the mean of each against the others.

    A person drawn twice stands for two people, so two copies are not compared with each other for
    AUROC: pairs within a person would otherwise weigh twice as much as they do among the people
    themselves, and they are ranked better than pairs of different people.
    """
    n, hits = weight @ found.n, weight @ found.hits
    positive = found.n[:, 1:] if len(found.above) == 1 else found.n
    pairs = np.einsum("pk,qk->kpq", positive, found.n.sum(axis=1, keepdims=True) - positive)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = hits / n
        ranked = (_over_pairs(found.above, weight) / _over_pairs(pairs, weight)).T
        own_recall = found.hits / found.n
        own_ranked = (_diagonal(found.above) / _diagonal(pairs)).T
    enough, own_enough = (n > 0).sum(axis=1) >= 2, (found.n > 0).sum(axis=1) >= 2
    return {
        "auroc": _mean_of_defined(ranked, enough),
        "balanced_accuracy": _mean_of_defined(recall, enough),
        "auroc_within": _over_people(_mean_of_defined(own_ranked, own_enough), weight),
        "balanced_accuracy_within": _over_people(_mean_of_defined(own_recall, own_enough), weight),
    }


def _over_pairs(
    values: Float[np.ndarray, "class person person"], weight: Float[np.ndarray, "draw person"]
) -> Float[np.ndarray, "class draw"]:
    """Sum over pairs of people, without pairs of two copies of a person."""
    of_pairs = np.einsum("kdq,dq->kd", weight @ values, weight)
    copies = weight * (weight - 1)
    return of_pairs - _diagonal(values) @ copies.T


def _diagonal(
    values: Float[np.ndarray, "class person person"],
) -> Float[np.ndarray, "class person"]:
    return np.diagonal(values, axis1=1, axis2=2)


def _over_people(
    own: Float[np.ndarray, " person"], weight: Float[np.ndarray, "draw person"]
) -> Float[np.ndarray, " draw"]:
    """Mean over the people whose own score is defined."""
    defined = np.isfinite(own)
    times = weight[:, defined].sum(axis=1)
    total = weight[:, defined] @ own[defined]
    return np.where(times > 0, total / np.maximum(times, 1), np.nan)


def _mean_of_defined(values: np.ndarray, enough: np.ndarray) -> np.ndarray:
    defined = np.isfinite(values)
    total = np.where(defined, values, 0.0).sum(axis=1)
    return np.where(enough, total / np.maximum(defined.sum(axis=1), 1), np.nan)


class Draws(NamedTuple):
    """Draws of people with replacement; row 0 holds everybody once."""

    weight: Float[np.ndarray, "draw person"]
    seed: int
    """Of the draws among the members of a row."""


def draws(windows: LabelledWindows, n: int = N_DRAWS, seed: int = 0) -> Draws:
    """Draw people ``n`` times; people of one class are drawn among those of the same class."""
    people = windows.people
    stratum = np.array(
        [
            windows.label[windows.person == who][0] if windows.n_labels_of(who) == 1 else -1
            for who in people
        ]
    )
    weight = np.ones((n + 1, len(people)))
    for value in np.unique(stratum):
        own = np.flatnonzero(stratum == value)
        rng = np.random.default_rng([seed, value + 1])
        for row in weight[1:]:
            row[own] = np.bincount(rng.integers(len(own), size=len(own)), minlength=len(own))
    return Draws(weight, seed)


Scored = Mapping[tuple[str, str, int | None, str], Float[np.ndarray, " draw"]]
"""Scores of each draw by row, level, number of people learned from (None: all) and name."""


def drawn_scores(
    windows: LabelledWindows,
    decisions: Mapping[str, Decisions],
    rows: Mapping[str, Sequence[str]],
    drawn: Draws,
) -> Scored:
    """Return the scores of each row for every draw.

    Args:
        rows: for each row of the table the kinds of features that it is the mean of. Where there
            are several (seeds, random twins), each draw of people draws among them too, so that
            intervals hold their spread.
    """
    found = {}
    for level in LEVELS:
        units = units_of(windows, level)
        for number, (row, members) in enumerate(rows.items()):
            for n_people in (None, *decisions[members[0]].curve):
                if n_people is not None and level == "recording":
                    continue
                of_members = [
                    _mean_over_repeats(units, decisions[member], n_people, drawn.weight)
                    for member in members
                ]
                for name in SCORES:
                    each = np.stack([scores[name] for scores in of_members])
                    rng = np.random.default_rng([drawn.seed, number])
                    found[row, level, n_people, name] = _over_members(each, rng)
    return found


def _mean_over_repeats(
    units: Units, decided: Decisions, n_people: int | None, weight: np.ndarray
) -> dict[str, np.ndarray]:
    repeats = [decided.values] if n_people is None else decided.curve[n_people]
    scored = [score(count_people(units, units.mean(values)), weight) for values in repeats]
    return {name: np.mean([one[name] for one in scored], axis=0) for name in SCORES}


def _over_members(
    each: Float[np.ndarray, "member draw"], rng: np.random.Generator
) -> Float[np.ndarray, " draw"]:
    """Mean over the members that each draw happens to have; over all of them for everybody once."""
    chosen = rng.integers(len(each), size=each.shape[::-1])
    chosen[0] = np.arange(len(each))
    return each[chosen, np.arange(each.shape[1])[:, None]].mean(axis=1)


def widening(n_folds: int) -> float:
    """Return by how much intervals of a cross-validation are wider than those over the people
    tested: the people of a fold share one head, and the heads of all folds share people to learn
    from, which draws of the people tested do not show. The factor of the variance is that of Nadeau
    and Bengio (2003, doi:10.1023/A:1024068626366).
    """
    return (1 + n_folds / (n_folds - 1)) ** 0.5


def interval(
    values: Float[np.ndarray, " draw"],
    wider: float = 1.0,
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> dict[str, float | None]:
    """Return value (of everybody once), and low and high, between which 95 % of the draws lie.

    Args:
        values: of everybody once, then of each draw.
        wider: what the distances of low and high from the value are multiplied by.
        bounds: what low and high cannot pass.
    """
    value, drawn = values[0], values[1:][np.isfinite(values[1:])]
    ends = np.percentile(drawn, [2.5, 97.5]) if len(drawn) else np.full(2, np.nan)
    low, high = np.clip(value + wider * (ends - value), *bounds)
    return {
        name: float(x) if np.isfinite(x) else None
        for name, x in (("value", value), ("low", low), ("high", high))
    }


def score_table(scored: Scored, n_folds: int) -> pd.DataFrame:
    """Return a row per score: features, level, n_people (null: all), score, value, low, high."""
    rows: list[dict[str, Any]] = []
    for (row, level, n_people, name), values in scored.items():
        rows.append({"features": row, "level": level, "n_people": n_people, "score": name})
        rows[-1] |= interval(values, widening(n_folds), (0.0, 1.0))
    return pd.DataFrame(rows).astype({"n_people": "Int64"})


def difference_table(
    scored: Scored, pairs: Sequence[tuple[str, str]], n_folds: int
) -> pd.DataFrame:
    """Return a row per score and pair of features: the first minus the second on the same draws."""
    rows: list[dict[str, Any]] = []
    for first, second in pairs:
        for (row, level, n_people, name), values in scored.items():
            if row == first:
                rows.append({"features": first, "minus": second, "level": level})
                rows[-1] |= {"n_people": n_people, "score": name}
                difference = values - scored[second, level, n_people, name]
                rows[-1] |= interval(difference, widening(n_folds))
    return pd.DataFrame(rows).astype({"n_people": "Int64"})


def chance_table(
    windows: LabelledWindows,
    permuted: Int[np.ndarray, "labelling window"],
    decisions: Mapping[str, Decisions],
) -> pd.DataFrame:
    """Return for each kind of features whose head was fitted to permuted labels how it then scores:
    features, level, score, value (with the real labels), mean, low, high (95 % of the permuted), p
    (the share of labellings that score no worse, the real one counted too) and n labellings.
    """
    rows: list[dict[str, Any]] = []
    for level in ("window", "person"):
        real = units_of(windows, level)
        by_chance = [units_of(windows, level, labels) for labels in permuted]
        everybody = np.ones((1, real.person.max() + 1))
        for name, decided in decisions.items():
            if not len(decided.permuted):
                continue
            found = score(count_people(real, real.mean(decided.values)), everybody)
            permuted_scores = [
                score(count_people(units, units.mean(values)), everybody)
                for units, values in zip(by_chance, decided.permuted, strict=True)
            ]
            for kind in SCORES:
                values = np.array([one[kind][0] for one in permuted_scores])
                value = float(found[kind][0])
                rows.append({"features": name, "level": level, "score": kind, "value": value})
                low, high = np.percentile(values, [2.5, 97.5])
                rows[-1] |= {"mean": values.mean(), "low": low, "high": high}
                rows[-1] |= {"p": (1 + np.sum(values >= value)) / (1 + len(values))}
                rows[-1] |= {"n": len(values)}
    return pd.DataFrame(rows, columns=CHANCE_COLUMNS)
