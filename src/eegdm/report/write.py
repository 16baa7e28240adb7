"""The report of a classifier: what goes in, the numbers that come of it, and the files it
becomes.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from eegdm.artifacts import write_json
from eegdm.evaluation.generation_quality import DISTANCES, compare
from eegdm.evaluation.metrics import (
    bootstrap,
    calibration,
    class_probabilities,
    event_logit,
    scores,
    summarise,
)
from eegdm.evaluation.results import RunResult
from eegdm.report.content import Example, Report, Samples
from eegdm.report.pages import without_folders, write_html, write_markdown
from eegdm.report.sections import headline, sections
from eegdm.report.tables import write_csv, write_latex

MIN_SUBJECTS = 10
"""Fewer subjects than this say little about others; intervals are then taken over recordings."""


def write_report(report: Report, folder: Path) -> Path:
    """Write report.html and .md, .json (all numbers), .csv and .tex (the scores) into ``folder``;
    returns the path of report.html.
    """
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
