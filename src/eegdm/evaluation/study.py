"""What a model's tokens are worth for the labels of some recordings: beside those of random weights
and classical features, across people, with what chance and identity would explain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from eegdm.evaluation import people_scores
from eegdm.evaluation.across_people import (
    N_PERMUTATIONS,
    Decisions,
    Kind,
    LabelledWindows,
    centred,
    decide,
    permuted_labels,
)
from eegdm.evaluation.identity import identity_table

BAND_POWER, COVARIANCE = "band power", "covariance"
CLASSICAL = f"{BAND_POWER} + {COVARIANCE}"
RANDOM = "random weights"
READOUTS = (
    "all blocks",
    "all blocks per channel",
    "deep blocks",
    "deep blocks per channel",
)
"""Ways to read a window's tokens: of all blocks or of the deeper half, averaged over channels or
channel by channel."""
MAIN = "deep blocks per channel"
"""What the row of a model is."""
OTHERS = tuple(way for way in READOUTS if way != MAIN)
_TOKEN_FLOOR = 1e-6  # keeps the log of a silent channel finite
AS_THEY_ARE, CENTRED = "as they are", "centred per person"


def readouts(
    name: str, tokens: Float[np.ndarray, "window channel block feature"]
) -> dict[str, Float[np.ndarray, "window value"]]:
    """Return the log of tokens in each way of :data:`READOUTS`, by ``<name>: <way>``.

    Features that can be negative (means of activities) are taken as they are.
    """
    n, _, n_blocks, _ = tokens.shape
    logs = np.where(
        (tokens < 0).any(axis=(0, 1, 2)), tokens, np.log(np.maximum(tokens, _TOKEN_FLOOR))
    ).astype(np.float32)
    deep = logs[:, :, n_blocks // 2 :]
    arrays = (logs.mean(axis=1), logs, deep.mean(axis=1), deep)
    return {
        f"{name}: {way}": array.reshape(n, -1) for way, array in zip(READOUTS, arrays, strict=True)
    }


@dataclass(frozen=True)
class Networks:
    """What the networks under study are called.

    Attributes:
        model: name of the row.
        trained: names of the trained networks that the row is the mean of, such as the seeds of
            one recipe.
        twins: names of the networks with random weights.
    """

    model: str
    trained: Sequence[str]
    twins: Sequence[str]

    @property
    def with_model(self) -> str:
        """Classical features and the model's tokens."""
        return f"{CLASSICAL} + {self.model}"

    @property
    def with_random(self) -> str:
        """Classical features and the tokens of random weights."""
        return f"{CLASSICAL} + {RANDOM}"

    def kinds(self) -> list[Kind]:
        """Return every kind of features that heads learn from."""
        both = (BAND_POWER, COVARIANCE)
        found = [
            Kind(BAND_POWER, (BAND_POWER,), permuted=True),
            Kind(COVARIANCE, (COVARIANCE,), permuted=True),
            Kind(CLASSICAL, both, permuted=True),
        ]
        for name in (*self.trained, *self.twins):
            is_permuted = name == self.trained[0]
            found.append(Kind(name, (f"{name}: {MAIN}",), is_permuted))
            found.append(Kind(f"{CLASSICAL} + {name}", (*both, f"{name}: {MAIN}")))
            found += [Kind(f"{name}: {way}", (f"{name}: {way}",)) for way in OTHERS]
        return found

    def rows(self) -> dict[str, list[str]]:
        """Return the rows of the table and the kinds that each is the mean of."""
        found = {
            self.model: list(self.trained),
            RANDOM: list(self.twins),
            BAND_POWER: [BAND_POWER],
            COVARIANCE: [COVARIANCE],
            CLASSICAL: [CLASSICAL],
            self.with_model: [f"{CLASSICAL} + {name}" for name in self.trained],
            self.with_random: [f"{CLASSICAL} + {name}" for name in self.twins],
        }
        for way in OTHERS:
            found[f"{self.model}: {way}"] = [f"{name}: {way}" for name in self.trained]
            found[f"{RANDOM}: {way}"] = [f"{name}: {way}" for name in self.twins]
        return found

    def pairs(self) -> list[tuple[str, str]]:
        """Return the differences that are looked at, the first minus the second."""
        return [
            (self.model, RANDOM),
            (self.model, BAND_POWER),
            (self.model, CLASSICAL),
            (self.with_model, CLASSICAL),
            (self.with_model, self.with_random),
            *((f"{self.model}: {way}", f"{RANDOM}: {way}") for way in OTHERS),
        ]


