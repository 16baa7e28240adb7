"""Units of a recording's numbers: how files spell them, and bringing channels to volts."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from eegdm.errors import UserError

if TYPE_CHECKING:
    import mne

UNITS = ("V", "mV", "uV")
"""What can be stated by hand."""

_PREFIXES = {"": 1.0, "m": 1e-3, "milli": 1e-3, "u": 1e-6, "μ": 1e-6, "micro": 1e-6, "n": 1e-9}
_VOLTS = {
    prefix + volt: factor for prefix, factor in _PREFIXES.items() for volt in ("v", "volt", "volts")
} | {"\x83\xeav": 1e-6}  # the mu of Shift-JIS, read as Latin-1 and in lower case


def volts_per(unit: str) -> float | None:
    """Return what one of a voltage unit is in volts, whatever its spelling; None if it is none.

    >>> volts_per("µV"), volts_per("uv"), volts_per("MV"), volts_per("%")
    (1e-06, 1e-06, 0.001, None)
    """
    # NFKC makes the micro sign (U+00B5) the Greek letter (U+03BC), which looks the same. Without
    # regard to case, for "MV" and "UV" are common and nobody records megavolts.
    text = unicodedata.normalize("NFKC", unit).replace(" ", "").lower()
    return _VOLTS.get(text)


def refuse_unknown_unit(unit: str | None) -> None:
    """Refuse a unit stated by hand that is not one of `UNITS`."""
    if unit is not None and unit not in UNITS:
        raise UserError(f"unit={unit!r} is unknown; choose from {', '.join(UNITS)}")


def to_volts(
    raw: mne.io.BaseRaw,
    stated: Sequence[str] | None,
    assumed: Sequence[float],
    unit: str | None = None,
    elsewhere: Mapping[str, str] | None = None,
) -> tuple[list[str], dict[str, float | None]]:
    """Scale the channels of a recording that its reader took for another unit than they have.

    Args:
        raw: the recording; it is changed.
        stated: the file's word for the unit of each channel; None for a format that needs none.
        assumed: volts per number of the file, for each channel, as the reader took it.
        unit: what a user says all numbers are in, above what the file says.
        elsewhere: unit by channel name, from beside the file, for channels whose unit it does not
            say.

    Returns:
        Notes on what was decided, and what one of each channel's unit is in volts; None where
            nobody states it, and the channel is left as the reader took it.
    """
    refuse_unknown_unit(unit)
    other = elsewhere or {}
    file_says = [None] * len(raw.ch_names) if stated is None else [volts_per(s) for s in stated]
    beside = [volts_per(other.get(name, "")) for name in raw.ch_names]
    if unit is not None:
        wanted = [volts_per(unit)] * len(raw.ch_names)
    elif stated is None:
        wanted = list(assumed)
    else:
        wanted = [in_file or aside for in_file, aside in zip(file_says, beside, strict=True)]
    # Codes of triggers are no voltages.
    is_trigger = [kind == "stim" for kind in raw.get_channel_types()]
    factors = [
        1.0 if want is None or trigger else want / have
        for want, have, trigger in zip(wanted, assumed, is_trigger, strict=True)
    ]
    _scale(raw, factors)
    volts_of = dict(zip(raw.ch_names, wanted, strict=True))
    if unit is not None:
        against = [
            name
            for name, in_file, want in zip(raw.ch_names, file_says, wanted, strict=True)
            if in_file not in (None, want)
        ]
        note = f"unit={unit} was stated for all channels"
        note += f", against what the file says of {list_names(against)}" if against else ""
        return [note], volts_of
    notes = []
    if used := [
        name
        for name, in_file, aside in zip(raw.ch_names, file_says, beside, strict=True)
        if stated is not None and in_file is None and aside is not None
    ]:
        notes.append(f"the unit of {list_names(used)} was taken from channels.tsv")
    return notes, volts_of


def _scale(raw: mne.io.BaseRaw, factors: Sequence[float]) -> None:
    """Multiply channels, now if they are in memory, else whenever they are read."""
    changed = [index for index, factor in enumerate(factors) if not np.isclose(factor, 1, 1e-9, 0)]
    if raw.preload:
        for index in changed:
            raw._data[index] *= factors[index]
    else:
        # MNE has no public way to do so without loading the data.
        for index in changed:
            raw._cals[index] *= factors[index]


def list_names(names: Sequence[str], maximum: int = 6) -> str:
    """Some names of a list on one line, and how many more there are."""
    shown = ", ".join(ascii(name)[1:-1] for name in names[:maximum])
    return shown if len(names) <= maximum else f"{shown} and {len(names) - maximum} more"
