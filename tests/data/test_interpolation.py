"""Electrodes made from others equal MNE's spherical splines on the whole recording."""

from __future__ import annotations

import mne
import numpy as np
import pytest

from eegdm.data.interpolation import Interpolated
from eegdm.data.montage import TCP
from eegdm.data.positions import template
from eegdm.errors import UserError
from inference.small import ELECTRODES


def recording(names: tuple[str, ...] = ELECTRODES) -> mne.io.RawArray:
    data = np.random.default_rng(0).normal(0, 3e-5, (len(names), 2000))
    return mne.io.RawArray(data, mne.create_info(list(names), 200.0, "eeg"), verbose="ERROR")


def test_interpolation_equals_mne_on_the_whole_recording() -> None:
    whole = recording().set_montage(template(), verbose="ERROR")
    whole.info["bads"] = ["P4", "A1"]
    expected = whole.copy().interpolate_bads(verbose="ERROR")
    found = Interpolated(recording().drop_channels(["P4", "A1"]), TCP)
    assert found.made == ["A1", "P4"]
    picks = [found.ch_names.index(name) for name in ("A1", "O1", "P4")]
    got = found.get_data(picks, 500, 1500)
    assert np.abs(got - expected.get_data(["A1", "O1", "P4"])[:, 500:1500]).max() <= 1e-9 * 3e-5


def test_spellings_and_the_reference_are_kept() -> None:
    raw = recording()
    raw.rename_channels({name: f"EEG {name.upper()}-LE" for name in raw.ch_names}).drop_channels(
        ["EEG A2-LE"]
    )
    found = Interpolated(raw, TCP)
    assert found.ch_names[-1] == "A2-LE"
    assert [found.ch_names[i] for i in range(len(raw.ch_names))] == raw.ch_names


def test_nothing_is_made_where_nothing_lacks() -> None:
    assert Interpolated(recording(), TCP).made == []


@pytest.mark.parametrize("names", [("Fp1-F7", "F7-T3", "T3-T5"), ("Fp1", "F7", "T3", "C3")])
def test_too_few_electrodes_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(
        UserError,
        match=(
            r"spherical splines need 8 or more electrodes against one reference, the file has [04]"
        ),
    ):
        Interpolated(recording(names), TCP)
