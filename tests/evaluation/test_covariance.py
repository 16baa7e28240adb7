"""Logarithms of covariances, against SciPy's and against what they must not depend on."""

from __future__ import annotations

import numpy as np
from scipy.linalg import logm

from eegdm.data.montage import TCP
from eegdm.evaluation.covariance import covariances, log_covariance


def bipolar(seed: int = 0, n_windows: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Windows of electrodes, and of the channels derived from them."""
    rng = np.random.default_rng(seed)
    electrodes = sorted({electrode for name in TCP for electrode in name.split("-")})
    mixing = rng.normal(size=(len(electrodes), len(electrodes)))
    volts = mixing @ rng.normal(size=(n_windows, len(electrodes), 1000))
    place = {name: k for k, name in enumerate(electrodes)}
    derived = [volts[:, place[a]] - volts[:, place[b]] for a, b in (n.split("-") for n in TCP)]
    return volts, np.stack(derived, axis=1)


def test_features_are_the_matrix_logarithm() -> None:
    volts, _ = bipolar()
    names = [f"E{k}" for k in range(volts.shape[1])]
    matrices = covariances(volts)
    found = log_covariance(matrices, names)
    expected = np.stack([logm(matrix) for matrix in matrices])
    rows, columns = np.triu_indices(len(names))
    scale = np.where(rows == columns, 1.0, np.sqrt(2.0))
    # Single channels span everything; their basis may still be turned
    norms = np.linalg.norm(expected, axis=(1, 2))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), norms, rtol=1e-5)
    np.testing.assert_allclose(
        np.linalg.norm(found[0] - found[1]), np.linalg.norm(expected[0] - expected[1]), rtol=1e-5
    )
    assert found.shape == (len(volts), len(rows)) and scale.min() == 1.0


def test_shrinkage_is_small_and_leaves_the_total_power() -> None:
    volts, _ = bipolar()
    found = covariances(volts)
    plain = np.stack([np.cov(window, bias=True) for window in volts])
    np.testing.assert_allclose(
        np.trace(found, axis1=1, axis2=2), np.trace(plain, axis1=1, axis2=2), rtol=1e-10
    )
    assert np.linalg.norm(found - plain) < 0.1 * np.linalg.norm(plain)


def test_loops_of_bipolar_channels_add_nothing() -> None:
    """The 22 channels span fewer dimensions; the log holds no direction without a signal, and does
    not change with the order of channels but for a rotation.
    """
    _, derived = bipolar()
    found = log_covariance(covariances(derived), TCP)
    rank = np.linalg.matrix_rank(derived[0])
    assert rank < len(TCP) and found.shape[1] == rank * (rank + 1) // 2
    order = np.random.default_rng(0).permutation(len(TCP))
    again = log_covariance(covariances(derived[:, order]), [TCP[k] for k in order])
    np.testing.assert_allclose(
        np.linalg.norm(found - found[:1], axis=1),
        np.linalg.norm(again - again[:1], axis=1),
        rtol=1e-4,
    )


def test_a_flat_window_stays_finite() -> None:
    _, derived = bipolar()
    derived[2] = 0.0
    assert np.isfinite(log_covariance(covariances(derived), TCP)).all()
