"""The closed forms of the linear head are those of scikit-learn, one slow fit after the other."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from eegdm.evaluation.ridge import PENALTIES, fit_ridge, inner_products

N_CLASSES, N_FEATURES = 3, 40


def problem(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, labels and people of 90 windows that have something to do with each other."""
    rng = np.random.default_rng(seed)
    person = np.repeat(np.arange(9), 10)
    label = np.concatenate([rng.permutation([0, 0, 0, 0, 0, 1, 1, 1, 2, 2]) for _ in range(9)])
    means = rng.normal(size=(N_CLASSES, N_FEATURES)) * 0.6
    offsets = rng.normal(size=(9, N_FEATURES))
    noise = rng.normal(size=(90, N_FEATURES))
    scale = 10.0 ** rng.uniform(-2, 2, N_FEATURES)
    return (means[label] + offsets[person] + noise) * scale + 5 * scale, label, person


def slow(
    x: np.ndarray, label: np.ndarray, person: np.ndarray, learn: np.ndarray, penalty: float
) -> tuple[np.ndarray, float]:
    """Decisions on the other rows, and the error on people left out, with one penalty."""
    test = np.setdiff1d(np.arange(len(x)), learn)
    scaler = StandardScaler().fit(x[learn])
    scaled = scaler.transform(x[learn]) / np.sqrt(x.shape[1])
    target = np.eye(N_CLASSES)[label[learn]]
    ridge = Ridge(alpha=penalty)
    left_out = cross_val_predict(ridge, scaled, target, groups=person[learn], cv=LeaveOneGroupOut())
    error, middle = 0.0, np.zeros(N_CLASSES)
    for k in range(N_CLASSES):
        own = label[learn] == k
        error += ((left_out[own] - target[own]) ** 2).mean() / N_CLASSES
        middle += left_out[own].mean(axis=0) / N_CLASSES
    decided = ridge.fit(scaled, target).predict(scaler.transform(x[test]) / np.sqrt(x.shape[1]))
    return decided + 1 / N_CLASSES - middle, error


@pytest.mark.parametrize("n_people", [3, 7])
def test_head_equals_scikit_learn(n_people: int) -> None:
    x, label, person = problem()
    learn, test = np.flatnonzero(person < n_people), np.flatnonzero(person >= n_people)
    products = inner_products(x, learn, np.arange(len(x)))
    expected = [slow(x, label, person, learn, penalty) for penalty in PENALTIES]
    best = int(np.argmin([error for _, error in expected]))
    for k, penalty in enumerate(PENALTIES):
        head = fit_ridge(products[learn], label[None, learn], N_CLASSES, person[learn], [penalty])
        np.testing.assert_allclose(head.error[0], expected[k][1], rtol=1e-6)
        np.testing.assert_allclose(head.decide(products[test])[0], expected[k][0], atol=1e-7)
    head = fit_ridge(products[learn], label[None, learn], N_CLASSES, person[learn])
    assert head.penalty[0] == PENALTIES[best]
    np.testing.assert_allclose(head.decide(products[test])[0], expected[best][0], atol=1e-7)


def test_inner_products_are_of_standardised_features() -> None:
    x, _, person = problem()
    learn = np.flatnonzero(person < 5)
    scaled = make_pipeline(StandardScaler()).fit(x[learn]).transform(x)
    products = inner_products(x, learn, np.arange(len(x)))
    np.testing.assert_allclose(products, scaled @ scaled[learn].T / N_FEATURES, atol=1e-10)
    np.testing.assert_allclose(products[learn].sum(axis=0), 0, atol=1e-9)


def test_a_constant_feature_changes_nothing() -> None:
    x, _, person = problem()
    learn = np.flatnonzero(person < 5)
    wider = np.concatenate([x, np.full((len(x), N_FEATURES), 3.0)], axis=1)
    np.testing.assert_allclose(
        2 * inner_products(wider, learn, np.arange(len(x))),
        inner_products(x, learn, np.arange(len(x))),
        atol=1e-12,
    )


def test_labellings_are_fitted_one_by_one() -> None:
    x, label, person = problem()
    rng = np.random.default_rng(1)
    labels = np.stack([label, *(rng.permutation(label) for _ in range(3))])
    products = inner_products(x, np.arange(len(x)), np.arange(len(x)))
    together = fit_ridge(products, labels, N_CLASSES, person)
    for k in range(4):
        alone = fit_ridge(products, labels[k : k + 1], N_CLASSES, person)
        np.testing.assert_allclose(together.weights[k], alone.weights[0], atol=1e-9)
        np.testing.assert_allclose(together.offset[k], alone.offset[0], atol=1e-9)
        assert together.penalty[k] == alone.penalty[0]


def test_the_threshold_is_halfway_whatever_the_share_of_classes() -> None:
    """Nine windows of ten are of one class, and both classes are still recognised alike."""
    rng = np.random.default_rng(2)
    person = np.repeat(np.arange(20), 50)
    label = np.tile(np.r_[np.zeros(45, int), np.ones(5, int)], 20)
    x = rng.normal(size=(1000, 30)) + 0.5 * rng.normal(size=(2, 30))[label]
    learn, test = np.flatnonzero(person < 15), np.flatnonzero(person >= 15)
    products = inner_products(x, learn, np.arange(len(x)))
    head = fit_ridge(products[learn], label[None, learn], 2, person[learn])
    decided = head.decide(products[test])[0].argmax(axis=1)
    recall = [np.mean(decided[label[test] == k] == k) for k in (0, 1)]
    assert min(recall) > 0.7 and abs(recall[0] - recall[1]) < 0.15
