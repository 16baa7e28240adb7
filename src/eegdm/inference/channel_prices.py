"""What channels cost that are not those of the montage as they are: measured by
`examples/evidence/channel_prices.py`, which leaves electrodes of real people out; docs/results.md
has the whole table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

MEASURED_ON = "8 people of EEGMAT with the backbone mini of 0.1.0"
OF_CHANNELS = 20
"""How many channels each window had."""
BETWEEN_WINDOWS = 0.044
"""By how much the tokens of an exact channel differ between two neighbouring windows that were
taken: median of the relative differences."""


class Price(NamedTuple):
    """What channels of one kind cost, for one number of them.

    Attributes:
        n_channels: how many of :data:`OF_CHANNELS` they were, mean over people.
        error: relative error of the tokens of such a channel, median; None: it has none.
        correlation: of the logs of its tokens with the true ones over the windows of a person,
            median.
        decided_otherwise: share of windows that a linear head which learned from exact channels of
            other people (rest against arithmetic) gives another class than with exact channels.
        auroc: change of the head's AUROC, and the ends of its 95 % interval over people. With
            exact channels it was 0.56 (0.46 to 0.69).
    """

    n_channels: float
    error: float | None
    correlation: float | None
    decided_otherwise: float
    auroc: tuple[float, float, float]


PRICES = {
    "interpolated": (
        Price(2.6, 0.044, 0.44, 0.031, (-0.016, -0.062, 0.027)),
        Price(6.8, 0.053, 0.45, 0.133, (0.036, -0.016, 0.113)),
        Price(12.4, 0.051, 0.40, 0.172, (-0.054, -0.193, 0.064)),
    ),
    "nearest": (
        Price(2.6, 0.063, 0.37, 0.047, (0.016, -0.035, 0.064)),
        Price(6.8, 0.074, 0.25, 0.234, (0.009, -0.147, 0.182)),
        Price(12.4, 0.072, 0.25, 0.211, (-0.021, -0.215, 0.188)),
    ),
    "missing": (
        Price(2.6, None, None, 0.070, (0.010, -0.024, 0.042)),
        Price(6.8, None, None, 0.180, (0.070, -0.026, 0.183)),
        Price(12.4, None, None, 0.156, (0.002, -0.151, 0.116)),
    ),
}
"""By :data:`eegdm.inference.preparation.ORIGINS`, and missing. A derived channel is that of the
montage: no cost was measured."""


def price_notes(origins: Sequence[str], n_missing: int) -> list[str]:
    """Return one sentence on what the channels of a recording cost that are neither exact nor
    derived; none if there are none.

    Args:
        origins: how each channel came about.
        n_missing: how many the model knows and the recording lacks.
    """
    count = Counter({**Counter(origins), "missing": n_missing})
    total = len(origins) + n_missing
    parts = [_said(kind, count[kind], total) for kind in PRICES if count[kind]]
    if not parts:
        return []
    return [
        f"what such channels cost, measured on {MEASURED_ON}, by a linear head that learned from"
        f" exact ones: {'; '.join(parts)}"
    ]


def _said(kind: str, n: int, total: int) -> str:
    price = min(PRICES[kind], key=lambda p: abs(p.n_channels / OF_CHANNELS - n / total))
    error = (
        ""
        if price.error is None
        else (
            f"tokens of such a channel are off by {100 * price.error:.1f} % (two windows of an"
            f" exact one differ by {100 * BETWEEN_WINDOWS:.1f} %), "
        )
    )
    value, low, high = price.auroc
    seen = ", no loss distinguishable from 0" if low <= 0 <= high else ""
    return (
        f"{n} of {total} {kind}: {error}with {price.n_channels:g} of {OF_CHANNELS},"
        f" {100 * price.decided_otherwise:.0f} % of windows are decided otherwise and AUROC changes"
        f" by {value:+.3f} ({low:+.3f} to {high:+.3f}{seen})"
    )
