"""Channel names: the bipolar montages, what files call electrodes, and how each bipolar channel is
got from a file.

Every spelling of an electrode is known here and nowhere else.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import NamedTuple

from eegdm.errors import UserError

TCP: tuple[str, ...] = (
    "FP1-F7",
    "F7-T3",
    "T3-T5",
    "T5-O1",
    "FP2-F8",
    "F8-T4",
    "T4-T6",
    "T6-O2",
    "A1-T3",
    "T3-C3",
    "C3-CZ",
    "C4-CZ",
    "T4-C4",
    "A2-T4",
    "FP1-F3",
    "F3-C3",
    "C3-P3",
    "P3-O1",
    "FP2-F4",
    "F4-C4",
    "C4-P4",
    "P4-O2",
)
"""The 22 channels of the temporal central parasagittal montage; the index is the id the backbone is
conditioned on.

Polarity as published: "C4-CZ" is C4 minus CZ, although its neighbours in the chain run the other
way.
"""

CHBMIT: tuple[str, ...] = TCP[:8] + TCP[14:]
"""The 16 channels used of CHB-MIT (there spelt T7, T8, P7, P8)."""

CHANNEL_ID: dict[str, int] = {name: index for index, name in enumerate(TCP)}

NO_CHANNEL_ID = -1
"""Channel id of a referential channel, which the backbone has no embedding for."""

# Left: newer names, and what typists make of them ("01" with a zero stands in a file of CHB-MIT).
# Right: ours.
_ALIASES = {
    "T7": "T3",
    "T8": "T4",
    "P7": "T5",
    "P8": "T6",
    "M1": "A1",
    "M2": "A2",
    "01": "O1",
    "02": "O2",
}

# Names of a common reference that is no single electrode.
_REFERENCES = (
    "REF",
    "LE",
    "AR",
    "AVG",
    "AV",
    "CAR",
    "CS2",
    "LER",
    "A1A2",
    "M1M2",
    "A1+A2",
    "M1+M2",
)

# Rows of the 10-05 system from front to back; where two names are given, the second is its lateral
# part (7 to 10).
_SHORT_ROWS = ("FP", "O", "OI", "I")
_LONG_ROWS = (
    ("AFP", "AFP"),
    ("AF", "AF"),
    ("AFF", "AFF"),
    ("F", "F"),
    ("FFC", "FFT"),
    ("FC", "FT"),
    ("FCC", "FTT"),
    ("C", "T"),
    ("CCP", "TTP"),
    ("CP", "TP"),
    ("CPP", "TPP"),
    ("P", "P"),
    ("PPO", "PPO"),
    ("PO", "PO"),
    ("POO", "POO"),
)


def _ten_five_names() -> frozenset[str]:
    """All 343 names of the 10-05 system and the older T3..T6, A1, A2, in upper case (Oostenveld &
    Praamstra 2001).
    """
    midline = [f"{row}Z" for row in (*_SHORT_ROWS, *(central for central, _ in _LONG_ROWS))]
    short = [
        f"{row}{column}{half}" for row in _SHORT_ROWS for column in (1, 2) for half in ("", "H")
    ]
    long = [
        f"{central if column <= 6 else lateral}{column}{half}"
        for central, lateral in _LONG_ROWS
        for column in range(1, 11)
        for half in ("", "H")
    ]
    return frozenset([*midline, *short, *long, "T3", "T4", "T5", "T6", "A1", "A2", "M1", "M2"])


_ELECTRODES = _ten_five_names()


class _Lead(NamedTuple):
    """What a file channel measures: `plus` against `minus`, an electrode, the name of a reference,
    or "" if unsaid.
    """

    plus: str
    minus: str


class Derivation(NamedTuple):
    """One channel of the montage and the file's channels it is made of: `plus`, or `plus` minus
    `minus`.
    """

    name: str
    channel_id: int
    plus: str
    minus: str | None


def _canonical(word: str) -> str | None:
    word = _ALIASES.get(word, word)
    return word if word in _ELECTRODES else None


def _bare(name: str) -> str:
    """The name in upper case, without the type before it and the number or dots after it."""
    text = re.sub(r"^(EEG|POL)\s+", "", name.strip().upper()).replace(" ", "").rstrip(".")
    return re.sub(r"(?<=.)-\d$", "", text)


def _lead(name: str) -> _Lead | None:
    """Read a channel name: `EEG FP1-REF`, `Fc5.`, `T8-P8-0` (MNE numbers repeated names), `F7-T3`,
    ...
    """
    plus, _, minus = _bare(name).partition("-")
    electrode = _canonical(plus.rstrip("."))
    if electrode is None:
        return None
    if minus == "" or minus in _REFERENCES:
        return _Lead(electrode, minus)
    other = _canonical(minus)
    return None if other is None else _Lead(electrode, other)


def electrode(name: str) -> str | None:
    """Canonical upper-case electrode of a referential channel name (T3, not T7), None if it is no
    10-05 electrode.
    """
    lead = _lead(name)
    return lead.plus if lead and lead.minus not in _ELECTRODES else None


def bipolar(name: str) -> tuple[str, str] | None:
    """Canonical (plus, minus) electrodes of a bipolar channel name, None if it is not one."""
    lead = _lead(name)
    return (lead.plus, lead.minus) if lead and lead.minus in _ELECTRODES else None


class ReferenceGroup(NamedTuple):
    """Electrodes that a file measures against one reference."""

    reference: str
    """Its name, "" where the file says none."""
    names: dict[str, str]
    """Canonical electrode -> the file's channel."""

    def label(self, electrode: str) -> str:
        """The name of a channel that measures the electrode against this reference."""
        return f"{electrode}-{self.reference}" if self.reference else electrode


