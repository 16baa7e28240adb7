"""How much mains hum each channel of a recording picks up, before any filter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from eegdm.data.channels import PER_VOLT, DerivedChannels
from eegdm.data.montage import Derivation

if TYPE_CHECKING:
    import mne

MAINS_HZ = (50.0, 60.0)
_HUM_STRETCH_S = 4.0
_N_HUM_STRETCHES = 24
_HALF_WIDTH_HZ = 1.0  # of the hum
_BESIDE_HZ = (2.0, 5.0)  # from the mains frequency: what would be there without hum


class LineNoise(NamedTuple):
    """The stronger of the two mains frequencies in a recording and what each channel holds of
    it.
    """

    mains_hz: float
    rms_uv: Float[ndarray, " channel"]


def line_noise(raw: mne.io.BaseRaw, derivations: Sequence[Derivation]) -> LineNoise | None:
    """Measure the hum in 4 s stretches spread over the recording; None if it is sampled too slowly
    or is too short.

    The power within 1 Hz of 50 and of 60 Hz above that of the band beside it, median over
    stretches, as a root mean square in µV. The same frequency is given for all channels.
    """
    sfreq = float(raw.info["sfreq"])
    length = round(_HUM_STRETCH_S * sfreq)
    mains = [hz for hz in MAINS_HZ if hz + _BESIDE_HZ[1] < sfreq / 2]
    if not mains or raw.n_times < length:
        return None
    starts = np.unique(np.linspace(0, raw.n_times - length, _N_HUM_STRETCHES).round().astype(int))
    channels = DerivedChannels(raw, derivations)
    stretches = (channels.read(start, start + length) for start in map(int, starts))
    # A median over stretches, so that a minute of artefacts doesn't decide.
    power = np.median(
        [[_hum(x / PER_VOLT * 1e6, sfreq, hz) for hz in mains] for x in stretches], axis=0
    )
    worst = int(power.sum(axis=1).argmax())
    return LineNoise(mains[worst], np.sqrt(power[worst]))


def _hum(
    microvolts: Float[ndarray, "channel time"], sfreq: float, hz: float
) -> Float[ndarray, " channel"]:
    from scipy.signal import welch

    # Bins of half a hertz: fine enough to part the hum from what lies beside it.
    frequency, density = welch(microvolts, sfreq, nperseg=round(2 * sfreq))
    away = np.abs(frequency - hz)
    within, beside = away <= _HALF_WIDTH_HZ, (away >= _BESIDE_HZ[0]) & (away <= _BESIDE_HZ[1])
    above = density[:, within] - np.median(density[:, beside], axis=1, keepdims=True)
    # By chance the band beside it may be the stronger one; there is no negative hum.
    return np.maximum(above, 0).sum(axis=1) * (frequency[1] - frequency[0])
