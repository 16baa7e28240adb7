"""Lengths of FFTs, and convolution against sums."""

from __future__ import annotations

import pytest
import torch

from eegdm.models import convolution
from eegdm.models.convolution import Tile, convolve, fft_length


@pytest.mark.parametrize("length", [1, 2, 3, 7, 237, 950, 1000, 1280, 2000, 4099, 100_000])
def test_fft_length_keeps_both_directions_apart_at_little_cost(length: int) -> None:
    n_fft = fft_length(length)
    assert n_fft % 2 == 0 and n_fft >= 2 * length
    assert n_fft <= 1.5 * 2 * length + 2
    rest = n_fft
    for prime in (2, 3, 5):
        while rest % prime == 0:
            rest //= prime
    assert rest == 1


def test_five_seconds_take_a_power_of_two() -> None:
    assert fft_length(1000) == 2048


@pytest.mark.parametrize(
    ("batch", "n_features", "n_fft"), [(1, 1, 2), (108, 256, 2048), (3, 256, 2**20), (5000, 4, 64)]
)
def test_tiles_hold_no_more_than_fits_in_cache(batch: int, n_features: int, n_fft: int) -> None:
    tile = Tile.of(batch, n_features, n_fft, torch.device("cpu"))
    assert 1 <= tile.rows <= batch and 1 <= tile.features <= n_features
    assert (
        tile.rows * tile.features == 1
        or tile.rows * tile.features * n_fft <= convolution.at_once(torch.device("cpu"))
    )


def test_convolution_is_the_circular_sum() -> None:
    kernel, x = torch.randn(
        2, 3, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    got = convolve(x[None, :, :8], torch.fft.rfft(kernel), 16)[0]
    for feature in range(3):
        for time in range(8):
            expected = sum(kernel[feature, (time - j) % 16] * x[feature, j] for j in range(8))
            assert got[feature, time].item() == pytest.approx(float(expected), abs=1e-12)


def test_gradients_of_the_spectrum_are_autograds() -> None:
    x = torch.randn(
        2, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True
    )
    kernel = torch.randn(
        3, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True
    )
    assert torch.autograd.gradcheck(
        lambda x, kernel: convolve(x, torch.fft.rfft(kernel), 12), (x, kernel)
    )
