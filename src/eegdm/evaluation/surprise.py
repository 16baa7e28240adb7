"""How unlike other seconds a second of a channel is, by the power of its five bands; and what a
population of recordings looks like in these terms.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from eegdm.data.signal import ModelUnits
from eegdm.errors import UserError
from eegdm.evaluation.baselines import BANDS, band_power
from eegdm.models.pretrained import POPULATION

if TYPE_CHECKING:
    import pandas as pd

    from eegdm.data.recordings import Recordings

_MAD_TO_SD = 1.4826
_LEAST_SPREAD = 0.05
"""Of log10 power; the spectrum of one second alone spreads more, so that only channels that are
flat for most of the time reach it.
"""
_LIMIT = 0.99
_MOST_WINDOWS = 800
"""Windows of all channels that describe a population: more change its medians by less than people
differ.
"""
LEAST_SFREQ = 100.0
"""Hz, below which the bands are not all there."""


def log_powers(
    signal: Float[np.ndarray, "channel time"], sfreq: float
) -> Float[np.ndarray, "second channel band"]:
    """Return log10 of the mean power density in each of `BANDS`, for every whole second.

    Args:
        signal: in model units (100 µV, companded).
        sfreq: sampling frequency, Hz.

    Raises:
        UserError: the sampling frequency is too low for the bands.
    """
    length = round(sfreq)
    starts = np.rint(np.arange(math.ceil(signal.shape[1] / sfreq)) * sfreq).astype(int)
    starts = starts[starts + length <= signal.shape[1]]
    if not len(starts):
        return np.empty((0, len(signal), len(BANDS)))
    cut = np.stack([signal[:, start : start + length] for start in starts])
    return band_power(cut, sfreq).reshape(len(cut), len(signal), len(BANDS))


def scaled(
    powers: Float[np.ndarray, "second channel band"],
) -> Float[np.ndarray, "second channel band"]:
    """Return robust z-scores of each channel and band: the distance from the median of all seconds,
    in multiples of 1.4826 MAD.
    """
    return (powers - np.median(powers, axis=0)) / _spread(powers)


def distance(z: Float[np.ndarray, "*any band"]) -> Float[np.ndarray, "*any"]:
    """Return the root mean square over bands."""
    return np.sqrt((z**2).mean(axis=-1))


def surprise_of(
    powers: Float[np.ndarray, "second channel band"],
) -> Float[np.ndarray, "second channel"]:
    """Return how far each second lies from its channel's median: :func:`distance` of
    :func:`scaled`, a channel at a time to save memory.
    """
    n_channels = powers.shape[1]
    return np.stack([distance(scaled(powers[:, c : c + 1]))[:, 0] for c in range(n_channels)], 1)


@dataclass(frozen=True)
class Population:
    """The band powers of the seconds of some recordings, over all channels.

    Attributes:
        center: median of the log10 power of each of `BANDS`.
        spread: 1.4826 MAD of the same.
        limit: the distance that 99 % of the seconds keep within.
        n_recordings, n_seconds: how many recordings and channel-seconds it is made of.
        data: which recordings, in words; empty if they are the model's own training recordings.
    """

    center: tuple[float, ...]
    spread: tuple[float, ...]
    limit: float
    n_recordings: int
    n_seconds: int
    data: str = ""

    @classmethod
    def of(
        cls, powers: list[Float[np.ndarray, "second channel band"]], data: str = ""
    ) -> Population:
        """Describe recordings by what :func:`log_powers` gives of each."""
        rows = np.concatenate([p.reshape(-1, len(BANDS)) for p in powers]).astype(np.float64)
        center, spread = np.median(rows, axis=0), _spread(rows)
        limit = np.quantile(distance((rows - center) / spread), _LIMIT)
        return cls(
            tuple(np.round(center, 4).tolist()),
            tuple(np.round(spread, 4).tolist()),
            round(float(limit), 4),
            len(powers),
            len(rows),
            data,
        )

    @classmethod
    def of_windows(cls, recordings: Recordings, windows: pd.DataFrame) -> Population | None:
        """Describe the windows that a model learns from; of many, some that are spread evenly.
        None where they are shorter than a second, or sampled at less than :data:`LEAST_SFREQ`.

        Args:
            windows: recording, start_sample and n_times; the other columns are not read.
        """
        sfreq = recordings.sfreq
        if sfreq < LEAST_SFREQ or windows.n_times.min() < round(sfreq):
            return None
        # Scaled by its spread, every recording would look alike
        recordings = recordings.in_units(ModelUnits(recordings.units.mu))
        places = windows[["recording", "start_sample", "n_times"]].drop_duplicates()
        n = min(len(places), _MOST_WINDOWS)
        chosen = places.iloc[np.linspace(0, len(places) - 1, n).round().astype(int)]
        powers: dict[str, list[np.ndarray]] = {}
        for name, start, n_times in chosen.itertuples(index=False, name=None):
            window = recordings.window(name, start, n_times)
            powers.setdefault(name, []).append(log_powers(window, sfreq))
        return cls.of([np.concatenate(found) for found in powers.values()])

    @classmethod
    def from_info(cls, info: Mapping[str, Any]) -> Population | None:
        """Return the population that stands in a model's `config.json`, None if there is none.

        Raises:
            UserError: it was written by another version.
        """
        stored = info.get(POPULATION)
        if stored is None:
            return None
        names = {field.name for field in fields(cls)}
        if (
            not isinstance(stored, dict)
            or stored.keys() != names
            or any(len(stored[name]) != len(BANDS) for name in ("center", "spread"))
        ):
            raise UserError(
                f"{POPULATION} in the model's config.json comes from another version of eegdm"
            )
        lists = {name: tuple(stored[name]) for name in ("center", "spread")}
        return cls(**(stored | lists))

    def distance(
        self, powers: Float[np.ndarray, "second channel band"]
    ) -> Float[np.ndarray, "second channel"]:
        """Return how far seconds lie from this population, as multiples of its limit."""
        center, spread = (np.array(x, powers.dtype) for x in (self.center, self.spread))
        found = [distance((powers[:, c] - center) / spread) for c in range(powers.shape[1])]
        return np.stack(found, axis=1) / powers.dtype.type(self.limit)


def population_facts(population: Population | None) -> dict[str, Any]:
    """Return what stands in `config.json`; :meth:`Population.from_info` undoes it."""
    if population is None:
        return {}
    lists = {"center": list(population.center), "spread": list(population.spread)}
    return {POPULATION: asdict(population) | lists}


def _spread(powers: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    found = _MAD_TO_SD * np.median(np.abs(powers - np.median(powers, axis=0)), axis=0)
    return np.maximum(found, _LEAST_SPREAD)
