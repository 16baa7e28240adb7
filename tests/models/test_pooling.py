"""Where pools lie at any sampling rate, and what they compute."""

from __future__ import annotations

import pytest
import torch

from eegdm.errors import UserError
from eegdm.models.pooling import Part, parts, pool, pool_bounds


def test_five_pools_in_five_seconds_at_200_hz() -> None:
    assert pool_bounds(1000) == [(0, 200), (200, 400), (400, 600), (600, 800), (800, 1000)]


@pytest.mark.parametrize(
    ("sfreq", "borders"),
    [
        (190.0, [0, 190, 380, 570, 760, 950]),
        (256.0, [0, 256, 512, 768, 1024, 1280]),
        (
            250.5,
            [0, 250, 501, 752, 1002, 1252],
        ),  # halves go to the even neighbour, as Python rounds
        (333.3, [0, 333, 667, 1000, 1333, 1666]),
    ],
)
def test_borders_are_rounded_from_200_hz(sfreq: float, borders: list[int]) -> None:
    assert pool_bounds(round(5 * sfreq), sfreq=sfreq) == list(
        zip(borders, borders[1:], strict=False)
    )


@pytest.mark.parametrize(
    "sfreq", [100.0, 173.61, 190.0, 199.9, 200.0, 249.97, 250.52, 256.0, 512.0, 2000.0]
)
@pytest.mark.parametrize("duration_s", [5, 10, 30])
def test_pools_tile_a_signal_of_several_parts(sfreq: float, duration_s: int) -> None:
    n_times = round(duration_s * sfreq)
    bounds = pool_bounds(n_times, sfreq=sfreq)
    assert len(bounds) == duration_s
    assert [bounds[0][0], bounds[-1][1]] == [0, n_times]
    assert all(end == start for (_, end), (start, _) in zip(bounds, bounds[1:], strict=False))
    assert [len(part.pools) for part in parts(n_times, sfreq=sfreq)] == [5] * (duration_s // 5)


def test_overlapping_pools_do_not_cross_a_cut() -> None:
    assert parts(1500, window=400, stride=300) == [
        Part(0, 1000, [(0, 400), (300, 700), (600, 1000)]),
        Part(1000, 1500, [(0, 400)]),
    ]


def test_a_tail_without_a_whole_pool_is_left_out() -> None:
    assert parts(1199) == parts(1000)
    assert pool_bounds(399) == [(0, 200)]


@pytest.mark.parametrize(("n_times", "window"), [(0, 200), (199, 200), (1000, 1001)])
def test_a_signal_without_a_pool_is_refused(n_times: int, window: int) -> None:
    with pytest.raises(
        UserError, match=f"{n_times} samples at 200 Hz holds no pool of {window} samples"
    ):
        parts(n_times, window)


@pytest.mark.parametrize(
    "bounds",
    [
        [(0, 20), (10, 50), (48, 50)],
        [(0, 20), (20, 40), (41, 61)],
        [(3, 23), (23, 43), (43, 63)],
        [(0, 30), (10, 40), (20, 50)],
        [(5, 45)],
    ],
)  # uneven in size, in step; even, overlapping; alone
def test_pooling_is_unbiased_std_and_mean(bounds: list[tuple[int, int]]) -> None:
    x = torch.randn(3, 70, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for kind, reduce in (("std", torch.std), ("mean", torch.mean)):
        expected = torch.stack([reduce(x[:, a:b], dim=1) for a, b in bounds], dim=1)
        torch.testing.assert_close(pool(x, bounds, kind), expected, rtol=1e-12, atol=1e-12)


def test_gradient_of_a_constant_window_is_finite() -> None:
    x = torch.full((1, 20, 2), 0.7, requires_grad=True)
    pool(x, [(0, 20)], "std").sum().backward()
    assert x.grad is not None and torch.equal(x.grad, torch.zeros(1, 20, 2))
