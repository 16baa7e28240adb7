"""Units of files: their spellings, none, wrong ones, and what a user states by hand."""

from __future__ import annotations

from pathlib import Path

import mne
import numpy as np
import pandas as pd
import pytest

import eegdm
from eegdm.config import Config, CorpusConfig, RunConfig, SignalConfig, WindowConfig
from eegdm.data.montage import derive
from eegdm.data.reading import open_recording, opening_of
from eegdm.data.signal import Filtering, preprocess
from eegdm.data.units import volts_per
from eegdm.errors import UserError
from eegdm.inference.prediction import Options
from eegdm.inference.prediction_folder import Outputs, predict_path
from eegdm.stages.preprocess import run
from inference.small import lively_model, made_up

SPELLINGS = {
    b"uV": 1e-6,
    b"uv": 1e-6,
    b"UV": 1e-6,
    b"\xb5V": 1e-6,
    "µV".encode(): 1e-6,
    "\u03bcV".encode(): 1e-6,
    b"\x83\xcaV": 1e-6,
    b"microV": 1e-6,
    b"uVolt": 1e-6,
    b"mV": 1e-3,
    b"MV": 1e-3,
    b"nV": 1e-9,
    b"V": 1.0,
    b"volts": 1.0,
}


def edf(path: Path, units: dict[str, bytes] | bytes, numbers_uv: float = 1e6) -> Path:
    """The recording of `made_up` as EDF or BDF: each channel's numbers are in microvolts times
    1e-6 `numbers_uv`, and its unit reads as given (of all channels, or by name; else uV).
    """
    raw = made_up(20.0)
    names = raw.ch_names
    given = {name: units for name in names} if isinstance(units, bytes) else units
    is_bdf = path.suffix == ".bdf"
    most = 2 ** (23 if is_bdf else 15) - 1
    data = raw.get_data() * numbers_uv
    limit = f"{np.abs(data).max() * 1.1:.1e}"

    def column(values: list[str] | list[bytes], width: int) -> bytes:
        cells = (v if isinstance(v, bytes) else v.encode() for v in values)
        return b"".join(cell.ljust(width) for cell in cells)

    n = len(names)
    header = b"\xffBIOSEMI" if is_bdf else b"0".ljust(8)
    header += b"X".ljust(80) * 2 + b"01.01.2010.00.00" + str(256 * (n + 1)).encode().ljust(8)
    header += b"".ljust(44) + b"20".ljust(8) + b"1".ljust(8) + str(n).encode().ljust(4)
    header += column(names, 16) + b" " * 80 * n
    header += column([given.get(name, b"uV") for name in names], 8)
    for value in (f"-{limit}", limit, str(-most), str(most)):
        header += column([value] * n, 8)
    header += b" " * 80 * n + column(["256"] * n, 8) + b" " * 32 * n
    digital = np.round(data / float(limit) * most).astype("<i4").reshape(n, 20, 256)
    body = digital.transpose(1, 0, 2)[..., None].view(np.uint8).reshape(20, n, 256, 4)
    path.write_bytes(header + body[..., : 3 if is_bdf else 2].tobytes())
    return path


def brainvision(path: Path, unit: str) -> Path:
    """With the resolution of one channel changed so that its numbers are in that unit."""
    mne.export.export_raw(path, made_up(20.0), verbose="ERROR")
    text = path.read_text("utf8")
    lines = [
        ",".join([*line.split(",")[:3], unit]) if line.startswith("Ch") and "," in line else line
        for line in text.splitlines()
    ]
    path.write_text("\n".join(lines), "utf8")
    return path


def assert_is_made_up(raw: mne.io.BaseRaw, factor: float = 1.0) -> None:
    expected = made_up(20.0).get_data() * factor
    size = np.abs(expected).max()
    np.testing.assert_allclose(raw.get_data(), expected, rtol=0, atol=1e-4 * size)
    np.testing.assert_allclose(
        raw.get_data([2, 5], 1000, 2001), expected[[2, 5], 1000:2001], rtol=0, atol=1e-4 * size
    )


