"""report: recordings + classifiers -> scores on the test part, beside what simpler means reach, as
a page, text and tables.
"""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from eegdm import __version__, artifacts
from eegdm.config import Config, with_settings
from eegdm.console import say, track
from eegdm.data.montage import TCP
from eegdm.data.recordings import Recordings
from eegdm.data.signal import expand
from eegdm.data.windows import SPLITS
from eegdm.errors import UserError
from eegdm.evaluation.comparisons import baselines_of, require_models
from eegdm.evaluation.decision import find_events, rule_of
from eegdm.evaluation.event_scores import average_over_subjects, count_events
from eegdm.evaluation.fitting import event_windows
from eegdm.evaluation.metrics import scores
from eegdm.evaluation.results import Baseline, RunResult
from eegdm.evaluation.scoring import logits_from_table, score_samples
from eegdm.inference import predict_signal
from eegdm.layout import finished_classifiers, numbers, own_folder
from eegdm.models.eegdm import EEGDM
from eegdm.models.locate import find_model
from eegdm.opening import LabelledData, label_data, open_classifier, resolve
from eegdm.report.content import Example, Report, Samples
from eegdm.report.write import write_report

EXAMPLE_S = 240.0  # how much of one test recording the page shows
REAL_WINDOWS = 40  # real windows per channel beside the generated ones


def run(config: Config) -> Path:
    """Write ``report/``: report.html, .md, .json, .csv, .tex and the predictions of each
    classifier.

    Raises:
        UserError: no classifier is finished, or one does not fit the recordings.
    """
    folder = own_folder(config, "report")
    config, inputs = resolve(config, "report")
    source = inputs.recordings
    found = _classifiers(config)
    require_models(config)
    scored = {"recordings": source.fingerprint, **{name: identity for name, _, identity in found}}
    say(f"report: {len(found)} classifiers -> {folder}")
    with artifacts.building(folder, "report", {}, {}):
        artifacts.reopen(folder)
        for earlier in folder.glob("predictions-*.parquet"):
            earlier.unlink()  # of classifiers that this report may no longer be about
        results, opened = [], []
        for name, path, _ in track(found, "report", len(found)):
            seed = int(numbers(path).get("seed", config.run.seed))
            own, model, read = open_classifier(
                with_settings(config, {"run.seed": seed}), path, source
            )
            data = label_data(own, read, model.channels)
            results.append(_score(own, data, model, name, path, folder))
            opened.append((own, data))
        page = _page(own, data, model, results, baselines_of(opened, source, folder))
        write_report(page, folder)
        artifacts.finish(folder, {"classifiers": scored})
    _tell(page)
    say(f"report: open {folder / 'report.html'}")
    return folder


# ------------------------------------------------------------------------------------ classifiers


def _classifiers(config: Config) -> list[tuple[str, Path, str]]:
    """Name, path and fingerprint of each classifier to score."""
    if config.run.classifiers:
        paths = [Path(p) for p in config.run.classifiers]
        names = [p.name if p.suffix else f"{p.parent.name}/{p.name}" for p in paths]
        return [
            (n if names.count(n) == 1 else p.as_posix(), p, _identity(p))
            for n, p in zip(names, paths, strict=True)
        ]
    found = finished_classifiers(config, config.recipe)
    if not found:
        raise UserError(
            f"{own_folder(config, 'classifier').parent}: holds no finished classifier; "
            f"run `eegdm finetune corpus={config.corpus.name} recipe={config.recipe}` first"
        )
    return [(", ".join(f"{k} {v}" for k, v in numbers(p).items()), p, _identity(p)) for p in found]


def _identity(path: Path) -> str:
    if artifacts.is_finished(path):
        return artifacts.open_artifact(path, "classifier").fingerprint
    files = find_model(path)
    return artifacts.sha256(files if isinstance(files, Path) else files.weights)


