"""finetune: tokens, cached or on the fly -> a classifier that holds all it needs."""

from __future__ import annotations

from pathlib import Path

import lightning as L
import numpy as np
import pandas as pd
import torch
from torch.utils.data import Dataset

from eegdm import artifacts
from eegdm.config import Config
from eegdm.console import say
from eegdm.data.batches import generator, loader
from eegdm.data.windows import WINDOW_KEY
from eegdm.effects import finished_line
from eegdm.errors import UserError
from eegdm.evaluation.centring import refuse_removed_labels, with_references
from eegdm.evaluation.fitting import decided_about, fit_decision
from eegdm.evaluation.metrics import scores
from eegdm.evaluation.scoring import logits_from_table, score_samples
from eegdm.evaluation.surprise import Population, population_facts
from eegdm.layout import content_config, destination, model_units
from eegdm.models.backbone import SSMDP, known_compat
from eegdm.models.card import training_facts
from eegdm.models.eegdm import EEGDM
from eegdm.models.fusion import LatentFusionTransformer
from eegdm.models.pretrained import TEACHER
from eegdm.opening import (
    LabelledData,
    label_data,
    make_dataset,
    resolve,
    shared_windows,
    token_spec,
)
from eegdm.processes import own_random_state
from eegdm.training import (
    CHECKPOINTS,
    FusionModule,
    KeepBest,
    PatientStopping,
    fit_module,
    forget_checkpoints,
    make_trainer,
    rank_and_world,
    training_folder,
)

STANDARDISING_WINDOWS = 256


@own_random_state()
def run(config: Config) -> Path:
    """Write ``classifier/seed=N/``: config.json, model.safetensors (EMA weights of the best epoch),
    curves.csv.

    Raises:
        UserError: an input is missing or does not fit, or the folder holds other work.
    """
    # Inputs: recordings, backbone and stored tokens, and the settings they were made with.
    config, inputs = resolve(config, "finetune")
    folder = destination(config, "classifier", inputs.fingerprints)
    if artifacts.is_finished(folder):
        forget_checkpoints(folder)
        say(finished_line(config, "finetune", folder))
        return folder
    # Data: labelled windows, divided into parts.
    assert inputs.backbone is not None
    data = label_data(config, inputs)
    train, val = data.part("train"), data.part("val")
    for part, rows in (("train", train), ("val", val)):
        if rows.empty:
            raise UserError(
                f"windows.split={config.windows.split}: no sample is in the {part} part; choose"
                " another split or fractions"
            )
    if config.fusion.centre is not None:
        group = data.recordings.table.set_index("recording", drop=False)[config.fusion.centre]
        refuse_removed_labels(config.fusion.centre, group[train.recording], train.label)
    with training_folder(folder, "classifier", content_config(config, "classifier"), data.inputs):
        source = "cached tokens" if data.store else "tokens computed on the fly"
        say(
            f"finetune: {len(train)} samples to learn from, {len(val)} to validate, {source} ->"
            f" {folder}"
        )
        # Model and training: the fusion transformer on the frozen backbone's tokens.
        model = _untrained(config, data, inputs.backbone)
        data = with_references(config, data, model)
        module, trainer = _train_fusion(config, data, model, train, val, folder)
        # Results: the best epoch, with the rule that turns its windows into events.
        if trainer.is_global_zero:
            _write_model(folder, config, data, module)
    return folder


def make_classifier(config: Config, data: LabelledData, backbone: SSMDP) -> EEGDM:
    """Join a backbone with a fusion transformer of seeded random weights, sized for the data."""
    recordings, c = data.recordings, config.fusion
    fusion = {
        "n_tokens": c.n_tokens,
        "n_heads": c.n_heads,
        "ff": c.ff,
        "depth": c.depth,
        "kind": c.kind,
        "standardise": c.standardise,
    }
    # A binary classifier has one logit, of the class that is not the background
    binary = config.finetune.loss == "binary"
    classes = config.corpus.classes[1:] if binary else config.corpus.classes
    signal = {**recordings.artifact.config["signal"], **model_units(config)}
    n_times = recordings.window(*data.samples[WINDOW_KEY].iloc[0]).shape[-1]
    return EEGDM(
        backbone,
        fusion,
        token_spec(config),
        channels=recordings.ch_names,
        classes=classes,
        sfreq=recordings.sfreq,
        n_times=n_times,
        signal=signal,
        compat=known_compat(config.run.compat),
        centre=c.centre,
    )


