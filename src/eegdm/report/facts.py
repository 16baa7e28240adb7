"""What a report says beside its scores: how many windows of whom, how they were divided, the
settings and the backbone of the classifiers, and where everything came from.

All of it is taken from what the classifiers were made with, never from where it usually lies.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from eegdm import __version__
from eegdm.artifacts import Artifact
from eegdm.config import Config, WindowConfig
from eegdm.data.events import SPLITS
from eegdm.data.montage import TCP
from eegdm.data.recordings import Recordings
from eegdm.data.signal import ModelUnits
from eegdm.evaluation.comparisons import Opened, class_weights, n_folds, training_set_key
from eegdm.evaluation.selection import Finished
from eegdm.layout import model_units
from eegdm.models.eegdm import EEGDM
from eegdm.report.content import Samples

REAL_WINDOWS = 40  # real windows per channel beside the generated ones


# ---------------------------------------------------------------------------------------- the data


def counts(opened: Sequence[Opened]) -> pd.DataFrame:
    """Return a row per split: subjects, recordings, windows, and windows of each class; of each
    fold (and seed, if seeds learn from different windows) where there are several.
    """
    parts: dict[str, Opened] = {}
    for one in opened:
        parts.setdefault(training_set_key(one.config), one)
    rows = [
        _count(one, part) | ({"of": one.run.name} if len(parts) > 1 else {})
        for one in parts.values()
        for part in SPLITS
    ]
    return pd.DataFrame(rows)


def _count(one: Opened, part: str) -> dict[str, Any]:
    table = one.data.recordings.table
    subjects = dict(zip(table.recording, table.subject, strict=True))
    samples = one.data.samples[one.data.samples.split == part]
    return {
        "split": part,
        "subjects": samples.recording.map(subjects).nunique(),
        "recordings": samples.recording.nunique(),
        "windows": len(samples),
        **{
            name: int((samples.label == i).sum())
            for i, name in enumerate(one.config.corpus.classes)
        },
    }


def split_sentence(config: Config, runs: Sequence[Finished]) -> str:
    """Say how recordings were divided, and which folds are reported."""
    said, w = division_sentence(config.windows), config.windows
    return f"{said} {_folds_sentence(runs, w.n_folds)}" if w.split == "kfold" else said


def division_sentence(w: WindowConfig) -> str:
    """Say how recordings were divided."""
    if w.split == "published":
        return (
            "Recordings are divided as published for this corpus; no test subject is among those"
            " learned from."
        )
    if w.split == "column":
        return "Recordings are divided as the corpus's own table says."
    if w.split == "none":
        return "All recordings are tested, by a classifier that learned elsewhere."
    if w.split == "kfold":
        return (
            f"Whole {w.kfold_unit}s are divided at random (seed {w.split_seed}) into {w.n_folds}"
            " folds; each fold is tested by a classifier that did not learn from it, and the next"
            " fold validates."
        )
    shares = f"{w.test_fraction:.0%} tested, {w.val_fraction:.0%} of the rest validate"
    return f"Whole {w.split}s are divided at random (seed {w.split_seed}): {shares}."


def _folds_sentence(runs: Sequence[Finished], n: int) -> str:
    there = sorted({run.fold for run in runs if run.fold is not None})
    lacking = sorted(set(range(n)) - set(there))
    tested = f"Folds tested here: {', '.join(map(str, there))}"
    if not lacking:
        return f"{tested}, which are all."
    return (
        f"{tested} of {n}; not finished: {', '.join(map(str, lacking))}. The scores are of the"
        " tested folds alone, and nothing is pooled."
    )


def notes(opened: Sequence[Opened], recordings: Artifact) -> Iterator[str]:
    """Yield what a reader must know of the recordings and of who is a subject."""
    summary = recordings.summary
    if source := summary.get("subjects_from"):
        yield f"Subjects are taken from {source}."
    yield from summary.get("subject_warnings", [])
    if any(one.data.references is not None for one in opened):
        yield (
            "Tokens are centred: divided by their geometric mean over windows spread over each"
            " recording, or over all recordings of a person, those of the people tested too,"
            " without labels. What stays the same there is not seen."
        )
    learned = {one.run.inputs.get("recordings") for one in opened}
    if learned - {recordings.fingerprint, None}:
        yield (
            "The classifiers learned from another recordings folder than the one scored here (see"
            " Provenance); whether people tested here are in it can't be known from this folder."
        )
    if None in learned:
        yield (
            "A published or downloaded classifier does not say which recordings it learned from;"
            " whether people tested here are among them can't be known."
        )


def rules(config: Config) -> str:
    """Say what every row of the table of scores was given alike."""
    weights = class_weights(config)
    weighed = (
        "no class weights"
        if weights is None
        else f"the class weights {', '.join(f'{w:g}' for w in weights)}"
    )
    monitor = config.finetune.monitor.replace("_", " ")
    return (
        f"All rows are made by the same rules: {weighed}; the checkpoint of a network or the"
        f" penalty of a regression is the one with the best {monitor} on the validation windows;"
        " the predicted class is the most probable one, without a fitted threshold."
    )


# ----------------------------------------------------------------------------- the model's settings


def settings(config: Config, model: EEGDM, run: Finished, recordings: Artifact) -> dict[str, Any]:
    """Return the settings that the classifier and its backbone were made with; those of the
    backbone's training only where its folder was found.
    """
    made = run.config or {"windows": asdict(config.windows)}
    windows = dict(made["windows"])
    if n_folds(config) is not None:
        windows.pop("fold")
    sections = {
        "windows": windows,
        "signal": recordings.config.get("signal", {}) | model_units(config),
        "backbone": {k: v for k, v in model.backbone.config.items() if k != "n_channel_ids"},
    }
    if run.backbone is not None:
        sections |= {
            k: run.backbone.config[k] for k in ("diffusion", "pretrain") if k in run.backbone.config
        }
    centred = {} if model.centre is None else {"centre": model.centre}
    made_of = {"latents": asdict(model.spec), "fusion": {**model.fusion.config, **centred}}
    return sections | {
        name: made.get(name, made_of.get(name))
        for name in ("latents", "fusion", "finetune")
        if name in made or name in made_of
    }


def provenance(opened: Sequence[Opened], recordings: Artifact) -> dict[str, Any]:
    """Return versions, and what identifies each input of each classifier."""
    import mne
    import torch

    origins: dict[str, Any] = {
        "eegdm": __version__,
        "torch": torch.__version__,
        "mne": mne.__version__,
        "python": platform.python_version(),
        "recordings scored": recordings.fingerprint,
    }
    runs = [one.run for one in opened]
    for what, kind in (
        ("recordings trained on", "recordings"),
        ("backbone", "backbone"),
        ("latents", "latents"),
    ):
        values = {run.name: run.inputs.get(kind) for run in runs if run.inputs.get(kind)}
        origins[what] = _one_or_each(values, len(runs)) if values else "not known"
    origins["classifier"] = _one_or_each({run.name: run.fingerprint for run in runs}, len(runs))
    return origins


def _one_or_each(values: dict[str, Any], n: int) -> Any:
    """The value that all runs share, or the value of each."""
    shared = set(values.values())
    return shared.pop() if len(shared) == 1 and len(values) == n else values


# --------------------------------------------------------------------------------- the backbone


def no_backbone(run: Finished) -> str:
    """Say why nothing is shown of the backbone's training; nothing if its folder was found."""
    if run.backbone is not None:
        return ""
    used = str(run.inputs.get("backbone", ""))
    if used.startswith("random"):
        return "The backbone has random weights: nothing was pretrained."
    if not used:
        return "The classifier does not say which backbone folder it was made with."
    return (
        f"The folder of the backbone ({used}) was not found; backbone=DIR on the report command"
        " names it. A published or hub backbone has none."
    )


