"""What bad input gets: one line that says what was found, what is allowed and what to do; status 2;
nothing left behind.
"""

from __future__ import annotations  # noqa: I001

import os
import re
from collections.abc import Callable
from pathlib import Path

import mne
import numpy as np
import pytest
from inference.small import made_up, small_model

from eegdm import cli


def export(raw: mne.io.BaseRaw, path: Path) -> Path:
    if path.suffix == ".edf":
        mne.export.export_raw(path, raw, fmt="edf", verbose="ERROR")
    else:
        raw.save(path, verbose="ERROR")
    return path


def edited(
    change: Callable[[np.ndarray], object], seconds: float = 12.0, sfreq: float = 256.0
) -> mne.io.RawArray:
    raw = made_up(seconds, sfreq)
    change(raw._data)
    return raw


def _nothing(folder: Path) -> Path:
    return folder / "nofile.edf"


def _text(folder: Path) -> Path:
    (folder / "text.edf").write_text("this is no recording\n" * 50)
    return folder / "text.edf"


def _cut_off(folder: Path) -> Path:
    path = export(made_up(12.0), folder / "cut.edf")
    path.write_bytes(path.read_bytes()[:-20_000])
    return path


def _short(folder: Path) -> Path:
    return export(made_up(1.0), folder / "short.edf")


def _half_a_second(folder: Path) -> Path:
    return export(made_up(0.5), folder / "half_raw.fif")


def _two_channels(folder: Path) -> Path:
    return export(made_up(12.0, names=("Fp1", "F7")), folder / "two.edf")


def _unknown_channels(folder: Path) -> Path:
    raw = made_up(12.0)
    raw.rename_channels({"EEG Fp1-REF": "EEG Fq1-REF"})
    return export(raw, folder / "unknown.edf")


def _microvolts(folder: Path) -> Path:
    return export(edited(lambda x: np.multiply(x, 1e6, out=x)), folder / "microvolts_raw.fif")


def _nanovolts(folder: Path) -> Path:
    return export(edited(lambda x: np.multiply(x, 1e-6, out=x)), folder / "tiny_raw.fif")


def _missing_values(folder: Path) -> Path:
    return export(edited(lambda x: x[2, 256 * 4 : 256 * 6].fill(np.nan)), folder / "nan_raw.fif")


def _flat(folder: Path) -> Path:
    return export(edited(lambda x: x.fill(1e-5)), folder / "flat_raw.fif")


def _too_slow(folder: Path) -> Path:
    return export(made_up(60.0, 16.0), folder / "slow_raw.fif")


BAD = [
    (_nothing, r"nofile.edf does not exist"),
    (_text, r"text.edf is not an EDF file: unexpected first bytes"),
    (_cut_off, r"cut.edf is cut off or damaged: 12 records promised, 9 there"),
    (_short, r"short.edf: 1.0 s long; this model looks at windows of 5 s"),
    (_half_a_second, r"half_raw.fif: the recording lasts 0.5 s, at least 1 s is needed"),
    (
        _two_channels,
        (
            r"two.edf: cannot derive F7-T3 \(no T3\).*The file has EEG Fp1-REF, EEG"
            r" F7-REF.*--missing drop"
        ),
    ),
    (_unknown_channels, r"unknown.edf: cannot derive FP1-F7 \(no FP1; is it 'EEG Fq1-REF'\?\)"),
    (
        _microvolts,
        (
            r"microvolts_raw.fif: suspect units: .* µV \(median\), that of EEG lies between 0.05"
            r" and 5000 µV"
        ),
    ),
    (_nanovolts, r"tiny_raw.fif: suspect units"),
    (
        _missing_values,
        (
            r"nan_raw.fif: channel 'EEG F7-REF' has 512 values that are missing or infinite, the"
            r" first at 4.000 s"
        ),
    ),
    (_flat, r"flat_raw.fif: all channels are flat"),
    (_too_slow, r"slow_raw.fif: sampled at 16 Hz; EEG between 20 and 20000 Hz can be used"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(small_model().save_pretrained(tmp_path_factory.mktemp("model")))


@pytest.mark.parametrize("command", ["predict", "embed"])
@pytest.mark.parametrize(("make", "said"), BAD, ids=[make.__name__.strip("_") for make, _ in BAD])
def test_bad_recordings_are_refused_in_one_line(
    command: str,
    make: Callable[[Path], Path],
    said: str,
    model: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "in").mkdir()
    file, out = make(tmp_path / "in"), tmp_path / "out"
    words = [
        command,
        file,
        "--model",
        model,
        "--out",
        out if command == "predict" else out / "x.npz",
    ]
    monkeypatch.setattr("sys.argv", ["eegdm", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    printed = capfd.readouterr().err.strip()
    assert len(printed.splitlines()) == 1 and printed.startswith("eegdm: ")
    assert re.search(said, printed), printed
    assert not out.exists() or os.listdir(out) == []


def test_what_is_odd_but_usable_is_said(tmp_path: Path) -> None:
    """A flat electrode, a clipped one, and a rate that the low-pass doesn't fit."""
    import eegdm

    raw = made_up(40.0, 128.0)
    raw._data[raw.ch_names.index("EEG Fp1-REF")] = 0.0
    raw._data[raw.ch_names.index("EEG F4-REF")].clip(
        -2e-5, 2e-5, out=raw._data[raw.ch_names.index("EEG F4-REF")]
    )
    found = eegdm.predict(raw, small_model(), step_s=10.0)
    notes = "; ".join(found.notes)
    assert "sampled at 128 Hz, so 57.6 to 75 Hz are missing" in notes
    assert "flat: FP1-F7 (100% of the time), FP1-F3" in notes
    assert "clipped: FP2-F4" in notes
    assert found.quality.set_index("channel").flat["FP1-F7"] == 1.0


def test_advice_is_spelt_as_the_command_takes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_model().save_pretrained(tmp_path / "model")
    folder = tmp_path / "recordings"
    folder.mkdir()
    file = export(made_up(12.0, names=("Fp1", "F7", "T3")), folder / "few.edf")
    for words, advice in (
        (["predict", file], "leave out what is missing with --missing drop"),
        (["predict", folder], "leave out what is missing with --missing drop"),
        (["embed", file], "leave out what is missing with --missing drop"),
        (["predict", file, "--missing", "interpolate"], "--missing interpolate: spherical splines"),
        (["predict", file, "--rate", "fast"], "--rate 'fast' is unknown"),
        (["predict", file, "--channels", "own"], "--channels 'own' is unknown"),
        (["predict", file, "--step", "-1"], "--step -1: seconds from one window"),
        (["predict", file, "--batch-size", "0"], "--batch-size 0: at least 1"),
    ):
        monkeypatch.setattr("sys.argv", ["eegdm", *map(str, words), "--model", str(model)])
        with pytest.raises(SystemExit):
            cli.main()
        said = "".join(capsys.readouterr())
        assert advice in said, said
        assert "missing=" not in said
