"""Channels that the backbone was not trained on: which of the 22 lies nearest on the head."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from eegdm.data.montage import CHANNEL_ID, TCP, bipolar, electrode
from eegdm.errors import UserError


def nearest_channel_ids(ch_names: Sequence[str]) -> list[int]:
    """Return for each channel the id of the montage channel that lies nearest.

    A bipolar channel lies halfway between its electrodes, a referential one at its electrode; places are those of MNE's
    template head. A channel of the montage is its own nearest; of equally near ones the lower id is taken.

    Raises
    ------
    UserError
        If a name tells no place: neither an electrode of the 10-05 system nor a pair of them.
    """
    places = {name: _place(name) for name in ch_names}
    if unknown := [ascii(name)[1:-1] for name, place in places.items() if place is None]:
        raise UserError(f"channels {', '.join(unknown)}: their names tell no place on the head; "
                        "rename them to electrodes of the 10-05 system (C3) or pairs of them (C3-CZ), or leave them out")  # fmt: skip
    return [_nearest(name, place) for name in ch_names if (place := places[name]) is not None]


def _nearest(name: str, place: Float[ndarray, " xyz"]) -> int:
    own = CHANNEL_ID.get("-".join(bipolar(name) or ()))
    if own is not None:
        return own
    return int(np.linalg.norm(_montage_places() - place, axis=1).round(6).argmin())  # to the micrometre, so that ties are ties


def _place(name: str) -> Float[ndarray, " xyz"] | None:
    """Where a channel lies, in metres; None if its name does not tell."""
    alone = electrode(name)
    names = bipolar(name) or ((alone,) if alone is not None else None)
    return None if names is None else np.mean([_electrode_places()[one] for one in names], axis=0)


@functools.cache
def _electrode_places() -> dict[str, Float[ndarray, " xyz"]]:
    """Place of every electrode of the 10-05 system, by upper-case name."""
    from mne.channels import get_builtin_montages, make_standard_montage

    montage = "colin27_1005" if "colin27_1005" in get_builtin_montages() else "standard_1005"  # its name before MNE 1.13
    return {name.upper(): place for name, place in make_standard_montage(montage).get_positions()["ch_pos"].items()}


@functools.cache
def _montage_places() -> Float[ndarray, "channel xyz"]:
    return np.stack([place for name in TCP if (place := _place(name)) is not None])