def pretraining(run: Finished) -> pd.DataFrame | None:
    """Return the curves of the backbone that the classifier reads."""
    path = run.backbone / "curves.csv" if run.backbone else None
    return pd.read_csv(path) if path is not None and path.is_file() else None


def has_teacher(run: Finished) -> bool:
    """Whether the classifier's backbone learned a teacher's tokens."""
    return run.backbone is not None and "teacher" in run.backbone.inputs


def generated(run: Finished, recordings: Recordings) -> Samples | None:
    """Return windows that the classifier's backbone generated beside real ones, per channel, µV."""
    path = run.backbone / "samples.npy" if run.backbone else None
    if path is None or not path.is_file() or any(name not in TCP for name in recordings.ch_names):
        return None
    drawn = np.load(path, allow_pickle=False)[[TCP.index(name) for name in recordings.ch_names]]
    assert run.backbone is not None
    units = ModelUnits.of(run.backbone.config.get("signal", {}))
    typical = (
        None if units.spread is None else recordings.typical_spread(recordings.table.recording)
    )
    made = units.recovered(drawn, typical)
    real = [
        _real_windows(recordings, r, drawn.shape[-1])
        for r in recordings.table.itertuples()
        if len(r.ch_names) == len(recordings.ch_names)
    ]
    if not real:
        return None
    shown = np.concatenate(real, axis=1)[:, :REAL_WINDOWS]
    return Samples(shown, made * 100, recordings.ch_names, recordings.sfreq)


def _real_windows(recordings: Recordings, row: Any, n_times: int) -> np.ndarray:
    signal = recordings.signal(row.recording)
    starts = np.linspace(0, signal.shape[1] - n_times, 4).astype(int)
    return np.stack([signal[:, s : s + n_times] for s in starts], axis=1) * 100
