"""The published preprocessing of one recording: filter stages, windows of both views, referential
channels.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from safetensors.numpy import load_file

from conftest import golden_folder
from eegdm.data.montage import derive, referential
from eegdm.data.signal import Filtering, first_sample, open_recording, preprocess, wrap

LEAD = 400  # samples of a window before its event and after it: 2 s


class Golden(NamedTuple):
    folder: Path
    expected: dict[str, np.ndarray]
    rows: list[tuple[float, float]]  # start and end of each row of the .rec file, in s

    @property
    def edf(self) -> Path:
        return self.folder / "aaaaasyn_00000001.edf"


@pytest.fixture(scope="module", params=["complete", "kept with the tests"])
def golden(request) -> Golden:
    """The complete set where it is beside the checkout, and the smaller copy."""
    folder = (
        golden_folder("preproc_open")
        if request.param == "complete"
        else Path(__file__).parent / "preproc_open"
    )
    with (folder / "aaaaasyn_00000001.rec").open() as file:
        rows = [(float(start), float(end)) for _, start, end, _ in csv.reader(file)]
    tensors = {
        name: value
        for file in folder.glob("expected*.safetensors")
        for name, value in load_file(file).items()
    }
    return Golden(folder, tensors, rows)


@pytest.fixture(scope="module")
def bipolar_signal(golden) -> np.ndarray:
    raw = open_recording(golden.edf)
    return preprocess(raw, derive(raw.ch_names), Filtering()).signal


@pytest.fixture(scope="module")
def mono_signal(golden) -> np.ndarray:
    raw = open_recording(golden.edf)
    return preprocess(raw, referential(raw.ch_names, 23), Filtering()).signal


def assert_agrees(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


def window(signal: np.ndarray, start_s: float, end_s: float) -> np.ndarray:
    start, end = (int(first_sample(time, 200.0)) for time in (start_s, end_s))
    return wrap(signal, start - LEAD, end - start + 2 * LEAD)


def test_stages_of_the_first_channel(golden):
    raw = open_recording(golden.edf)
    plan = referential(raw.ch_names, 1)
    stages = {
        "filtered": Filtering(sfreq=250.0, notch=()),
        "notched": Filtering(sfreq=250.0),
        "resampled": Filtering(sfreq=200.0),
    }
    for stage, filtering in stages.items():
        expected = golden.expected[f"stage.{stage}_first_channel_uV"]
        assert_agrees(preprocess(raw, plan, filtering).signal[0] * 100, expected)


def test_windows_of_all_channels(golden, bipolar_signal):
    windows = [window(bipolar_signal, *row) for row in golden.rows]
    expected = golden.expected["faithful.signal"]
    assert_agrees(np.stack(windows[: len(expected)]), expected)


def test_windows_of_single_channels(golden, bipolar_signal):
    distinct = list(dict.fromkeys(golden.rows))
    windows = np.concatenate([window(bipolar_signal, *row) for row in distinct])[:, None]
    np.testing.assert_array_equal(
        golden.expected["pretrain.ch_idx"], np.tile(np.arange(22), len(distinct))
    )
    assert_agrees(windows, golden.expected["pretrain.data"])


def test_windows_over_both_ends_wrap_around(golden, bipolar_signal):
    first, last = golden.rows[0], golden.rows[-1]
    assert (
        first_sample(first[0], 200.0) < LEAD
        and first_sample(last[1], 200.0) + LEAD > bipolar_signal.shape[1]
    )
    cut = window(bipolar_signal, *first)
    np.testing.assert_array_equal(
        cut, np.concatenate([bipolar_signal[:, -300:], bipolar_signal[:, :700]], axis=1)
    )


def test_windows_of_referential_channels(golden, mono_signal):
    expected = golden.expected["mono.signal"]
    windows = [window(mono_signal, *row) for row in golden.rows[: len(expected)]]
    assert_agrees(np.stack(windows), expected)
