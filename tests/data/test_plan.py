"""Which channels of a recording are read: repeated ones, reversed pairs, and what is said."""

from __future__ import annotations

from pathlib import Path

import mne
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eegdm.data.channels import DerivedChannels
from eegdm.data.montage import CHBMIT, TCP, derive
from eegdm.data.plan import names_of, plan_channels
from eegdm.data.reading import open_recording
from eegdm.errors import UserError

RNG = np.random.default_rng(0)
ELECTRODES = sorted({name for pair in TCP for name in pair.split("-")})
SFREQ, SECONDS = 100.0, 12


def recording(signals: dict[str, np.ndarray], kind: str = "eeg") -> mne.io.RawArray:
    info = mne.create_info(list(signals), SFREQ, kind)
    return mne.io.RawArray(np.stack(list(signals.values())), info, verbose="ERROR")


def noise(*names: str) -> dict[str, np.ndarray]:
    return {name: RNG.normal(0, 3e-5, round(SFREQ * SECONDS)) for name in names}


def derived(raw: mne.io.BaseRaw, channels: tuple[str, ...] = TCP, missing: str = "error"):
    planned = plan_channels(raw, channels, missing)
    return DerivedChannels(planned.source, planned.derivations).read(0, raw.n_times)


@settings(max_examples=20)
@given(st.sets(st.sampled_from(TCP)))
def test_reversed_pairs_derive_the_exact_negative(reversed_names: set[str]) -> None:
    straight = noise(*TCP)
    turned = {
        "-".join(reversed(name.split("-"))) if name in reversed_names else name: signal
        for name, signal in straight.items()
    }
    sign = np.array([-1.0 if name in reversed_names else 1.0 for name in TCP])
    np.testing.assert_array_equal(
        derived(recording(turned)), sign[:, None] * derived(recording(straight))
    )


def test_pairs_with_one_electrode_first_are_subtracted_the_other_way_round() -> None:
    signals = noise(*ELECTRODES)
    against_cz = {f"CZ-{name}": signals["CZ"] - x for name, x in signals.items() if name != "CZ"}
    np.testing.assert_allclose(
        derived(recording(against_cz)), derived(recording(signals)), atol=1e-12
    )


def test_of_copies_the_first_is_read() -> None:
    signals = noise("T8-P8-0")
    planned = plan_channels(
        recording({**signals, "T8-P8-1": signals["T8-P8-0"]}), ("T4-T6",), "error"
    )
    assert planned.derivations[0].sources == ("T8-P8-0",) and planned.notes == []


@pytest.mark.parametrize("dummy", [0.0, 1e-4, np.nan])
@pytest.mark.parametrize("first", [True, False])
def test_of_a_signal_and_a_dummy_the_signal_is_read(dummy: float, first: bool) -> None:
    good = noise("Fp1-1", "F7")
    flat = {"Fp1-0": np.full(round(SFREQ * SECONDS), dummy)}
    signals = {**flat, **good} if first else {**good, **flat}
    raw = recording(signals)
    np.testing.assert_array_equal(derived(raw, ("FP1-F7",)), derived(recording(good), ("FP1-F7",)))
    assert plan_channels(raw, ("FP1-F7",), "error").notes == [
        "'Fp1-1' is taken for FP1, 'Fp1-0' does not move"
    ]


@pytest.mark.parametrize("pair", [("Fp1-0", "Fp1-1"), ("T3", "T7"), ("EEG O2-Ref", "POL 02-REF")])
def test_one_name_for_different_signals_is_refused(pair: tuple[str, str]) -> None:
    others = [name for name in ELECTRODES if name not in ("FP1", "T3", "O2")]
    raw = recording(noise(*others, *pair))
    message = f"{ascii(pair[0])} and {ascii(pair[1])} have one meaning and different signals"
    with pytest.raises(UserError, match=message):
        plan_channels(raw, TCP, "error")
    planned = plan_channels(raw, TCP, "drop")
    assert not set(pair) & {name for d in planned.derivations for name in d.sources}
    assert any(message in note for note in planned.notes)


def test_old_and_new_names_of_one_electrode_may_be_copies() -> None:
    signals = noise(*ELECTRODES)
    assert (
        len(plan_channels(recording({**signals, "T7": signals["T3"]}), TCP, "error").derivations)
        == 22
    )


def test_a_large_offset_does_not_make_copies() -> None:
    signals = {name: x + 0.2 for name, x in noise("Fp1-0", "Fp1-1").items()}
    with pytest.raises(UserError, match="different signals"):
        plan_channels(recording({**signals, **noise("F7")}), ("FP1-F7",), "error")


def test_what_was_left_out_is_said_by_the_shorter_list() -> None:
    few, most = noise("Fp1", "F7", "T3"), noise(*(e for e in ELECTRODES if e != "A1"))
    assert plan_channels(recording(few), TCP, "drop").notes == ["2 of 22 channels: FP1-F7, F7-T3"]
    assert plan_channels(recording(most), TCP, "drop").notes == [
        "21 of 22 channels, left out: A1-T3"
    ]


def test_doubtful_names_are_said_even_where_others_suffice() -> None:
    others = [name for name in ELECTRODES if name not in ("A1", "A2")] + ["FZ"]
    raw = recording(noise(*others, *(f"A{k}" for k in range(1, 13))))
    notes = plan_channels(raw, CHBMIT, "error").notes
    assert len(notes) == 1 and "not taken for electrodes of the 10-20 system: A1 to A12" in notes[0]
    assert "interpolated from 18 channels: A1, A2" in plan_channels(raw, TCP, "interpolate").notes
    without = raw.copy().drop_channels([f"A{k}" for k in range(1, 13)])
    np.testing.assert_array_equal(
        derived(raw, missing="interpolate"), derived(without, missing="interpolate")
    )


def test_a_biosemi_cap_can_not_be_interpolated() -> None:
    names = [f"{letter}{k}" for letter in "ABCD" for k in range(1, 33)]
    with pytest.raises(UserError, match=r"the file has 0.*Not taken .* A1 to A32, C1 to C32"):
        plan_channels(recording(noise(*names)), TCP, "interpolate")


@pytest.mark.parametrize("kind", ["seeg", "ecog", "dbs"])
def test_channels_in_the_brain_are_not_scalp_whatever_their_names(kind: str) -> None:
    raw = recording(noise("A1", "C3", "F7", "T5", "F3", "P3"), kind)
    with pytest.raises(UserError, match="Intracranial channels by their type are left out"):
        plan_channels(raw, TCP, "drop")


def test_a_reference_electrode_is_not_made_anew() -> None:
    signals = noise(*ELECTRODES)
    raw = recording({f"{n}-CZ": x - signals["CZ"] for n, x in signals.items() if n != "CZ"})
    assert plan_channels(raw, TCP, "interpolate").source.made == []
    np.testing.assert_allclose(
        derived(raw, missing="interpolate"), derived(recording(signals)), atol=1e-12
    )


@pytest.mark.real
def test_the_repeated_channel_of_chbmit_is_a_copy(shared: Path) -> None:
    raw = open_recording(shared / "data" / "chbmit" / "edf" / "chb01_03_seizure.edf")
    names, notes = names_of(raw)
    assert notes == [] and names.repeated == ("T8-P8-1",)
    assert derive(names, CHBMIT) == derive(raw.ch_names, CHBMIT)
