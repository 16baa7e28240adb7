"""Which channels of a recording are read: what its names mean, which of repeated channels counts,
and how each channel of the montage is made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from eegdm.data.channels import read_volts
from eegdm.data.interpolation import Interpolated
from eegdm.data.montage import Derivation, derive
from eegdm.data.names import Lead, Names, read_names

if TYPE_CHECKING:
    import mne

# MNE's types of channels that lie in or on the brain
_INTRACRANIAL = ("seeg", "ecog", "dbs")
# Length and number of the stretches by which repeated channels are compared
_COMPARED_S, _N_COMPARED = 4.0, 24
# Copies may differ by the digital steps of their own scales: this much of their spread.
_SAME = 0.005


class Plan(NamedTuple):
    """How the channels of a montage are made from a recording."""

    source: Any
    """What to read from: the recording, or it with interpolated electrodes."""
    derivations: list[Derivation]
    notes: list[str]
    """What a reader of the result must know of the channels."""


def plan_channels(raw: mne.io.BaseRaw, channels: Sequence[str], missing: str) -> Plan:
    """Plan the channels (names of `TCP`) with missing "error", "drop" or "interpolate".

    Raises:
        UserError: what `derive` and `Interpolated` refuse; the recording can't be read.
    """
    names, notes = names_of(raw)
    source: Any = raw
    if missing == "interpolate":
        source = Interpolated(raw, channels, names)
        if source.made:
            notes.append(f"interpolated from {source.n_sources} channels: {', '.join(source.made)}")
        names = source.names
    derivations = derive(names, channels, "drop" if missing == "drop" else "error")
    if note := _count_note([d.name for d in derivations], channels):
        notes.append(note)
    return Plan(source, derivations, notes)


def names_of(raw: mne.io.BaseRaw) -> tuple[Names, list[str]]:
    """Read the names of a recording's channels, leave out those marked as bad, and choose among
    repeated ones by their signals; return also what to say of that.
    """

    def sample(channels: Sequence[str]) -> Float[ndarray, "channel time"]:
        return _stretches(raw, [raw.ch_names.index(name) for name in channels])

    names = read_names(raw.ch_names, intracranial(raw)).without_bads(raw.info["bads"])
    return settle(names, sample)


def intracranial(recording: mne.io.BaseRaw | mne.BaseEpochs) -> list[str]:
    """Return the channels that lie in or on the brain by their type."""
    types = zip(recording.ch_names, recording.get_channel_types(), strict=True)
    return [name for name, kind in types if kind in _INTRACRANIAL]


def settle(
    names: Names, sample: Callable[[Sequence[str]], Float[ndarray, "channel time"]]
) -> tuple[Names, list[str]]:
    """Choose among channels that measure the same: of copies the first, of a signal and a dummy the
    signal; where their signals differ, none. Return also what to say of that.

    Args:
        names: the file's.
        sample: gives signals of channels by their names, in any unit.
    """
    chosen: dict[Lead, str] = {}
    doubts: dict[str, str] = {}
    notes = []
    for lead, channels in names.leads.items():
        if len(channels) == 1:
            continue
        # NaN is refused when a channel is read; here it would make copies look different.
        signals = np.nan_to_num(sample(channels))
        # A dummy that does not move contradicts nothing.
        moving = [i for i in range(len(channels)) if np.ptp(signals[i]) > 0]
        first = moving[0] if moving else 0
        if all(_is_copy(signals[first], signals[i]) for i in moving):
            chosen[lead] = channels[first]
            flat = [ascii(channels[i]) for i in range(len(channels)) if i not in moving]
            if moving and flat:
                taken = f"{ascii(channels[first])} is taken for {lead.label()}"
                notes.append(f"{taken}, {', '.join(flat)} does not move")
        else:
            alike = " and ".join(map(ascii, channels))
            doubts |= dict.fromkeys(
                channels, f"{alike} have one meaning and different signals, so neither is taken"
            )
    settled = names.settled(chosen, doubts)
    return settled, [*notes, *([note] if (note := settled.note()) else [])]


def _is_copy(one: Float[ndarray, " time"], other: Float[ndarray, " time"]) -> bool:
    return bool((one - other).std() <= _SAME * one.std())


def _stretches(raw: mne.io.BaseRaw, picks: list[int]) -> Float[ndarray, "channel time"]:
    """Seconds spread over the recording; all of a short one."""
    length = min(round(_COMPARED_S * float(raw.info["sfreq"])), raw.n_times)
    # Spread over the recording, since an electrode may be connected late; short recordings overlap.
    starts = np.unique(np.linspace(0, raw.n_times - length, _N_COMPARED).round().astype(int))
    read = [read_volts(raw, picks, start, start + length) for start in map(int, starts)]
    return np.concatenate(read, axis=1)


def _count_note(available: Sequence[str], wanted: Sequence[str]) -> str | None:
    """How many channels there are and which, or which are missing: whichever list is shorter."""
    missing = [name for name in wanted if name not in available]
    if not missing:
        return None
    count = f"{len(available)} of {len(wanted)} channels"
    if len(available) < len(missing):
        return f"{count}: {', '.join(available)}"
    return f"{count}, left out: {', '.join(missing)}"
