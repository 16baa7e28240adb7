"""What a report is about: results, what they are compared with, and what is shown beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from eegdm.evaluation.results import Baseline, RunResult


@dataclass(frozen=True)
class Samples:
    """Windows of real and of generated EEG, µV."""

    real: Float[np.ndarray, "channel sample time"]
    generated: Float[np.ndarray, "channel sample time"]
    ch_names: Sequence[str]
    sfreq: float


@dataclass(frozen=True)
class Example:
    """One recording with its annotated and predicted events."""

    recording: str
    signal: Float[np.ndarray, "channel time"]
    """µV."""
    sfreq: float
    ch_names: Sequence[str]
    times: Float[np.ndarray, " window"]
    """Centres of the windows, seconds."""
    probabilities: Float[np.ndarray, "window class"]
    true_events: pd.DataFrame
    """Columns onset_s, duration_s, label, and channel if known (a name of ch_names)."""
    predicted_events: pd.DataFrame
    """Columns onset_s, duration_s, label, probability."""


@dataclass(frozen=True)
class Report:
    """All that a report tells. Words may come from files as they are: pages escape them."""

    title: str
    corpus: str
    recipe: str
    classes: Sequence[str]
    event_classes: Sequence[str]
    """The classes that are events; the others are background."""
    binary: bool
    """Whether classifiers detect class 1 (scored by AUC-PR and AUROC) rather than tell classes
    apart.
    """
    split: str
    """A sentence: how recordings were divided."""
    counts: pd.DataFrame
    """A row per split: split, subjects, recordings, windows, and a column of windows for each
    class; a column `of` names fold and seed where they differ in that.
    """
    runs: Sequence[RunResult]
    """The classifiers of one plan."""
    baselines: dict[str, Baseline]
    n_folds: int | None = None
    """Number of folds of the division, None without folds."""
    pooled: Sequence[RunResult] = ()
    """The test windows of all folds together, for each seed of which every fold is there."""
    notes: Sequence[str] = ()
    """What a reader must know of the division and of the subjects."""
    rules: str = ""
    """A sentence: what every row of the table was given alike."""
    left_out: pd.DataFrame = field(
        default_factory=lambda: pd.DataFrame({"classifier": [], "why": []})
    )
    """Finished classifiers of other plans."""
    labels_of_recordings: bool = False
    """Whether each recording has one label, so that recordings and people can be scored."""
    no_events: str = ""
    """Why events are not scored, where a reader would expect them."""
    no_backbone: str = ""
    """Why nothing is shown of the backbone's training."""
    pretraining: pd.DataFrame | None = None
    """curves.csv of the backbone."""
    has_teacher: bool = False
    """Whether the backbone learned a teacher's tokens, not to denoise."""
    generated: Samples | None = None
    example: Example | None = None
    failures: pd.DataFrame = field(
        default_factory=lambda: pd.DataFrame({"recording": [], "reason": []})
    )
    settings: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def shown(self) -> Sequence[RunResult]:
        """The results to show in detail: of all folds together where there are such."""
        return self.pooled or self.runs

    @property
    def headline(self) -> tuple[str, ...]:
        """The scores that are compared; the first decides."""
        if self.binary:
            return ("balanced_accuracy", "auc_pr", "auroc")
        if len(self.classes) == 2:
            return ("balanced_accuracy", "kappa", "auroc")
        return ("kappa", "balanced_accuracy", "weighted_f1")
