"""Channels outside the montage take the id of the montage channel that lies nearest on the head."""

from __future__ import annotations

import re

import pytest

from eegdm.data.montage import TCP
from eegdm.data.nearest import nearest_channel_ids
from eegdm.errors import UserError


def nearest(*ch_names: str) -> list[str]:
    return [TCP[index] for index in nearest_channel_ids(ch_names)]


def test_the_montage_s_channels_are_their_own() -> None:
    assert nearest_channel_ids(TCP) == list(range(22))
    assert nearest("EEG T7-P7", "t8-p8-0") == ["T3-T5", "T4-T6"]


@pytest.mark.parametrize("name, expected", [
    ("FC3", "F3-C3"), ("FC4", "F4-C4"), ("CP3", "C3-P3"), ("PO3.", "P3-O1"), ("AF4", "FP2-F4"), ("FT7", "F7-T3"), ("TP8", "T4-T6"),
    ("C1", "C3-CZ"), ("C2", "C4-CZ"), ("C5", "T3-C3"), ("M1", "A1-T3"), ("EEG C5-REF", "T3-C3"),
])  # fmt: skip
def test_an_electrode_takes_the_pair_that_it_lies_between(name: str, expected: str) -> None:
    assert nearest(name) == [expected]


def test_a_pair_lies_halfway() -> None:
    assert nearest("F7-FP1", "C3-F3", "FC3-CP3") == ["FP1-F7", "F3-C3", nearest("C3")[0]]


def test_left_and_right_are_not_confused() -> None:
    left = [f"{row}{column}" for row in ("AF", "F", "FC", "C", "CP", "P", "PO") for column in (3, 5)] + ["F7", "P7", "FT9"]
    right = [re.sub(r"\d", lambda digit: str(int(digit[0]) + 1), name) for name in left]
    odd, even = nearest(*left), nearest(*right)
    assert all(re.search(r"[1357]", name) for name in odd) and all(re.search(r"[2468]", name) for name in even)


def test_a_name_without_a_place_is_refused() -> None:
    with pytest.raises(UserError, match="channels EOG left, X9: their names tell no place"):
        nearest_channel_ids(["C3", "EOG left", "X9"])