def _score(
    config: Config, data: LabelledData, model: EEGDM, name: str, path: Path, folder: Path
) -> RunResult:
    test = data.part("test")
    if test.empty:
        raise UserError(f"windows.split={config.windows.split}: no sample is in the test part")
    predictions = score_samples(config, data, model, test, config.run.devices)
    artifacts.write_table(
        folder
        / f"predictions-{name.replace(', ', ',').replace(' ', '=').replace('/', '-')}.parquet",
        predictions,
    )
    labels, logits = predictions.label.to_numpy(), logits_from_table(predictions)
    curves = pd.read_csv(path / "curves.csv") if (path / "curves.csv").is_file() else pd.DataFrame()
    binary = config.finetune.loss == "binary"
    return RunResult(
        name=name,
        seed=config.run.seed,
        scores=scores(labels, logits, binary),
        label=labels,
        logits=logits,
        curves=curves,
        subject=predictions.subject.to_numpy().astype(str),
        recording=predictions.recording.to_numpy().astype(str),
        temperature=model.decision.get("temperature"),
        events=_events(config, data, model, predictions),
    )


def _events(
    config: Config, data: LabelledData, model: EEGDM, predictions: pd.DataFrame
) -> dict[str, Any] | None:
    """Scores of the events that the classifier's decision rule makes of whole test recordings.

    None where windows do not cover the recordings (those cut around events), or several classes are
    events.
    """
    if config.windows.policy == "event" or len(config.corpus.event_classes) != 1:
        return None
    rule = rule_of(model)
    counts: dict[str, list[Any]] = {}
    events = data.recordings.events[data.recordings.events.label.isin(config.corpus.event_classes)]
    for row, windows in event_windows(config, predictions, data.recordings, rule):
        annotated = events[events.recording == row.recording]
        counts.setdefault(str(row.subject), []).append(
            count_events(annotated, find_events(windows, rule), row.n_times / row.sfreq)
        )
    return average_over_subjects(counts)


# --------------------------------------------------------------------------------------- the page


def _page(
    config: Config,
    data: LabelledData,
    model: EEGDM,
    results: list[RunResult],
    baselines: dict[str, Baseline],
) -> Report:
    return Report(
        title=f"EEGDM on {config.corpus.name}",
        corpus=config.corpus.name,
        recipe=config.recipe,
        classes=list(config.corpus.classes),
        event_classes=list(config.corpus.event_classes),
        binary=config.finetune.loss == "binary",
        split=_split_text(config),
        counts=_counts(config, data),
        runs=results,
        baselines=baselines,
        pretraining=_pretraining(config),
        generated=_samples(config, data.recordings),
        example=_example(config, data, model),
        failures=data.recordings.failures,
        settings=_settings(config),
        provenance=_provenance(data),
    )


def _counts(config: Config, data: LabelledData) -> pd.DataFrame:
    """One row per split: subjects, recordings, windows, and windows of each class."""
    subjects = dict(
        zip(data.recordings.table.recording, data.recordings.table.subject, strict=True)
    )
    rows = []
    for part in SPLITS:
        samples = data.samples[data.samples.split == part]
        per_class = {
            name: int((samples.label == i).sum()) for i, name in enumerate(config.corpus.classes)
        }
        rows.append(
            {
                "split": part,
                "subjects": samples.recording.map(subjects).nunique(),
                "recordings": samples.recording.nunique(),
                "windows": len(samples),
                **per_class,
            }
        )
    return pd.DataFrame(rows)


def _split_text(config: Config) -> str:
    w = config.windows
    if w.split == "published":
        return (
            "Recordings are divided as published for this corpus; no test subject is among those"
            " learned from."
        )
    if w.split == "column":
        return "Recordings are divided as the corpus's own table says."
    if w.split == "kfold":
        return f"{w.n_folds} folds of whole {w.kfold_unit}s, fold {w.fold} tested."
    shares = f"{w.test_fraction:.0%} tested, {w.val_fraction:.0%} of the rest validate"
    return f"Whole {w.split}s are divided at random (seed {w.split_seed}): {shares}."