class Results(NamedTuple):
    """Tables of a study; ``treatment`` is :data:`AS_THEY_ARE` or :data:`CENTRED`."""

    scores: pd.DataFrame
    """treatment, features, level, n_people (null: all), score, value, low, high."""
    differences: pd.DataFrame
    """treatment, features, minus, level, n_people, score, value, low, high."""
    chance: pd.DataFrame
    """treatment, features, level, score, value, mean, low, high, p, n."""
    choices: pd.DataFrame
    """treatment, features, fold, penalty."""
    identity: pd.DataFrame
    """features, what, accuracy, chance, n."""


@dataclass(frozen=True)
class StudyFacts:
    """What a study is about."""

    networks: Networks
    by: str
    """subject, or recording: what counts as one person."""
    classes: list[str]
    n_windows: dict[str, int]
    """Of each class."""
    n_people: dict[str, int]
    """Who hold each class."""
    people: int
    people_of_one_class: int
    recordings: int
    recordings_of_one_class: int
    people_from: str
    """How people were recognised."""
    window_s: float
    channels: list[str]
    channels_left_out: list[str]
    """Those that some recordings lack."""
    overlap: list[str] | None
    """Subjects with the name of somebody whom the model was pretrained on; None: unknown."""
    pretrained_on: str
    """What the model says of its data; empty where it says nothing in words."""
    notes: list[str]
    settings: dict[str, Any]
    """What identifies the result."""

    @property
    def headline(self) -> tuple[str, str]:
        """Level and score that conclusions rest on: each person's own AUROC where everybody holds
        several classes, else that over people, or over windows where people differ in this.
        """
        if not self.people_of_one_class:
            return "window", "auroc_within"
        return ("person" if self.people_of_one_class == self.people else "window"), "auroc"

    @property
    def treatment(self) -> str:
        """The treatment that conclusions rest on."""
        return AS_THEY_ARE if self.people_of_one_class else CENTRED


@dataclass(frozen=True)
class Evaluation:
    """A study and what it is about."""

    about: StudyFacts
    results: Results
    page: Path
    """The HTML page; all other files lie beside it."""


def study(
    features: Mapping[str, Float[np.ndarray, "window value"]],
    windows: LabelledWindows,
    networks: Networks,
    n_permutations: int = N_PERMUTATIONS,
    seed: int = 0,
) -> Results:
    """Compare a model's tokens with those of its random twins and with classical features.

    Features are taken as they are and, where every person holds several classes, centred per
    person as well: over a person of one class, centring would remove the label.

    Args:
        features: :data:`BAND_POWER`, :data:`COVARIANCE`, and the :func:`readouts` of each network.
        windows: what is known of the same windows, in order of time within a recording.
        networks: names in ``features``.
        n_permutations: number of labellings by chance.
        seed: of folds, draws and permutations.

    Raises:
        UserError: as :func:`eegdm.evaluation.across_people.decide`.
    """
    treatments = {AS_THEY_ARE: dict(features)}
    if not windows.people_of_one_class:
        treatments[CENTRED] = {k: centred(v, windows.person) for k, v in features.items()}
    permuted = permuted_labels(windows, n_permutations, seed)
    drawn = people_scores.draws(windows, seed=seed)
    tables: list[dict[str, pd.DataFrame]] = []
    for treatment, own in treatments.items():
        decided = decide(own, windows, networks.kinds(), permuted, seed)
        scored = people_scores.drawn_scores(windows, decided, networks.rows(), drawn)
        n_folds = len(decided[BAND_POWER].penalty)
        tables.append(
            {
                "scores": people_scores.score_table(scored, n_folds),
                "differences": people_scores.difference_table(scored, networks.pairs(), n_folds),
                "chance": people_scores.chance_table(windows, permuted, decided),
                "choices": _choices(decided),
            }
        )
        for table in tables[-1].values():
            table.insert(0, "treatment", treatment)
    named = {
        BAND_POWER: features[BAND_POWER],
        COVARIANCE: features[COVARIANCE],
        networks.model: features[f"{networks.trained[0]}: {MAIN}"],
        RANDOM: features[f"{networks.twins[0]}: {MAIN}"],
    }
    joined = {
        name: pd.concat([own[name] for own in tables], ignore_index=True) for name in tables[0]
    }
    return Results(**joined, identity=identity_table(named, windows))


def _choices(decided: Mapping[str, Decisions]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"features": name, "fold": fold, "penalty": penalty}
            for name, found in decided.items()
            for fold, penalty in enumerate(found.penalty)
        ]
    )
