"""Files whose signals have several rates: the wanted channels are read at their own, in stretches
as in one piece, and equal what another reader finds.
"""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import edfio
import mne
import numpy as np
import pytest

import eegdm
from eegdm.data.montage import TCP, derive
from eegdm.data.reading import open_recording, opening_of
from eegdm.data.signal import Filtering, preprocess
from eegdm.errors import UserError
from inference.small import ELECTRODES, lively_model

EEG = [f"EEG {name}-REF" for name in (*ELECTRODES, "Fz", "Pz")]
N_OTHERS = 24


def noise(rng: np.random.Generator, n_times: int) -> np.ndarray:
    spectrum = np.fft.rfft(rng.standard_normal(n_times))
    walk = np.fft.irfft(spectrum / np.sqrt(1 + np.arange(len(spectrum))), n_times)
    return 30 * walk / walk.std()


def mixed(path: Path, sfreq: Fraction, other: Fraction, seconds: int) -> Path:
    """EEG at one rate between more signals of another, and a slow one, in EDF or BDF."""
    rng = np.random.default_rng(0)
    kind = edfio.EdfSignal if path.suffix == ".edf" else edfio.BdfSignal
    rates = {f"X{k}": other for k in range(N_OTHERS // 2)}
    rates |= dict.fromkeys(EEG, sfreq) | {"SpO2": Fraction(1)}
    rates |= {f"X{k}": other for k in range(N_OTHERS // 2, N_OTHERS)}
    signals = [
        kind(
            noise(rng, int(seconds * rate)),
            float(rate),
            label=label,
            physical_dimension="uV",
            physical_range=(-500, 500),
        )
        for label, rate in rates.items()
    ]
    whole = edfio.Edf if path.suffix == ".edf" else edfio.Bdf
    record_s = np.lcm(sfreq.denominator, other.denominator)
    whole(signals, data_record_duration=float(record_s)).write(path)
    return path


def by_edfio(path: Path) -> np.ndarray:
    """The EEG in volts, (channel, time)."""
    read = edfio.read_edf if path.suffix == ".edf" else edfio.read_bdf
    return np.stack([s.data for s in read(path).signals if s.label in EEG]) * 1e-6


RATES = [
    (".edf", Fraction(200), Fraction(400)),
    (".bdf", Fraction(200), Fraction(400)),
    (".edf", Fraction(256), Fraction(200)),
    (".bdf", Fraction(128), Fraction(500)),
    (".edf", Fraction(500), Fraction(200)),
    (".edf", Fraction(599, 3), Fraction(256)),
    (".bdf", Fraction(400, 3), Fraction(250)),
]


@pytest.mark.parametrize(("suffix", "sfreq", "other"), RATES)
def test_every_stretch_equals_another_reader(tmp_path, suffix, sfreq, other):
    path = mixed(tmp_path / f"a{suffix}", sfreq, other, 60)
    raw = open_recording(path)
    expected = by_edfio(path)
    assert raw.ch_names == EEG and raw.info["sfreq"] == pytest.approx(float(sfreq))
    assert raw.n_times == expected.shape[1] == int(60 * sfreq)
    np.testing.assert_allclose(raw.get_data(), expected, rtol=0, atol=1e-12)
    rng = np.random.default_rng(1)
    for _ in range(20):
        start, stop = np.sort(rng.integers(0, raw.n_times + 1, 2))
        picks = np.sort(rng.choice(len(EEG), 5, replace=False))
        if start < stop:
            np.testing.assert_allclose(
                raw.get_data(picks, start, stop), expected[picks, start:stop], rtol=0, atol=1e-12
            )
    assert any("left out, sampled at other rates: X0, X1" in n for n in opening_of(raw).notes)


def alone(path: Path) -> mne.io.BaseRaw:
    """What MNE reads of a file that holds nothing else."""
    data = by_edfio(path)
    sfreq = next(s for s in edfio.read_edf(path).signals if s.label in EEG).sampling_frequency
    return mne.io.RawArray(data, mne.create_info(EEG, sfreq, "eeg"), verbose="ERROR")


def test_blocks_predictions_and_embeddings_are_those_of_the_eeg_alone(tmp_path):
    path = mixed(tmp_path / "a.edf", Fraction(200), Fraction(400), 400)
    raw, expected = open_recording(path), alone(path)
    plan = derive(raw.ch_names)
    found = preprocess(raw, plan, Filtering(), block_s=50.0).signal
    wanted = preprocess(expected, plan, Filtering()).signal
    for k in range(0, 80_000, 20_000):
        np.testing.assert_allclose(found[:, k : k + 20_000], wanted[:, k : k + 20_000], atol=1e-4)
    model = lively_model()
    np.testing.assert_allclose(
        eegdm.predict(path, model, step_s=40.0).windows,
        eegdm.predict(expected, model, step_s=40.0).windows,
        atol=1e-4,
    )
    one, other = (eegdm.embed(source, model, step_s=40.0) for source in (path, expected))
    np.testing.assert_allclose(one.values, other.values, atol=1e-3)
    assert any("read at 200 Hz; left out" in note for note in one.about.notes)


def test_sleep_edf_has_three_channels_at_100_hz_and_more_slower_ones(tmp_path):
    rates = {"EEG Fpz-Cz": 100, "EEG Pz-Oz": 100, "EOG horizontal": 100}
    rates |= {"Resp oro-nasal": 1, "EMG submental": 1, "Temp rectal": 1, "Event marker": 1}
    rng = np.random.default_rng(0)
    signals = [
        edfio.EdfSignal(
            noise(rng, 600 * rate),
            rate,
            label=label,
            physical_dimension="uV",
            physical_range=(-500, 500),
        )
        for label, rate in rates.items()
    ]
    edfio.Edf(signals, data_record_duration=30).write(tmp_path / "SC4001E0-PSG.edf")
    raw = open_recording(tmp_path / "SC4001E0-PSG.edf")
    assert raw.ch_names == list(rates)[:3] and raw.info["sfreq"] == 100
    np.testing.assert_allclose(
        raw.get_data(start=12_345, stop=23_456)[1],
        signals[1].data[12_345:23_456] * 1e-6,
        atol=1e-12,
    )
    found = eegdm.embed(tmp_path / "SC4001E0-PSG.edf", lively_model(), channels="file", step_s=60.0)
    assert found.about.ch_names == ["EEG Fpz-Cz", "EEG Pz-Oz"]


def test_the_rate_is_that_of_the_channels_that_a_model_wants(tmp_path):
    """C3 and C4 beside all others: which is read depends on what is wanted."""
    rates = dict.fromkeys(EEG, 200) | {"EEG C3-REF": 500, "EEG C4-REF": 500, "EEG Cz-REF": 500}
    rng = np.random.default_rng(0)
    signals = [
        edfio.EdfSignal(noise(rng, 10 * rate), rate, label=label) for label, rate in rates.items()
    ]
    edfio.Edf(signals, data_record_duration=1).write(tmp_path / "a.edf")
    assert open_recording(tmp_path / "a.edf").info["sfreq"] == 200
    found = open_recording(tmp_path / "a.edf", wanted=("C3-CZ", "C4-CZ"))
    assert found.info["sfreq"] == 500 and len(found.ch_names) == 3


def test_of_one_name_twice_only_the_one_at_another_rate_or_without_scale_is_left_out(tmp_path):
    rng = np.random.default_rng(0)
    signals = [
        edfio.EdfSignal(noise(rng, 10 * rate), rate, label=label, physical_range=(-500, 500))
        for label, rate in (("Fp1", 400), ("Fp1", 200), ("F7", 200), ("F7", 200), ("T3", 200))
    ]
    edfio.Edf(signals, data_record_duration=1).write(tmp_path / "a.edf")
    data = bytearray((tmp_path / "a.edf").read_bytes())
    at = 256 + 112 * int(data[252:256]) + 8 * 2  # the physical maximum of the first F7: a dummy
    data[at : at + 8] = b"-500    "
    (tmp_path / "a.edf").write_bytes(data)
    raw = open_recording(tmp_path / "a.edf")
    assert raw.ch_names == ["Fp1", "F7", "T3"] and raw.info["sfreq"] == 200
    for row, k in enumerate((1, 3, 4)):
        np.testing.assert_allclose(raw.get_data(row)[0], signals[k].data, atol=0.01)


# ------------------------------------------------------------------------------------------- GDF


def gdf(
    path: Path, rates: dict[str, int], unit: int = 4275, events: dict[int, int] | None = None
) -> np.ndarray:
    """Write GDF 2.10 of 16-bit integers, 10 s, byte by byte, with events (sample from 1 -> code);
    return the first signal's numbers.
    """
    n = len(rates)
    fixed = bytearray(256)
    fixed[:8] = b"GDF 2.10"
    fixed[8:74] = b"X X".ljust(66)
    struct.pack_into("<H", fixed, 184, n + 1)
    struct.pack_into("<qIIH", fixed, 236, 10, 1, 1, n)
    rng = np.random.default_rng(0)
    data = [np.round(10 * noise(rng, 10 * rate)).astype("<i2") for rate in rates.values()]
    columns = [
        b"".join(name.encode().ljust(16, b"\0") for name in rates),
        bytes(80 * n),
        bytes(6 * n),
        struct.pack(f"<{n}H", *[unit] * n),
        struct.pack(f"<{n}d", *[-3276.8] * n),
        struct.pack(f"<{n}d", *[3276.7] * n),
        struct.pack(f"<{n}d", *[-32768] * n),
        struct.pack(f"<{n}d", *[32767] * n),
        bytes(68 * n),
        bytes(12 * n),
        struct.pack(f"<{n}i", *rates.values()),
        struct.pack(f"<{n}i", *[3] * n),
        bytes(32 * n),
    ]
    records = np.hstack([x.reshape(10, -1) for x in data])
    at, codes = list(events or {}), list((events or {}).values())
    table = b"\x01" + len(at).to_bytes(3, "little") + struct.pack("<f", max(rates.values()))
    table += struct.pack(f"<{len(at)}I{len(at)}H", *at, *codes)
    path.write_bytes(bytes(fixed) + b"".join(columns) + records.tobytes() + table)
    return data[0] / 10


def test_gdf_with_slower_signals_is_read_and_with_faster_ones_refused(tmp_path):
    names = dict.fromkeys(EEG, 200)
    first = gdf(tmp_path / "a.gdf", names | {"Temp": 10})
    raw = open_recording(tmp_path / "a.gdf")
    assert raw.ch_names == EEG and raw.info["sfreq"] == 200
    np.testing.assert_allclose(raw.get_data(0, 333, 1777)[0], first[333:1777] * 1e-6, atol=1e-10)
    gdf(tmp_path / "b.gdf", names | {"EMG": 1000})
    with pytest.raises(UserError, match=r"faster than its EEG \(EMG\).* convert the file to EDF"):
        open_recording(tmp_path / "b.gdf")


def test_units_of_gdf_and_its_word_for_a_gap(tmp_path):
    names = dict.fromkeys(EEG, 200)
    first = gdf(tmp_path / "a.gdf", names, unit=4276, events={1: 32_766, 601: 769})
    raw = open_recording(tmp_path / "a.gdf")
    np.testing.assert_allclose(raw.get_data(0)[0], first * 1e-9, atol=1e-13)
    gdf(tmp_path / "b.gdf", names, events={1: 32_766, 1001: 32_766})
    with pytest.raises(UserError, match=r"has 1 gap, the first after 5 s \(annotation '32766'\)"):
        open_recording(tmp_path / "b.gdf")


def test_a_raw_of_several_rates_is_refused_unless_it_is_in_memory(tmp_path):
    path, model = mixed(tmp_path / "a.edf", Fraction(200), Fraction(400), 60), lively_model()
    raw = mne.io.read_raw_edf(path, verbose="ERROR")
    with pytest.raises(UserError, match=r"several rates.*load_data\(\)"):
        eegdm.embed(raw, model)
    found = eegdm.embed(raw.load_data(verbose="ERROR"), model)
    expected = eegdm.embed(path, model)  # MNE's resampling bends the first and last samples
    np.testing.assert_allclose(found.values[1:-1], expected.values[1:-1], atol=0.01)


def test_all_of_tcp_is_found_in_the_test_files():
    assert [d.name for d in derive(EEG)] == list(TCP)
