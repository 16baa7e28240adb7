"""Spectra, amplitudes and autocorrelation against known processes; a perfect generator is at the
floor, a poor one is not.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm, wasserstein_distance

from eegdm.errors import UserError
from eegdm.evaluation.generation_quality import (
    DISTANCE_SENTENCES,
    autocorrelation,
    compare,
    distances,
    halves,
    log_spectrum,
)

SFREQ = 200.0


def autoregressive(
    rng: np.random.Generator,
    n_channels: int,
    n_windows: int,
    coefficient: float,
    n_times: int = 1000,
) -> np.ndarray:
    """x[t] = coefficient x[t-1] + noise of variance 1, started in its stationary state."""
    x = np.empty((n_channels, n_windows, n_times))
    x[..., 0] = rng.standard_normal(x.shape[:2]) / np.sqrt(1 - coefficient**2)
    for t in range(1, n_times):
        x[..., t] = coefficient * x[..., t - 1] + rng.standard_normal(x.shape[:2])
    return x


def test_the_spectrum_is_that_of_the_process() -> None:
    x = autoregressive(np.random.default_rng(0), 2, 200, 0.9)
    frequency, found = log_spectrum(x, SFREQ)
    expected = (
        2 / SFREQ / np.abs(1 - 0.9 * np.exp(-2j * np.pi * frequency / SFREQ)) ** 2
    )  # one-sided, per Hz
    assert frequency[0] == 0.5 and frequency[-1] == 70.0
    np.testing.assert_allclose(
        found[:, 2:], np.broadcast_to(10 * np.log10(expected), found.shape)[:, 2:], atol=0.6
    )


def test_the_autocorrelation_is_that_of_the_process_and_equals_the_plain_sum() -> None:
    x = autoregressive(np.random.default_rng(1), 1, 300, 0.8)
    found = autocorrelation(x, SFREQ)[0]
    np.testing.assert_allclose(found[:10], 0.8 ** np.arange(10), atol=0.02)
    assert len(found) == 201
    centred = x[0, 0] - x[0, 0].mean()
    plain = [
        np.dot(centred[: 1000 - lag], centred[lag:]) / np.dot(centred, centred)
        for lag in range(201)
    ]
    np.testing.assert_allclose(autocorrelation(x[:, :1], SFREQ)[0], plain, atol=1e-10)


def test_distances_are_zero_for_the_same_and_known_for_a_scaled_copy() -> None:
    rng = np.random.default_rng(2)
    x = rng.standard_normal((2, 50, 1000))
    assert (distances(x, x, SFREQ).to_numpy() == 0).all()
    scaled = distances(x, 2 * x, SFREQ)
    np.testing.assert_allclose(scaled.spectrum_dB, 20 * np.log10(2), atol=1e-6)
    np.testing.assert_allclose(scaled.autocorrelation, 0, atol=1e-9)
    grid = norm.ppf((np.arange(10000) + 0.5) / 10000)
    np.testing.assert_allclose(
        scaled.amplitude, wasserstein_distance(grid, 2 * grid), rtol=0.01
    )  # E|x|, 0.798


def test_another_draw_of_the_same_process_is_at_the_floor_and_another_process_is_far_above() -> (
    None
):
    rng = np.random.default_rng(3)
    real = autoregressive(rng, 3, 80, 0.9)
    generated = {
        "same": autoregressive(rng, 3, 80, 0.9),
        "other": rng.standard_normal(real.shape) * real.std(),
    }
    table = (
        compare(real, np.arange(80) // 10, generated, SFREQ, ["a", "b", "c"])
        .groupby("source")[list(DISTANCE_SENTENCES)]
        .mean()
    )
    assert (table.loc["same"] < 1.5 * table.loc["floor"]).all()
    assert (
        table.loc["other", ["spectrum_dB", "autocorrelation"]]
        > 5 * table.loc["floor", ["spectrum_dB", "autocorrelation"]]
    ).all()


def test_halves_share_no_unit() -> None:
    unit = np.repeat(["a", "b", "c", "d", "e"], 4)
    first, second = halves(unit)
    assert not set(unit[first]) & set(unit[second]) and sorted([*first, *second]) == list(range(20))
    first, second = halves(np.zeros(6))
    assert first.tolist() == [0, 1, 2] and second.tolist() == [3, 4, 5]
    with pytest.raises(UserError, match="at least two"):
        halves(np.zeros(1))


def test_other_channels_are_refused() -> None:
    with pytest.raises(UserError, match="1 channels generated, 2 real"):
        compare(np.zeros((2, 4, 400)), np.zeros(4), {"x": np.zeros((1, 4, 400))}, SFREQ, ["a", "b"])
