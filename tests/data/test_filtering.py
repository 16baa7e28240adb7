"""Filters and resampling against MNE on whole recordings, at once and in blocks."""

from __future__ import annotations

import mne
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eegdm.data import filtering
from eegdm.data.filtering import Filtering, Reflected, conditioned
from eegdm.data.resampling import Resampling
from eegdm.errors import UserError


def by_mne(signal: np.ndarray, sfreq: float, wanted: Filtering) -> np.ndarray:
    raw = mne.io.RawArray(
        signal.copy(), mne.create_info(len(signal), sfreq, "eeg"), verbose="ERROR"
    )
    raw.filter(wanted.highpass, wanted.lowpass, verbose="ERROR")
    if wanted.notch:
        raw.notch_filter(wanted.notch, verbose="ERROR")
    return raw.resample(wanted.sfreq, verbose="ERROR").get_data()


def by_blocks(
    signal: np.ndarray, sfreq: float, wanted: Filtering, block: int, precision: type = np.float64
) -> np.ndarray:
    n_times = signal.shape[1]

    def read(start: int, stop: int) -> np.ndarray:
        assert 0 <= start < stop <= n_times
        return signal[:, start:stop].copy()

    parts = list(conditioned(read, n_times, sfreq, wanted, block, precision))
    assert [part.start for part in parts] == list(
        np.cumsum([0, *(part.signal.shape[1] for part in parts[:-1])])
    )
    return np.concatenate([part.signal for part in parts], axis=1)


def eeg_like(n_times: int, sfreq: float, n_channels: int = 2) -> np.ndarray:
    """Random walk, alpha, both mains, and an offset; ends far from zero and from each other."""
    rng = np.random.default_rng(n_times)
    walk = np.cumsum(rng.standard_normal((n_channels, n_times)), axis=1)
    walk /= walk.std(axis=1, keepdims=True)
    time = np.arange(n_times) / sfreq
    tones = sum(
        size * np.sin(2 * np.pi * hertz * time) for hertz, size in ((10, 0.2), (50, 0.3), (60, 0.1))
    )
    return walk + tones + 5


def error(found: np.ndarray, expected: np.ndarray) -> float:
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("sfreq", [250.0, 256.0, 160.0, 128.0, 200.0, 500.0, 249.9, 200.001])
@pytest.mark.parametrize("seconds", [1, 10, 18, 25, 101.3])
def test_at_once_equals_mne(sfreq, seconds):
    signal = eeg_like(int(seconds * sfreq), sfreq)
    wanted, _ = Filtering().effective(sfreq)
    assert (
        error(by_blocks(signal, sfreq, wanted, block=10**9), by_mne(signal, sfreq, wanted)) < 1e-12
    )


@pytest.mark.parametrize(
    ("sfreq", "seconds"), [(250.0, 60), (256.0, 600), (160.0, 30), (200.0, 60)]
)
def test_single_precision_resampling_is_within_1e_6_of_mne(sfreq, seconds):
    signal = eeg_like(int(seconds * sfreq), sfreq)
    found = by_blocks(signal, sfreq, Filtering(), block=10**9, precision=np.float32)
    assert found.dtype == np.float32
    assert error(found, by_mne(signal, sfreq, Filtering())) < 5e-7


@pytest.mark.parametrize("notch", [(), (60.0,), (50.0, 60.0)])
def test_other_notches_equal_mne(notch):
    signal = eeg_like(15_000, 250.0)
    wanted = Filtering(highpass=0.5, notch=notch)
    assert (
        error(by_blocks(signal, 250.0, wanted, block=10**9), by_mne(signal, 250.0, wanted)) < 1e-12
    )


