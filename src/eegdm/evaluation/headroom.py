"""What a denoiser can learn beyond the mean spectrum: the losses of two linear denoisers, between
which a network's lies.

One knows the mean spectrum of each channel in the training windows, the other the spectrum of each
window. Of white noise and a Gaussian signal nothing beats the second, so the distance between them
is what is to be learned about single windows; what a network learns about the shape of waves comes
on top of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from eegdm.data.batches import DenoisingBatch
from eegdm.models.diffusion import NoiseSchedule

SMOOTHING_HZ = 1.0  # half-width of the neighbourhood from which a window's spectrum is known


class HeadRoom(NamedTuple):
    """Mean squared errors of the velocity."""

    mean_spectrum: float
    own_spectrum: float

    def closed(self, loss: Any) -> Any:
        """Return which share of the way from the first to the second a loss has come; below 0 it is
        worse than the first. Tensors of losses are welcome.
        """
        return (self.mean_spectrum - loss) / (self.mean_spectrum - self.own_spectrum)


def head_room(
    learned: Iterable[DenoisingBatch],
    tested: Iterable[DenoisingBatch],
    schedule: NoiseSchedule,
    sfreq: float,
) -> HeadRoom:
    """Return the losses of both denoisers on windows, steps and noise of batches.

    Spectra are squared cosine transforms, which waves that don't fit into a window disturb less
    than Fourier's.

    Args:
        learned: windows with which the mean spectra are found.
        tested: those that are denoised.
    """
    mean = _mean_spectra(learned)
    errors, n = np.zeros(2), 0
    for batch in tested:
        a = schedule.alphas_cumprod[batch.step].double().sqrt().numpy()[:, None]
        s = np.sqrt(1 - a**2)
        clean, noise = _cosine(batch.signal.numpy()), _cosine(batch.noise.numpy())
        noised, velocity = a * clean + s * noise, a * noise - s * clean
        spectra = (
            np.stack([mean.get(int(c), mean[-1]) for c in batch.channel]),
            _smooth(clean**2, sfreq),
        )
        for which, power in enumerate(spectra):
            found = a * s * (1 - power) / (a**2 * power + s**2) * noised
            errors[which] += ((found - velocity) ** 2).mean(axis=1).sum()
        n += len(clean)
    return HeadRoom(*map(float, errors / n))


def _mean_spectra(learned: Iterable[DenoisingBatch]) -> dict[int, Float[ndarray, " frequency"]]:
    """Mean squared cosine transform of each channel's windows; -1: of all."""
    sums: dict[int, ndarray] = {}
    counts: dict[int, int] = {}
    for batch in learned:
        for channel, power in zip(batch.channel, _cosine(batch.signal.numpy()) ** 2, strict=True):
            for key in (int(channel), -1):
                sums[key] = sums.get(key, 0) + power
                counts[key] = counts.get(key, 0) + 1
    return {key: total / counts[key] for key, total in sums.items()}


def _cosine(x: Float[ndarray, "batch 1 time"]) -> Float[ndarray, "batch time"]:
    from scipy.fft import dct

    return dct(x[:, 0].astype(np.float64), norm="ortho", axis=-1)


def _smooth(
    power: Float[ndarray, "batch frequency"], sfreq: float
) -> Float[ndarray, "batch frequency"]:
    """Mean over neighbouring frequencies without the frequency itself, which would tell the
    denoiser what the very coefficient is.
    """
    reach = max(round(SMOOTHING_HZ * 2 * power.shape[-1] / sfreq), 1)
    kernel = np.ones(2 * reach + 1)
    kernel[reach] = 0
    inside = np.convolve(np.ones(power.shape[-1]), kernel, mode="same")
    return np.stack([np.convolve(row, kernel, mode="same") for row in power]) / inside
