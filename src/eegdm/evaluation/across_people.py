"""Heads that learn from some people and are asked about others, for several kinds of features side
by side.

Nothing here looks at the signal: features, labels and who is who are enough. Every kind of features
gets the same windows, folds, head and choice of penalty.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

from eegdm.errors import UserError
from eegdm.evaluation.ridge import fit_ridge, inner_products

N_FOLDS = 5
PEOPLE_TO_LEARN_FROM = (2, 4, 8)
N_REPEATS = 5
N_PERMUTATIONS = 200


@dataclass(frozen=True)
class Kind:
    """A kind of features."""

    name: str
    arrays: tuple[str, ...]
    """Names of the arrays that a head sees side by side, each with the same weight."""
    permuted: bool = False
    """Whether its head is also fitted to permuted labels."""


@dataclass(frozen=True)
class LabelledWindows:
    """What is known of each window beside its features."""

    label: Int[np.ndarray, " window"]
    person: Shaped[np.ndarray, " window"]
    recording: Shaped[np.ndarray, " window"]
    classes: Sequence[str]

    def __post_init__(self) -> None:
        if len(self.classes) < 2:
            raise UserError(
                f"all windows are labelled {self.classes[0]}: two labels or more are needed"
            )
        for index, name in enumerate(self.classes):
            holders = len(np.unique(self.person[self.label == index]))
            if holders < 3:
                raise UserError(
                    f"{name!r}: only {holders} of the people have it, and at least 3 are needed:"
                    " people to learn from, people to choose by and people to test"
                )

    @property
    def people(self) -> np.ndarray:
        return np.unique(self.person)

    def n_labels_of(self, who: Any) -> int:
        """Number of classes that a person holds."""
        return len(np.unique(self.label[self.person == who]))

    @property
    def people_of_one_class(self) -> int:
        """Number of people all of whose windows have the same label."""
        return sum(self.n_labels_of(who) == 1 for who in self.people)


class Decisions(NamedTuple):
    """What the heads of one kind of features say of windows they did not learn from."""

    values: Float[np.ndarray, "window class"]
    permuted: Float[np.ndarray, "labelling window class"]
    """By heads that learned from permuted labels."""
    curve: dict[int, Float[np.ndarray, "repeat window class"]]
    """By heads that learned from the given number of people."""
    penalty: list[float]
    """Chosen in each fold."""


def centred(
    features: Float[np.ndarray, "window feature"], person: Shaped[np.ndarray, " window"]
) -> Float[np.ndarray, "window feature"]:
    """Subtract from each person's features their mean over all windows of that person. No label is
    used; windows of the people tested are.
    """
    _, of = np.unique(person, return_inverse=True)
    total = np.zeros((of.max() + 1, features.shape[1]))
    np.add.at(total, of, features)
    return features - (total / np.bincount(of)[:, None])[of].astype(features.dtype)


def folds(windows: LabelledWindows, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the windows to learn from and to test of each fold: every person is tested once, and
    classes are spread evenly.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    of_class = [
        len(np.unique(windows.person[windows.label == k])) for k in range(len(windows.classes))
    ]
    splitter = StratifiedGroupKFold(min(N_FOLDS, *of_class), shuffle=True, random_state=seed)
    divisions = list(splitter.split(windows.label, windows.label, windows.person))
    for learn, _ in divisions:
        if len(np.unique(windows.label[learn])) < len(windows.classes):
            raise UserError(
                "some class is held by too few people to be both learned and tested; leave it out"
                " or add people"
            )
    return divisions


def permuted_labels(
    windows: LabelledWindows, n: int, seed: int = 0
) -> Int[np.ndarray, "labelling window"]:
    """Return labels that have nothing to do with the signal, as alike to the real ones as possible.

    Consecutive windows of a recording that share a label stay together. Such stretches exchange
    their labels within a person; people of one class exchange theirs with each other.
    """
    rng = np.random.default_rng(seed)
    one_class = {who for who in windows.people if windows.n_labels_of(who) == 1}
    changes = (
        (np.diff(windows.label) != 0)
        | (windows.recording[1:] != windows.recording[:-1])
        | (windows.person[1:] != windows.person[:-1])
    )
    stretch = np.append(0, np.cumsum(changes))
    first = np.append(0, np.flatnonzero(changes) + 1)
    owner, label_of = windows.person[first], windows.label[first]
    single = np.array([who in one_class for who in owner])
    people = sorted(one_class)
    label_of_person = np.array([label_of[owner == who][0] for who in people], dtype=int)
    found = np.empty((n, len(stretch)), dtype=windows.label.dtype)
    for row in found:
        shuffled = label_of.copy()
        for who in np.unique(owner[~single]):
            mine = np.flatnonzero(owner == who)
            shuffled[mine] = rng.permutation(label_of[mine])
        for who, label in zip(people, rng.permutation(label_of_person), strict=True):
            shuffled[owner == who] = label
        row[:] = shuffled[stretch]
    return found


class _Task(NamedTuple):
    """One training set: a number of people to learn from (None: all), which repeat, its windows."""

    n_people: int | None
    repeat: int
    fold: int
    learn: np.ndarray
    test: np.ndarray


def decide(
    features: Mapping[str, Float[np.ndarray, "window feature"]],
    windows: LabelledWindows,
    kinds: Sequence[Kind],
    permuted: Int[np.ndarray, "labelling window"],
    seed: int = 0,
) -> dict[str, Decisions]:
    """Return for each kind of features what heads say of every window, learned from other people.

    Args:
        features: arrays by name, one row per window, float32.
        windows: label, person and recording of each window, in order of time within a recording.
        kinds: what to compare.
        permuted: labels by chance, such as those of :func:`permuted_labels`.
        seed: of folds and of the people drawn to learn from.

    Raises:
        UserError: a feature is not finite.
    """
    from joblib import Parallel, delayed
    from threadpoolctl import threadpool_limits

    from eegdm.processes import available_cores

    for name, values in features.items():
        if not np.isfinite(values).all():
            raise UserError(f"{name}: some features are not finite; leave out such windows")
    tasks = list(_tasks(windows, seed))
    with threadpool_limits(1):  # each core takes training sets of its own
        done = Parallel(available_cores(), prefer="threads")(
            delayed(_fitted)(task, features, windows, kinds, permuted) for task in tasks
        )
    return {
        kind.name: _gathered(
            kind, windows, len(permuted), tasks, [found[kind.name] for found in done]
        )
        for kind in kinds
    }


def _tasks(windows: LabelledWindows, seed: int) -> Iterator[_Task]:
    """All training sets: the folds, and draws of few people within each."""
    divisions = folds(windows, seed)
    orders: dict[tuple[int, int], tuple[list[Any], int]] = {}
    for fold, (learn, test) in enumerate(divisions):
        yield _Task(None, 0, fold, learn, test)
        for repeat in range(N_REPEATS):
            rng = np.random.default_rng([seed, fold, repeat])
            orders[fold, repeat] = _order_of_people(windows, learn, rng)
    for n_people in PEOPLE_TO_LEARN_FROM:
        if any(needed > n_people or len(order) <= n_people for order, needed in orders.values()):
            continue
        for (fold, repeat), (order, _) in orders.items():
            learn, test = divisions[fold]
            own = learn[np.isin(windows.person[learn], order[:n_people])]
            yield _Task(n_people, repeat, fold, own, test)


def _order_of_people(
    windows: LabelledWindows, learn: np.ndarray, rng: np.random.Generator
) -> tuple[list[Any], int]:
    """People in random order, and how many of the first hold all classes together: those come
    first who bring a class that is missing until then. Where everybody holds one class, the
    classes take turns.
    """
    waiting = list(rng.permutation(np.unique(windows.person[learn])))
    held = {who: set(windows.label[windows.person == who].tolist()) for who in waiting}
    take_turns = all(len(classes) == 1 for classes in held.values())
    order: list[Any] = []
    seen: set[int] = set()
    needed = 0
    while waiting:
        who = next((who for who in waiting if held[who] - seen), None)
        if who is None and take_turns:
            seen = set()
            who = waiting[0]
        elif who is None:
            who = waiting[0]
        waiting.remove(who)
        order.append(who)
        seen |= held[who]
        if not needed and set().union(*(held[one] for one in order)) == _all(windows):
            needed = len(order)
    return order, needed


def _all(windows: LabelledWindows) -> set[int]:
    return set(range(len(windows.classes)))


class _Fitted(NamedTuple):
    penalty: float
    values: np.ndarray
    permuted: np.ndarray


def _fitted(
    task: _Task,
    features: Mapping[str, np.ndarray],
    windows: LabelledWindows,
    kinds: Sequence[Kind],
    permuted: np.ndarray,
) -> dict[str, _Fitted]:
    """Decisions on the test windows of one training set, for each kind of features."""
    rows = np.concatenate([task.learn, task.test])
    n_learn, person = len(task.learn), windows.person[task.learn]
    of_array = {
        name: inner_products(features[name], task.learn, rows)
        for name in {array for kind in kinds for array in kind.arrays}
    }
    found = {}
    for kind in kinds:
        products = np.mean([of_array[name] for name in kind.arrays], axis=0)
        labels = windows.label[None, task.learn]
        if kind.permuted and task.n_people is None:
            labels = np.concatenate([labels, permuted[:, task.learn]])
        head = fit_ridge(products[:n_learn], labels, len(windows.classes), person)
        decided = head.decide(products[n_learn:]).astype(np.float32)
        found[kind.name] = _Fitted(float(head.penalty[0]), decided[0], decided[1:])
    return found


def _gathered(
    kind: Kind,
    windows: LabelledWindows,
    n_permutations: int,
    tasks: Sequence[_Task],
    done: Sequence[_Fitted],
) -> Decisions:
    """Put the decisions of all folds together."""
    shape = (len(windows.label), len(windows.classes))
    values = np.full(shape, np.nan, np.float32)
    permuted = np.full((n_permutations if kind.permuted else 0, *shape), np.nan, np.float32)
    curve: dict[int, np.ndarray] = {}
    penalty = []
    for task, one in zip(tasks, done, strict=True):
        if task.n_people is None:
            values[task.test] = one.values
            penalty.append(one.penalty)
            permuted[:, task.test] = one.permuted
        else:
            of_point = curve.setdefault(
                task.n_people, np.full((N_REPEATS, *shape), np.nan, np.float32)
            )
            of_point[task.repeat, task.test] = one.values
    return Decisions(values, permuted, curve, penalty)
