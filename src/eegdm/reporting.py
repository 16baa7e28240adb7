"""The report of a classifier: what goes in, the numbers that come of it, and the files it
becomes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, Shaped

from eegdm.artifacts import write_json
from eegdm.generation_quality import DISTANCES, compare
from eegdm.metrics import (
    Scores,
    bootstrap,
    calibration,
    class_probabilities,
    event_logit,
    scores,
    summarise,
)
from eegdm.report_pages import without_folders, write_html, write_markdown

MIN_SUBJECTS = 10
"""Fewer subjects than this say little about others; intervals are then taken over recordings."""


@dataclass(frozen=True)
class RunResult:
    """One trained classifier and what it says of the test windows."""

    name: str
    seed: int
    scores: Scores
    """Result of :func:`eegdm.metrics.scores` on label and logits."""
    label: Int[np.ndarray, " window"]
    logits: Float[np.ndarray, "window logit"]
    subject: Shaped[np.ndarray, " window"]
    recording: Shaped[np.ndarray, " window"]
    curves: pd.DataFrame
    """Its curves.csv: epoch, step, lr, train_loss, val_loss, val_<score>."""
    temperature: float | None = None
    """Temperature fitted on the validation windows, if it was."""
    events: dict[str, Any] | None = None
    """Result of :func:`eegdm.event_scores.average_over_subjects` over whole test recordings, where
    windows cover them.
    """


@dataclass(frozen=True)
class Baseline:
    """Scores of something else on the same test windows, one for each of its seeds, and a sentence
    on what it is.
    """

    scores: Sequence[Scores]
    sentence: str


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
    class.
    """
    runs: Sequence[RunResult]
    baselines: dict[str, Baseline]
    pretraining: pd.DataFrame | None = None
    """curves.csv of the backbone."""
    generated: Samples | None = None
    example: Example | None = None
    failures: pd.DataFrame = field(
        default_factory=lambda: pd.DataFrame({"recording": [], "reason": []})
    )
    settings: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def headline(self) -> tuple[str, ...]:
        """The scores that are compared; the first decides."""
        multiclass, detector = (
            ("kappa", "balanced_accuracy", "weighted_f1"),
            (
                "balanced_accuracy",
                "auc_pr",
                "auroc",
            ),
        )
        return detector if self.binary else multiclass


def write_report(report: Report, folder: Path) -> Path:
    """Write report.html and .md, .json (all numbers), .csv and .tex (the scores) into ``folder``;
    returns the path of report.html.
    """
    from eegdm.report_sections import headline, sections
    from eegdm.report_tables import write_csv, write_latex

    folder = Path(folder)
    numbers = report_numbers(report)
    content = sections(report, numbers)
    write_json(folder / "report.json", numbers)
    write_markdown(folder / "report.md", report.title, content)
    write_csv(folder / "report.csv", numbers)
    write_latex(folder / "report.tex", headline(report, numbers))
    write_html(folder / "report.html", report.title, content)
    return folder / "report.html"


def report_numbers(report: Report) -> dict[str, Any]:
    """Return everything but the signals and training curves, as plain JSON: what is not a number is
    None.
    """
    numbers = {
        "title": report.title,
        "corpus": report.corpus,
        "recipe": report.recipe,
        "classes": list(report.classes),
        "event_classes": list(report.event_classes),
        "split": report.split,
        "headline": list(report.headline),
        "counts": report.counts.to_dict("records"),
        "summary": summarise([run.scores for run in report.runs]),
        "runs": [_run_numbers(run, report.binary) for run in report.runs],
        "baselines": {
            name: {"sentence": b.sentence, "summary": summarise(b.scores), "scores": list(b.scores)}
            for name, b in report.baselines.items()
        },
        "generated": _generated_numbers(report.generated),
        "example": _example_numbers(report.example),
        "failures": report.failures.to_dict("records"),
        "settings": report.settings,
        "provenance": report.provenance,
    }
    return plain(numbers)


def _run_numbers(run: RunResult, binary: bool) -> dict[str, Any]:
    enough = len(np.unique(run.subject)) >= MIN_SUBJECTS
    unit = run.subject if enough else run.recording
    return {
        "name": run.name,
        "seed": run.seed,
        "scores": run.scores,
        "events": run.events,
        "intervals": bootstrap((run.label, run.logits), unit, partial(scores, binary=binary)),
        "interval_unit": "subjects" if enough else "recordings",
        "n_units": len(np.unique(unit)),
        "temperature": run.temperature,
        "calibration": _calibration(run, binary, 1.0),
        "calibration_scaled": (
            _calibration(run, binary, run.temperature) if run.temperature is not None else None
        ),
    }


def _calibration(run: RunResult, binary: bool, temperature: float) -> dict[str, Any]:
    """Of the event's probability for a detector, else of the predicted class."""
    if not binary:
        return calibration(run.label, class_probabilities(run.logits, temperature))
    return calibration(
        run.label, class_probabilities(event_logit(run.logits)[:, None], temperature)[:, 1]
    )


def _generated_numbers(samples: Samples | None) -> dict[str, dict[str, float]] | None:
    """Distances of generated windows to real ones, and of two halves of the real ones, mean over
    channels.
    """
    if samples is None or samples.real.shape[1] < 2:
        return None
    one_unit = np.zeros(samples.real.shape[1])  # halves in order of time and recording
    table = compare(
        samples.real, one_unit, {"generated": samples.generated}, samples.sfreq, samples.ch_names
    )
    return table.groupby("source")[list(DISTANCES)].mean().to_dict("index")


def _example_numbers(example: Example | None) -> dict[str, Any] | None:
    if example is None:
        return None
    return {
        "recording": example.recording,
        "true_events": example.true_events.to_dict("records"),
        "predicted_events": example.predicted_events.to_dict("records"),
    }


def plain(obj: Any) -> Any:
    """Return nested containers of numpy and pandas values as JSON knows them, folders cut from
    texts, NaN as None.
    """
    match obj:
        case dict():
            return {without_folders(str(key)): plain(value) for key, value in obj.items()}
        case list() | tuple() | np.ndarray():
            return [plain(value) for value in obj]
        case np.generic():
            return plain(obj.item())
        case float():
            return obj if math.isfinite(obj) else None
        case None | bool() | int():
            return obj
        case _:
            return without_folders(str(obj))
