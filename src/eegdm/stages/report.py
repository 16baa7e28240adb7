"""report: recordings + classifiers -> scores on the test part, beside what simpler means reach, as
a page, text and tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from eegdm import artifacts
from eegdm.artifacts import Artifact
from eegdm.config import Config, with_settings
from eegdm.console import say, track
from eegdm.errors import UserError
from eegdm.evaluation.centring import with_references
from eegdm.evaluation.comparisons import (
    Opened,
    baselines_of,
    n_folds,
    require_comparisons,
    score_classifier,
)
from eegdm.evaluation.decision import apply_rule, rule_of
from eegdm.evaluation.event_scores import (
    EventCounts,
    average_over_subjects,
    count_events,
    cover_recordings,
    labels_are_of_recordings,
)
from eegdm.evaluation.fitting import event_windows
from eegdm.evaluation.metrics import Scores, summarise
from eegdm.evaluation.results import pooled
from eegdm.evaluation.selection import Finished, Selection, select
from eegdm.inference import predict_signal
from eegdm.layout import own_folder
from eegdm.models.eegdm import EEGDM
from eegdm.opening import LabelledData, label_data, open_classifier, resolve
from eegdm.report import facts
from eegdm.report.content import Example, Report
from eegdm.report.write import write_report

EXAMPLE_S = 240.0  # how much of one test recording the page shows


def run(config: Config) -> Path:
    """Write ``report/``: report.html, .md, .json, .csv, .tex and the predictions of each
    classifier.

    Raises:
        UserError: no classifier is finished, one does not fit the recordings, or there is nothing
            to compare with under a name that was typed.
    """
    folder = own_folder(config, "report")
    config, inputs = resolve(config, "report")
    source = inputs.recordings
    selection = select(config)
    require_comparisons(config, selection.runs)
    say(f"report: {len(selection.runs)} classifiers -> {folder}")
    for name, _, reason in selection.left_out:
        say(f"report: {name} is left out: {reason}")
    # No settings and inputs: a report may be written over one that is about other classifiers
    with artifacts.building(folder, "report", {}, {}):
        artifacts.reopen(folder)
        for earlier in folder.glob("predictions-*.parquet"):
            earlier.unlink()  # of classifiers that this report may no longer be about
        opened: list[Opened] = []
        for one in track(selection.runs, "report", len(selection.runs)):
            scored, model = _score(config, one, source, folder)
            opened.append(scored)
        page = _page(config, selection, opened, model, source, folder)
        write_report(page, folder)
        artifacts.finish(folder, _manifest_summary(source, selection, config.run.rate))
    _print_scores(page)
    say(f"report: open {folder / 'report.html'}")
    return folder


def _manifest_summary(source: Artifact, selection: Selection, rate: float) -> dict[str, Any]:
    scored = {run.name: run.fingerprint for run in selection.runs}
    summary: dict[str, Any] = {"classifiers": {"recordings": source.fingerprint, **scored}}
    if selection.left_out:
        summary["left_out"] = {one.name: one.fingerprint for one in selection.left_out}
    if rate != 1.0:
        summary["rate"] = rate
    return summary


def _score(config: Config, run: Finished, source: Artifact, folder: Path) -> tuple[Opened, EEGDM]:
    """Open a classifier, score it on its test part and keep its predictions in the report."""
    seed = config.run.seed if run.seed is None else run.seed
    config = with_settings(config, {"run.seed": seed})
    settings, model, inputs = open_classifier(config, run.path, source)
    data = with_references(settings, label_data(settings, inputs, model.channels), model)
    if data.part("test").empty:
        raise UserError(f"windows.split={settings.windows.split}: no sample is in the test part")
    result, predictions = score_classifier(settings, data, model, run)
    name = run.name.replace(", ", ",").replace(" ", "=").replace("/", "-")
    artifacts.write_table(folder / f"predictions-{name}.parquet", predictions)
    path = run.path / "curves.csv"
    counts = _event_counts(settings, data, model, predictions)
    result = replace(
        result,
        curves=pd.read_csv(path) if path.is_file() else pd.DataFrame(),
        event_counts=counts,
        events=average_over_subjects(counts) if counts else None,
    )
    return Opened(run, settings, data, result), model


# ------------------------------------------------------------------------------------------ events


def _annotated_events(config: Config, data: LabelledData) -> pd.DataFrame:
    """The annotations of the classes that are events."""
    events = data.recordings.events
    return events[events.label.isin(config.corpus.event_classes)]


def _are_scored(config: Config, data: LabelledData) -> bool:
    """Whether windows cover the recordings, one class is an event, and it marks stretches of
    recordings.
    """
    return (
        config.windows.policy != "event"
        and len(config.corpus.event_classes) == 1
        and not cover_recordings(_annotated_events(config, data), data.recordings.table)
    )


def _why_no_events(config: Config, data: LabelledData) -> str:
    """Why no events are scored where a reader would expect them; nothing elsewhere."""
    if config.windows.policy == "event" or not cover_recordings(
        _annotated_events(config, data), data.recordings.table
    ):
        return ""
    return (
        "Events are not scored: the annotations cover nearly the whole of the recordings that have"
        " any. They label recordings, so that onsets and false alarms per 24 h would mean nothing."
    )


def _event_counts(
    config: Config, data: LabelledData, model: EEGDM, predictions: pd.DataFrame
) -> dict[str, list[EventCounts]] | None:
    """Of each subject, the events that the classifier's decision rule makes of whole test
    recordings, counted beside the annotated ones; None where they can't be scored.
    """
    if not _are_scored(config, data):
        return None
    rule, events = rule_of(model), _annotated_events(config, data)
    counts: dict[str, list[EventCounts]] = {}
    for row, windows in event_windows(config, predictions, data.recordings, rule):
        annotated = events[events.recording == row.recording]
        duration_s = row.n_times / row.sfreq
        found = apply_rule(windows, rule, duration_s)[1]
        counts.setdefault(str(row.subject), []).append(count_events(annotated, found, duration_s))
    return counts


# --------------------------------------------------------------------------------------- the page


def _page(
    typed: Config,
    selection: Selection,
    opened: list[Opened],
    model: EEGDM,
    source: Artifact,
    folder: Path,
) -> Report:
    """All that the report says.

    Args:
        model: the last classifier that was opened.
    """
    last = opened[-1]
    config, recordings = last.config, last.data.recordings
    results = [one.result for one in opened]
    backbone_of = next((run for run in selection.runs if run.backbone), selection.runs[0])
    left_out = [(name, reason) for name, _, reason in selection.left_out]
    return Report(
        title=f"EEGDM on {config.corpus.name}",
        corpus=config.corpus.name,
        recipe=typed.recipe,
        classes=list(config.corpus.classes),
        event_classes=list(config.corpus.event_classes),
        binary=config.finetune.loss == "binary",
        split=facts.split_sentence(config, selection.runs),
        counts=facts.counts(opened),
        runs=results,
        baselines=baselines_of(opened, source, folder),
        n_folds=n_folds(config),
        pooled=pooled(results, n_folds(config)),
        notes=list(facts.notes(opened, source)),
        rules=facts.rules(config),
        left_out=pd.DataFrame(left_out, columns=["classifier", "why"]),
        labels_of_recordings=labels_are_of_recordings(
            last.data.samples, recordings.events, recordings.table
        ),
        no_events=_why_no_events(config, last.data),
        no_backbone=facts.no_backbone(backbone_of),
        pretraining=facts.pretraining(backbone_of),
        has_teacher=facts.has_teacher(backbone_of),
        generated=facts.generated(backbone_of, recordings),
        example=_shown_recording(last, model),
        failures=recordings.failures,
        settings=facts.settings(config, model, last.run, source),
        provenance=facts.provenance(opened, source),
    )


def _shown_recording(one: Opened, model: EEGDM) -> Example | None:
    """The first test recording (the part of it that holds most kinds of events) with its predicted
    events.
    """
    recordings, config = one.data.recordings, one.config
    test = one.data.samples[one.data.samples.split == "test"]
    if recordings.per_window or test.empty:
        return None
    name = test.groupby("recording").label.nunique().sort_values(kind="stable").index[-1]
    row = recordings.table.set_index("recording").loc[name]
    signal = np.array(recordings.signal(name)[:, : round(EXAMPLE_S * row.sfreq)])
    reference = None if one.data.references is None else one.data.references[name]
    windows, predicted = predict_signal(
        signal, list(row.ch_names), model, config.run.device, reference
    )
    events = recordings.events
    true = events[(events.recording == name) & (events.onset_s < EXAMPLE_S)].drop(
        columns="recording"
    )
    return Example(
        recording=name,
        signal=signal * 100,
        sfreq=float(row.sfreq),
        ch_names=list(row.ch_names),
        times=(windows.onset_s + windows.duration_s / 2).to_numpy(),
        probabilities=windows[list(config.corpus.classes)].to_numpy(),
        true_events=true,
        predicted_events=predicted,
    )


# -------------------------------------------------------------------------------------- the lines


def _print_scores(page: Report) -> None:
    """Print the headline scores beside the baselines, a line each: means over folds and seeds."""
    say(f"{'test part':36}" + "".join(f"{h.replace('_', ' '):>20}" for h in page.headline))
    for run in page.runs:
        _print_row(page, f"{page.recipe}, {run.name}", [run.scores])
    if len(page.runs) > 1:
        of_runs = [run.scores for run in page.runs]
        _print_row(page, f"{page.recipe}, mean of {len(of_runs)} runs", of_runs)
    for run in page.pooled:
        _print_row(page, f"{page.recipe}, {run.name}", [run.scores])
    for name, baseline in page.baselines.items():
        if baseline.missing is not None:
            say(f"{name:36}  not computed: {baseline.missing}")
        else:
            _print_row(page, name, baseline.scores)


def _print_row(page: Report, name: str, scores: Sequence[Scores]) -> None:
    means = [(summarise(scores).get(h) or {"mean": None})["mean"] for h in page.headline]
    cells = ("-" if mean is None else f"{mean / 100 + 0.0:.3f}" for mean in means)
    say(f"{name:36}" + "".join(f"{cell:>20}" for cell in cells))
