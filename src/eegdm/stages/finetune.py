"""finetune: tokens, cached or on the fly -> a classifier that holds all it needs."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import numpy as np
import pandas as pd
import torch
from torch.utils.data import Dataset

from eegdm import artifacts
from eegdm.artifacts import Artifact
from eegdm.config import Config
from eegdm.console import say
from eegdm.data.batches import Windows, generator, loader
from eegdm.data.recordings import Recordings
from eegdm.data.tokens import CachedTokens, TokenStore
from eegdm.data.windows import KEY, assign_splits, distinct, make_samples
from eegdm.errors import UserError
from eegdm.evaluation.decision import Rule, find_events, window_table
from eegdm.evaluation.event_scores import EventCounts, count_events, event_scores
from eegdm.evaluation.metrics import (
    class_probabilities,
    fit_event_threshold,
    fit_temperature,
    scores,
)
from eegdm.executor import results
from eegdm.inference.chunks import Windows as Stretches
from eegdm.layout import content_config, destination, upstream
from eegdm.models.backbone import SSMDP
from eegdm.models.card import training_facts
from eegdm.models.eegdm import EEGDM
from eegdm.models.fusion import LatentFusionTransformer
from eegdm.processes import own_device
from eegdm.stages.cache import device, open_backbone, token_spec
from eegdm.training import (
    CHECKPOINTS,
    FusionModule,
    PatientStopping,
    divided,
    fit,
    forget_checkpoints,
    in_order,
    make_trainer,
    shares,
    tokens_of,
    training_folder,
)

STANDARDISING_WINDOWS = 256
LEFT_OUT = "left out"  # the part of training samples beyond finetune.max_samples
MOST_WINDOWS = 6  # what the shortest event may be at most
SMOOTHING = 3  # neighbouring windows whose probabilities `eegdm predict` averages


class Data(NamedTuple):
    """Recordings, the token source and the samples of each part."""

    recordings: Recordings
    store: TokenStore | None  # None: tokens are computed on the fly
    samples: pd.DataFrame  # with a column `split`
    inputs: dict[str, str]


def run(config: Config) -> Path:
    """Write ``classifier/seed=N/``: config.json, model.safetensors (EMA weights of the best epoch),
    curves.csv.

    Raises:
        UserError: an input is missing or does not fit, or the folder holds other work.
    """
    data, backbone = open_data(config)
    folder = destination(config, "classifier", data.inputs)
    if artifacts.is_finished(folder):
        forget_checkpoints(folder)
        say(f"finetune: {folder} is finished")
        return folder
    train, val = (
        data.samples[data.samples.split == part].reset_index(drop=True) for part in ("train", "val")
    )
    for part, rows in (("train", train), ("val", val)):
        if rows.empty:
            raise UserError(
                f"windows.split={config.windows.split}: no sample is in the {part} part; choose"
                " another split or fractions"
            )
    with training_folder(folder, "classifier", content_config(config, "classifier"), data.inputs):
        source = "cached tokens" if data.store else "tokens computed on the fly"
        say(
            f"finetune: {len(train)} samples to learn from, {len(val)} to validate, {source} ->"
            f" {folder}"
        )
        module, trainer = _train(config, data, backbone, train, val, folder)
        if trainer.is_global_zero:
            _write(folder, config, data, module)
    return folder


def open_data(config: Config) -> tuple[Data, SSMDP]:
    """Open what tokens come from, and the backbone that makes them."""
    source = upstream(config, "recordings")
    backbone, identity = open_backbone(config, source.fingerprint)
    inputs = {"recordings": source.fingerprint, "backbone": identity}
    latents = upstream(config, "latents", inputs) if config.latents.cached else None
    if latents is not None:
        inputs["latents"] = latents.fingerprint
    return label_data(config, source, latents, inputs), backbone


def label_data(
    config: Config, source: Artifact, latents: Artifact | None, inputs: dict[str, str]
) -> Data:
    """Open recordings and tokens, and list the labelled samples with their split."""
    recordings = Recordings(source.path, config.signal.mu, config.run.rate)
    samples = make_samples(
        recordings.table, recordings.events, config.windows, config.corpus.classes
    )
    split = assign_splits(recordings.table, config.corpus.name, config.windows)
    samples["split"] = samples.recording.map(
        dict(zip(recordings.table.recording, split, strict=True))
    )
    if config.finetune.max_samples is not None:
        train = samples.index[samples.split == "train"]
        kept = few_labels(
            samples.label[train].to_numpy(), config.finetune.max_samples, config.run.seed
        )
        samples.loc[train.difference(train[kept]), "split"] = LEFT_OUT
    if config.run.compat == "published" and config.windows.policy == "grid+seizure":
        samples = samples.sort_values(KEY, kind="stable", ignore_index=True)
    return Data(recordings, TokenStore(latents.path) if latents else None, samples, inputs)


def few_labels(label: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Return the rows, in order, of at most ``n`` samples drawn class by class in turn: rare
    classes give all they have.

    A larger ``n`` of the same seed keeps the rows of a smaller one.
    """
    order = generator(seed, 3).permutation(len(label))
    turn = pd.Series(label[order]).groupby(label[order]).cumcount().to_numpy()
    return np.sort(order[np.argsort(turn, kind="stable")[:n]])


