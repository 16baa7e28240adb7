"""Which windows to mark next: those that speak for most of what a head is unsure of.

Nothing here looks at the signal: distances between windows, a weight for each and who is who are
enough.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, Int


def uncertainty(probability: Float[np.ndarray, "window class"]) -> Float[np.ndarray, " window"]:
    """Return how close the two likeliest classes are: 0 if one is certain, 1 if they are equal."""
    second, first = np.sort(probability, axis=1)[:, -2:].T
    return 1.0 - (first - second)


def choose(
    distance: Float[np.ndarray, "window window"],
    to_marked: Float[np.ndarray, " window"],
    weight: Float[np.ndarray, " window"],
    person: Int[np.ndarray, " window"],
    n: int,
) -> list[int]:
    """Choose windows one by one, each the one that most reduces the sum, over all windows, of
    weight times distance to the nearest window that is marked or chosen; of equals the first.

    This is the greedy algorithm for facility location (k medians). A window is chosen for those
    that lie around it, so that a single odd one is chosen late, and none is chosen for what a
    marked or chosen neighbour speaks for already.

    Args:
        distance: between windows that may be chosen.
        to_marked: the distance of each to the nearest marked window; infinite if none is marked.
        weight: how much it matters that a window is near to a marked one, from 0 on.
        person: whose each window is. Of nobody more than n divided by the number of people,
            rounded up, are chosen.
        n: how many to choose; fewer are chosen if the people have fewer.

    Returns:
        Indices in the order of choice.
    """
    most = math.ceil(n / len(np.unique(person)))
    left, chosen = to_marked.copy(), list[int]()
    is_free = np.ones(len(weight), bool)
    while len(chosen) < n and is_free.any():
        free = np.flatnonzero(is_free)
        cost = weight @ np.minimum(left[:, None], distance[:, free])
        best = int(free[cost.argmin()])
        chosen.append(best)
        left = np.minimum(left, distance[:, best])
        is_free[best] = False
        if np.count_nonzero(person[chosen] == person[best]) == most:
            is_free[person == person[best]] = False
    return chosen


def spoken_for(
    distance: Float[np.ndarray, "window window"],
    to_marked: Float[np.ndarray, " window"],
    chosen: list[int],
) -> Float[np.ndarray, " chosen"]:
    """Return the share of all windows to which each chosen one is nearer than any marked window or
    other chosen one.
    """
    nearest = np.column_stack([to_marked, distance[:, chosen]]).argmin(axis=1)
    return np.bincount(nearest, minlength=len(chosen) + 1)[1:] / len(distance)
