"""How alike stretches of EEG are: features measured by each person's own background, the distance
to a query, and what that distance is worth among the person's other windows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray

_LEAST_SPREAD = 0.1
"""Share of the median spread of a feature over people and channels below which no spread is taken:
the features of a channel that is flat hardly vary."""
_MAD_TO_SD = 1.4826
_TINY = 1e-6


class Part(NamedTuple):
    """The features of one recording."""

    recording: str
    person: str
    onset_s: Float[ndarray, " window"]
    ch_names: list[str]
    values: Float[ndarray, "window channel feature"]


@dataclass(frozen=True)
class Background:
    """Mean and spread of a person's features, for each channel."""

    center: dict[str, Float[ndarray, " feature"]]
    spread: dict[str, Float[ndarray, " feature"]]

    def standardised(
        self, values: Float[ndarray, "window channel feature"], ch_names: Sequence[str]
    ) -> Float[ndarray, "window channel feature"]:
        """Return features as multiples of what they usually differ from their mean by."""
        center = np.stack([self.center[name] for name in ch_names])
        spread = np.stack([self.spread[name] for name in ch_names])
        return ((values - center) / spread).astype(np.float32)


def backgrounds(parts: Iterable[Part]) -> dict[str, Background]:
    """Return each person's background, from all windows of all of the person's recordings.

    Args:
        parts: recordings, of which one is in memory at a time.
    """
    # Number, sum and sum of squares of each person's channel
    sums: dict[tuple[str, str], tuple[int, Any, Any]] = {}
    for part in parts:
        values = np.asarray(part.values, np.float64)
        n, total, squares = len(values), values.sum(axis=0), (values**2).sum(axis=0)
        for c, name in enumerate(part.ch_names):
            before = sums.get((part.person, name), (0, 0.0, 0.0))
            sums[part.person, name] = (before[0] + n, before[1] + total[c], before[2] + squares[c])
    center = {key: total / n for key, (n, total, _) in sums.items()}
    spread = {
        key: np.sqrt(np.maximum(squares / n - center[key] ** 2, 0))
        for key, (n, _, squares) in sums.items()
    }
    least = np.maximum(_LEAST_SPREAD * np.median(list(spread.values()), axis=0), _TINY)
    people: dict[str, Background] = {}
    for person, name in sums:
        own = people.setdefault(person, Background({}, {}))
        own.center[name] = center[person, name]
        own.spread[name] = np.maximum(spread[person, name], least)
    return people


def channel_distances(
    values: Float[ndarray, "window channel feature"],
    query: Float[ndarray, "channel_of_query feature"],
) -> Float[ndarray, "window channel"]:
    """Return how far each channel of each window is from the nearest of the query's channels: root
    mean square of the differences, over features.
    """
    found = np.stack([np.sqrt(((values - one) ** 2).mean(axis=-1)) for one in query])
    return found.min(axis=0)


def common_distances(
    values: Float[ndarray, "window channel feature"],
    ch_names: Sequence[str],
    query: Float[ndarray, "channel_of_query feature"],
    query_ch_names: Sequence[str],
) -> Float[ndarray, " window"] | None:
    """Return how far each window is from the query: root mean square of the differences, over
    features and the channels that both have; None if there is none.
    """
    common = [name for name in query_ch_names if name in ch_names]
    if not common:
        return None
    own = values[:, [list(ch_names).index(name) for name in common]]
    asked = query[[list(query_ch_names).index(name) for name in common]]
    return np.sqrt(((own - asked) ** 2).mean(axis=(1, 2)))


def nearness(
    distances: Float[ndarray, "*any"], background: Float[ndarray, " other"]
) -> Float[ndarray, "*any"]:
    """Return how unusually near distances are among those of a background: the robust z-score
    (median, 1.4826 MAD) of their logarithm, positive where they are nearer.
    """
    logs, own = np.log(np.maximum(distances, _TINY)), np.log(np.maximum(background, _TINY))
    middle = np.median(own)
    spread = _MAD_TO_SD * np.median(np.abs(own - middle))
    return (middle - logs) / max(float(spread), _TINY)


def first_apart(matches: pd.DataFrame, apart_s: float, top: int) -> pd.DataFrame:
    """Return the first rows, each ``apart_s`` or more from those before it in its recording.

    Args:
        matches: recording and onset_s, the best first.
    """
    taken: dict[str, list[float]] = {}
    rows: list[int] = []
    for k, (recording, onset) in enumerate(zip(matches.recording, matches.onset_s, strict=True)):
        if len(rows) == top:
            break
        own = taken.setdefault(recording, [])
        # A microsecond less, for onsets are sums of rounded numbers.
        if all(abs(onset - other) > apart_s - 1e-6 for other in own):
            own.append(onset)
            rows.append(k)
    return matches.iloc[rows].reset_index(drop=True)
