"""Which of the montage's channels a foreign one is taken for."""

from __future__ import annotations

import mne
import pytest

from eegdm.data.montage import CHANNEL_ID, TCP
from eegdm.data.positions import match_to_montage
from eegdm.errors import UserError


def test_each_channel_of_the_montage_is_nearest_to_itself() -> None:
    assert [(p.nearest, p.distance_mm) for p in match_to_montage(TCP, TCP)] == [
        (name, 0.0) for name in TCP
    ]


def test_others_are_taken_for_what_lies_nearest_in_file_order() -> None:
    found = match_to_montage(["Fc3.", "ECG", "FT7-T7", "CP3"], TCP)
    assert [(p.derivation.name, p.nearest) for p in found] == [
        ("Fc3.", "F3-C3"),
        ("FT7-T7", "F7-T3"),
        ("CP3", "C3-P3"),
    ]
    assert all(
        p.derivation.channel_id == CHANNEL_ID[p.nearest] and p.derivation.minus is None
        for p in found
    )
    assert 0 < found[0].distance_mm < 10


def test_only_the_channels_that_a_model_knows_are_offered() -> None:
    assert match_to_montage(["O1"], ("FP1-F7", "F4-C4"))[0].nearest in ("FP1-F7", "F4-C4")


def test_a_file_without_a_known_electrode_is_refused() -> None:
    with pytest.raises(
        UserError,
        match=r"no channel is an electrode of the 10-05 system or a pair of two: 'ECG', 'Ch1'",
    ):
        match_to_montage(["ECG", "Ch1"], TCP)


@pytest.mark.parametrize("cap", ["biosemi128", "biosemi256"])
def test_labels_of_another_system_are_not_placed(cap: str) -> None:
    names = mne.channels.make_standard_montage(cap).ch_names
    with pytest.raises(UserError, match="Not taken for .* A1 to A32, C1 to C32.*; rename them"):
        match_to_montage(names, TCP)


def test_an_electrode_against_the_file_s_reference_lies_where_it_is() -> None:
    names = ["F3-Cz", "P4-Cz", "O1-Cz", "T7-Cz"]
    assert [(p.nearest, p.distance_mm) for p in match_to_montage(names, TCP)] == [
        (p.nearest, p.distance_mm) for p in match_to_montage(["F3", "P4", "O1", "T7"], TCP)
    ]
