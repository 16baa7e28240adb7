"""What lists of channel names mean: every spelling of a 10-20 list, and lists that only look so."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import mne
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eegdm.data.montage import TCP, common_reference, derive
from eegdm.data.names import Lead, read_names
from eegdm.errors import UserError


def words(text: str) -> list[str]:
    return text.split()


TEN_TWENTY = words("Fp1 Fp2 F7 F3 Fz F4 F8 T3 C3 Cz C4 T4 T5 P3 Pz P4 T6 O1 O2 A1 A2")
NEWER = {"T3": "T7", "T4": "T8", "T5": "P7", "T6": "P8", "A1": "M1", "A2": "M2"}
TUEV = [
    *(f"EEG {name.upper()}-REF" for name in (*TEN_TWENTY, "T1", "T2", "C3P", "C4P", "SP1", "SP2")),
    *(f"EEG {number}-REF" for number in range(20, 33)),
    *("EEG EKG1-REF", "EEG LOC-REF", "EEG ROC-REF", "EMG-REF", "PHOTIC-REF", "IBI", "BURSTS"),
]
CHBMIT = words(
    "FP1-F7 F7-T7 T7-P7 P7-O1 FP1-F3 F3-C3 C3-P3 P3-O1 FP2-F4 F4-C4 C4-P4 P4-O2 FP2-F8 F8-T8"
    " T8-P8-0 P8-O2 FZ-CZ CZ-PZ P7-T7 T7-FT9 FT9-FT10 FT10-T8 T8-P8-1"
)
EMOTIV = words("AF3 F7 F3 FC5 T7 P7 O1 O2 P8 T8 FC6 F4 F8 AF4")
NATUS = [  # inputs that nobody labelled are called C27 and so on by the recorder
    *TEN_TWENTY,
    *("T1", "T2", "Pg1", "Pg2"),
    *(f"X{k}" for k in range(1, 9)),
    *(f"C{k}" for k in range(27, 65)),
    *(f"DC{k}" for k in range(1, 17)),
]
SLEEP = words("F3-M2 F4-M1 C3-M2 C4-M1 O1-M2 O2-M1 E1-M2 E2-M1 Chin1-Chin2 ECG EMG1 EMG2 EMG3")
QUIK_CAP = words(
    "FP1 FPZ FP2 AF3 AF4 F11 F7 F5 F3 F1 FZ F2 F4 F6 F8 F12 FT11 FC5 FC3 FC1 FCZ FC2 FC4 FC6 FT12"
    " T7 C5 C3 C1 CZ C2 C4 C6 T8 TP7 CP5 CP3 CP1 CPZ CP2 CP4 CP6 TP8 M1 M2 P7 P5 P3 P1 PZ P2 P4 P6"
    " P8 PO7 PO5 PO3 POZ PO4 PO6 PO8 CB1 O1 OZ O2 CB2"
)


def numbered(letters: str, first: int, last: int) -> list[str]:
    return [f"{letters}{number}" for number in range(first, last + 1)]


def montage(name: str) -> list[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return mne.channels.make_standard_montage(name).ch_names


# ------------------------------------------------------------------------- spellings of one list

spellings = st.tuples(
    st.sampled_from([str, str.upper, str.lower]),
    st.sampled_from(["", "EEG ", "EEG_", "EEG-", "EEG.", "eeg  ", "POL "]),
    st.sampled_from(
        ["", "-REF", "-Ref", " - LE", "_Ref", "/ref", " Ref", "-Avg", "-Cz_Ref", "-LER", "-M1M2"]
        + ["-Org", "-G19", "_average", ".", ".."]
    ),
    st.booleans(),
)


@given(st.permutations(TEN_TWENTY), spellings)
def test_spelling_and_order_do_not_matter(names, spelling) -> None:
    case, prefix, suffix, is_newer = spelling
    file = {
        name: prefix + case((NEWER.get(name, name) if is_newer else name) + suffix)
        for name in names
    }
    plan = derive(list(file.values()))
    electrode = {spelt: name.upper() for name, spelt in file.items()}
    assert [f"{electrode[d.plus]}-{electrode[d.minus]}" for d in plan] == list(TCP)
    assert read_names(list(file.values())).note() is None


def test_ears_come_before_mastoids() -> None:
    names = ["M1", "T3", "A1", "M2", "T4"]
    assert [d.sources for d in derive(names, ("A1-T3", "A2-T4"))] == [("A1", "T3"), ("M2", "T4")]


@pytest.mark.parametrize("end", ["Avg2", "Cz_Ref", "LER", "M1M2", "TP9TP10"])
def test_what_most_names_end_in_is_their_reference(end: str) -> None:
    names = [f"{name}-{end}" for name in TEN_TWENTY] + ["ECG-x", "F9-F10"]
    group = common_reference(read_names(names))
    assert group.reference == end.upper() and len(group.names) == len(TEN_TWENTY)
    assert len(derive(names)) == 22


def test_ends_that_differ_are_no_reference() -> None:
    assert not read_names(["Fp1-one", "F7-two", "T3-three", "Fp2-three"]).leads
    found = read_names(["AF3", "F7", "F3", "AF3_CQ", "F7_CQ", "F3_CQ"])  # a headset's qualities
    assert {lead.minus for lead in found.leads} == {""}


def test_an_electrode_that_most_are_measured_against_is_a_reference_and_an_electrode() -> None:
    names = [f"{name}-Cz" for name in TEN_TWENTY if name != "Cz"]
    plan = {d.name: d for d in derive(names)}
    assert plan["C3-CZ"].sources == ("C3-Cz",) and plan["FP1-F7"].sources == ("Fp1-Cz", "F7-Cz")
    assert read_names(names).reference == "CZ"
    assert len(common_reference(read_names(names)).names) == 20
    left_ear = [f"{name}-A1" for name in TEN_TWENTY if name != "A1"]
    assert {d.name: (d.plus, d.minus) for d in derive(left_ear)}["A1-T3"] == (None, "T3-A1")
    assert read_names(CHBMIT).reference is None
    assert read_names(["T3-C3", "C3-CZ", "C4-CZ", "T4-C4"]).reference is None


# --------------------------------------------------------------------- lists that are what they say


def caps() -> list[str]:
    own = ("biosemi128", "biosemi160", "biosemi256")
    return [name for name in mne.channels.get_builtin_montages() if name not in own]


@pytest.mark.parametrize("cap", caps())
def test_no_cap_with_10_20_names_is_doubted(cap: str) -> None:
    names = read_names(montage(cap))
    assert not names.doubts and names.note() is None


@given(st.sampled_from([name for name in caps() if "E1" not in montage(name)]), st.data())
def test_no_cap_is_doubted_in_any_order_beside_other_channels(cap: str, data) -> None:
    others = [*numbered("EXG", 1, 8), *numbered("EMG", 1, 3), "ECG", "Status", *numbered("X", 1, 8)]
    names = data.draw(st.permutations([*montage(cap), *others]))
    assert not read_names(names).doubts


@pytest.mark.parametrize("file", [TUEV, CHBMIT, EMOTIV, NATUS, SLEEP, QUIK_CAP])
def test_lists_of_real_files_are_not_doubted(file: list[str]) -> None:
    assert not read_names(file).doubts


def test_every_channel_of_real_files_is_still_derived() -> None:
    assert len(derive(TUEV)) == len(derive(NATUS)) == 22
    assert len(derive(CHBMIT, missing="drop")) == 16 and len(derive(QUIK_CAP)) == 22
    assert derive(["EEG P3-REF", "EEG 01-REF", "EEG 20-REF"], ("P3-O1",))[0].minus == "EEG 01-REF"


# --------------------------------------------------------------------- lists that only look like it


@pytest.mark.parametrize("cap", ["biosemi128", "biosemi160", "biosemi256"])
def test_caps_with_letters_of_their_own_are_refused(cap: str) -> None:
    names = [*montage(cap), *numbered("EXG", 1, 8), "Status"]
    found = read_names(names)
    assert not found.leads and "A1 to A32, C1 to C32" in str(found.note())
    with pytest.raises(UserError, match="no channel of the montage.*Not taken for electrodes of"):
        derive(names, missing="drop")


rows = st.sampled_from(["A", "C", "F", "T", "P", "O", "M", "Fp", "Cp", "AF", "A'", "B", "H", "LA"])
shanks = st.lists(
    st.tuples(rows, st.integers(5, 15)), min_size=1, max_size=8, unique_by=lambda s: s[0]
)
ways: st.SearchStrategy[Callable[[str], str]] = st.sampled_from(
    [str, str.lower, "POL {}".format, "EEG {}-Ref".format, "{}-Avg".format]
)


def test_two_shanks_do_not_make_a_cap_of_each_other() -> None:
    assert not read_names([*numbered("Cp", 1, 5), *numbered("AF", 1, 5), "ECG"]).leads


@given(shanks, ways, st.data())
def test_contacts_of_depth_electrodes_are_never_taken_for_scalp(shanks, spelt, data) -> None:
    contacts = [name for letters, n in shanks for name in numbered(letters, 1, n)]
    names = data.draw(st.permutations([spelt(name) for name in contacts] + ["ECG", "DC1", "DC2"]))
    assert not read_names(names).leads
    with pytest.raises(UserError, match="no channel of the montage"):
        derive(names, missing="drop")


@given(shanks, st.sampled_from(["EEG {}-Ref", "{}"]), st.data())
def test_scalp_beside_depth_electrodes_is_kept_where_no_shank_has_its_letter(
    shanks, spelt, data
) -> None:
    letters = {letters.upper() for letters, _ in shanks}
    scalp = [name for name in TEN_TWENTY if name.upper().rstrip("0123456789") not in letters]
    contacts = [f"POL {name}" for letters, n in shanks for name in numbered(letters, 1, n)]
    names = data.draw(st.permutations([*map(spelt.format, scalp), *contacts]))
    taken = {lead.plus for lead in read_names(names).leads}
    assert taken >= {name.upper() for name in scalp}
    in_doubt = [row for row, n in shanks if row in ("A", "O", "M", "Fp") or (row == "C" and n > 6)]
    assert not taken & {f"{row.upper()}{k}" for row in in_doubt for k in range(1, 16)}


def test_each_part_of_the_rule() -> None:
    # 1. numbers that the row never has, in one run with those that it has
    assert set(read_names([*TEN_TWENTY, "A3", "A4"]).doubts) == set(numbered("A", 1, 4))
    assert not read_names([*TEN_TWENTY, *numbered("C", 27, 64)]).doubts
    # 2. counted rows without a cap, or beside contacts
    assert set(read_names(numbered("F", 1, 8)).doubts) == set(numbered("F", 1, 8))
    assert not read_names([*numbered("F", 1, 8), "Fz"]).doubts
    beside = [*numbered("F", 1, 8), "Fz", *numbered("B", 1, 8), *numbered("H", 1, 8)]
    assert set(read_names(beside).doubts) == set(numbered("F", 1, 8))
    assert not read_names([*beside, "FCz"]).doubts
    # 3. nothing is trusted beside contacts in a list without a cap
    assert not read_names([*numbered("A", 1, 8), "C3", "T5", "F7"]).leads
    # bare numbers
    assert not read_names([f"{number:02}" for number in range(1, 33)]).leads
    # bipolar contacts
    assert not read_names([f"A{k}-A{k + 1}" for k in range(1, 9)]).leads


def test_a_refusal_says_which_names_and_what_to_do() -> None:
    names = [*(name for name in TEN_TWENTY if name != "A2"), *numbered("A", 2, 12)]
    with pytest.raises(UserError) as fault:
        derive(names)
    assert str(fault.value).startswith("cannot derive A1-T3 (no A1); A2-T4 (no A2). The file has")
    assert "Not taken for electrodes of the 10-20 system: A1 to A12" in str(fault.value)
    assert "Rename its channels, or leave out what is missing" in str(fault.value)
    assert "\n" not in str(fault.value)


def test_types_that_lie_in_the_brain_are_left_out_and_are_no_company() -> None:
    names = read_names([*TEN_TWENTY, *numbered("C", 7, 9)], numbered("C", 7, 9))
    assert Lead("C3", "") in names.leads and set(names.doubts) == {"C7", "C8", "C9"}
    assert names.note() == "intracranial channels by their type are left out"
