"""Reading the channels of a montage from a recording, and watching what is read: missing, flat and
clipped samples, and amplitudes that can't be EEG in volts.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from eegdm.data.montage import Derivation
from eegdm.data.reading import opening_of
from eegdm.data.units import list_names
from eegdm.errors import UserError

if TYPE_CHECKING:
    import mne

PER_VOLT = 1e4
"""Model units in a volt: the unit is 100 µV."""

_PLAUSIBLE_UV = (0.05, 5000.0)  # spread of EEG, median over channels
_IMPOSSIBLE_UV = 2e5
"""More than an EEG amplifier gives out, whatever hangs on its input: the unit is another one."""
_STANDS_OUT = 100.0
"""How often a channel's spread holds the others', or is held by it, before it is named. A loose
electrode may reach that, so it is refused only if the file does not state its unit.
"""


class ChannelQuality(NamedTuple):
    """What to know of a channel before trusting it."""

    name: str
    flat: float
    """Share of the seconds in which one of its electrodes does not move at all."""
    clipped: float
    """Share of the samples at an electrode's largest or smallest value, flat seconds aside; near 0
    if nothing cuts it off.
    """
    spread_uv: float
    """Robust standard deviation (interquartile range / 1.349) of the finished signal, in µV."""


class DerivedChannels:
    """The derived channels of a recording, read in stretches."""

    def __init__(self, raw: mne.io.BaseRaw, derivations: Sequence[Derivation]) -> None:
        index = {name: i for i, name in enumerate(raw.ch_names)}
        self.picks = sorted({index[name] for d in derivations for name in d.sources})
        row = {raw.ch_names[pick]: i for i, pick in enumerate(self.picks)}
        self._raw = raw
        self._sfreq = float(raw.info["sfreq"])
        self._names = [d.name for d in derivations]
        # Rows of what is read, not names: a channel is then one subtraction of two rows.
        self._terms = [
            (None if d.plus is None else row[d.plus], None if d.minus is None else row[d.minus])
            for d in derivations
        ]
        self._rows = [[row[name] for name in d.sources] for d in derivations]
        volts_of = opening_of(raw).volts_per
        electrodes = [raw.ch_names[pick] for pick in self.picks]
        stated = [volts_of[name] for name in electrodes if name in volts_of]
        self._usual = max(stated, key=stated.count, default=1.0)
        # An electrode that was interpolated is in no file.
        self._volts_per = [volts_of.get(name, self._usual) for name in electrodes]
        self._watch = _Watch(len(self.picks), max(round(self._sfreq), 1))

    @property
    def notes(self) -> list[str]:
        """What must be known of the channels before they are read."""
        names = [
            self._raw.ch_names[pick]
            for pick, volts in zip(self.picks, self._volts_per, strict=True)
            if volts is None
        ]
        return [f"no unit of voltage stated, taken as volts: {list_names(names)}"] if names else []

    def read(self, start: int, stop: int) -> Float[ndarray, "channel time"]:
        """Samples start..stop in model units, float64.

        Raises:
            UserError: if a value is not finite (the file's channel and the time are named) or the
                file can't be read there.
        """
        volts = read_volts(self._raw, self.picks, start, stop)
        self._refuse_missing(volts, start)
        self._watch.see(volts, start)
        signal = np.empty((len(self._terms), volts.shape[1]))
        for channel, terms in zip(signal, self._terms, strict=True):
            np.multiply(difference(volts, *terms), PER_VOLT, out=channel)
        return signal

    def _refuse_missing(self, volts: Float[ndarray, "electrode time"], start: int) -> None:
        # NaN and infinity survive a sum, which is much faster than a look at each value; only a
        # block whose sum overflows is looked at for nothing.
        if np.isfinite(volts.sum()):
            return
        missing = ~np.isfinite(volts)
        if not missing.any():
            return
        row, sample = np.argwhere(missing)[0]
        name, at = self._raw.ch_names[self.picks[row]], (start + sample) / self._sfreq
        raise UserError(
            f"channel {ascii(name)} has {missing[row].sum()} values that are missing or infinite,"
            f" the first at {at:.3f} s"
        )

    def quality(self, spread_uv: Float[ndarray, " channel"]) -> list[ChannelQuality]:
        """What was seen of each channel so far; the spread of the finished signal is given by who
        finished it.

        Raises:
            UserError: if the spreads cannot be those of EEG.
        """
        refuse_implausible(spread_uv, self._names)
        self._refuse_other_unit(spread_uv)
        flat, clipped = self._watch.flat, self._watch.clipped
        return [
            ChannelQuality(name, float(flat[rows].max()), float(clipped[rows].max()), float(spread))
            for name, rows, spread in zip(self._names, self._rows, spread_uv, strict=True)
        ]

    def _refuse_other_unit(self, spread_uv: Float[ndarray, " channel"]) -> None:
        """Refuse channels that stand out where the file states no unit for an electrode of theirs,
        or another one than for most: that explains it better than a loose electrode.
        """
        is_other = np.array([volts != self._usual for volts in self._volts_per])
        odd = stand_out(spread_uv) & [is_other[rows].any() for rows in self._rows]
        if odd.any():
            names = [name for name, is_odd in zip(self._names, odd, strict=True) if is_odd]
            raise UserError(
                f"suspect units: {_spreads(names, spread_uv[odd])} against"
                f" {_middle(spread_uv):.3g} µV in the middle, and the file states no unit, or"
                " another one than for most, for their electrodes; state what all numbers are in"
                " with unit="
            )


def read_volts(
    raw: mne.io.BaseRaw, picks: Sequence[int], start: int, stop: int
) -> Float[ndarray, "pick time"]:
    """Samples start..stop of the channels with these indices, in volts.

    Raises:
        UserError: the file can't be read there, or MNE would read it wrongly.
    """
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            volts = raw.get_data(picks, start, stop, verbose="WARNING")
    # MNE's readers have no exception in common.
    except Exception as fault:
        at = start / float(raw.info["sfreq"])
        raise UserError(
            f"the data cannot be read from {at:.3f} s on: the file is cut off or changed while it"
            " was read; copy it again from where it was recorded"
        ) from fault
    if any("mixed sampling frequencies" in str(warning.message) for warning in caught):
        raise UserError(
            "its channels have several rates, and MNE-Python reads stretches of the slower ones"
            " wrongly; call load_data() of the recording first, or give its file instead"
        )
    return volts


def difference(
    values: Float[ndarray, "electrode ..."], plus: int | None, minus: int | None
) -> Float[ndarray, "..."]:
    """Row `plus` minus row `minus`; one of them may be None, which is zero."""
    if plus is None:
        return -values[minus]
    return values[plus] if minus is None else values[plus] - values[minus]


def stand_out(spread_uv: Float[ndarray, " channel"]) -> Bool[ndarray, " channel"]:
    """Say which channels spread a hundred times more or less than most; flat ones don't."""
    if not (spread_uv > 0).any():
        return np.zeros(len(spread_uv), bool)
    # Against the median, which a few wild channels do not move.
    ratio = spread_uv / _middle(spread_uv)
    return (ratio > _STANDS_OUT) | ((ratio > 0) & (ratio < 1 / _STANDS_OUT))


def _middle(spread_uv: Float[ndarray, " channel"]) -> float:
    return float(np.median(spread_uv[spread_uv > 0]))


def _spreads(names: Sequence[str], spread_uv: Float[ndarray, " channel"]) -> str:
    return list_names(
        [f"{name} {value:.3g} uV" for name, value in zip(names, spread_uv, strict=True)]
    ).replace(" uV", " µV")


def refuse_implausible(spread_uv: Float[ndarray, " channel"], names: Sequence[str]) -> None:
    """Refuse signals whose robust spreads, in µV, cannot be those of EEG.

    Raises:
        UserError: if all channels are flat, the middle spread is far from that of EEG, or a channel
            spreads more than an amplifier can give out.
    """
    moving = spread_uv[spread_uv > 0]
    if len(moving) == 0:
        raise UserError("all channels are flat")
    low, high = _PLAUSIBLE_UV
    if not low <= (middle := _middle(spread_uv)) <= high:
        raise UserError(
            f"suspect units: the channels' robust spread is {middle:.3g} µV (median), that of EEG"
            f" lies between {low:g} and {high:g} µV; see that the file states its unit (uV, mV or"
            " V) and its physical range rightly, or state the unit with unit="
        )
    impossible = spread_uv > _IMPOSSIBLE_UV
    if impossible.any():
        wild = [name for name, is_wild in zip(names, impossible, strict=True) if is_wild]
        raise UserError(
            f"suspect units: {_spreads(wild, spread_uv[impossible])} against {middle:.3g} µV in the"
            " middle, more than any EEG amplifier gives out; see that the file states the unit of"
            " their electrodes rightly, or mark these as bad"
        )


class _Watch:
    """Counts flat seconds and samples at the extremes of each electrode, each sample once, whatever
    the overlap of what it sees.
    """

    def __init__(self, n_electrodes: int, second: int) -> None:
        self._second = second
        self._n_seconds = 0
        self._n_flat = np.zeros(n_electrodes, int)
        # Largest value, and largest of the negated values: one routine then counts both sides.
        self._extreme = np.full((2, n_electrodes), -np.inf)
        self._n_extreme = np.zeros((2, n_electrodes), int)

    def see(self, volts: Float[ndarray, "electrode time"], start: int) -> None:
        """Take in the whole seconds that continue what was seen; `start` is the first sample's
        place in the recording.
        """
        # Blocks overlap by the reach of the filters: what was counted already is skipped.
        skipped = self._n_seconds * self._second - start
        n_seconds = (volts.shape[1] - skipped) // self._second
        if skipped < 0 or n_seconds <= 0:
            return
        new = volts[:, skipped : skipped + n_seconds * self._second].reshape(
            len(volts), n_seconds, self._second
        )
        high, low = new.max(axis=2), new.min(axis=2)
        flat = high == low
        self._n_flat += flat.sum(axis=1)
        self._n_seconds += n_seconds
        # A flat second is at its extreme throughout; it counts as flat, not as clipped.
        self._count(0, new, np.where(flat, -np.inf, high), sign=1)
        self._count(1, new, np.where(flat, -np.inf, -low), sign=-1)

    def _count(
        self, side: int, new: ndarray, peaks: Float[ndarray, "electrode second"], sign: int
    ) -> None:
        for row, peak in enumerate(peaks.max(axis=1)):
            if np.isneginf(peak) or peak < self._extreme[side, row]:
                continue
            if peak > self._extreme[side, row]:
                self._extreme[side, row], self._n_extreme[side, row] = peak, 0
            self._n_extreme[side, row] += np.count_nonzero(
                new[row, peaks[row] == peak] == sign * peak
            )

    @property
    def flat(self) -> Float[ndarray, " electrode"]:
        return self._n_flat / max(self._n_seconds, 1)

    @property
    def clipped(self) -> Float[ndarray, " electrode"]:
        return self._n_extreme.sum(axis=0) / np.maximum(
            (self._n_seconds - self._n_flat) * self._second, 1
        )
