"""Electrodes that a recording lacks, made from the others by MNE's spherical splines.

The interpolation is linear in the electrodes, so MNE's own weights are found once, from a recording
of unit impulses, and any stretch is interpolated on its own: the recording never lies in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from eegdm.data.montage import common_reference, electrodes_of
from eegdm.data.names import Names, read_names
from eegdm.data.positions import template
from eegdm.errors import UserError

if TYPE_CHECKING:
    import mne

LEAST_ELECTRODES = 8
"""Fewer say too little of the field between them."""


class Interpolated:
    """A recording with the electrodes that ``channels`` need and it lacks; has what
    `DerivedChannels` asks of an MNE Raw.

    An electrode that is marked as bad counts as lacking: it is made anew, and feeds no other.

    Args:
        raw: a referential recording.
        channels: names of `TCP`.
        names: what its channels' names mean, if that is known already.

    Attributes:
        names: what the names of all channels mean, with those that are made here.
        made: electrodes that are made here.
        n_sources: the number of electrodes that they are made from.

    Raises:
        UserError: the recording is bipolar, or has too few electrodes of one reference.
    """

    def __init__(
        self, raw: mne.io.BaseRaw, channels: Sequence[str], names: Names | None = None
    ) -> None:
        names = names or read_names(raw.ch_names).without_bads(raw.info["bads"])
        group = common_reference(names)
        if len(group.names) < LEAST_ELECTRODES:
            raise UserError(
                f"missing=interpolate: spherical splines need {LEAST_ELECTRODES} or more electrodes"
                f" against one reference, the file has {len(group.names)}; bipolar channels can't"
                f" be interpolated. missing=drop leaves out what the file lacks{names.refusal()}"
            )
        wanted = dict.fromkeys(name for channel in channels for name in electrodes_of(channel))
        # The reference is zero, so that its pairs are channels of the file.
        wanted.pop(group.reference, None)
        self.made = [name for name in wanted if name not in group.names]
        # All electrodes of the reference feed a spline, not only those that the model needs.
        self._raw, self._sources = raw, [raw.ch_names.index(name) for name in group.names.values()]
        self.n_sources = len(self._sources)
        self._weights = (
            spline_weights(list(group.names), self.made)
            if self.made
            else np.zeros((0, len(self._sources)))
        )
        for name in self.made:
            lead = group.lead(name)
            label = lead.label()
            # A channel of that name is there, but not as an electrode of this reference.
            if label in raw.ch_names:
                label = f"{label} (interpolated)"
            names = names.with_lead(lead, label)
        self.names, self.ch_names = names, list(names.ch_names)
        self.info, self.n_times = raw.info, raw.n_times

    def get_data(
        self, picks: Sequence[int], start: int, stop: int, verbose: Any = None
    ) -> Float[ndarray, "pick time"]:
        """As MNE's: samples start..stop of the channels with these indices, in volts."""
        n_in_file = len(self._raw.ch_names)
        needs_sources = max(picks) >= n_in_file
        in_file = {pick for pick in picks if pick < n_in_file}
        if needs_sources:
            in_file |= set(self._sources)
        # Each channel of the file is read once, though it may be wanted and a source too.
        file_picks = sorted(in_file)
        volts = self._raw.get_data(file_picks, start, stop, verbose=verbose)
        row = {pick: index for index, pick in enumerate(file_picks)}
        sources = volts[[row[pick] for pick in self._sources]] if needs_sources else None
        return np.stack(
            [
                volts[row[pick]] if pick < n_in_file else self._weights[pick - n_in_file] @ sources
                for pick in picks
            ]
        )


def spline_weights(
    present: Sequence[str], lacking: Sequence[str]
) -> Float[ndarray, "lacking present"]:
    """Return the matrix by which MNE's `interpolate_bads` makes the lacking electrodes from the
    present ones.
    """
    import mne

    montage = template()
    spelling = {name.upper(): name for name in montage.ch_names}
    names = [spelling[name] for name in (*present, *lacking)]
    # Splines know places only, so any sampling rate does; "sample" k is an impulse at electrode k,
    # and what becomes of it is column k of the matrix.
    info = mne.create_info(names, 1000.0, "eeg")
    impulses = np.vstack([np.eye(len(present)), np.zeros((len(lacking), len(present)))])
    raw = mne.io.RawArray(impulses, info, verbose="ERROR").set_montage(montage, verbose="ERROR")
    raw.info["bads"] = names[len(present) :]
    return raw.interpolate_bads(verbose="ERROR").get_data()[len(present) :]
