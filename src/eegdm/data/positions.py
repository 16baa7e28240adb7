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

from eegdm.data.montage import CHANNEL_ID, Derivation, bipolar, electrode
from eegdm.errors import UserError

if TYPE_CHECKING:
    import mne


class Placed(NamedTuple):
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
def _positions() -> dict[str, Float[ndarray, "3"]]:
    """Metres, by our names of electrodes."""
    return {name.upper(): place for name, place in template().get_positions()["ch_pos"].items()}


def position(name: str) -> Float[ndarray, "3"] | None:
    """Return where a channel lies, in metres; None if its name is neither an electrode's nor a
    pair's.
    """
    pair = bipolar(name)
    if pair is not None:
        return (_positions()[pair[0]] + _positions()[pair[1]]) / 2
    single = electrode(name)
    return None if single is None else _positions()[single]


def place(ch_names: Sequence[str], among: Sequence[str]) -> list[Placed]:
    """Take each channel that is EEG by its name as it is, for the nearest of ``among`` (names of
    `TCP`); in the file's order.

    Raises:
        UserError: no name is an electrode's or a pair's of the 10-05 system.
    """
    montage = np.stack([position(name) for name in among])  # type: ignore[misc]
    found = []
    for name in ch_names:
        where = position(name)
        if where is not None:
            distance = np.linalg.norm(montage - where, axis=1)
            best = int(distance.argmin())
            derivation = Derivation(name, CHANNEL_ID[among[best]], name, None)
            found.append(Placed(derivation, among[best], 1000 * float(distance[best])))
    if not found:
        raise UserError(
            "no channel is an electrode of the 10-05 system or a pair of two:"
            f" {', '.join(map(ascii, ch_names[:40]))}"
        )
    return found


def one_for_each(placed: Sequence[Placed]) -> list[Placed]:
    """Keep of the channels that are taken for the same one only the nearest to it."""
    best = {p.nearest: p for p in sorted(placed, key=lambda p: -p.distance_mm)}
    return [p for p in placed if best[p.nearest] is p]