def common_reference(ch_names: Sequence[str]) -> ReferenceGroup:
    """Return the largest group of electrodes with the same reference; of repeated names the first
    counts.
    """
    groups: dict[str, dict[str, str]] = {}
    for file_name in ch_names:
        lead = _lead(file_name)
        if lead is not None and lead.minus not in _ELECTRODES:
            groups.setdefault(lead.minus, {}).setdefault(lead.plus, file_name)
    reference = max(groups, key=lambda name: len(groups[name]), default="")
    return ReferenceGroup(reference, groups.get(reference, {}))


def derive(
    ch_names: Sequence[str], channels: Sequence[str] = TCP, missing: str = "error"
) -> list[Derivation]:
    """Say how each of `channels` (names of `TCP`) is made from the file channels `ch_names`, in the
    order of `channels`.

    A channel that the file holds is taken as it is; otherwise it is the difference of two file
    channels with the same reference. Of repeated names the first counts. With `missing="drop"`
    channels that cannot be made are left out.

    Raises:
        UserError: if channels are missing (`missing="error"`) or none can be made: names them, what
            each lacks, what the file has.
    """
    leads: dict[_Lead, str] = {}
    for file_name in ch_names:
        lead = _lead(file_name)
        if lead is not None:
            leads.setdefault(lead, file_name)
    found = {name: _derive_one(name, leads) for name in channels}
    lacking = [name for name, derivation in found.items() if derivation is None]
    if len(lacking) == len(channels):
        raise UserError(
            f"no channel of the montage can be derived from {_listed(ch_names)}: it needs bipolar"
            f" channels such as {channels[0]}, or electrodes of the 10-20 system with one reference"
        )
    if lacking and missing == "error":
        reasons = "; ".join(f"{name} ({_reason(name, leads, ch_names)})" for name in lacking)
        raise UserError(
            f"cannot derive {reasons}. The file has {_listed(ch_names)}. "
            "Rename its channels, or leave out what is missing with missing=drop"
        )
    return [derivation for derivation in found.values() if derivation is not None]


def referential(ch_names: Sequence[str], n_channels: int) -> list[Derivation]:
    """Take the first `n_channels` file channels as they are, in file order; they carry no channel
    id.
    """
    if n_channels > len(ch_names):
        raise UserError(
            f"{n_channels} channels are wanted, the file has {len(ch_names)}: {_listed(ch_names)}"
        )
    return [Derivation(name, NO_CHANNEL_ID, name, None) for name in ch_names[:n_channels]]


def _derive_one(name: str, leads: dict[_Lead, str]) -> Derivation | None:
    plus, minus = electrodes_of(name)
    direct = leads.get(_Lead(plus, minus))
    if direct is not None:
        return Derivation(name, CHANNEL_ID[name], direct, None)
    for lead, file_name in leads.items():
        if lead.plus == plus and (other := leads.get(_Lead(minus, lead.minus))) is not None:
            return Derivation(name, CHANNEL_ID[name], file_name, other)
    return None


def electrodes_of(name: str) -> tuple[str, str]:
    """Return the two electrodes of a channel of the montage; refuse any other name."""
    if name not in CHANNEL_ID:
        near = difflib.get_close_matches(name.upper(), TCP, 1, cutoff=0.0)[0]
        raise UserError(
            f"unknown montage channel {name!r}, did you mean {near!r}? Allowed: {', '.join(TCP)}"
        )
    plus, minus = name.split("-")
    return plus, minus


def _reason(name: str, leads: dict[_Lead, str], ch_names: Sequence[str]) -> str:
    """What is lacking for the channel `name`, with the nearest of the file's names that could not
    be read.
    """
    present = {lead.plus for lead in leads if lead.minus not in _ELECTRODES}
    absent = [item for item in electrodes_of(name) if item not in present]
    if not absent:
        return "its electrodes have different references"
    unread = {
        _bare(file_name).partition("-")[0]: file_name
        for file_name in ch_names
        if _lead(file_name) is None
    }
    near = [
        unread[match]
        for item in absent
        for match in difflib.get_close_matches(item, unread, 1, cutoff=0.5)
    ]
    return f"no {' and no '.join(absent)}" + (
        f"; is it {' or '.join(map(repr, near))}?" if near else ""
    )


def _listed(ch_names: Sequence[str], most: int = 40) -> str:
    shown = ", ".join(ascii(name)[1:-1] for name in ch_names[:most])
    return (
        f"{shown} and {len(ch_names) - most} more"
        if len(ch_names) > most
        else shown or "no channels"
    )
