"""Channels that somebody marked as bad are used by nobody; the notch follows the mains."""

from __future__ import annotations

from pathlib import Path

import mne
import numpy as np
import pandas as pd
import pytest

import eegdm
from eegdm.config import Config, CorpusConfig, RunConfig, SignalConfig, WindowConfig
from eegdm.data.line_noise import line_noise
from eegdm.data.montage import TCP, derive
from eegdm.data.positions import template
from eegdm.errors import UserError
from eegdm.sklearn import EEGDMFeatures
from eegdm.stages.preprocess import run
from inference.small import ELECTRODES, lively_model, made_up

BAD = "EEG P4-REF"
LOST = ["C4-P4", "P4-O2"]
SAID = "marked as bad in the recording and not used: EEG P4-REF"


def with_bad(factor: float = 1.0) -> mne.io.RawArray:
    """A recording with one electrode marked as bad, and as loud as said."""
    raw = made_up(20.0)
    raw._data[raw.ch_names.index(BAD)] *= factor
    raw.info["bads"] = [BAD]
    return raw


@pytest.mark.parametrize("function", [eegdm.predict, eegdm.embed])
def test_by_default_a_bad_channel_is_missing_and_refused(function):
    with pytest.raises(UserError, match=rf"C4-P4 \(no P4\).*not used: {BAD}"):
        function(with_bad(), lively_model())


@pytest.mark.parametrize("missing", ["drop", "interpolate"])
@pytest.mark.parametrize("channels", ["montage", "file"])
def test_no_result_depends_on_what_a_bad_channel_holds(missing, channels):
    model = lively_model()
    options = {"missing": missing, "channels": channels}
    one, other = (eegdm.predict(with_bad(factor), model, **options) for factor in (1.0, 300.0))
    np.testing.assert_array_equal(one.windows, other.windows)
    assert SAID in one.notes
    one, other = (eegdm.embed(with_bad(factor), model, **options) for factor in (1.0, 300.0))
    np.testing.assert_array_equal(one.values, other.values)
    assert SAID in one.about.notes and BAD not in one.about.ch_names
    if channels == "montage":
        lost = LOST if missing == "drop" else []
        assert one.about.ch_names == [name for name in TCP if name not in lost]


def test_a_bad_electrode_is_made_anew_as_mne_does():
    raw = with_bad(300.0)
    plain = raw.copy().rename_channels(dict(zip(raw.ch_names, ELECTRODES, strict=True)))
    plain.set_montage(template(), match_case=False, verbose="ERROR")
    mended = plain.interpolate_bads(verbose="ERROR")
    model = lively_model()
    found = eegdm.predict(raw, model, missing="interpolate")
    np.testing.assert_allclose(found.windows, eegdm.predict(mended, model).windows, atol=1e-5)
    assert "interpolated from 18 channels: P4" in found.notes


def test_a_bad_pair_of_a_bipolar_recording_is_left_out():
    referential = made_up(20.0)
    data = np.concatenate(
        [
            referential.get_data(d.plus) - referential.get_data(d.minus)
            for d in derive(referential.ch_names)
        ]
    )
    raw = mne.io.RawArray(data, mne.create_info(list(TCP), 256.0, "eeg"), verbose="ERROR")
    raw.info["bads"] = ["C4-P4"]
    found = eegdm.predict(raw, lively_model(), missing="drop")
    assert found.ch_names == [name for name in TCP if name != "C4-P4"]


def rows(folder: Path, **signal: object) -> pd.DataFrame:
    """What preprocess lists of a folder of recordings."""
    config = Config(
        corpus=CorpusConfig(name="folder", source=str(folder), events="none"),
        signal=SignalConfig(**signal),  # type: ignore[arg-type]
        windows=WindowConfig(split="recording"),
        run=RunConfig(root=str(folder / "runs")),
    )
    return pd.read_parquet(run(config) / "recordings.parquet").set_index("recording")