@pytest.mark.parametrize("suffix", [".edf", ".bdf"])
@pytest.mark.parametrize(("spelling", "volts"), SPELLINGS.items())
def test_spellings_in_edf_and_bdf(tmp_path, suffix, spelling, volts):
    path = edf(tmp_path / f"a{suffix}", spelling, numbers_uv=1 / volts)
    assert_is_made_up(open_recording(path))
    assert opening_of(open_recording(path)).notes == ()


@pytest.mark.parametrize("unit", ["µV", "\u03bcV", "uV", "uv", "UV", ""])
def test_spellings_in_brainvision(tmp_path, unit):
    assert_is_made_up(open_recording(brainvision(tmp_path / "a.vhdr", unit)))


def test_places_on_the_head_are_not_taken_for_channels_of_brainvision(tmp_path):
    path = brainvision(tmp_path / "a.vhdr", "mV")
    places = "".join(f"Ch{k}=1,-92,{k}\n" for k in range(1, len(made_up(20.0).ch_names) + 1))
    path.write_text(f"{path.read_text('utf8')}\n\n[Coordinates]\n{places}", "utf8")
    assert_is_made_up(open_recording(path), 1000.0)


def test_what_is_no_voltage_has_no_factor():
    for text in ("", "%", "mmHg", "n/a", "Ohm", "degC", "bpm", "1"):
        assert volts_per(text) is None


def test_no_unit_in_the_whole_file_is_refused_and_one_that_is_stated_taken(tmp_path):
    path, model = edf(tmp_path / "a.edf", b""), lively_model()
    with pytest.raises(UserError, match=r"suspect units: .*state the unit with unit="):
        eegdm.predict(path, model)
    assert_is_made_up(open_recording(path, "uV"))
    expected = eegdm.predict(edf(tmp_path / "b.edf", b"uV"), model)
    found = eegdm.predict(path, model, unit="uV")
    np.testing.assert_allclose(found.windows, expected.windows, atol=1e-6)
    assert "unit=uV was stated for all channels" in found.notes
    embedded = eegdm.embed(path, model, unit="uV")
    assert "unit=uV was stated for all channels" in embedded.about.notes
    np.testing.assert_allclose(
        embedded.values, eegdm.embed(tmp_path / "b.edf", model).values, atol=1e-5
    )


def test_a_stated_unit_is_above_the_files_and_that_is_said(tmp_path):
    path = edf(tmp_path / "a.edf", {"EEG Fp1-REF": b"mV", "EEG O1-REF": b""})
    raw = open_recording(path, "uV")
    assert_is_made_up(raw)
    assert opening_of(raw).notes == (
        "unit=uV was stated for all channels, against what the file says of EEG Fp1-REF",
    )


@pytest.mark.parametrize("name", ["a_raw.fif", "a.set"])
def test_a_unit_can_be_stated_for_formats_that_name_none(tmp_path, name):
    wrong = made_up(20.0)
    wrong._data *= 1e6 if name.endswith("fif") else 1e-6  # as if volts had been microvolts, or so
    if name.endswith("fif"):
        wrong.save(tmp_path / name, verbose="ERROR")
    else:
        mne.export.export_raw(tmp_path / name, wrong, verbose="ERROR")
    assert_is_made_up(open_recording(tmp_path / name, "uV" if name.endswith("fif") else "V"))
    model = lively_model()
    with pytest.raises(UserError, match="suspect units"):
        eegdm.predict(tmp_path / name, model)


