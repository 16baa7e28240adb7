"""Results on one test part: of a trained classifier, and of what it is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, Shaped

from eegdm.evaluation.metrics import Scores


@dataclass(frozen=True)
class RunResult:
    """One trained classifier and what it says of the test windows."""

    name: str
    seed: int
    scores: Scores
    """Result of :func:`eegdm.evaluation.metrics.scores` on label and logits."""
    label: Int[np.ndarray, " window"]
    logits: Float[np.ndarray, "window logit"]
    subject: Shaped[np.ndarray, " window"]
    recording: Shaped[np.ndarray, " window"]
    curves: pd.DataFrame
    """Its curves.csv: epoch, step, lr, train_loss, val_loss, val_<score>."""
    temperature: float | None = None
    """Temperature fitted on the validation windows, if it was."""
    events: dict[str, Any] | None = None
    """Result of :func:`eegdm.evaluation.event_scores.average_over_subjects` over whole test
    recordings, where windows cover them.
    """


@dataclass(frozen=True)
class Baseline:
    """Scores of something else on the same test windows, one for each of its seeds, and a sentence
    on what it is.
    """

    scores: Sequence[Scores]
    sentence: str