def test_preprocess_leaves_out_what_is_marked_as_bad(tmp_path):
    with_bad().save(tmp_path / "a_raw.fif", verbose="ERROR")
    made_up(20.0).save(tmp_path / "b_raw.fif", verbose="ERROR")
    found = rows(tmp_path)
    assert list(found.status) == ["failed", "ok"]
    assert f"not used: {BAD}" in found.reason["a_raw"]
    (tmp_path / "drop").mkdir()
    with_bad().save(tmp_path / "drop" / "a_raw.fif", verbose="ERROR")
    row = rows(tmp_path / "drop", missing="drop").loc["a_raw"]
    assert list(row.ch_names) == [name for name in TCP if name not in LOST] and SAID in row.reason
    (tmp_path / "own").mkdir()
    with_bad().save(tmp_path / "own" / "a_raw.fif", verbose="ERROR")
    row = rows(tmp_path / "own", montage="referential", n_referential=19).loc["a_raw"]
    assert len(row.ch_names) == 19 and "used all the same: EEG P4-REF" in row.reason


def test_features_of_epochs_leave_out_what_is_marked_as_bad():
    raw = with_bad()
    epochs = mne.make_fixed_length_epochs(raw, 5.0, preload=True, verbose="ERROR")
    features = EEGDMFeatures(lively_model(), montage="tcp").fit(epochs)
    assert features.ch_names_ == [name for name in TCP if name not in LOST]
    assert BAD not in EEGDMFeatures(lively_model()).fit(epochs).ch_names_


# ----------------------------------------------------------------------------------------- notch


def humming(mains_hz: float) -> mne.io.RawArray:
    raw = made_up(60.0)
    hum = 2e-5 * np.sin(2 * np.pi * mains_hz * raw.times)
    raw._data += hum * np.arange(1, len(raw.ch_names) + 1)[:, None] / 10
    return raw


@pytest.mark.parametrize("mains_hz", [50.0, 60.0])
def test_the_notch_follows_the_recordings_own_hum(mains_hz):
    model = lively_model()
    other = 110.0 - mains_hz
    model.signal = {"mu": 255.0, "notch": [other]}
    found, given, own = (
        eegdm.embed(humming(mains_hz), model, notch=notch) for notch in ("auto", (mains_hz,), None)
    )
    np.testing.assert_array_equal(found.values, given.values)
    assert np.abs(found.values - own.values).max() > 1e-4
    (note,) = [note for note in found.about.notes if note.startswith("notch=auto")]
    assert note.startswith(f"notch=auto: {mains_hz:g} Hz, where the hum is (up to ")
    assert note.endswith(f"the model's recordings had {other:g} Hz")
    assert f"notch at {mains_hz:g} Hz" in found.about.steps


def test_frequencies_can_be_given_and_the_sidecar_says_so(tmp_path):
    from stages.tiny import command_line

    model = lively_model().save_pretrained(tmp_path / "model")
    humming(60.0).save(tmp_path / "a_raw.fif", verbose="ERROR")
    file = tmp_path / "a_raw.fif"
    done = command_line("predict", file, "--model", model, "--notch", "60,100", "--unit", "V")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "a_raw_events.json").read_text()
    assert "notch filter: 60, 100 Hz as asked; the model's recordings had 50 Hz" in text
    assert "unit=V was stated for all channels" in text
    done = command_line(
        "embed", file, "--model", model, "--out", tmp_path / "x.npz", "--notch", "o"
    )
    assert (
        done.returncode == 2
        and "--notch 'o' is unknown; give frequencies in Hz, or auto" in done.stderr
    )


def test_without_hum_the_models_notch_stays():
    raw = made_up(60.0, 100.0)  # too slow for hum of 50 Hz to be seen
    assert line_noise(raw, derive(raw.ch_names)) is None
    found = eegdm.embed(raw, lively_model(), notch="auto")
    assert "notch=auto: no mains hum was measured, so 50 Hz as the model's" in found.about.notes


@pytest.mark.parametrize("notch", ["mains", (0.5,), (50.0, 900.0)])
def test_notches_that_are_none_are_refused(notch):
    with pytest.raises(UserError, match="notch="):
        eegdm.predict(made_up(20.0), lively_model(), notch=notch)
