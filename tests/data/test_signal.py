"""From recordings to model units."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path

import edfio
import mne
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load_file

from conftest import golden_folder
from eegdm.config import SignalConfig
from eegdm.data import signal
from eegdm.data.filtering import filter_length
from eegdm.data.montage import CHBMIT, TCP, Derivation, derive, referential
from eegdm.data.signal import (
    Filtering,
    ModelUnits,
    compand,
    expand,
    first_sample,
    open_recording,
    preprocess,
    robust_spread,
    tensor_to_model_units,
    to_model_units,
    wrap,
)
from eegdm.errors import UserError

ELECTRODES = sorted({electrode for name in TCP for electrode in name.split("-")})


def recording(
    seconds: float = 30.0, sfreq: float = 250.0, names: list[str] | None = None
) -> mne.io.RawArray:
    """Random walks of some 100 µV after the filters, with an offset of a millivolt and a channel
    that is not needed.
    """
    names = ["ECG", *(f"EEG {name}-REF" for name in names or ELECTRODES)]
    walk = np.cumsum(
        np.random.default_rng(0).standard_normal((len(names), round(seconds * sfreq))), axis=1
    )
    return mne.io.RawArray(
        walk * 5e-6 + 1e-3, mne.create_info(names, sfreq, "eeg"), verbose="ERROR"
    )


def by_mne(raw: mne.io.BaseRaw, lowpass: float = 75.0) -> mne.io.BaseRaw:
    raw = raw.copy().load_data(verbose="ERROR").filter(0.1, lowpass, picks="all", verbose="ERROR")
    return raw.notch_filter(50.0, picks="all", verbose="ERROR").resample(200.0, verbose="ERROR")


def derived(raw: mne.io.BaseRaw, plan: list[Derivation]) -> np.ndarray:
    """In units of 100 µV."""
    return (
        np.concatenate(
            [raw.get_data(d.plus) - (0 if d.minus is None else raw.get_data(d.minus)) for d in plan]
        )
        * 1e4
    )


def assert_agrees(found: np.ndarray, expected: np.ndarray, tolerance: float = 1e-6) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


# ------------------------------------------------------------------------------------- preprocess


def test_deriving_first_equals_mne_filtering_every_channel_first():
    raw = recording()
    plan = derive(raw.ch_names)
    prepared = preprocess(raw, plan, Filtering())
    assert (prepared.signal.dtype, prepared.signal.shape, prepared.sfreq) == (
        np.float32,
        (22, 6000),
        200.0,
    )
    assert_agrees(prepared.signal, derived(by_mne(raw), plan))


def test_only_the_needed_channels_are_read():
    raw = recording()
    raw._data[0] = np.nan  # ECG
    assert np.isfinite(preprocess(raw, derive(raw.ch_names), Filtering()).signal).all()


def test_blocks_go_to_the_callers_memory_map_and_equal_the_whole(tmp_path):
    raw = recording(seconds=400.0, names=["FP1", "F7", "T3"])
    plan = derive(raw.ch_names, missing="drop")
    whole = preprocess(raw, plan, Filtering())
    blocks = preprocess(
        raw,
        plan,
        Filtering(),
        block_s=50.0,
        out=lambda shape: np.lib.format.open_memmap(tmp_path / "a.npy", "w+", np.float32, shape),
    )
    assert isinstance(blocks.signal, np.memmap)
    assert_agrees(np.load(tmp_path / "a.npy"), whole.signal, 1e-5)
    assert blocks.notes == whole.notes == []
    for one, other in zip(blocks.quality, whole.quality, strict=True):
        assert (one.name, one.flat, one.clipped) == (other.name, other.flat, other.clipped)
        assert one.spread_uv == pytest.approx(other.spread_uv, rel=1e-4)


def test_raw_samples_are_read_block_by_block():
    spans = []
    blocks = list(
        signal._unfiltered(
            lambda start, stop: spans.append((start, stop)) or np.zeros((1, stop - start)), 10, 4
        )
    )
    assert spans == [(0, 4), (4, 8), (8, 10)] and [block.start for block in blocks] == [0, 4, 8]


@pytest.mark.parametrize("block_s", [None, 7.0])
def test_raw_samples_can_be_kept(block_s):
    raw = recording(sfreq=256.0)
    plan = derive(raw.ch_names, CHBMIT)
    kept = preprocess(raw, plan, Filtering(), block_s=block_s, keep_raw=True)
    assert kept.sfreq == 256.0 and kept.notes == []
    np.testing.assert_array_equal(kept.signal, derived(raw, plan).astype(np.float32))


def test_slow_and_short_recordings_are_noted():
    raw = recording(sfreq=128.0)
    prepared = preprocess(raw, derive(raw.ch_names), Filtering())
    assert_agrees(prepared.signal, derived(by_mne(raw, lowpass=57.6), derive(raw.ch_names)))
    assert prepared.notes == [
        "sampled at 128 Hz, so 57.6 to 75 Hz are missing",
        "shorter than the filters (39.6 s), so slow waves are distorted",
    ]


def test_blocks_are_as_long_as_asked_or_128_mib_but_two_minutes_at_least():
    assert (
        signal._block_samples(2.0, 100.0, 22) == 200 and signal._block_samples(1e-4, 100.0, 22) == 1
    )
    assert signal._block_samples(None, 256.0, 16) == 2**20
    assert signal._block_samples(None, 256.0, 1000) == 120 * 256


def test_filtering_in_several_blocks_shows_how_far_it_is(capfd):
    raw = recording(seconds=100.0, names=["FP1", "F7"])
    plan = derive(raw.ch_names, missing="drop")
    preprocess(raw, plan, Filtering(), progress="one block")
    preprocess(raw, plan, Filtering(), block_s=40.0)
    preprocess(raw, plan, Filtering(), block_s=40.0, progress="forty seconds each")
    shown = capfd.readouterr().err
    assert (
        "forty seconds each" in shown
        and "3/3" in shown
        and "one block" not in shown
        and "None" not in shown
    )


def test_a_second_is_enough_and_a_recording_as_long_as_the_filters_is_not_short():
    raw = recording(seconds=60.0, names=["FP1", "F7"])
    plan, length = derive(raw.ch_names, missing="drop"), filter_length(250.0, Filtering())
    for n_times, said in (
        (250, "shorter than the filters"),
        (length - 1, "shorter than the filters"),
        (length, None),
    ):
        notes = preprocess(raw.copy().crop(0, (n_times - 1) / 250.0), plan, Filtering()).notes
        assert [note.partition(" (")[0] for note in notes] == ([said] if said else [])
    with pytest.raises(UserError, match="lasts 0.996 s, at least 1 s is needed"):
        preprocess(raw.copy().crop(0, 248 / 250.0), plan, Filtering())


# ---------------------------------------------------------------------------------------- quality


def test_the_spread_is_that_of_all_samples_up_to_40_000_and_of_20_000_or_more_beyond():
    x = np.random.default_rng(0).normal(size=(3, 90_001))
    x[:, ::2] *= 3
    for n_times, stride in ((39_999, 1), (90_001, 4)):
        blocks = [
            signal.FilteredBlock(start, x[:, start : min(start + 7001, n_times)])
            for start in range(0, n_times, 7001)
        ]
        found = signal._write_blocks(iter(blocks), np.empty((3, n_times), np.float32), n_times)
        low, high = np.percentile(x[:, :n_times:stride], (25, 75), axis=1)
        np.testing.assert_allclose(found, 100 * (high - low) / 1.349)


def test_channels_flat_for_half_of_the_time_or_clipped_in_a_hundredth_of_it_are_noted():
    quality = [
        signal.ChannelQuality(*row, 10.0)
        for row in (("a", 0.5, 0.01), ("b", 0.49, 0.0099), ("c", 1.0, 0.2))
    ]
    assert signal._quality_notes(quality) == [
        "flat: a (50% of the time), c (100% of the time)",
        "clipped: a (1% of the samples), c (20% of the samples)",
    ]


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("block_s", [None, 60.0])
def test_missing_values_are_refused_with_channel_and_time(value, block_s):
    raw = recording(seconds=200.0, names=["FP1", "F7", "T3"])
    raw._data[raw.ch_names.index("EEG T3-REF"), 40_000:40_003] = value
    with pytest.raises(
        UserError, match="channel 'EEG T3-REF' has 3 values .* the first at 160.000 s"
    ):
        preprocess(raw, derive(raw.ch_names, missing="drop"), Filtering(), block_s=block_s)


@pytest.mark.parametrize("factor", [1e6, 1e3, 1e-4, 1e-6])
def test_amplitudes_that_are_no_eeg_are_refused_with_the_figure(factor):
    raw = recording()
    plan = derive(raw.ch_names)
    usual = np.median([q.spread_uv for q in preprocess(raw, plan, Filtering()).quality])
    raw._data *= factor
    expected = f"suspect units: the channels' robust spread is {usual * factor:.3g} µV (median)"
    with pytest.raises(UserError, match=f"{re.escape(expected)}.* between 0.05 and 5000 µV"):
        preprocess(raw, plan, Filtering())


def test_all_flat_is_refused_and_a_loose_electrode_is_noted():
    raw = recording()
    assert preprocess(raw, derive(raw.ch_names), Filtering()).notes[1:] == []
    raw._data[raw.ch_names.index("EEG T5-REF")] *= 1e3
    *_, note = preprocess(raw, derive(raw.ch_names), Filtering()).notes
    assert re.fullmatch(
        r"a hundred times louder or quieter than most, a loose electrode or another unit: T3-T5"
        r" \(\S+ µV\), T5-O1 \(\S+ µV\)",
        note,
    )
    raw._data[:] = 1e-3
    with pytest.raises(UserError, match="all channels are flat"):
        preprocess(raw, derive(raw.ch_names), Filtering())


def test_one_electrode_beyond_any_amplifier_is_refused():
    raw = recording()
    raw._data[raw.ch_names.index("EEG T5-REF")] *= 1e6
    with pytest.raises(UserError, match=r"suspect units: T3-T5 \S+ µV, T5-O1 \S+ µV against"):
        preprocess(raw, derive(raw.ch_names), Filtering())


@pytest.mark.parametrize("block_s", [None, 50.0])
def test_flat_and_clipped_electrodes_are_reported(block_s):
    raw = recording(seconds=200.0)
    flat, clipped = (raw.ch_names.index(f"EEG {name}-REF") for name in ("A1", "O2"))
    raw._data[flat, 250 * 50 :] = raw._data[flat, 0]
    clean = raw.get_data(clipped)[0]
    ceiling, floor = np.percentile(clean, (95, 2))
    raw._data[clipped] = np.clip(clean, floor, ceiling)
    prepared = preprocess(raw, derive(raw.ch_names), Filtering(), block_s=block_s)
    quality = {q.name: q for q in prepared.quality}
    assert list(quality) == list(TCP)
    assert quality["A1-T3"].flat == 0.75
    for name in ("T6-O2", "P4-O2"):  # the long stays at the ceiling are flat seconds, not counted
        assert quality[name].clipped == pytest.approx(
            _clipped(raw.get_data(clipped)[0], floor, ceiling)
        )
    assert max(q.flat for q in prepared.quality if "A1" not in q.name and "O2" not in q.name) == 0
    assert max(q.clipped for q in prepared.quality if "O2" not in q.name) < 1e-3
    assert prepared.notes[0] == "flat: A1-T3 (75% of the time)"
    assert prepared.notes[1].startswith("clipped: T6-O2 (") and "P4-O2" in prepared.notes[1]


def _clipped(signal: np.ndarray, floor: float, ceiling: float) -> float:
    """Share of samples at either value among the seconds that move."""
    seconds = [second for second in signal.reshape(-1, 250) if np.ptp(second) > 0]
    return float(np.mean([(second == floor) | (second == ceiling) for second in seconds]))


def test_spread_is_the_standard_deviation_of_gaussian_noise():
    noise = np.random.default_rng(0).standard_normal((2, 60_000)) * 40e-6
    raw = mne.io.RawArray(noise, mne.create_info(["C3", "P3"], 200.0, "eeg"), verbose="ERROR")
    prepared = preprocess(raw, referential(raw.ch_names, 2), Filtering(), keep_raw=True)
    assert [q.spread_uv for q in prepared.quality] == pytest.approx([40, 40], rel=0.02)


def test_less_than_a_second_is_refused():
    with pytest.raises(UserError, match="lasts 0.8 s, at least 1 s"):
        raw = recording(seconds=0.8)
        preprocess(raw, derive(raw.ch_names), Filtering())


def test_a_file_that_breaks_while_being_read_is_told(tmp_path):
    names = ["FP1", "F7"]
    signals = [
        edfio.EdfSignal(np.random.default_rng(0).standard_normal(10_000) * 50, 100, label=name)
        for name in names
    ]
    edfio.Edf(signals).write(tmp_path / "a.edf")
    raw = open_recording(tmp_path / "a.edf")
    (tmp_path / "a.edf").write_bytes((tmp_path / "a.edf").read_bytes()[:5000])
    with pytest.raises(UserError, match="the data cannot be read from 0.000 s on"):
        preprocess(raw, derive(raw.ch_names, ("FP1-F7",)), Filtering())


# --------------------------------------------------------------------------------------- real EEG


@pytest.mark.real
def test_eegmmidb_gives_20_channels_at_160_hz(shared: Path):
    raw = open_recording(shared / "data" / "eegmmidb" / "S001R03.edf")
    plan = derive(raw.ch_names, missing="drop")
    assert [d.name for d in plan] == [name for name in TCP if "A1" not in name and "A2" not in name]
    with pytest.raises(UserError, match=r"A1-T3 \(no A1\); A2-T4 \(no A2\)"):
        derive(raw.ch_names)
    prepared = preprocess(raw, plan, Filtering())
    assert_agrees(prepared.signal, derived(by_mne(raw), plan))
    assert prepared.notes == []
    assert all(5 < q.spread_uv < 100 for q in prepared.quality)


@pytest.mark.real
def test_every_chbmit_excerpt_is_read(shared: Path):
    files = sorted((shared / "data" / "chbmit" / "edf").glob("*.edf"))
    assert len(files) == 22
    for file in files:
        raw = open_recording(file)
        plan = derive(raw.ch_names, CHBMIT)
        assert plan[CHBMIT.index("T4-T6")].plus == "T8-P8-0"
        signal = preprocess(raw, plan, Filtering()).signal
        assert signal.shape == (16, round(raw.n_times * 200 / 256))
    assert_agrees(signal, derived(by_mne(raw), plan))


# ---------------------------------------------------------------------------------------- windows


@given(st.floats(-10, 2000), st.sampled_from([200.0, 256.0, 160.0, 190.0, 249.9, 1 / 3 * 500]))
def test_first_sample_is_mnes_search_in_its_times(onset_s, sfreq):
    times = np.arange(int(2001 * sfreq)) / sfreq
    assert first_sample(onset_s, sfreq) == np.searchsorted(times, onset_s, "left")


@given(
    st.integers(0, 3_000_000),
    st.sampled_from([200.0, 256.0, 160.0, 190.0, 249.9]),
    st.integers(-2, 2),
)
def test_first_sample_on_and_beside_a_samples_own_time(index, sfreq, ulps):
    onset_s = index / sfreq
    for _ in range(abs(ulps)):
        onset_s = np.nextafter(onset_s, np.inf * ulps)
    near = np.arange(max(index - 3, 0), index + 4)
    assert first_sample(onset_s, sfreq) == near[np.searchsorted(near / sfreq, onset_s, "left")]


@pytest.mark.parametrize("sfreq", [100.0, 160.0, 173.61, 200.0, 249.9, 250.0, 256.0, 512.0])
def test_first_sample_just_before_at_and_after_every_sample(sfreq):
    """Products round up for a third of these, down for another, so that the first guess is one off
    either way.
    """
    times = np.arange(100_001) / sfreq
    for beside in (times[:-1], np.nextafter(times[:-1], np.inf), np.nextafter(times[1:], -np.inf)):
        np.testing.assert_array_equal(
            first_sample(beside, sfreq), np.searchsorted(times, beside, "left")
        )
    assert first_sample(3, 200.0) == 600  # whole seconds, as integers


def test_first_sample_of_many():
    found = first_sample([0.0, 0.5, 20.001, -3.0], 200.0)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, [0, 100, 4001, 0])


@given(st.integers(1, 30), st.integers(-70, 70), st.integers(1, 70))
def test_wrap_is_a_piece_of_the_periodic_recording(n_times, start, length):
    signal = np.arange(2 * n_times, dtype=np.float32).reshape(2, n_times)
    cut = wrap(signal, start, length)
    np.testing.assert_array_equal(cut, np.tile(signal, 8 * 70)[:, start % n_times :][:, :length])
    cut[:] = -1
    assert signal.min() == 0


@pytest.mark.parametrize("shape", [(7,), (2, 3, 7)])
def test_wrap_cuts_the_last_axis(shape):
    signal = np.arange(np.prod(shape)).reshape(shape)
    np.testing.assert_array_equal(wrap(signal, 0, 7), signal)
    np.testing.assert_array_equal(wrap(signal, -2, 3), signal[..., [-2, -1, 0]])


# ------------------------------------------------------------------------------------- companding


def test_companding_is_the_published_one():
    tensors: dict[str, np.ndarray] = {}
    for file in golden_folder("open").glob("expected*.safetensors"):
        tensors |= load_file(file)
    x = tensors["mu_x"]
    for found, name in (
        (compand(x), "mu_y"),
        (expand(tensors["mu_y"]), "mu_inv_of_y"),
        (expand(tensors["mu_inv_x"]), "mu_inv_y"),
        (compand(x, scale=2.0), "mu_y_scale2"),
        (compand(x, mu=100.0), "mu_y_mu100"),
    ):
        np.testing.assert_allclose(found, tensors[name], rtol=1e-12, atol=1e-12, err_msg=name)


signals = hnp.arrays(np.float64, st.integers(0, 20), elements=st.floats(-100, 100))


@given(signals, st.floats(1, 1000), st.floats(0.1, 10))
def test_expand_undoes_compand(x, mu, scale):
    np.testing.assert_allclose(expand(compand(x, mu, scale), mu, scale), x, rtol=1e-9, atol=1e-300)


@given(signals)
def test_companding_is_odd_keeps_order_and_never_enlarges(x):
    y = compand(x)
    np.testing.assert_array_equal(compand(-x), -y)
    assert (np.abs(y) <= np.maximum(np.abs(x), 0)).all()
    assert (np.diff(y[np.argsort(x)]) >= 0).all()
    np.testing.assert_array_equal(y[np.abs(x) <= 1], x[np.abs(x) <= 1])


def test_companding_keeps_float32():
    x = np.float32([-3, 0.5, 2])
    assert compand(x).dtype == expand(x).dtype == np.float32


@pytest.mark.parametrize("mu", [255.0, 100.0, 0.0])
@pytest.mark.parametrize("per_unit", [1.0, 1e4, 1e-2])
def test_arrays_and_tensors_become_the_same_model_units(mu: float, per_unit: float) -> None:
    model_units = np.linspace(-5, 5, 1001)
    expected = compand(model_units, mu) if mu else model_units
    found = to_model_units(model_units / per_unit, mu, per_unit)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)
    for dtype in (torch.float32, torch.float64):
        tensor = torch.tensor(model_units / per_unit, dtype=dtype)
        twin = tensor_to_model_units(tensor, mu, per_unit)
        assert twin.dtype == dtype
        np.testing.assert_allclose(twin.numpy(), expected, rtol=2e-6, atol=1e-6)


def test_by_default_model_units_are_the_published_ones() -> None:
    x = np.linspace(-5, 5, 101)
    np.testing.assert_array_equal(ModelUnits().shown(x, None), to_model_units(x, 255.0))
    assert ModelUnits().measure(np.ones((1, 5))) is None
    assert ModelUnits.of({}) == ModelUnits() == ModelUnits.of(asdict(SignalConfig()))
    assert ModelUnits.of({"mu": 0, "spread": 0.35, "whiten": [1.0, -0.5]}) == ModelUnits(
        0.0, 0.35, (1.0, -0.5)
    )


def test_the_robust_spread_is_that_of_noise_whatever_artefacts_and_flat_channels_say() -> None:
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((5, 50_000)) * np.array([0.5, 3.0, 3.0, 4.0, 0.0])[:, None] + 42.0
    noise[:, rng.random(50_000) < 0.01] = 1e4
    assert robust_spread(noise) == pytest.approx(3.0, rel=0.05)
    assert robust_spread(np.zeros((2, 10))) == 1.0


@given(st.floats(1e-3, 1e3))
def test_a_scaled_recording_is_shown_alike_whatever_its_unit(factor: float) -> None:
    recording = np.random.default_rng(1).standard_normal((3, 500))
    units = ModelUnits(mu=0.0, spread=0.35, whiten=(1.2, -0.6))
    shown = [
        units.shown(x[:, 100:200], units.measure(x), per_unit=7.0)
        for x in (recording, factor * recording)
    ]
    np.testing.assert_allclose(shown[1], shown[0], rtol=1e-4, atol=1e-6)
    scaled = ModelUnits(mu=0.0, spread=0.35)
    assert robust_spread(scaled.shown(recording, scaled.measure(recording))) == pytest.approx(0.35)


@pytest.mark.parametrize("mu", [0.0, 255.0])
@pytest.mark.parametrize("spread", [None, 0.35])
@pytest.mark.parametrize("whiten", [None, (1.5, -1.2, 0.2)])
def test_a_signal_is_recovered_from_what_was_shown(
    mu: float, spread: float | None, whiten: tuple[float, ...] | None
) -> None:
    signal = 4 * np.random.default_rng(3).standard_normal((2, 3, 400))
    units = ModelUnits(mu, spread, whiten)
    measured = None if spread is None else 2.5
    found = units.recovered(units.shown(signal, measured).astype(np.float64), measured)
    np.testing.assert_allclose(found, signal, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("units", [ModelUnits(0.0, 0.35, (1.5, -1.2, 0.2)), ModelUnits()])
def test_windows_alone_are_shown_as_recordings_of_their_own(units: ModelUnits) -> None:
    """One window has a flat channel, one nothing but flat channels."""
    windows = 4 * np.random.default_rng(4).standard_normal((3, 4, 400))
    windows[1, 2], windows[2] = 1.0, 1.0
    expected = [units.shown(window, units.measure(window), 0.5) for window in windows]
    found = units.shown_alone(torch.from_numpy(windows), 0.5)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
