"""Channel names and bipolar derivation."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eegdm.data.montage import (
    CHANNEL_ID,
    CHBMIT,
    NO_CHANNEL_ID,
    TCP,
    bipolar,
    derive,
    referential,
)
from eegdm.data.names import read_names
from eegdm.errors import UserError

TUEV = [
    f"EEG {name}-REF"
    for name in sorted({electrode for name in TCP for electrode in name.split("-")})
]


def electrode(name: str) -> str | None:
    """The electrode of a name that stands alone; None if it is not one, or a pair."""
    (lead, *_) = [*read_names([name]).leads, None]
    return None if lead is None or lead.is_bipolar else lead.plus


def test_the_montage_is_the_published_one():
    published = (
        "FP1-F7 F7-T3 T3-T5 T5-O1 FP2-F8 F8-T4 T4-T6 T6-O2 A1-T3 T3-C3 C3-CZ C4-CZ T4-C4 A2-T4 "
        "FP1-F3 F3-C3 C3-P3 P3-O1 FP2-F4 F4-C4 C4-P4 P4-O2"
    )
    assert " ".join(TCP) == published
    assert [CHANNEL_ID[name] for name in CHBMIT] == [*range(8), *range(14, 22)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("EEG FP1-REF", "FP1"),
        ("EEG T3-LE", "T3"),
        ("FP1-CS2", "FP1"),
        ("Fp1-AVG", "FP1"),
        ("C3-A1A2", "C3"),
        ("Fp1.", "FP1"),
        ("Fc5.", "FC5"),
        ("Af3.", "AF3"),
        ("cz", "CZ"),
        ("FFC5h", "FFC5H"),
        ("EEG C3-AR", "C3"),
        ("T7", "T3"),
        ("T8", "T4"),
        ("P7", "T5"),
        ("P8", "T6"),
        ("M1", "A1"),
        ("M2", "A2"),
        ("01", "O1"),
        ("CZ-0", "CZ"),
        ("EEG EKG1-REF", None),
        ("PHOTIC-REF", None),
        ("EEG C3P-REF", None),
        ("-", None),
        ("", None),
        ("--0", None),
        ("C11", None),
        ("FP1-F7", None),
        ("ECG", None),
        ("VNS", None),
        ("STATUS", None),
    ],
)
def test_electrode(name, expected):
    assert electrode(name) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("FP1-F7", ("FP1", "F7")),
        ("T8-P8-0", ("T4", "T6")),
        ("T8-P8-1", ("T4", "T6")),
        ("EEG F7-T3", ("F7", "T3")),
        ("eeg c4-cz", ("C4", "CZ")),
        ("FP1-M2", ("FP1", "A2")),
        ("P3-01", ("P3", "O1")),
        ("FP1-REF", None),
        ("FP1", None),
        ("LOC-ROC", None),
        ("EKG1-CHIN", None),
        ("T7-FT9", ("T3", "FT9")),
    ],
)
def test_bipolar(name, expected):
    assert bipolar(name) == expected


def test_electrodes_are_those_of_the_10_05_system():
    import mne

    known = mne.channels.get_builtin_montages()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        names = mne.channels.make_standard_montage(
            "colin27_1005" if "colin27_1005" in known else "standard_1005"
        ).ch_names
    assert all(electrode(name) for name in names)
    accepted = {
        f"{row}{column}"
        for row in _words(3)
        for column in _columns()
        if electrode(f"{row}{column}")
    }
    renamed = {"T7", "T8", "P7", "P8", "M1", "M2"}
    assert {electrode(name) for name in accepted} | renamed == {name.upper() for name in names}


def _words(longest: int) -> set[str]:
    """All words of at most `longest` of the letters that row names are made of."""
    words = {""}
    for _ in range(longest):
        words |= {word + letter for word in words for letter in "ACFIMNOPT"}
    return words


def _columns() -> list[str]:
    return ["Z", *(f"{number}{half}" for number in range(12) for half in ("", "H"))]


@given(
    st.sampled_from(["FP1", "T3", "O2", "CZ", "A1"]),
    st.sampled_from(["", "EEG ", "eeg  ", "POL "]),
    st.sampled_from(["", "-REF", "-LE", "-AR", "-AVG", "-CS2", "-Ref", " - REF", ".", ".."]),
    st.sampled_from(["", "-0", "-1"]),
    st.booleans(),
)
def test_spelling_does_not_matter(name, prefix, suffix, number, lower):
    spelt = prefix + name + suffix + number
    assert electrode(spelt.lower() if lower else spelt) == name


def test_derivation_from_electrodes_keeps_the_published_polarity():
    plan = {d.name: d for d in derive(TUEV)}
    assert list(plan) == list(TCP)
    for name, plus, minus in (
        ("C4-CZ", "C4", "CZ"),
        ("T4-C4", "T4", "C4"),
        ("A2-T4", "A2", "T4"),
        ("C3-CZ", "C3", "CZ"),
    ):
        assert plan[name] == (name, CHANNEL_ID[name], f"EEG {plus}-REF", f"EEG {minus}-REF")


def test_direct_channel_is_preferred_and_the_first_of_two_counts():
    names = ["FP1", "F7", "FP1-F7", "T8-P8-0", "T8-P8-1"]
    assert derive(names, ("FP1-F7", "T4-T6")) == [
        ("FP1-F7", 0, "FP1-F7", None),
        ("T4-T6", 6, "T8-P8-0", None),
    ]


def test_only_electrodes_with_the_same_reference_are_subtracted():
    with pytest.raises(UserError, match="FP1-F7 .its electrodes have different references"):
        derive(["FP1-REF", "F7-LE", "C3", "P3"], ("FP1-F7", "C3-P3"))
    # a file referenced to an electrode: the same one on both sides
    assert derive(["F3-M2", "C3-M2", "P3-M1"], ("F3-C3", "C3-P3"), "drop") == [
        ("F3-C3", 15, "F3-M2", "C3-M2")
    ]


def test_missing_channels_are_named_with_what_they_lack():
    names = ["EEG FPI-REF", *(name for name in TUEV if "FP1" not in name and "A1" not in name)]
    with pytest.raises(UserError) as fault:
        derive(names)
    text = str(fault.value)
    assert "\n" not in text
    for expected in (
        "FP1-F7 (no FP1; is it 'EEG FPI-REF'?)",
        "A1-T3 (no A1)",
        "FP1-F3",
        "EEG CZ-REF",
        "missing=drop",
    ):
        assert expected in text
    assert "FP2-F8" not in text
    kept = [d.name for d in derive(names, missing="drop")]
    assert kept == [name for name in TCP if not {"FP1", "A1"} & set(name.split("-"))]


@pytest.mark.parametrize("missing", ["error", "drop"])
@pytest.mark.parametrize("names", [[], ["ECG", "x\n\x1b[31m"], ["FP1-REF", "F7-LE"]])
def test_no_channel_at_all_is_an_error(names, missing):
    with pytest.raises(UserError, match="no channel of the montage can be derived from") as fault:
        derive(names, missing=missing)
    assert str(fault.value).isprintable()


def test_unknown_montage_channel_is_answered_with_the_nearest():
    with pytest.raises(UserError, match="'FP1F7'.*did you mean 'FP1-F7'"):
        derive(TUEV, ("FP1F7",))


def test_referential_channels_are_taken_in_file_order():
    assert [d.plus for d in referential(TUEV, 3)] == TUEV[:3]
    assert {(d.channel_id, d.minus) for d in referential(TUEV, 3)} == {(NO_CHANNEL_ID, None)}
    with pytest.raises(UserError, match="23 channels are wanted, the file has 19"):
        referential(TUEV, 23)


@pytest.mark.real
def test_every_montage_of_chbmit_yields_its_16_channels(shared: Path):
    montages = []
    for summary in sorted(
        (shared / "data" / "chbmit" / "annotations").glob("chb*/chb*-summary.txt")
    ):
        for number, name in re.findall(
            r"^Channel (\d+):[ \t]*(.*?)\s*$", summary.read_text("latin-1"), re.MULTILINE
        ):
            if number == "1":
                montages.append([])
            montages[-1].append(name)
    plans = [derive(names, CHBMIT) for names in montages]
    assert len(plans) == 40
    assert all(tuple(d.name for d in plan) == CHBMIT for plan in plans)
    assert sum(plan[0].minus is not None for plan in plans) == 2  # the referential files of chb12
