"""How like real EEG generated EEG is, channel by channel: spectra, amplitudes and autocorrelation,
each with a distance.

A distance alone says little, since two sets of real windows differ too: :func:`compare` puts beside
each the same distance between two halves of the real windows, the floor that no generator can be
asked to go below.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, Shaped

from eegdm.errors import UserError

BAND_HZ = (0.5, 70.0)
"""Where spectra are compared: within the band-pass of the recordings, and below its upper slope."""
MAX_LAG_S = 1.0
_SEGMENT_S = 2.0  # of Welch's method: bins of 0.5 Hz
_FLOOR_UV2 = 1e-12  # µV²/Hz, below any amplifier's noise; keeps the log of a flat channel finite

ChannelWindows = Float[np.ndarray, "channel window time"]  # µV

DISTANCE_SENTENCES = {
    "spectrum_dB": "root mean square difference of the mean power spectra, dB",
    "amplitude": "Wasserstein distance of the amplitudes, in standard deviations of the real ones",
    "autocorrelation": "largest difference of the mean autocorrelations over lags up to 1 s",
}


def log_spectrum(
    windows: ChannelWindows, sfreq: float
) -> tuple[Float[np.ndarray, " frequency"], Float[np.ndarray, "channel frequency"]]:
    """Return frequencies, Hz, and 10 log10 of the mean power density over windows, dB re 1 µV²/Hz,
    within :data:`BAND_HZ` (Welch).
    """
    from scipy.signal import welch

    n = min(windows.shape[-1], round(_SEGMENT_S * sfreq))
    frequency, density = welch(windows, sfreq, nperseg=n, axis=-1)
    inside = (frequency >= BAND_HZ[0]) & (frequency <= BAND_HZ[1])
    return frequency[inside], 10 * np.log10(density[..., inside].mean(axis=1) + _FLOOR_UV2)


def autocorrelation(windows: ChannelWindows, sfreq: float) -> Float[np.ndarray, "channel lag"]:
    """Return the mean over windows of the autocorrelation at lags 0 .. :data:`MAX_LAG_S`; 1 at lag
    0, 0 throughout for flat windows.

    The biased estimate (sums over the overlap, divided by the power of the whole window), which is
    that of a stationary process.
    """
    n_times, n_lags = windows.shape[-1], min(windows.shape[-1], round(MAX_LAG_S * sfreq) + 1)
    centred = windows - windows.mean(axis=-1, keepdims=True)
    # Zeros to twice the length keep the end of a window from wrapping onto its beginning.
    power = np.abs(np.fft.rfft(centred, n=2 * n_times)) ** 2
    sums = np.fft.irfft(power)[..., :n_lags]
    return (sums / np.maximum(sums[..., :1], np.finfo(float).tiny)).mean(axis=1)


def distances(real: ChannelWindows, other: ChannelWindows, sfreq: float) -> pd.DataFrame:
    """Return the :data:`DISTANCES` of two sets of windows, a row per channel."""
    from scipy.stats import wasserstein_distance

    spectra = (log_spectrum(real, sfreq)[1], log_spectrum(other, sfreq)[1])
    lags = (autocorrelation(real, sfreq), autocorrelation(other, sfreq))
    amplitudes = [
        wasserstein_distance(a.ravel() / scale, b.ravel() / scale)
        for a, b in zip(real, other, strict=True)
        for scale in [max(float(a.std()), np.finfo(float).tiny)]
    ]
    return pd.DataFrame(
        {
            "spectrum_dB": np.sqrt(((spectra[0] - spectra[1]) ** 2).mean(axis=1)),
            "amplitude": amplitudes,
            "autocorrelation": np.abs(lags[0] - lags[1]).max(axis=1),
        }
    )


def halves(
    unit: Shaped[np.ndarray, " window"], seed: int = 0
) -> tuple[Int[np.ndarray, " half"], Int[np.ndarray, " half"]]:
    """Divide windows into two halves that share no unit (a subject or recording); with one unit
    only, its first and its second half.
    """
    names = np.unique(unit)
    if len(unit) < 2:
        raise UserError(f"{len(unit)} real window: two halves need at least two")
    if len(names) == 1:
        return np.arange(len(unit) // 2), np.arange(len(unit) // 2, len(unit))
    order = np.random.default_rng(seed).permutation(names)
    first = np.isin(unit, order[: len(names) // 2])
    return np.flatnonzero(first), np.flatnonzero(~first)


def compare(
    real: ChannelWindows,
    unit: Shaped[np.ndarray, " window"],
    generated: dict[str, ChannelWindows],
    sfreq: float,
    ch_names: Sequence[str],
) -> pd.DataFrame:
    """Return distances to the real windows, a row per channel and source: each of ``generated``,
    and "floor", real against real.

    Args:
        real: µV.
        unit: whose each real window is; the floor's halves share none.
        generated: what is judged, by name; µV, as many channels.

    Raises:
        UserError: too few real windows, or other channels.
    """
    first, second = halves(unit)
    for name, windows in generated.items():
        if len(windows) != len(real):
            raise UserError(
                f"{name}: {len(windows)} channels generated, {len(real)} real ones to compare with"
            )
    tables = {"floor": distances(real[:, first], real[:, second], sfreq)}
    tables |= {name: distances(real, windows, sfreq) for name, windows in generated.items()}
    return pd.concat(
        [table.assign(source=name, channel=list(ch_names)) for name, table in tables.items()],
        ignore_index=True,
    )
