"""Covariances of channels as features: their matrix logarithm, in which the distances of the
log-Euclidean metric are ordinary ones (Arsigny et al. 2007, doi:10.1137/050637996).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float


def covariances(
    windows: Float[np.ndarray, "window channel time"],
) -> Float[np.ndarray, "window channel other_channel"]:
    """Return the covariance of channels in each window, shrunk towards a multiple of the identity
    as far as the window's length calls for (oracle approximating shrinkage of scikit-learn).
    """
    from sklearn.covariance import oas

    return np.stack([oas(window.T)[0] for window in windows.astype(np.float64)])


def log_covariance(
    matrices: Float[np.ndarray, "window channel other_channel"], ch_names: Sequence[str]
) -> Float[np.ndarray, "window feature"]:
    """Return the upper triangle of the logarithm of each matrix, float32; what is off the diagonal
    is multiplied by the root of 2, so that distances of features are those of matrices.

    Bipolar channels of the same electrodes depend on each other (around a loop of electrodes they
    sum to zero), so matrices are first projected onto what the channels span.

    Args:
        matrices: positive definite covariances of the channels.
        ch_names: electrodes (C3) or pairs of them (C3-P3); n features result from channels that
            span r dimensions, n = r (r + 1) / 2.
    """
    basis = _span(ch_names)
    values, vectors = np.linalg.eigh(basis.T @ matrices @ basis)
    # A flat window keeps a finite logarithm: a millionth of the others' median
    floor = 1e-6 * np.median(values)
    logs = (vectors * np.log(np.maximum(values, floor))[:, None]) @ vectors.swapaxes(1, 2)
    rows, columns = np.triu_indices(logs.shape[1])
    return (logs[:, rows, columns] * np.where(rows == columns, 1.0, 2**0.5)).astype(np.float32)


def _span(ch_names: Sequence[str]) -> Float[np.ndarray, "channel dimension"]:
    """Orthonormal basis of what differences between electrodes can be."""
    from scipy.linalg import orth

    pairs = [name.split("-") for name in ch_names]
    electrodes = sorted({electrode for pair in pairs for electrode in pair})
    derivation = np.zeros((len(pairs), len(electrodes)))
    for row, pair in zip(derivation, pairs, strict=True):
        for electrode, sign in zip(pair, (1.0, -1.0), strict=False):
            row[electrodes.index(electrode)] = sign
    return orth(derivation)
