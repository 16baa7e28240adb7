"""A whitening filter makes independent samples of equal variance of a process with its spectrum."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.linalg import toeplitz
from scipy.signal import lfilter

from eegdm.data.whitening import unwhitened, whitened, whitening_filter
from eegdm.errors import UserError

POLES = np.array([0.95, 0.8 * np.exp(0.6j), 0.8 * np.exp(-0.6j)])


def autocorrelation(n_lags: int) -> np.ndarray:
    """Of x[t] = sum a_k x[t - k] + noise with these poles, from its impulse response."""
    response = lfilter([1.0], np.poly(POLES).real, np.eye(1, 4000)[0])
    return np.array([response[: 4000 - lag] @ response[lag:] for lag in range(n_lags)])


@pytest.mark.parametrize("order", [3, 7])
def test_the_filter_of_an_autoregressive_process_is_its_equation(order: int) -> None:
    """Whatever the order, from its own on."""
    r = autocorrelation(order + 1)
    found = np.array(whitening_filter(r))
    np.testing.assert_allclose(found[:4] / found[0], np.poly(POLES).real, atol=1e-6)
    np.testing.assert_allclose(found[4:], 0, atol=1e-6)
    assert found[0] == pytest.approx(np.sqrt(r[0]), rel=1e-6)  # the noise has variance 1


@pytest.mark.parametrize("n_times", [2, 5, 40])
def test_samples_of_a_window_are_independent_and_have_the_variance_of_before(n_times: int) -> None:
    """W R W' = r_0 I for the window's covariance R, from the first sample on."""
    r = autocorrelation(n_times)
    weights = whitened(np.eye(n_times), whitening_filter(autocorrelation(6))).T
    covariance = weights @ toeplitz(r) @ weights.T
    np.testing.assert_allclose(covariance, r[0] * np.eye(n_times), atol=1e-6 * r[0])


@given(hnp.arrays(np.float32, (2, 3, 30), elements=st.floats(-10, 10, width=32)))
def test_a_window_is_filtered_as_within_its_recording_and_stays_as_it_is(x: np.ndarray) -> None:
    before, taps = x.copy(), whitening_filter(autocorrelation(5))
    found = whitened(x, taps)
    np.testing.assert_array_equal(x, before)
    assert found.dtype == np.float32
    expected = [np.convolve(row, taps)[:30] for row in x.reshape(6, 30).astype(float)]
    np.testing.assert_allclose(
        found[..., 4:], np.reshape(expected, x.shape)[..., 4:], rtol=1e-4, atol=1e-3
    )


@pytest.mark.parametrize("n_times", [1, 4, 5, 60])
def test_a_whitened_window_is_turned_back(n_times: int) -> None:
    x, taps = np.random.default_rng(5).standard_normal((2, 3, n_times)), autocorrelation(6)
    np.testing.assert_allclose(
        unwhitened(whitened(x, whitening_filter(taps)), whitening_filter(taps)), x, atol=1e-9
    )


@pytest.mark.parametrize("numbers", [(1.0, -1.5), (1.0, -0.5, 1.0), (0.0, 0.5), (-1.0, 0.5)])
def test_numbers_that_are_no_prediction_filter_are_refused(numbers: tuple[float, ...]) -> None:
    with pytest.raises(
        UserError, match=r"signal\.whiten: these numbers are not a prediction filter"
    ):
        whitened(np.zeros(20), numbers)