def test_a_raw_in_microvolts_is_scaled_in_a_copy():
    model, raw = lively_model(), made_up(20.0)
    raw._data *= 1e6
    before = raw.get_data()
    found = eegdm.predict(raw, model, unit="uV")
    np.testing.assert_array_equal(raw.get_data(), before)
    np.testing.assert_allclose(
        found.windows, eegdm.predict(made_up(20.0), model).windows, atol=1e-6
    )
    marked = eegdm.annotate(raw, model, unit="uV", threshold=0.2)
    assert len(marked) == len(eegdm.annotate(made_up(20.0), model, threshold=0.2)) > 0


def test_units_from_beside_the_file_fill_in_only_what_it_does_not_say(tmp_path):
    path = edf(tmp_path / "a.edf", {"EEG O1-REF": b"", "EEG O2-REF": b"n/a"})
    beside = {name: "µV" for name in made_up(1.0).ch_names} | {"EEG Fp1-REF": "mV"}
    raw = open_recording(path, units=beside)
    assert_is_made_up(raw)
    assert opening_of(raw).notes == (
        "the unit of EEG O1-REF, EEG O2-REF was taken from channels.tsv",
    )


@pytest.mark.parametrize("suffix", [".edf", ".bdf"])
@pytest.mark.parametrize("unit", [b"", b"mV", b"xyz"])
def test_two_channels_in_another_unit_are_refused(tmp_path, suffix, unit):
    """Their numbers are microvolts like the others', their unit is not."""
    path = edf(tmp_path / f"a{suffix}", {"EEG T3-REF": unit, "EEG O2-REF": unit})
    raw = open_recording(path)
    with pytest.raises(UserError, match=r"suspect units: F7-T3 .*T6-O2|suspect units: F7-T3 .*"):
        preprocess(raw, derive(raw.ch_names), Filtering())
    raw = open_recording(path, "uV")
    assert len(preprocess(raw, derive(raw.ch_names), Filtering()).quality) == 22


def test_channels_without_a_unit_that_are_in_volts_are_noted(tmp_path):
    volts = edf(tmp_path / "v.edf", b"", numbers_uv=1.0)
    raw = open_recording(volts)
    notes = preprocess(raw, derive(raw.ch_names), Filtering()).notes
    assert notes[0].startswith("no unit of voltage stated, taken as volts: EEG Fp1-REF, ")
    assert_is_made_up(raw)


@pytest.mark.parametrize("unit", ["uv", "", "kV"])
def test_a_unit_that_is_none_is_refused(tmp_path, unit):
    with pytest.raises(UserError, match="choose from V, mV, uV"):
        open_recording(tmp_path / "a.edf", unit)
    with pytest.raises(UserError, match="choose from V, mV, uV"):
        eegdm.predict(made_up(20.0), lively_model(), unit=unit)


def test_preprocess_takes_a_unit(tmp_path):
    (tmp_path / "in").mkdir()
    edf(tmp_path / "in" / "a.edf", b"")
    corpus = CorpusConfig(name="folder", source=str(tmp_path / "in"), events="none")
    settings = RunConfig(root=str(tmp_path / "runs"))
    config = Config(
        corpus=corpus,
        signal=SignalConfig(unit="uV"),
        windows=WindowConfig(split="recording"),
        run=settings,
    )
    folder = run(config)

    row = pd.read_parquet(folder / "recordings.parquet").iloc[0]
    assert row.status == "ok" and "unit=uV was stated for all channels" in row.reason
    signal = np.load(folder / row.signal)
    expected = preprocess(made_up(20.0), derive(made_up(1.0).ch_names), Filtering()).signal
    np.testing.assert_allclose(signal, expected, atol=1e-3)


def test_a_fif_copy_is_in_volts_by_the_stated_unit(tmp_path):
    path = edf(tmp_path / "a.edf", b"")
    model = lively_model().save_pretrained(tmp_path / "model")
    outputs = Outputs(report=False, copy="fif")
    predict_path(path, str(model), tmp_path / "out", Options(unit="uV"), outputs)
    copy = mne.io.read_raw_fif(tmp_path / "out" / "a_annotated_raw.fif", verbose="ERROR")
    assert_is_made_up(copy)
