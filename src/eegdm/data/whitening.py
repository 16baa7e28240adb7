"""A filter that makes a corpus's mean spectrum flat, and its use on single windows.

EEG has most of its power at low frequencies, so white noise hides everything else first. A linear
prediction of each sample by those before it (Makhoul 1975, Proc. IEEE 63:561), taken away from it,
leaves what could not be foretold, at all frequencies alike.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from eegdm.errors import UserError

__all__ = ["start_weights", "unwhitened", "whitened", "whitening_filter"]


def whitening_filter(
    autocorrelation: Float[ndarray, " lag"],
) -> tuple[float, ...]:
    """Return the filter b_0 .. b_p that whitens a process with this autocorrelation at lags 0 .. p,
    scaled so that the variance stays as it is.

    What comes out at time t is the sum of b_k x[t - k].
    """
    from scipy.linalg import solve_toeplitz

    r = np.asarray(autocorrelation, np.float64)
    prediction = solve_toeplitz(r[:-1], r[1:])
    gain = np.sqrt(r[0] / (r[0] - prediction @ r[1:]))
    return tuple(map(float, gain * np.array([1.0, *-prediction])))


def whitened(
    windows: Float[ndarray, "*batch time"], filter_: Sequence[float]
) -> Float[ndarray, "*batch time"]:
    """Return windows through a filter of :func:`whitening_filter`, in their own precision.

    A window needs nothing that was before it: its first samples are predicted by those that it
    has, as well as these can, so each sample has the same variance.

    Raises:
        UserError: the numbers are no such filter.
    """
    from scipy.signal import lfilter

    taps = np.asarray(filter_, windows.dtype)
    n = len(taps) - 1
    out = lfilter(taps, np.ones(1, windows.dtype), windows, axis=-1)
    start = start_weights(tuple(filter_))[: windows.shape[-1], : windows.shape[-1]]
    out[..., :n] = windows[..., :n] @ start.T.astype(windows.dtype)
    return out


def unwhitened(
    windows: Float[ndarray, "*batch time"], filter_: Sequence[float]
) -> Float[ndarray, "*batch time"]:
    """Return what :func:`whitened` made these windows of, float64.

    Raises:
        UserError: the numbers are no such filter.
    """
    from scipy.linalg import solve_triangular
    from scipy.signal import lfilter, lfiltic

    taps, one = np.asarray(filter_, np.float64), np.ones(1)
    windows = np.asarray(windows, np.float64)
    n = min(len(taps) - 1, windows.shape[-1])
    start = start_weights(tuple(filter_))[:n, :n]
    rows = windows.reshape(-1, windows.shape[-1])
    first = solve_triangular(start, rows[:, :n].T, lower=True).T
    out = [
        np.append(begun, lfilter(one, taps, row[n:], zi=lfiltic(one, taps, begun[::-1]))[0])
        for begun, row in zip(first, rows, strict=True)
    ]
    return np.reshape(out, windows.shape)


@functools.lru_cache(maxsize=16)
def start_weights(filter_: tuple[float, ...]) -> Float[ndarray, "time time"]:
    """Return the weights of the first p samples, a row per sample that comes out: predictions of
    order 0 .. p - 1, by Levinson's recursion run backwards.
    """
    weights = np.zeros((len(filter_) - 1, len(filter_) - 1))
    gain, polynomial = filter_[0], np.asarray(filter_) / (filter_[0] or np.nan)
    for order in range(len(filter_) - 1, 0, -1):
        reflection = polynomial[order]
        if not abs(reflection) < 1 or gain <= 0:
            raise UserError(
                "signal.whiten: these numbers are not a prediction filter; take those that"
                " examples/whitening_filter.py prints"
            )
        polynomial = (polynomial - reflection * polynomial[::-1])[:-1] / (1 - reflection**2)
        gain *= np.sqrt(1 - reflection**2)
        weights[order - 1, :order] = gain * polynomial[::-1]
    return weights
