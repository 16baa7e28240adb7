"""Log powers of seconds, their distance from a channel's own and from a population's."""

from __future__ import annotations

import math

import numpy as np
import pytest

from eegdm.errors import UserError
from eegdm.evaluation.baselines import BANDS
from eegdm.evaluation.surprise import Population, distance, log_powers, population_facts, scaled
from eegdm.models.pretrained import POPULATION


def noise(n_channels: int, n_times: int, seed: int = 0) -> np.ndarray:
    return 0.2 * np.random.default_rng(seed).standard_normal((n_channels, n_times))


def slow_log_power(second: np.ndarray, sfreq: float, low: float, high: float) -> float:
    """The mean power density of a band by the definition of the Fourier transform."""
    n = len(second)
    taper = [0.5 - 0.5 * math.cos(2 * math.pi * i / (n - 1)) for i in range(n)]
    mean = sum(second) / n
    tapered = [(x - mean) * t for x, t in zip(second, taper, strict=True)]
    densities = []
    for k in range(n // 2 + 1):
        if low <= k * sfreq / n < high:
            real = sum(x * math.cos(2 * math.pi * k * i / n) for i, x in enumerate(tapered))
            imag = sum(x * math.sin(2 * math.pi * k * i / n) for i, x in enumerate(tapered))
            scale = sfreq * sum(t**2 for t in taper) / 2
            densities.append((real**2 + imag**2) / scale)
    return math.log10(sum(densities) / len(densities) + 1e-12)


def test_log_powers_equal_the_definition() -> None:
    signal = noise(2, 450)
    found = log_powers(signal, 200.0)
    assert found.shape == (2, 2, len(BANDS))
    for second, channel in np.ndindex(2, 2):
        cut = signal[channel, 200 * second : 200 * (second + 1)].tolist()
        expected = [slow_log_power(cut, 200.0, *edges) for edges in BANDS.values()]
        assert np.abs(found[second, channel] - expected).max() <= 1e-10


def test_a_rate_that_is_no_integer_has_a_row_per_second() -> None:
    assert log_powers(noise(1, round(10 * 173.61)), 173.61).shape == (10, 1, len(BANDS))
    assert log_powers(noise(1, 100), 173.61).shape == (0, 1, len(BANDS))


def test_z_scores_do_not_depend_on_amplitude() -> None:
    signal = noise(3, 4000)
    assert (
        np.abs(scaled(log_powers(signal, 200.0)) - scaled(log_powers(3 * signal, 200.0))).max()
        < 1e-6
    )


def test_z_scores_are_those_of_median_and_mad() -> None:
    powers = log_powers(noise(2, 6000), 200.0)
    z = scaled(powers)
    one = powers[:, 1, 3]
    mad = np.median(np.abs(one - np.median(one)))
    assert np.allclose(z[:, 1, 3], (one - np.median(one)) / (1.4826 * mad))
    assert np.allclose(distance(z), np.sqrt((z**2).sum(axis=-1) / len(BANDS)))


def test_a_channel_without_signal_is_finite() -> None:
    z = scaled(log_powers(np.zeros((1, 4000)), 200.0))
    assert np.array_equal(z, np.zeros_like(z))


def test_a_hundredth_of_a_population_is_beyond_its_limit() -> None:
    powers = [log_powers(noise(4, 20_000, seed), 200.0) for seed in range(3)]
    population = Population.of(powers)
    beyond = np.concatenate([population.distance(p) for p in powers]) > 1
    assert population.n_recordings == 3 and population.n_seconds == 1200
    assert beyond.mean() == pytest.approx(0.01, abs=0.002)
    assert (population.distance(log_powers(10 * noise(4, 4000, 9), 200.0)) > 1).all()


def test_a_population_is_read_as_it_was_written() -> None:
    population = Population.of([log_powers(noise(2, 4000), 200.0)], "synthetic noise")
    assert Population.from_info(population_facts(population)) == population
    assert Population.from_info({}) is None and population_facts(None) == {}


@pytest.mark.parametrize("stored", [[], {"center": [0.0]}, "people"])
def test_a_population_of_another_kind_is_refused(stored: object) -> None:
    with pytest.raises(UserError, match="another version"):
        Population.from_info({POPULATION: stored})