@pytest.mark.parametrize(
    ("sfreq", "seconds", "block_s"),
    [
        (250.0, 1200.0, 60),
        (250.0, 1234.567, 300),
        (256.0, 1200.0, 60),
        (500.0, 700.0, 61),
        (160.0, 1200.0, 60),
        (249.9, 700.0, 60),
        (200.0, 700.0, 60),
        (128.0, 700.0, 60),
        (
            250.0,
            1047.7,
            60,
        ),  # MNE pads by 110 samples and joins the ends there: the jump is heard in the recording
        (250.0, 1048.1, 60),  # 100 samples more, and it pads by a minute on either side at least
    ],
)
def test_blocks_are_within_1e_5_of_mne_everywhere(sfreq, seconds, block_s):
    signal = eeg_like(int(seconds * sfreq), sfreq, n_channels=1)
    wanted, _ = Filtering().effective(sfreq)
    expected = by_mne(signal, sfreq, wanted)
    found = by_blocks(signal, sfreq, wanted, int(block_s * sfreq))
    assert error(found, expected) < 1e-5
    scale = np.abs(expected).max()  # both ends included
    assert np.abs(found - expected)[:, [0, 1, 2, -3, -2, -1]].max() < 1e-5 * scale


@settings(max_examples=200)
@given(st.integers(-60, 90), st.integers(1, 60), st.integers(20, 40))
def test_reflection_is_numpys_odd_reflection(start, length, n_times):
    stop = start + length
    if start < -(n_times - 1) or stop > 2 * n_times - 1:
        return  # further than the signal reaches when reflected once
    signal = np.random.default_rng(n_times).standard_normal((2, n_times))
    padded = np.pad(signal, ((0, 0), (n_times - 1, n_times - 1)), "reflect", reflect_type="odd")
    piece = Reflected(start, stop, n_times)
    low, high = piece.source
    assert 0 <= low < high <= n_times
    expected = padded[:, start + n_times - 1 : stop + n_times - 1]
    np.testing.assert_allclose(piece.continued(signal[:, low:high]), expected, atol=1e-14)


def test_convolution_is_numpys():
    rng = np.random.default_rng(0)
    signal, taps = rng.standard_normal((3, 5000)), rng.standard_normal(101)
    expected = [np.convolve(row, taps, "valid") for row in signal]
    np.testing.assert_allclose(filtering._convolved(signal, taps), expected, atol=1e-11)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(8, 3000),
    st.sampled_from([128.0, 160.0, 199.7, 200.0, 250.0, 256.0, 400.0, 512.0, 1000.0]),
)
def test_output_length_is_mnes(n_times, sfreq):
    raw = mne.io.RawArray(np.zeros((1, n_times)), mne.create_info(1, sfreq, "eeg"), verbose="ERROR")
    assert (
        Resampling.of(n_times, sfreq, 200.0).n_out == raw.resample(200.0, verbose="ERROR").n_times
    )


# --------------------------------------------------------------------------------------- settings


def test_enough_sampling_changes_nothing():
    for sfreq in (160.0, 200.0, 250.0, 5000.0):
        assert Filtering().effective(sfreq) == (Filtering(), None)


def test_slow_sampling_lowers_the_low_pass_and_names_the_missing_band():
    applied, note = Filtering(notch=(50.0, 60.0)).effective(128.0)
    assert applied == Filtering(lowpass=0.45 * 128, notch=(50.0,))
    assert note == "sampled at 128 Hz, so 57.6 to 75 Hz are missing"
    assert Filtering().effective(100.0)[0] == Filtering(lowpass=45.0, notch=())


def test_notches_that_the_low_pass_covers_are_left_out():
    assert Filtering(notch=(50.0, 100.0, 150.0)).effective(250.0)[0].notch == (50.0,)


@pytest.mark.parametrize(
    "values", [{"lowpass": 100.0}, {"highpass": 80.0}, {"highpass": 0.0}, {"sfreq": 100.0}]
)
def test_contradictory_settings_are_refused(values):
    with pytest.raises(UserError, match="0 < highpass < lowpass < sfreq / 2"):
        Filtering(**values)


@pytest.mark.parametrize("sfreq", [1.0, 19.9, 1e6])
def test_rates_that_are_no_eeg_are_refused(sfreq):
    with pytest.raises(UserError, match="between 20 and 20000 Hz"):
        Filtering().effective(sfreq)
    with pytest.raises(UserError, match="nothing is left"):
        Filtering(highpass=20.0).effective(40.0)
