"""Hum of known size is found, in µV, whatever else is in the signal."""

from __future__ import annotations

import mne
import numpy as np
import pytest

from eegdm.data.line_noise import line_noise
from eegdm.data.montage import Derivation

CHANNELS = [Derivation("FP1-F7", 0, "a", "b"), Derivation("F7-T3", 1, "b", None)]


def recording(
    hum_uv: float, hz: float, sfreq: float = 250.0, seconds: float = 60.0
) -> mne.io.RawArray:
    """Channel a hums, b does not; both hold 20 µV of white noise and an offset."""
    rng = np.random.default_rng(0)
    times = np.arange(round(seconds * sfreq)) / sfreq
    data = rng.normal(0, 20e-6, (2, len(times))) + 1e-3
    data[0] += hum_uv * 1e-6 * np.sqrt(2) * np.sin(2 * np.pi * hz * times)
    return mne.io.RawArray(data, mne.create_info(["a", "b"], sfreq, "eeg"), verbose="ERROR")


@pytest.mark.parametrize(
    ("hum_uv", "hz"), [(15.0, 50.0), (15.0, 60.0), (200.0, 50.0), (30.0, 50.2)]
)
def test_hum_is_measured(hum_uv: float, hz: float) -> None:
    found = line_noise(recording(hum_uv, hz), CHANNELS)
    assert found is not None
    assert found.mains_hz == round(hz, -1)
    assert found.rms_uv[0] == pytest.approx(hum_uv, rel=0.05)
    assert found.rms_uv[1] < 3


def test_it_is_not_measured_where_it_can_not_be() -> None:
    assert line_noise(recording(15.0, 50.0, sfreq=100.0), CHANNELS) is None
    assert line_noise(recording(15.0, 50.0, seconds=3.0), CHANNELS) is None
