"""How well features tell people apart, and the recordings of one person: what a head could use in
place of the label."""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Shaped

from eegdm.evaluation.across_people import LabelledWindows

WITHIN, ACROSS, RECORDINGS = (
    "people, from the first half of each recording to its second half",
    "people, from one recording to another",
    "recordings of one person, from their first halves to their second halves",
)


def identity_table(
    features: dict[str, Float[np.ndarray, "window feature"]], windows: LabelledWindows
) -> pd.DataFrame:
    """Return the share of windows that are nearest to the right mean, a row per array and task:
    features, what, accuracy, chance, n (people or recordings to choose from).

    Features are standardised by the windows whose means are taken. Tasks across recordings need
    people with several recordings and have no row where there are none.
    """
    first = _first_halves(windows.recording)
    numbers = {who: np.unique(windows.recording[windows.person == who]) for who in windows.people}
    several = np.array([len(numbers[who]) > 1 for who in windows.person])
    earlier = np.array(
        [r == numbers[p][0] for p, r in zip(windows.person, windows.recording, strict=True)]
    )
    found = []
    for name, values in features.items():
        found.append(_row(name, WITHIN, values, windows.person, first, ~first))
        if several.any():
            found.append(
                _row(name, ACROSS, values, windows.person, several & earlier, several & ~earlier)
            )
            found.append(_within_people(name, values, windows, first, several))
    return pd.DataFrame(found)


def _first_halves(recording: Shaped[np.ndarray, " window"]) -> Bool[np.ndarray, " window"]:
    first = np.zeros(len(recording), dtype=bool)
    for name in np.unique(recording):
        rows = np.flatnonzero(recording == name)
        first[rows[: len(rows) // 2]] = True
    return first


def _row(
    name: str, what: str, values: np.ndarray, of: np.ndarray, learn: np.ndarray, test: np.ndarray
) -> dict[str, object]:
    test = test & np.isin(of, of[learn])
    n = len(np.unique(of[learn]))
    right = _nearest(values[learn], of[learn], values[test]) == of[test]
    accuracy = float(right.mean()) if len(right) else None
    return {"features": name, "what": what, "accuracy": accuracy, "chance": 1 / n, "n": n}


def _within_people(
    name: str, values: np.ndarray, windows: LabelledWindows, first: np.ndarray, several: np.ndarray
) -> dict[str, object]:
    """Mean over people; each chooses among that person's own recordings."""
    rows = []
    for who in np.unique(windows.person[several]):
        own = windows.person == who
        rows.append(
            _row(name, RECORDINGS, values[own], windows.recording[own], first[own], ~first[own])
        )
    table = pd.DataFrame(rows)
    return {
        "features": name,
        "what": RECORDINGS,
        "accuracy": float(table.accuracy.mean()),
        "chance": float(table.chance.mean()),
        "n": int(table.n.sum()),
    }


def _nearest(learn: np.ndarray, of: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Whose mean is nearest to each window."""
    names, number = np.unique(of, return_inverse=True)
    spread = learn.std(axis=0)
    spread[spread == 0] = 1.0
    means = np.stack([learn[number == k].mean(axis=0) for k in range(len(names))]) / spread
    scaled = test / spread
    distance = (means**2).sum(axis=1) - 2 * scaled @ means.T
    return names[distance.argmin(axis=1)]
