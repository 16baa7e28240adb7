"""Windows to mark next are chosen as a slow search chooses them, spread over people, and where an
unmarked kind of window is.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from eegdm.evaluation.choosing import choose, spoken_for, uncertainty


def distances(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    return np.sqrt(((points[:, None] - others[None]) ** 2).sum(axis=2))


def cost(points: np.ndarray, marked: np.ndarray, weight: np.ndarray) -> float:
    """What is left between windows and the nearest marked one, one window after the other."""
    total = 0.0
    for point, own in zip(points, weight, strict=True):
        total += own * min(math.dist(point, one) for one in marked)
    return total


@pytest.mark.parametrize("n_marked", [0, 3])
def test_each_choice_is_the_best_of_all_that_are_allowed(n_marked: int) -> None:
    rng = np.random.default_rng(n_marked)
    points, marked = rng.standard_normal((30, 4)), rng.standard_normal((n_marked, 4))
    weight, person = rng.random(30), rng.permutation(np.repeat([0, 1, 2], 10))
    to_marked = distances(points, marked).min(axis=1) if n_marked else np.full(30, np.inf)
    chosen = choose(distances(points, points), to_marked, weight, person, 7)
    assert len(set(chosen)) == 7
    for k, window in enumerate(chosen):
        before = [*marked, *points[chosen[:k]]]
        most = 3  # of 7 among 3 people
        full = [who for who in range(3) if sum(person[chosen[:k]] == who) == most]
        allowed = [i for i in range(30) if i not in chosen[:k] and person[i] not in full]
        costs = {i: cost(points, np.array([*before, points[i]]), weight) for i in allowed}
        assert costs[window] == pytest.approx(min(costs.values()), rel=1e-12)


def test_nobody_is_asked_for_more_than_their_share() -> None:
    """All that matters is of one person, and the others are asked all the same."""
    rng = np.random.default_rng(0)
    points, person = rng.standard_normal((40, 2)), np.repeat([0, 1, 2, 3], 10)
    weight = np.where(person == 0, 1.0, 0.0)
    chosen = choose(distances(points, points), np.full(40, np.inf), weight, person, 10)
    assert np.bincount(person[chosen]).max() == 3 and person[chosen[0]] == 0
    assert len(chosen) == 10


def test_people_with_few_windows_give_fewer() -> None:
    person = np.array([0, 1, 1, 1, 1, 1])
    points = np.arange(6.0)[:, None]
    chosen = choose(distances(points, points), np.full(6, np.inf), np.ones(6), person, 6)
    assert sorted(person[chosen]) == [0, 1, 1, 1]


def planted() -> tuple[np.ndarray, np.ndarray]:
    """A crowd of windows around the origin, a dozen of another kind, and one that is like none."""
    rng = np.random.default_rng(1)
    kinds = np.repeat([0, 1, 2], [80, 12, 1])
    centre = np.array([[0.0, 0.0], [6.0, 0.0], [0.0, 9.0]])
    return centre[kinds] + 0.5 * rng.standard_normal((93, 2)), kinds


def test_an_unmarked_kind_is_found_before_a_single_odd_window() -> None:
    points, kinds = planted()
    marked = points[:5]
    to_marked = distances(points, marked).min(axis=1)
    chosen = choose(distances(points, points), to_marked, np.ones(93), np.zeros(93, int), 2)
    assert kinds[chosen[0]] == 1


def test_what_is_certain_is_not_asked_about() -> None:
    points, kinds = planted()
    to_marked = distances(points, points[:5]).min(axis=1)
    weight = np.where(kinds == 1, 0.0, 1.0)
    chosen = choose(distances(points, points), to_marked, weight, np.zeros(93, int), 3)
    assert 1 not in kinds[chosen]


def test_uncertainty_is_one_between_two_classes_and_zero_at_a_certain_one() -> None:
    found = uncertainty(np.array([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.1, 0.7, 0.2]]))
    assert found == pytest.approx([0.0, 1.0, 0.5])


def test_a_window_speaks_for_those_that_are_nearest_to_it() -> None:
    points = np.array([[0.0], [1.0], [2.0], [10.0], [11.0]])
    to_marked = distances(points, np.array([[2.2]])).min(axis=1)
    share = spoken_for(distances(points, points), to_marked, [0, 4])
    assert share == pytest.approx([2 / 5, 2 / 5])
    nothing_marked = spoken_for(distances(points, points), np.full(5, np.inf), [0, 4])
    assert nothing_marked == pytest.approx([3 / 5, 2 / 5])
