"""Where electrodes lie on the head, and which channel of the montage lies nearest to one that is
not of it.

Positions are MNE's template of the 10-05 system (`standard_1005`, in newer versions
`colin27_1005`); a bipolar channel lies halfway between its electrodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from eegdm.data.montage import CHANNEL_ID, Derivation, electrodes_of
from eegdm.data.names import Names, read_names
from eegdm.errors import UserError

if TYPE_CHECKING:
    import mne


class NearestChannel(NamedTuple):
    """A channel of the file, as it is, and the channel of the montage that it is taken for."""

    derivation: Derivation  # name: the file's; channel_id: of `nearest`
    nearest: str
    distance_mm: float


def template() -> mne.channels.DigMontage:
    """Return MNE's template positions of all electrodes of the 10-05 system."""
    import mne

    names = mne.channels.get_builtin_montages()
    return mne.channels.make_standard_montage(
        "colin27_1005" if "colin27_1005" in names else "standard_1005"
    )


@lru_cache(maxsize=1)
def _electrode_positions() -> dict[str, Float[ndarray, "3"]]:
    """Metres, by our names of electrodes."""
    return {
        name.upper(): position for name, position in template().get_positions()["ch_pos"].items()
    }


def places_of(names: Names) -> dict[str, Float[ndarray, "3"]]:
    """Return where each channel lies that measures an electrode or a pair, in metres, in the file's
    order; against the reference of the file, an electrode's channel lies at the electrode.
    """
    electrodes = _electrode_positions()
    positions = {}
    for lead, channels in names.leads.items():
        is_pair = lead.is_bipolar and lead.minus != names.reference
        position = electrodes[lead.plus]
        if is_pair:
            position = (position + electrodes[lead.minus]) / 2
        positions.update(dict.fromkeys(channels, position))
    return {name: positions[name] for name in names.ch_names if name in positions}


def match_to_montage(ch_names: Sequence[str] | Names, among: Sequence[str]) -> list[NearestChannel]:
    """Take each channel that is EEG by its name as it is, for the nearest of ``among`` (names of
    `TCP`); in the file's order.

    Raises:
        UserError: no name is an electrode's or a pair's of the 10-05 system.
    """
    names = ch_names if isinstance(ch_names, Names) else read_names(ch_names)
    montage = np.stack([_midpoint(name) for name in among])
    matched = []
    for name, position in places_of(names).items():
        distance = np.linalg.norm(montage - position, axis=1)
        best = int(distance.argmin())
        derivation = Derivation(name, CHANNEL_ID[among[best]], name, None)
        matched.append(NearestChannel(derivation, among[best], 1000 * float(distance[best])))
    if not matched:
        raise UserError(
            "no channel is an electrode of the 10-05 system or a pair of two:"
            f" {', '.join(map(ascii, names.ch_names[:40]))}{names.refusal()}"
        )
    return matched


def own_channels(
    names: Names, channels: Sequence[str], taken_for: Sequence[str]
) -> list[NearestChannel]:
    """Find channels in another file by what their names mean, each taken for the same one of `TCP`
    as in the file that ``channels`` are of; in the order of ``channels``, without those that the
    file lacks.
    """
    meanings = {c: lead for lead, own in read_names(channels).leads.items() for c in own}
    places = places_of(names)
    found = []
    for channel, nearest in zip(channels, taken_for, strict=True):
        in_file = names.leads.get(meanings[channel], ()) if channel in meanings else ()
        if in_file:
            distance_mm = 1000 * float(np.linalg.norm(_midpoint(nearest) - places[in_file[0]]))
            derivation = Derivation(channel, CHANNEL_ID[nearest], in_file[0], None)
            found.append(NearestChannel(derivation, nearest, distance_mm))
    return found


def _midpoint(name: str) -> Float[ndarray, "3"]:
    """Where a bipolar channel of the montage lies, in metres."""
    electrodes = _electrode_positions()
    return np.mean([electrodes[e] for e in electrodes_of(name)], axis=0)


def keep_nearest(matched: Sequence[NearestChannel]) -> list[NearestChannel]:
    """Keep of the channels that are taken for the same one only the nearest to it."""
    # A later entry of a dict replaces an earlier one, so the nearest has to come last.
    best = {p.nearest: p for p in sorted(matched, key=lambda p: -p.distance_mm)}
    return [p for p in matched if best[p.nearest] is p]
