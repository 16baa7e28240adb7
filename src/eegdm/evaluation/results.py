"""Results on test parts: of trained classifiers, and of what they are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, Shaped

from eegdm.evaluation.decision import mean_probability
from eegdm.evaluation.event_scores import EventCounts, average_over_subjects
from eegdm.evaluation.metrics import Scores, class_probabilities, scores


@dataclass(frozen=True)
class RunResult:
    """One trained model and what it says of the test windows of its fold."""

    name: str
    seed: int
    scores: Scores
    """Result of :func:`eegdm.evaluation.metrics.scores` on label and logits."""
    label: Int[np.ndarray, " window"]
    logits: Float[np.ndarray, "window logit"]
    subject: Shaped[np.ndarray, " window"]
    recording: Shaped[np.ndarray, " window"]
    curves: pd.DataFrame = field(default_factory=pd.DataFrame)
    """Its curves.csv: epoch, step, lr, train_loss, val_loss, val_<score>."""
    temperature: float | None = None
    """Temperature fitted on the validation windows, if it was."""
    events: dict[str, Any] | None = None
    """Result of :func:`eegdm.evaluation.event_scores.average_over_subjects` over whole test
    recordings, where windows cover them.
    """
    event_counts: dict[str, list[EventCounts]] | None = None
    """Of each subject, what ``events`` was averaged from."""
    fold: int | None = None
    """The fold that it was tested on, None without folds."""
    folds: Sequence[RunResult] = ()
    """The results that this one joins, in the order of its windows."""

    @property
    def probability(self) -> Float[np.ndarray, "window class"]:
        """Of each class, calibrated by the temperature where there is one, as `eegdm predict` gives
        it.
        """
        return np.concatenate(
            [
                class_probabilities(part.logits, part.temperature or 1.0)
                for part in self.folds or (self,)
            ]
        )


@dataclass(frozen=True)
class Baseline:
    """Scores of something else on the same test windows, one for each of its folds and seeds, and a
    sentence on what it is.
    """

    scores: Sequence[Scores]
    sentence: str
    runs: Sequence[RunResult] = ()
    """What was predicted, where there are predictions; in the order of ``scores``."""
    pooled: Sequence[Scores] = ()
    """Scores of all folds together, one for each seed, where every fold was scored."""
    missing: str | None = None
    """Why nothing could be computed."""


def pooled(runs: Sequence[RunResult], n_folds: int | None) -> list[RunResult]:
    """Join the test windows of all folds, each predicted by the model that did not learn from it;
    one result for each seed of which every fold is there.
    """
    of_seed: dict[int, dict[int | None, RunResult]] = {}
    for run in runs:
        of_seed.setdefault(run.seed, {})[run.fold] = run
    return [
        _joined(f"seed {seed}, all {n_folds} folds", list(folds.values()))
        for seed, folds in of_seed.items()
        if n_folds is not None and set(range(n_folds)) <= set(folds)
    ]


def _joined(name: str, runs: Sequence[RunResult]) -> RunResult:
    label, logits, subject, recording = (
        np.concatenate([getattr(run, key) for run in runs])
        for key in ("label", "logits", "subject", "recording")
    )
    counts: dict[str, list[EventCounts]] = {}
    for run in runs:
        for who, of_recordings in (run.event_counts or {}).items():
            counts.setdefault(who, []).extend(of_recordings)
    return RunResult(
        name,
        runs[0].seed,
        scores(label, logits),
        label,
        logits,
        subject,
        recording,
        events=average_over_subjects(counts) if counts else None,
        event_counts=counts or None,
        folds=runs,
    )


def of_units(run: RunResult, unit: str) -> RunResult | None:
    """Return one sample per recording or subject: the mean of its windows' probabilities, as log.

    Args:
        unit: "recording" or "subject".

    Returns:
        None where the windows of one of them have several labels.
    """
    names, first, of_unit = np.unique(getattr(run, unit), return_index=True, return_inverse=True)
    label = run.label[first]
    if (label[of_unit] != run.label).any():
        return None
    probability = run.probability
    mean = np.stack([mean_probability(probability[of_unit == k]) for k in range(len(names))])
    logits = np.log(np.maximum(mean, np.finfo(float).tiny))
    if run.logits.shape[1] == 1:
        logits = logits[:, 1:] - logits[:, :1]
    return RunResult(
        run.name,
        run.seed,
        scores(label, logits),
        label,
        logits,
        run.subject[first],
        run.recording[first],
        fold=run.fold,
    )


def ranked_within_people(recordings: RunResult) -> tuple[int, int] | None:
    """Of the people with recordings of both of two classes: in how many those of class 1 have the
    higher mean probability of it, and how many people those are; None if there are none.
    """
    probability = class_probabilities(recordings.logits)[:, 1]
    higher, people = 0, 0
    for who in np.unique(recordings.subject):
        is_theirs = recordings.subject == who
        means = [
            probability[is_theirs & (recordings.label == k)].mean()
            for k in (0, 1)
            if (is_theirs & (recordings.label == k)).any()
        ]
        if len(means) == 2:
            people += 1
            higher += int(means[1] > means[0])
    return (higher, people) if people and recordings.logits.shape[1] <= 2 else None