def _untrained(config: Config, data: LabelledData, backbone: SSMDP) -> EEGDM:
    # Not the seed itself, with which other random streams begin
    seed = int(generator("initial weights", config.run.seed).integers(2**31))
    L.seed_everything(seed, verbose=False)
    return make_classifier(config, data, backbone)


def _train_fusion(
    config: Config,
    data: LabelledData,
    model: EEGDM,
    train: pd.DataFrame,
    val: pd.DataFrame,
    folder: Path,
) -> tuple[FusionModule, L.Trainer]:
    c = config.finetune
    # Samples of one window are scored by one pass through the model
    windows, window_of = shared_windows(val)
    # Kappa and the like are undefined where all labels are equal
    monitor = f"val_{c.monitor}" if val.label.nunique() > 1 else None
    if monitor is None:
        say(
            f"finetune: the validation part holds one class, so that {c.monitor} is undefined; the"
            " best epoch is that of the lowest validation loss"
        )
    stopping = PatientStopping(monitor, c.patience, c.patience_from)
    trainer = make_trainer(config, folder, c.epochs, c.grad_clip, [stopping], KeepBest(monitor))
    training = loader(
        make_dataset(config, data, train),
        c.batch_size,
        config.run.seed,
        config.run.workers,
        **rank_and_world(trainer),
    )
    validation = loader(
        make_dataset(config, data, windows),
        c.batch_size,
        None,
        config.run.workers,
        **rank_and_world(trainer),
    )
    module = FusionModule(
        model, c, c.epochs * len(training), data.store is not None, val.label.to_numpy(), window_of
    )
    if config.fusion.standardise:
        _standardise(module, make_dataset(config, data, shared_windows(train)[0]))
    fit_module(trainer, module, training, validation)
    return module, trainer


def _standardise(module: FusionModule, windows: Dataset) -> None:
    """Fit the mean and spread of tokens on distinct training windows, spread evenly."""
    chosen = np.unique(np.linspace(0, len(windows) - 1, STANDARDISING_WINDOWS).round().astype(int))  # type: ignore[arg-type]
    batches = [
        windows[[(0, int(row)) for row in rows]]
        for rows in np.array_split(chosen, -(-len(chosen) // 32))
    ]
    tokens = torch.cat([module.tokens(batch) for batch in batches])
    # The average too: it is a copy that was made before, and averages only what is trained
    for fusion in (_fusion_of(module.model), _fusion_of(module.ema.ema_model)):
        fusion.fit_tokens(tokens, torch.cat([b.mask for b in batches]))


def _fusion_of(trained: torch.nn.Module) -> LatentFusionTransformer:
    return trained.fusion if isinstance(trained, EEGDM) else trained  # type: ignore[return-value]


def _write_model(folder: Path, config: Config, data: LabelledData, module: FusionModule) -> None:
    best = torch.load(folder / CHECKPOINTS / "best.ckpt", map_location="cpu", weights_only=True)
    module.load_state_dict(best["state_dict"])
    model = module.model.float()  # as it is saved, whatever precision it learned in
    averaged = module.ema.ema_model
    (model if config.finetune.train_backbone else model.fusion).load_state_dict(
        averaged.state_dict()
    )
    # The rule for events is fitted on what is saved: by the best epoch's averaged weights
    val = score_samples(config, data, model, data.part("val"))
    decide = decided_about(data.samples, data.recordings.events, data.recordings.table)
    decision = fit_decision(config, val, data.recordings, decide)
    model.decision = decision.settings
    of_val = scores(val.label.to_numpy(), logits_from_table(val))
    metrics = {name: of_val[name] for name in module.monitored}
    facts = training_facts(
        config.corpus.name,
        config.recipe,
        config.run.seed,
        data.recordings.artifact.summary,
        metrics,
    )
    population = population_facts(Population.of_windows(data.recordings, data.part("train")))
    taught = {TEACHER: model.backbone.info[TEACHER]} if TEACHER in model.backbone.info else {}
    model.save_pretrained(folder, info={**facts, **population, **taught})
    artifacts.finish(
        folder,
        {
            "best_epoch": int(best["epoch"]),
            "classes": list(config.corpus.classes),
            "validation_events": decision.counts._asdict() if decision.counts else None,
        },
        unlisted=(CHECKPOINTS, "logs"),
    )
    forget_checkpoints(folder)
    say(f"finetune: best epoch {best['epoch']}; wrote {folder}")
    say(f"finetune: {decision.sentence()}")
