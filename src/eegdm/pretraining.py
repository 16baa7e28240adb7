"""What the stages that make a backbone share: the windows that it learns from, and its folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pandas as pd
from torch.utils.data import Dataset

from eegdm import artifacts
from eegdm.config import Config, section
from eegdm.console import say
from eegdm.data.batches import loader
from eegdm.data.people import digest
from eegdm.data.recordings import Recordings
from eegdm.data.windows import assign_splits, make_samples, pretraining_view, without_windows
from eegdm.evaluation.surprise import Population, population_facts
from eegdm.layout import model_units
from eegdm.models.backbone import SSMDP
from eegdm.models.card import training_facts
from eegdm.models.pretrained import PEOPLE, TYPICAL_SPREAD
from eegdm.training import (
    CHECKPOINTS,
    BackboneModule,
    fit_module,
    forget_checkpoints,
    rank_and_world,
)


def views(
    config: Config, recordings: Recordings, stage: str = "pretrain"
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the single-channel windows (see :func:`pretraining_view`) to learn from and to
    validate on.
    """
    windows, how = config.windows, config.pretrain.windows
    if how == "grid" or (how == "auto" and recordings.events.empty):
        # Labels do not matter here: without events, every window is of one nameless class
        windows = replace(windows, policy="grid", labels="overlap", background="")
        samples = make_samples(recordings.table, recordings.events.iloc[:0], windows, [""])
    else:
        samples = make_samples(recordings.table, recordings.events, windows, config.corpus.classes)
        if left_out := without_windows(recordings.table, samples):
            say(f"{stage}: {left_out}")
    splits = dict(
        zip(
            recordings.table.recording,
            assign_splits(recordings.table, config.corpus.name, config.windows, recordings.events),
            strict=True,
        )
    )
    part = samples.recording.map(splits)
    train, val = (
        pretraining_view(thin(samples[part == p], config.pretrain.max_windows), recordings.table)
        for p in ("train", "val")
    )
    return train, val


def thin(samples: pd.DataFrame, maximum: int | None) -> pd.DataFrame:
    """Keep at most the given number of samples, spread evenly over the recordings."""
    if maximum is None or len(samples) <= maximum:
        return samples
    return samples.iloc[np.linspace(0, len(samples) - 1, maximum).round().astype(int)]


def fit_backbone(
    config: Config,
    trainer: L.Trainer,
    module: BackboneModule,
    train: Dataset,
    val: Dataset | None,
    order: int | None,
) -> None:
    """Train on single channels, by the same global batches for any number of processes.

    Args:
        config: of the stage.
        trainer: of this training.
        module: what learns.
        train: what it learns from, indexed by lists of (epoch, row).
        val: what it is validated on, likewise; None: nothing.
        order: seed of the order; None keeps that of the data.
    """
    batch, workers = config.pretrain.batch_size, config.run.workers
    world = rank_and_world(trainer)
    training = loader(train, batch, order, workers, **world)
    validation = loader(val, batch, None, workers, **world) if val is not None else None
    fit_module(trainer, module, training, validation)


def write_backbone(
    folder: Path,
    config: Config,
    model: SSMDP,
    recordings: Recordings,
    train: pd.DataFrame,
    info: dict[str, Any] | None = None,
) -> None:
    """Write a trained backbone with what it says of itself, and finish its folder.

    Args:
        folder: that of the training.
        config: of the stage.
        model: in float32.
        recordings: that it learned from.
        train: the windows of them.
        info: further facts for ``config.json``.
    """
    facts = training_facts(
        config.corpus.name,
        config.recipe,
        config.run.seed,
        recordings.artifact.summary,
        _last_loss(folder / "curves.csv"),
    )
    signal = recordings.artifact.config["signal"] | model_units(config)
    population = population_facts(Population.of_windows(recordings, train))
    learned = recordings.table[recordings.table.recording.isin(train.recording)]
    reading = {**section(config, "diffusion"), "signal": signal, **population}
    if config.signal.spread is not None:
        reading[TYPICAL_SPREAD] = round(100 * recordings.typical_spread(learned.recording), 3)
    people = sorted({digest(subject) for subject in learned.subject})
    model.save_pretrained(folder, info={**facts, **reading, PEOPLE: people, **(info or {})})
    artifacts.finish(
        folder,
        {"parameters": sum(p.numel() for p in model.parameters())},
        unlisted=(CHECKPOINTS, "logs"),
    )
    forget_checkpoints(folder)


def _last_loss(curves: Path) -> dict[str, float | None]:
    """Return the last epoch's validation loss; from the file, since a run may resume when all
    epochs are done.
    """
    last = pd.read_csv(curves).iloc[-1] if curves.is_file() else {}
    return {"loss": float(last["val_loss"]) if "val_loss" in last else None}
