"""A linear head for features of any number: ridge regression onto classes, its penalty chosen on
people that it does not learn from.

The head works on the inner products of windows, so that its cost depends on the number of windows
and hardly on the number of features. Each training set takes one eigendecomposition: all penalties,
all labellings of the same windows (permutations) and the errors on each person who is left out
follow from it in closed form. In the case of two classes the direction is that of Fisher's
discriminant with a ridge.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

PENALTIES = tuple(10.0 ** (halves / 2) for halves in range(6, -7, -1))
"""Penalties to choose from, strongest first; a window's inner product with itself is about 1."""


class Head(NamedTuple):
    """Heads of one training set, one for each labelling of it."""

    weights: Float[np.ndarray, "labelling learn class"]
    """Weight of each window's inner products."""
    offset: Float[np.ndarray, "labelling class"]
    penalty: Float[np.ndarray, " labelling"]
    error: Float[np.ndarray, " labelling"]
    """Mean squared error on people left out, each class counted alike."""

    def decide(
        self, products: Float[np.ndarray, "window learn"]
    ) -> Float[np.ndarray, "labelling window class"]:
        """Return the decision for windows, from their inner products with those learned from."""
        return products.astype(np.float64) @ self.weights + self.offset[:, None]


def inner_products(
    features: Float[np.ndarray, "window feature"],
    learn: Int[np.ndarray, " learn"],
    rows: Int[np.ndarray, " row"],
) -> Float[np.ndarray, "row learn"]:
    """Return the mean product over features, each feature standardised by the windows to learn
    from. A feature that is constant there stays centred only.
    """
    own = features[learn]
    mean, spread = standardisation(own)
    return ((features[rows] - mean) / spread) @ ((own - mean) / spread).T / features.shape[1]


def standardisation(
    own: Float[np.ndarray, "learn feature"],
) -> tuple[Float[np.ndarray, " feature"], Float[np.ndarray, " feature"]]:
    """Return mean and spread of each feature; the spread of a constant one is 1."""
    mean, spread = own.mean(axis=0, dtype=np.float64), own.std(axis=0, dtype=np.float64)
    spread[spread == 0] = 1.0
    return mean.astype(own.dtype), spread.astype(own.dtype)


def fit_ridge(
    products: Float[np.ndarray, "learn learn"],
    labels: Int[np.ndarray, "labelling learn"],
    n_classes: int,
    person: Shaped[np.ndarray, " learn"],
    penalties: Sequence[float] = PENALTIES,
) -> Head:
    """Fit a ridge regression onto the classes (1 for a window's own class, 0 for the others), with
    an intercept that is not penalised.

    Of the penalties the one with the least error wins, where each person in turn is left out and
    classes count alike; of equals the first. The offset puts the decisions on people left out so
    that their mean over classes is 1 / n_classes: of two classes the threshold lies halfway between
    them, however many windows each has.

    Args:
        products: inner products of windows to learn from, as :func:`inner_products` gives them:
            their rows and columns sum to zero.
        labels: one or several labellings of these windows.
        person: whose each window is; at least two people.
    """
    n, n_labellings = len(products), len(labels)
    values, vectors = np.linalg.eigh(products.astype(np.float64))
    values = np.maximum(values, 0.0)
    target = (labels[:, :, None] == np.arange(n_classes)).astype(np.float64)
    columns = target.transpose(1, 0, 2).reshape(n, -1)
    mean = columns.mean(axis=0)
    turned = vectors.T @ (columns - mean)
    same_size = _people_by_size(person)
    count = target.sum(axis=1, keepdims=True)
    share, occurring = target / np.maximum(count, 1.0), (count > 0).sum(axis=2)

    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for penalty in penalties:
        damped = 1.0 / (values + penalty)
        weights = vectors @ (turned * damped[:, None])
        left_out = np.empty_like(weights)
        for rows in same_size:
            # The inverse of ridge and intercept together, of each person's rows and columns
            own = vectors[rows]
            inverse = (own * damped) @ own.swapaxes(1, 2) - 1.0 / (n * penalty)
            left_out[rows] = np.linalg.solve(inverse, weights[rows])
        residual = left_out.reshape(n, n_labellings, n_classes).transpose(1, 0, 2)
        error = np.einsum("lwc,lwk->l", residual**2, share) / n_classes**2
        by_class = np.einsum("lwc,lwk->lkc", target - residual, share)
        middle = by_class.sum(axis=1) / occurring
        offset = mean.reshape(n_labellings, n_classes) + 1.0 / n_classes - middle
        found.append((weights.reshape(n, n_labellings, n_classes).swapaxes(0, 1), offset, error))
    best = np.argmin([error for _, _, error in found], axis=0)
    each = range(n_labellings)
    return Head(
        np.stack([found[best[k]][0][k] for k in each]),
        np.stack([found[best[k]][1][k] for k in each]),
        np.array([penalties[best[k]] for k in each]),
        np.array([found[best[k]][2][k] for k in each]),
    )


def _people_by_size(
    person: Shaped[np.ndarray, " learn"],
) -> list[Int[np.ndarray, "person window"]]:
    """The windows of each person, people with as many windows together: their systems are solved
    at once.
    """
    by_size: dict[int, list[np.ndarray]] = {}
    for who in np.unique(person):
        rows = np.flatnonzero(person == who)
        by_size.setdefault(len(rows), []).append(rows)
    return [np.stack(rows) for rows in by_size.values()]
