"""Classical features of windows, to compare a model's tokens with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from eegdm import artifacts
from eegdm.evaluation.baselines import BANDS, band_power
from eegdm.evaluation.covariance import covariances
from eegdm.features.extractors import Description
from eegdm.inference.chunks import Batch


@dataclass(frozen=True)
class BandPower:
    """Log power of each channel in the bands of :data:`eegdm.evaluation.baselines.BANDS`."""

    name: str = "band_power"

    def describe(self) -> Description:
        """Say what it makes."""
        edges = {band: list(hz) for band, hz in BANDS.items()}
        return Description(
            artifacts.fingerprint(["band power, log10", edges]),
            ("window", "channel", "band"),
            {"band": list(BANDS)},
        )

    def __call__(
        self, batch: Batch, sfreq: float, channel_ids: Sequence[int]
    ) -> Float[ndarray, "window channel band"]:
        """Return log10 of the power densities, (100 µV)²/Hz."""
        power = band_power(batch.data, sfreq)
        return power.reshape(*batch.data.shape[:2], -1).astype(np.float32)


@dataclass(frozen=True)
class Covariance:
    """Shrunk covariance of the channels in each window."""

    name: str = "covariance"

    def describe(self) -> Description:
        """Say what it makes."""
        return Description(
            artifacts.fingerprint("covariance, oas"), ("window", "channel", "other_channel"), {}
        )

    def __call__(
        self, batch: Batch, sfreq: float, channel_ids: Sequence[int]
    ) -> Float[ndarray, "window channel other_channel"]:
        """Return the covariances, (100 µV)²."""
        return covariances(batch.data).astype(np.float32)
