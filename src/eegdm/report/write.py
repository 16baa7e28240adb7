"""The report of a classifier: what goes in, the numbers that come of it, and the files it
becomes.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from eegdm.artifacts import write_json
from eegdm.evaluation.generation_quality import DISTANCE_SENTENCES, compare
from eegdm.evaluation.metrics import (
    SCALARS,
    bootstrap,
    calibration,
    class_probabilities,
    scores,
    summarise,
)
from eegdm.evaluation.results import (
    Baseline,
    RunResult,
    of_units,
    pooled,
    ranked_within_people,
)
from eegdm.report.content import Example, Report, Samples
from eegdm.report.pages import without_folders, write_html, write_markdown
from eegdm.report.sections import headline, sections
from eegdm.report.tables import write_csv, write_latex

MIN_SUBJECTS = 10
"""From this many subjects on, intervals are over subjects; with fewer, over recordings, of which
those of one person are not independent.
"""


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
        "notes": list(report.notes),
        "rules": report.rules,
        "left_out": report.left_out.to_dict("records"),
        "counts": report.counts.to_dict("records"),
        "summary": summarise([run.scores for run in report.runs]),
        "runs": [_run_numbers(run) for run in report.runs],
        "pooled": [_run_numbers(run) for run in report.pooled],
        "baselines": {name: _baseline_numbers(b, report) for name, b in report.baselines.items()},
        "recordings_and_people": _unit_numbers(report),
        "generated": _generated_numbers(report.generated),
        "example": _example_numbers(report.example),
        "failures": report.failures.to_dict("records"),
        "settings": report.settings,
        "provenance": report.provenance,
    }
    return as_json(numbers)


def _run_numbers(run: RunResult) -> dict[str, Any]:
    unit_name, unit = _interval_unit(run)
    return {
        "name": run.name,
        "seed": run.seed,
        "fold": run.fold,
        "scores": run.scores,
        "events": run.events,
        "intervals": bootstrap((run.label, run.logits), unit, scores),
        "interval_unit": unit_name,
        "n_units": len(np.unique(unit)),
        "n_subjects": len(np.unique(run.subject)),
        "n_recordings": len(np.unique(run.recording)),
        "temperature": run.temperature,
        "calibration": _calibration(run, 1.0),
        "calibration_scaled": (
            _calibration(run, run.temperature) if run.temperature is not None else None
        ),
    }


def _interval_unit(run: RunResult) -> tuple[str, np.ndarray]:
    """What intervals are drawn from: subjects, or recordings where subjects are few."""
    n_subjects, n_recordings = (len(np.unique(of)) for of in (run.subject, run.recording))
    if n_subjects >= MIN_SUBJECTS or n_subjects == n_recordings:
        return "subjects", run.subject
    return "recordings", run.recording


def _baseline_numbers(baseline: Baseline, report: Report) -> dict[str, Any]:
    """With the scores of each fold and seed; without any where it could not be computed."""
    nothing = {name: {"mean": None, "std": None} for name in SCALARS}
    return {
        "sentence": baseline.sentence,
        "missing": baseline.missing,
        "summary": summarise(baseline.scores) if baseline.scores else nothing,
        "pooled": summarise(baseline.pooled) if baseline.pooled else None,
        "scores": list(baseline.scores),
        "names": [run.name for run in baseline.runs],
    }


def _unit_numbers(report: Report) -> dict[str, Any] | None:
    """Scores per recording and per person of ours and of each baseline that has predictions; None
    where recordings have more than one label.
    """
    if not report.labels_of_recordings:
        return None
    rows = {"EEGDM": list(report.shown)}
    for name, baseline in report.baselines.items():
        if baseline.runs:
            together = pooled(baseline.runs, report.n_folds)
            rows[name] = together or list(baseline.runs)
    return {
        unit: {
            name: scored
            for name, runs in rows.items()
            if (scored := [_scored_units(run, unit) for run in runs]) and all(scored)
        }
        for unit in ("recording", "subject")
    }


def _scored_units(run: RunResult, unit: str) -> dict[str, Any] | None:
    """Scores of one run with a sample per recording or subject, with intervals over people."""
    units = of_units(run, unit)
    if units is None:
        return None
    people = len(np.unique(units.subject))
    return {
        "name": run.name,
        "n": len(units.label),
        "people": people,
        "scores": units.scores,
        # With few people there is no interval: drawing recordings would take them as independent.
        "intervals": bootstrap(
            (units.label, units.logits),
            units.subject,
            scores,
            n=1000 if people >= MIN_SUBJECTS else 0,
        ),
        "ranked_within_people": ranked_within_people(units),
    }


def _calibration(run: RunResult, temperature: float) -> dict[str, Any]:
    """Of the event's probability for a detector, else of the predicted class."""
    probabilities = class_probabilities(run.logits, temperature)
    is_detector = run.logits.shape[1] == 1
    return calibration(run.label, probabilities[:, 1] if is_detector else probabilities)


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
    return table.groupby("source")[list(DISTANCE_SENTENCES)].mean().to_dict("index")


def _example_numbers(example: Example | None) -> dict[str, Any] | None:
    if example is None:
        return None
    return {
        "recording": example.recording,
        "true_events": example.true_events.to_dict("records"),
        "predicted_events": example.predicted_events.to_dict("records"),
    }


def as_json(obj: Any) -> Any:
    """Return nested containers of numpy and pandas values as JSON knows them, folders cut from
    texts, NaN as None.
    """
    match obj:
        case dict():
            return {without_folders(str(key)): as_json(value) for key, value in obj.items()}
        case list() | tuple() | np.ndarray():
            return [as_json(value) for value in obj]
        case np.generic():
            return as_json(obj.item())
        case float():
            return obj if math.isfinite(obj) else None
        case None | bool() | int():
            return obj
        case _:
            return without_folders(str(obj))
