"""The two linear denoisers have the losses that theory gives for Gaussian signals."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from scipy.fft import idct

from eegdm.data.batches import DenoisingBatch
from eegdm.evaluation.headroom import HeadRoom, head_room
from eegdm.models.diffusion import NoiseSchedule

SFREQ, N_TIMES, STEP = 100.0, 500, 12
SCHEDULE = NoiseSchedule(50)
LEVEL = SCHEDULE.alphas_cumprod[STEP].item()


def batches(power: np.ndarray, loudness: np.ndarray, seed: int) -> Iterator[DenoisingBatch]:
    """Gaussian windows whose cosine transforms have this mean power, each times its loudness."""
    rng = np.random.default_rng(seed)
    for some in np.array_split(loudness, 10):
        n = len(some)
        x = idct(
            rng.standard_normal((n, N_TIMES)) * np.sqrt(some[:, None] * power),
            norm="ortho",
            axis=-1,
        )
        yield DenoisingBatch(
            torch.from_numpy(x.astype(np.float32))[:, None],
            torch.from_numpy(rng.standard_normal((n, 1, N_TIMES)).astype(np.float32)),
            torch.full((n,), STEP),
            torch.arange(n) % 2,
        )


def best_loss(power: np.ndarray) -> float:
    """Of the conditional mean of v = a eps - s x given a x + s eps: p / (a² p + s²)."""
    return float((power / (LEVEL * power + 1 - LEVEL)).mean())


def test_windows_of_one_spectrum_leave_next_to_no_room() -> None:
    """The own spectrum, estimated from 20 coefficients, is even a little worse than the true."""
    power, loudness = 1 / (1 + np.arange(N_TIMES) / 30), np.ones(400)
    found = head_room(batches(power, loudness, 0), batches(power, loudness, 1), SCHEDULE, SFREQ)
    assert found.mean_spectrum == pytest.approx(best_loss(power), rel=0.01)
    assert found.own_spectrum == pytest.approx(found.mean_spectrum, rel=0.05)


def test_loud_and_quiet_windows_leave_the_room_between_the_mean_and_each() -> None:
    power = 1 / (1 + np.arange(N_TIMES) / 30)
    loudness = np.where(np.arange(400) % 4 < 2, 0.02, 4.0)
    found = head_room(batches(power, loudness, 0), batches(power, loudness, 1), SCHEDULE, SFREQ)
    mean = power * loudness.mean()
    gain = (LEVEL * (1 - LEVEL)) ** 0.5 * (1 - mean) / (LEVEL * mean + 1 - LEVEL)
    a, s = LEVEL**0.5, (1 - LEVEL) ** 0.5
    linear = np.mean(
        [(p * (gain * a + s) ** 2 + (gain * s - a) ** 2).mean() for p in (0.02 * power, 4 * power)]
    )
    each = np.mean([best_loss(0.02 * power), best_loss(4 * power)])
    assert found.mean_spectrum == pytest.approx(linear, rel=0.02)
    assert each < found.own_spectrum < each + 0.1 * (linear - each)
    assert found.closed(found.mean_spectrum) == 0 and found.closed(found.own_spectrum) == 1


def test_a_channel_has_a_mean_spectrum_of_its_own_and_an_unknown_one_that_of_all() -> None:
    power = np.ones(N_TIMES)

    def of_channels(loudness: np.ndarray, channel: list[int], seed: int) -> list[DenoisingBatch]:
        return [b._replace(channel=torch.tensor(channel)) for b in batches(power, loudness, seed)]

    learned = of_channels(np.tile([0.1, 3.0], 200), [0, 1] * 20, 0)
    known = of_channels(np.tile([0.1, 3.0], 200), [0, 1] * 20, 1)
    unknown = of_channels(np.tile([0.1, 3.0], 200), [7] * 40, 1)
    each = np.mean([best_loss(0.1 * power), best_loss(3 * power)])
    assert head_room(learned, known, SCHEDULE, SFREQ).mean_spectrum == pytest.approx(each, rel=0.02)
    assert head_room(learned, unknown, SCHEDULE, SFREQ).mean_spectrum > 1.1 * each


def test_the_share_is_of_the_way_between_both() -> None:
    assert HeadRoom(0.4, 0.2).closed(0.35) == pytest.approx(0.25)
    assert HeadRoom(0.4, 0.2).closed(torch.tensor(0.5)).item() == pytest.approx(-0.5)