def _settings(config: Config) -> dict[str, Any]:
    from dataclasses import asdict

    settings = asdict(config)
    return {
        name: settings[name]
        for name in (
            "windows",
            "signal",
            "backbone",
            "diffusion",
            "pretrain",
            "latents",
            "fusion",
            "finetune",
        )
    }


def _provenance(data: LabelledData) -> dict[str, Any]:
    import mne
    import torch

    versions = {
        "eegdm": __version__,
        "torch": torch.__version__,
        "mne": mne.__version__,
        "python": platform.python_version(),
    }
    return {**versions, **{f"{name} fingerprint": value for name, value in data.inputs.items()}}


def _pretraining(config: Config) -> pd.DataFrame | None:
    path = own_folder(config, "backbone") / "curves.csv"
    return pd.read_csv(path) if path.is_file() else None


def _samples(config: Config, recordings: Recordings) -> Samples | None:
    """Generated windows beside real ones, per channel, in µV."""
    path = own_folder(config, "backbone") / "samples.npy"
    if not path.is_file() or any(name not in TCP for name in recordings.ch_names):
        return None
    drawn = np.load(path, allow_pickle=False)[[TCP.index(name) for name in recordings.ch_names]]
    generated = expand(drawn, config.signal.mu) if config.signal.mu else drawn
    real = [
        _real_windows(recordings, r, drawn.shape[-1])
        for r in recordings.table.itertuples()
        if len(r.ch_names) == len(recordings.ch_names)
    ]
    return (
        Samples(
            np.concatenate(real, axis=1)[:, :REAL_WINDOWS],
            generated * 100,
            recordings.ch_names,
            recordings.sfreq,
        )
        if real
        else None
    )


def _real_windows(recordings: Recordings, row: Any, n_times: int) -> np.ndarray:
    signal = recordings.signal(row.recording)
    starts = np.linspace(0, signal.shape[1] - n_times, 4).astype(int)
    return np.stack([signal[:, s : s + n_times] for s in starts], axis=1) * 100


def _example(config: Config, data: LabelledData, model: EEGDM) -> Example | None:
    """The first test recording (the part of it that holds most kinds of events) with its predicted
    events.
    """
    test = data.samples[data.samples.split == "test"]
    if data.recordings.per_window or test.empty:
        return None
    name = test.groupby("recording").label.nunique().sort_values(kind="stable").index[-1]
    row = data.recordings.table.set_index("recording").loc[name]
    signal = np.array(data.recordings.signal(name)[:, : round(EXAMPLE_S * row.sfreq)])
    windows, predicted = predict_signal(signal, list(row.ch_names), model, device=config.run.device)
    events = data.recordings.events
    true = events[(events.recording == name) & (events.onset_s < EXAMPLE_S)].drop(
        columns="recording"
    )
    times = (windows.onset_s + windows.duration_s / 2).to_numpy()
    return Example(
        recording=name,
        signal=signal * 100,
        sfreq=float(row.sfreq),
        ch_names=list(row.ch_names),
        times=times,
        probabilities=windows[list(config.corpus.classes)].to_numpy(),
        true_events=true,
        predicted_events=predicted,
    )


def _tell(page: Report) -> None:
    """Print the headline scores beside the baselines."""
    say(f"{'test part':36}" + "".join(f"{h.replace('_', ' '):>20}" for h in page.headline))
    rows = [(f"{page.recipe}, {r.name}", r.scores) for r in page.runs]
    rows += [(name, s) for name, baseline in page.baselines.items() for s in baseline.scores]
    for name, result in rows:
        told = (
            "-" if result.get(h) is None else f"{round(result[h], 3) + 0.0:.3f}"
            for h in page.headline
        )  # 0.0: never -0.000
        say(f"{name:36}" + "".join(f"{text:>20}" for text in told))