def make_dataset(config: Config, data: Data, samples: pd.DataFrame) -> Dataset:
    """Return the samples as tokens (cached) or as signals (on the fly)."""
    channels = data.recordings.ch_names
    if data.store is not None:
        return CachedTokens(
            data.store,
            data.recordings.table,
            samples,
            channels,
            slice(config.fusion.first_block, config.fusion.last_block),
        )
    return Windows(
        data.recordings,
        samples,
        channels,
        noisy=config.latents.forward == "noisy",
        seed=config.run.seed,
    )


def shared_windows(samples: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """Return one sample per distinct window, and for each sample the row of its window."""
    windows = distinct(samples)
    windows["row"] = np.arange(len(windows))
    return windows.assign(label=0), samples.merge(windows, on=KEY, how="left").row.to_numpy()


def make_classifier(config: Config, data: Data, backbone: SSMDP) -> EEGDM:
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
    classes = (
        config.corpus.classes[1:] if config.finetune.loss == "binary" else config.corpus.classes
    )
    signal = {**recordings.artifact.config["signal"], "mu": config.signal.mu}
    n_times = recordings.window(*data.samples[KEY].iloc[0]).shape[-1]
    return EEGDM(
        backbone,
        fusion,
        token_spec(config),
        channels=recordings.ch_names,
        classes=classes,
        sfreq=recordings.sfreq,
        n_times=n_times,
        signal=signal,
        compat=config.run.compat,
    )


def _train(
    config: Config,
    data: Data,
    backbone: SSMDP,
    train: pd.DataFrame,
    val: pd.DataFrame,
    folder: Path,
) -> tuple[FusionModule, L.Trainer]:
    c = config.finetune
    L.seed_everything(int(generator(config.run.seed, 2).integers(2**31)), verbose=False)
    model = make_classifier(config, data, backbone)
    windows, window_of = shared_windows(val)
    trainer = make_trainer(
        config,
        folder,
        c.epochs,
        c.grad_clip,
        [PatientStopping(f"val_{c.monitor}", c.patience, c.patience_from)],
        monitor=f"val_{c.monitor}",
    )
    training = loader(
        make_dataset(config, data, train),
        c.batch_size,
        config.run.seed,
        config.run.workers,
        **shares(trainer),
    )
    validation = loader(
        make_dataset(config, data, windows),
        c.batch_size,
        None,
        config.run.workers,
        **shares(trainer),
    )
    module = FusionModule(
        model, c, c.epochs * len(training), data.store is not None, val.label.to_numpy(), window_of
    )
    if config.fusion.standardise:
        _standardise(module, make_dataset(config, data, shared_windows(train)[0]))
    fit(trainer, module, training, validation)
    return module, trainer


def _standardise(module: FusionModule, windows: Dataset) -> None:
    """Fit the mean and spread of tokens on distinct training windows, spread evenly."""
    chosen = np.unique(np.linspace(0, len(windows) - 1, STANDARDISING_WINDOWS).round().astype(int))  # type: ignore[arg-type]
    batches = [
        windows[[(0, int(i)) for i in some]]
        for some in np.array_split(chosen, -(-len(chosen) // 32))
    ]
    tokens = torch.cat([b.data if module.cached else tokens_of(module.model, b) for b in batches])
    for fusion in (module.model.fusion, _fusion_of(module.ema.ema_model)):
        fusion.fit_tokens(tokens, torch.cat([b.mask for b in batches]))


def _fusion_of(trained: torch.nn.Module) -> LatentFusionTransformer:
    return trained.fusion if isinstance(trained, EEGDM) else trained  # type: ignore[return-value]


def _write(folder: Path, config: Config, data: Data, module: FusionModule) -> None:
    best = torch.load(folder / CHECKPOINTS / "best.ckpt", map_location="cpu", weights_only=True)
    module.load_state_dict(best["state_dict"])
    model = module.model.float()  # as it is saved, whatever precision it learned in
    averaged = module.ema.ema_model
    (model if config.finetune.train_backbone else model.fusion).load_state_dict(
        averaged.state_dict()
    )
    val = predict(
        config, data, model, data.samples[data.samples.split == "val"].reset_index(drop=True)
    )
    model.decision = decide(config, val, data.recordings)
    found = scores(val.label.to_numpy(), logits_of(val), module.binary)
    metrics = {name: found[name] for name in module.monitored}
    facts = training_facts(
        config.corpus.name,
        config.recipe,
        config.run.seed,
        data.recordings.artifact.summary,
        metrics,
    )
    model.save_pretrained(folder, info=facts)
    artifacts.finish(
        folder,
        {"best_epoch": int(best["epoch"]), "classes": list(config.corpus.classes)},
        unlisted=(CHECKPOINTS, "logs"),
    )
    forget_checkpoints(folder)
    say(f"finetune: best epoch {best['epoch']}; wrote {folder}")


def predict(
    config: Config, data: Data, model: EEGDM, samples: pd.DataFrame, processes: int = 1
) -> pd.DataFrame:
    """Return the samples with a column of logits per class; each distinct window is computed once,
    by one of so many processes.
    """
    windows, window_of = shared_windows(samples)
    if processes == 1:
        found = _logits(config, data, model, windows, device(config))
    else:
        work = functools.partial(
            _share,
            config=config,
            data=data,
            model=model.cpu(),
            windows=windows,
            processes=processes,
        )
        found = [part for share in results(work, range(processes), processes) for part in share]
    logits = in_order(found)[window_of]
    subjects = dict(
        zip(data.recordings.table.recording, data.recordings.table.subject, strict=True)
    )
    columns = {f"logit_{name}": logits[:, i] for i, name in enumerate(model.classes)}
    return samples.assign(subject=samples.recording.map(subjects), **columns)


@torch.inference_mode()
def _logits(
    config: Config,
    data: Data,
    model: EEGDM,
    windows: pd.DataFrame,
    where: torch.device,
    rank: int = 0,
    world: int = 1,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows and logits (row, class) of this process's share of each batch of windows."""
    model = model.to(where).eval()
    batches = loader(
        make_dataset(config, data, windows),
        config.finetune.batch_size,
        None,
        config.run.workers,
        rank,
        world,
    )
    found = []
    for number, batch in enumerate(batches):
        if divided(batches).weight(number) > 0:  # no window is scored twice
            values, mask = batch.data.to(where), batch.mask.to(where)
            noise = batch.noise.to(where) if batch.noise.numel() else None
            logits = (
                model.logits_from_tokens(values, mask)
                if data.store is not None
                else model(values, mask, data.recordings.sfreq, noise)
            )
            found.append((batch.row.numpy(), logits.float().cpu().numpy()))
    return found


def _share(
    rank: int, config: Config, data: Data, model: EEGDM, windows: pd.DataFrame, processes: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    return _logits(
        config, data, model, windows, own_device(config.run.device, processes), rank, processes
    )


def logits_of(predictions: pd.DataFrame) -> np.ndarray:
    """Return the logits (sample, class) of a table of predictions."""
    return predictions.filter(regex="^logit_").to_numpy(np.float32)


def decide(config: Config, val: pd.DataFrame, recordings: Recordings) -> dict[str, Any]:
    """Return how logits become events: temperature, threshold and shortest event fitted on the
    validation samples.

    The shortest event is a window's stretch where windows do not cover their recordings, or several
    classes are events.
    """
    classes, events = list(config.corpus.classes), list(config.corpus.event_classes)
    decision: dict[str, Any] = {
        "classes": classes,
        "event_classes": events,
        "threshold": 0.5,
        "smoothing_s": SMOOTHING * _resolution(config),
        "resolution_s": _resolution(config),
        "min_duration_s": _resolution(config),
    }
    if len(val) == 0 or val.label.nunique() < 2:
        return decision
    decision["temperature"] = float(fit_temperature(logits_of(val), val.label.to_numpy()))
    probability = class_probabilities(logits_of(val), decision["temperature"])
    is_event = np.isin(np.array(classes)[val.label.to_numpy()], events)
    of_event = probability[:, [classes.index(e) for e in events]].sum(1)
    if is_event.any() and not is_event.all():
        decision["threshold"] = float(fit_event_threshold(is_event.astype(int), of_event))
        if config.windows.policy != "event" and len(events) == 1:
            decision["min_duration_s"] = _shortest_event(config, val, recordings, decision)
    return decision


def _shortest_event(
    config: Config, val: pd.DataFrame, recordings: Recordings, decision: dict[str, Any]
) -> float:
    """Return the shortest event, in whole windows, with the best F1 over events of the validation
    recordings; of equals the shortest.
    """
    rule = Rule(
        **(
            decision
            | {
                "classes": tuple(decision["classes"]),
                "event_classes": tuple(decision["event_classes"]),
            }
        )
    )
    truth = recordings.events[recordings.events.label.isin(rule.event_classes)]
    tables = list(event_windows(config, val, recordings, rule))

    def f1(min_duration_s: float) -> float:
        chosen = replace(rule, min_duration_s=min_duration_s)
        counts = [
            count_events(
                truth[truth.recording == row.recording],
                find_events(table, chosen),
                row.n_times / row.sfreq,
            )
            for row, table in tables
        ]
        return event_scores(EventCounts.total(counts))["f1"] or 0.0

    return max(
        (n * rule.resolution_s for n in range(1, MOST_WINDOWS + 1)), key=f1
    )  # the first of equals


def event_windows(
    config: Config, samples: pd.DataFrame, recordings: Recordings, rule: Rule
) -> Iterator[tuple[Any, pd.DataFrame]]:
    """Yield each recording's row and the windows of its grid with their probabilities, without
    extra windows along seizures.
    """
    step_s = config.windows.step_s or config.windows.duration_s
    rows = {row.recording: row for row in recordings.table.itertuples()}
    for name, own in samples.groupby("recording"):
        row: Any = rows[name]
        grid = (
            own[own.start_sample % round(step_s * row.sfreq) == 0]
            .drop_duplicates(KEY)
            .sort_values("start_sample")
        )
        windows = Stretches.cover(int(row.n_times), row.sfreq, config.windows.duration_s, step_s)
        yield (
            row,
            window_table(
                windows._replace(starts=grid.start_sample.to_numpy()), logits_of(grid), rule
            ),
        )


def _resolution(config: Config) -> float:
    """Seconds that a window speaks for: the event in its middle (1 s, as TUEV's are), or all of a
    grid's window.
    """
    return (
        min(1.0, config.windows.duration_s)
        if config.windows.policy == "event"
        else config.windows.duration_s
    )
