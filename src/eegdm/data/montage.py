"""The bipolar montages, and how each of their channels is got from a file's channels."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import NamedTuple

from eegdm.data.names import Lead, Names, read_names, spelt
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


class Derivation(NamedTuple):
    """One channel of the montage and the file's channels it is made of: `plus` minus `minus`, of
    which one may be None, which is zero (a reversed pair is taken negated).
    """

    name: str
    channel_id: int
    plus: str | None
    minus: str | None

    @property
    def sources(self) -> tuple[str, ...]:
        """The file's channels that it is made of."""
        return tuple(name for name in (self.plus, self.minus) if name is not None)

    def formula(self) -> str:
        """How it is made, such as `C3-REF - CZ-REF` or `- C4-T4`."""
        return f"- {self.minus}" if self.plus is None else " - ".join(self.sources)


class ReferenceGroup(NamedTuple):
    """Electrodes that a file measures against one reference."""

    reference: str
    """Its name, "" where the file says none."""
    names: dict[str, str]
    """Canonical electrode -> the file's channel."""

    def lead(self, electrode: str) -> Lead:
        """What a channel measures that measures the electrode against this reference."""
        return Lead(electrode, self.reference)


def common_reference(names: Names) -> ReferenceGroup:
    """Return the largest group of electrodes with the same reference; of repeated names the first
    counts. The reference may be an electrode if most channels have it.
    """
    # Pairs against one electrode that most channels share are referential in all but name.
    groups: dict[str, dict[str, str]] = {}
    for lead, (channel, *_) in names.leads.items():
        if not lead.is_bipolar or lead.minus == names.reference:
            groups.setdefault(lead.minus, {})[lead.plus] = channel
    reference = max(groups, key=lambda name: len(groups[name]), default="")
    return ReferenceGroup(reference, groups.get(reference, {}))


def derive(
    ch_names: Sequence[str] | Names, channels: Sequence[str] = TCP, missing: str = "error"
) -> list[Derivation]:
    """Say how each of `channels` (names of `TCP`) is made from the file channels `ch_names`, in the
    order of `channels`.

    A channel that the file holds is taken as it is, a reversed one negated; otherwise it is the
    difference of two file channels with the same reference. Of repeated names the first counts.
    With `missing="drop"` channels that cannot be made are left out.

    Raises:
        UserError: if channels are missing (`missing="error"`) or none can be made: names them, what
            each lacks, what the file has.
    """
    names = ch_names if isinstance(ch_names, Names) else read_names(ch_names)
    derivations = {name: _derive_one(name, names) for name in channels}
    lacking = [name for name, derivation in derivations.items() if derivation is None]
    if len(lacking) == len(channels):
        raise UserError(
            f"no channel of the montage can be derived from {_channel_list(names.ch_names)}: it"
            f" needs bipolar channels such as {channels[0]}, or electrodes of the 10-20 system with"
            f" one reference{names.refusal()}"
        )
    if lacking and missing == "error":
        reasons = "; ".join(f"{name} ({_why_missing(name, names)})" for name in lacking)
        raise UserError(
            f"cannot derive {reasons}. The file has"
            f" {_channel_list(names.ch_names)}{names.refusal()}. Rename its"
            " channels, or leave out what is missing with missing=drop"
        )
    return [derivation for derivation in derivations.values() if derivation is not None]


def referential(ch_names: Sequence[str], n_channels: int) -> list[Derivation]:
    """Take the first `n_channels` file channels as they are, in file order; they carry no channel
    id.
    """
    if n_channels > len(ch_names):
        raise UserError(
            f"{n_channels} channels are wanted, the file has {len(ch_names)}:"
            f" {_channel_list(ch_names)}"
        )
    return [Derivation(name, NO_CHANNEL_ID, name, None) for name in ch_names[:n_channels]]


def bipolar(name: str) -> tuple[str, str] | None:
    """Canonical (plus, minus) electrodes of one bipolar channel name, None if it is not one."""
    leads = [*read_names([name]).leads]
    return (leads[0].plus, leads[0].minus) if leads and leads[0].is_bipolar else None


def _derive_one(name: str, names: Names) -> Derivation | None:
    plus, minus = electrodes_of(name)
    leads = {lead: channels[0] for lead, channels in names.leads.items()}
    # What the file holds as a pair comes first: a difference of two channels adds their noise.
    held, reversed_ = leads.get(Lead(plus, minus)), leads.get(Lead(minus, plus))
    if held or reversed_:
        return Derivation(name, CHANNEL_ID[name], held, None if held else reversed_)
    # A third electrode or reference cancels, whether both are measured against it or it against
    # both.
    for first, second in leads:
        for a, b in (
            (Lead(plus, second), Lead(minus, second)),
            (Lead(first, minus), Lead(first, plus)),
        ):
            if a in leads and b in leads:
                return Derivation(name, CHANNEL_ID[name], leads[a], leads[b])
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


def _why_missing(name: str, names: Names) -> str:
    """What is lacking for the channel `name`, with the nearest of the file's names that could not
    be read.
    """
    # Of an electrode that stands in pairs only, nothing is known by itself.
    present = {
        lead.plus for lead in names.leads if not lead.is_bipolar or lead.minus == names.reference
    } | {names.reference}
    absent = [item for item in electrodes_of(name) if item not in present]
    if not absent:
        return "its electrodes have different references"
    read = {channel for channels in names.leads.values() for channel in channels}
    unread = {
        spelt(channel): channel
        for channel in names.ch_names
        if channel not in read and channel not in names.doubts
    }
    near = [
        unread[match]
        for item in absent
        for match in difflib.get_close_matches(item, unread, 1, cutoff=0.5)
    ]
    return f"no {' and no '.join(absent)}" + (
        f"; is it {' or '.join(map(repr, near))}?" if near else ""
    )


def _channel_list(ch_names: Sequence[str], limit: int = 40) -> str:
    """The file's channels as a message names them; no more than ``limit`` of them."""
    shown = ", ".join(ascii(name)[1:-1] for name in ch_names[:limit])
    return (
        f"{shown} and {len(ch_names) - limit} more"
        if len(ch_names) > limit
        else shown or "no channels"
    )
