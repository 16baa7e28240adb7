"""The published transform of single CHB-MIT windows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from scipy.signal import resample

from conftest import golden_folder
from eegdm.data.montage import CHBMIT, derive
from eegdm.data.signal import (
    Filtering,
    compand,
    open_recording,
    preprocess,
    published_chbmit_window,
)


@pytest.fixture(scope="module", params=["complete", "kept with the tests"])
def golden(request) -> dict[str, np.ndarray]:
    folder = (
        golden_folder("chbmit_window")
        if request.param == "complete"
        else Path(__file__).parent / "chbmit_window"
    )
    return {
        name: value
        for file in folder.glob("expected*.safetensors")
        for name, value in load_file(file).items()
    }


def assert_agrees(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("window", "expected"), [("x_uV", "filtered"), ("real_x_uV", "real_filtered")]
)
def test_transform(golden, window, expected):
    assert_agrees(published_chbmit_window(golden[window]), golden[expected])


def test_resampling_and_companding_alone(golden):
    assert_agrees(compand(resample(golden["x_uV"], 2000, axis=-1) / 100), golden["resampled"])


def test_one_window_equals_its_place_in_a_batch(golden):
    windows = golden["x_uV"]
    np.testing.assert_allclose(
        published_chbmit_window(windows[1]), published_chbmit_window(windows)[1], atol=1e-12
    )


@pytest.mark.real
def test_the_excerpt_itself(shared, golden):
    """From the file: the first of two T8-P8, raw at 256 Hz, float32 in units of 100 µV."""
    raw = open_recording(shared / "data" / "chbmit" / "edf" / "chb01_03_seizure.edf")
    kept = preprocess(raw, derive(raw.ch_names, CHBMIT), Filtering(), keep_raw=True)
    assert kept.sfreq == 256.0
    assert_agrees(kept.signal[None, :, :2560] * 100, golden["real_x_uV"])
    assert_agrees(
        published_chbmit_window(kept.signal[:, :2560] * 100.0)[None], golden["real_filtered"]
    )
