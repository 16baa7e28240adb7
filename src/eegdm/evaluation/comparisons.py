"""What a classifier is compared with: chance, linear models, other recipes, models of
braindecode.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from torch import Tensor

from eegdm import artifacts
from eegdm.artifacts import Artifact
from eegdm.compose import CONF
from eegdm.config import Config, did_you_mean, section, with_settings
from eegdm.console import say
from eegdm.data.batches import SignalWindows, WindowBatch, loader
from eegdm.data.events import SPLITS
from eegdm.data.windows import WINDOW_KEY
from eegdm.errors import UserError
from eegdm.evaluation.baselines import (
    band_power,
    blind_shares,
    chance_scores,
    linear_probe,
    pooled_tokens,
)
from eegdm.evaluation.centring import with_references
from eegdm.evaluation.metrics import event_logit, scores
from eegdm.evaluation.results import Baseline, RunResult, pooled
from eegdm.evaluation.scoring import logits_from_table, score_samples
from eegdm.evaluation.selection import Finished, finished_recipes, select_beside
from eegdm.models.centring import divided
from eegdm.models.eegdm import EEGDM
from eegdm.opening import (
    LabelledData,
    label_data,
    make_dataset,
    open_classifier,
    shared_windows,
)
from eegdm.processes import pick_device

BRAINDECODE = "braindecode."  # begins the names of its models among run.compare
BASELINE_DESCRIPTIONS = {
    "chance: majority class": (
        "Always predicts the class that weighs most among the training windows: the most common"
        " one, unless classes are weighted."
    ),
    "chance: label prior": (
        "Predicts each class at random, as often as it occurs (weighted as in training) among the"
        " training windows."
    ),
    "band power + logistic regression": (
        "Logistic regression on the log power of five bands in each channel."
    ),
    "linear probe": (
        "Logistic regression on the same tokens, averaged over time and over channels, and over"
        " time and blocks."
    ),
    BRAINDECODE: "A model of braindecode, trained from scratch on the same training windows.",
}
# Samples that a linear probe learns from, spread evenly: its features must fit into memory
MOST_PROBED = 20_000


class Opened(NamedTuple):
    """A classifier of the report, and what it was scored on."""

    run: Finished
    config: Config
    data: LabelledData
    result: RunResult


def require_comparisons(config: Config, runs: Sequence[Finished]) -> None:
    """Refuse what was typed as ``run.compare`` and can't be compared with, before anything is
    computed.

    Raises:
        UserError: braindecode has no such model, or a recipe has no finished classifier.
    """
    for name in config.run.compare:
        if name.startswith(BRAINDECODE):
            from eegdm.evaluation.braindecode_baselines import find_braindecode_model

            find_braindecode_model(name.removeprefix(BRAINDECODE))
        elif "run.compare" in config.explicit:
            try:
                select_beside(config, name, runs)
            except UserError as error:
                near = did_you_mean(name, finished_recipes(config))
                raise UserError(f"run.compare={name}: {error}{near}") from error


def class_weights(config: Config) -> list[float] | None:
    """Return the weight of each class in the loss that the classifier learned with; None: all
    alike.
    """
    settings = config.finetune
    if settings.loss == "binary":
        return None if settings.pos_weight is None else [1.0, settings.pos_weight]
    return settings.class_weights


def baselines_of(opened: Sequence[Opened], source: Artifact, folder: Path) -> dict[str, Baseline]:
    """Score simpler means on each test part that a classifier was scored on, and what
    ``run.compare`` names.

    Each gets what the classifiers get: the training windows, the class weights, a choice by the
    monitored score of the validation part, and the likeliest class as its prediction. One that
    can't be computed says why and ends nothing.
    """
    splits: dict[str, Opened] = {}  # classifiers of one fold share one
    for one in opened:
        splits.setdefault(training_set_key(one.config), one)
    # Beside a classifier that learned elsewhere nothing can learn here.
    parts = [one for one in splits.values() if not one.data.part("train").empty]
    shown = _simple(parts) if parts else {}
    earlier = set(folder.glob(f"{BRAINDECODE}*.npy"))
    for other in opened[0].config.run.compare:
        if other.startswith(BRAINDECODE):
            paths = [folder / f"{other}-{_key_of_training(one)}.npy" for one in opened]
            shown[other] = _of_braindecode(opened, other, paths)
            earlier.difference_update(paths)
        else:
            shown |= _other_recipe(opened, source, other)
    for path in earlier:
        path.unlink()
    return shown


def _simple(parts: Sequence[Opened]) -> dict[str, Baseline]:
    """Chance, and linear models of band power and of stored tokens."""
    models = {"band power + logistic regression": _band_power}
    if all(part.data.store is not None for part in parts):
        models["linear probe"] = _probe
    config = parts[0].config
    return _chance(parts) | {
        name: _attempt(name, BASELINE_DESCRIPTIONS[name], partial(_of_each, model, parts), config)
        for name, model in models.items()
    }


def _of_each(model: Callable[[Opened], RunResult], parts: Sequence[Opened]) -> list[RunResult]:
    return [model(part) for part in parts]


def _attempt(
    name: str, sentence: str, compute: Callable[[], list[RunResult]], config: Config
) -> Baseline:
    """What was computed, or the reason why it was not."""
    try:
        runs = compute()
    except Exception as error:  # of any library: a comparison that fails never ends a report
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        reason = kind + " ".join(str(error).split())[:300]
        say(f"report: {name} is not computed: {reason}")
        return Baseline([], sentence, missing=reason)
    together = pooled(runs, n_folds(config))
    return Baseline([run.scores for run in runs], sentence, runs, [run.scores for run in together])


def n_folds(config: Config) -> int | None:
    """Return the number of folds, None without any."""
    return config.windows.n_folds if config.windows.split == "kfold" else None


def _chance(parts: Sequence[Opened]) -> dict[str, Baseline]:
    """The blind guessers, by what is expected of them."""
    confusions_of: dict[str, list[np.ndarray]] = {}
    for part in parts:
        classes = len(part.config.corpus.classes)
        train_y, test_y = (part.data.part(p).label.to_numpy() for p in ("train", "test"))
        shares = blind_shares(train_y, classes, class_weights(part.config))
        for name, share in shares.items():
            confusion = np.outer(np.bincount(test_y, minlength=classes), share)
            confusions_of.setdefault(name, []).append(confusion)
    complete = n_folds(parts[0].config)
    every = complete is not None and {p.run.fold for p in parts} == set(range(complete))
    return {
        f"chance: {name}": Baseline(
            [chance_scores([one], name) for one in confusions],
            BASELINE_DESCRIPTIONS[f"chance: {name}"],
            pooled=[chance_scores(confusions, name)] if every else [],
        )
        for name, confusions in confusions_of.items()
    }


def _band_power(part: Opened) -> RunResult:
    """A logistic regression on band power."""
    features = {name: band_power_of(part.data, part.data.part(name)) for name in SPLITS}
    return _regression_result(part, features, {name: part.data.part(name) for name in SPLITS})


def _probe(part: Opened) -> RunResult:
    """A linear head on stored tokens."""
    samples = {name: part.data.part(name) for name in SPLITS}
    samples |= {name: _thinned(samples[name]) for name in ("train", "val")}
    features = {name: pooled_of(part.config, part.data, table) for name, table in samples.items()}
    return _regression_result(part, features, samples)


def _thinned(samples: pd.DataFrame) -> pd.DataFrame:
    chosen = np.unique(np.linspace(0, len(samples) - 1, MOST_PROBED).round().astype(int))
    return samples.iloc[chosen].reset_index(drop=True) if len(samples) else samples


def _regression_result(
    part: Opened, features: Mapping[str, np.ndarray], samples: Mapping[str, pd.DataFrame]
) -> RunResult:
    """A logistic regression that learns from the training part, and is chosen by the validation
    part as the classifier's checkpoint was.
    """
    label = {name: table.label.to_numpy() for name, table in samples.items()}
    logits = linear_probe(
        features["train"],
        label["train"],
        features["test"],
        len(part.config.corpus.classes),
        seed=0,
        validation=(features["val"], label["val"]),
        monitor=part.config.finetune.monitor,
        weights=class_weights(part.config),
    )
    result = _result_of(part, logits)
    # One that learns from all training windows is the same for all seeds of a fold.
    return result if part.config.finetune.max_samples is not None else replace(result, seed=0)


def _result_of(part: Opened, logits: np.ndarray) -> RunResult:
    """What was predicted for the windows of a part, by logits (sample, class) of all classes."""
    if part.config.finetune.loss == "binary":
        logits = event_logit(logits)[:, None]
    return replace(
        part.result, logits=logits, scores=scores(part.result.label, logits), **_WITHOUT_TRAINING
    )


_WITHOUT_TRAINING: dict[str, Any] = {
    "curves": pd.DataFrame(),
    "temperature": None,
    "events": None,
    "event_counts": None,
}


def _recipe_description(recipe: str) -> str:
    """The comment that opens a recipe's file."""
    path = CONF / "recipe" / f"{recipe}.yaml"
    lines = (
        [
            line[2:]
            for line in path.read_text().splitlines()
            if line.startswith("# ") and "@package" not in line
        ]
        if path.is_file()
        else []
    )
    return lines[0].rstrip(".") if lines else "see its settings"


def _other_recipe(opened: Sequence[Opened], source: Artifact, recipe: str) -> dict[str, Baseline]:
    """Scores of another recipe's classifiers on the same test parts, and of a linear head on each
    kind of tokens that they read.
    """
    config = opened[0].config
    what = f"The same data and split with recipe={recipe}: {_recipe_description(recipe)}."
    theirs: list[Opened] = []

    def score_all() -> list[RunResult]:
        theirs.extend(
            _open_beside(config, source, recipe, run, opened)
            for run in select_beside(config, recipe, [one.run for one in opened])
        )
        return [one.result for one in theirs]

    shown = {recipe: _attempt(recipe, what, score_all, config)}
    folds = [one.run.fold for one in theirs]
    if shown[recipe].missing is None and set(folds) != {one.run.fold for one in opened}:
        what = f"{what} Of folds {', '.join(map(str, folds))} alone."
        shown[recipe] = replace(shown[recipe], sentence=what)
    probed: dict[str, Opened] = {}
    for one in theirs:
        if one.data.store is not None:
            of_tokens = [one.data.inputs["latents"], training_set_key(one.config)]
            probed.setdefault(artifacts.fingerprint(of_tokens), one)
    if probed and shown[recipe].missing is None:
        name = f"{recipe}, linear probe"
        sentence = f"{what} {BASELINE_DESCRIPTIONS['linear probe']}"
        parts = list(probed.values())
        shown[name] = _attempt(name, sentence, partial(_of_each, _probe, parts), config)
    return shown


def _open_beside(
    config: Config, source: Artifact, recipe: str, run: Finished, opened: Sequence[Opened]
) -> Opened:
    """Open a classifier of another recipe and score it.

    Raises:
        UserError: it was made to be tested on other windows than the classifier of its fold.
    """
    ours = next(one for one in opened if one.run.fold == run.fold)
    unbound = with_settings(config, {"recipe": recipe, "explicit": [], "run.seed": run.seed or 0})
    their_config, model, inputs = open_classifier(unbound, run.path, source)
    data = with_references(their_config, label_data(their_config, inputs, model.channels), model)
    columns = [*WINDOW_KEY, "label"]
    test = data.part("test")
    if not test[columns].equals(ours.data.part("test")[columns]):
        raise UserError(
            f"{run.name} was made for other test windows or classes than those of this report;"
            " finetune it with the same windows.* and corpus.* settings"
        )
    result = score_classifier(their_config, data, model, run)[0]
    return Opened(run, their_config, data, result)


def score_classifier(
    config: Config, data: LabelledData, model: EEGDM, run: Finished
) -> tuple[RunResult, pd.DataFrame]:
    """Score a classifier on its test part; also return its predictions, a row per sample."""
    predictions = score_samples(config, data, model, data.part("test"), config.run.devices)
    label, logits = predictions.label.to_numpy(), logits_from_table(predictions)
    result = RunResult(
        name=run.name,
        seed=config.run.seed,
        scores=scores(label, logits),
        label=label,
        logits=logits,
        subject=predictions.subject.to_numpy().astype(str),
        recording=predictions.recording.to_numpy().astype(str),
        temperature=model.decision.get("temperature"),
        fold=run.fold,
    )
    return result, predictions


def _of_braindecode(opened: Sequence[Opened], name: str, paths: Sequence[Path]) -> Baseline:
    """A model of braindecode that learned from each classifier's windows, with its seed; its
    logits on the test part are kept in the report.
    """

    def results() -> list[RunResult]:
        for one, path in zip(opened, paths, strict=True):
            if not path.is_file():
                say(f"report: training {name}, {one.run.name}")
                artifacts.write_array(path, _trained(one, name.removeprefix(BRAINDECODE)))
        return [
            _result_of(one, np.load(path, allow_pickle=False))
            for one, path in zip(opened, paths, strict=True)
        ]

    return _attempt(name, BASELINE_DESCRIPTIONS[BRAINDECODE], results, opened[0].config)


def _key_of_training(one: Opened) -> str:
    """What the logits of a model of braindecode depend on."""
    of_data = [
        one.data.inputs["recordings"],
        training_set_key(one.config),
        list(one.config.corpus.classes),
        one.config.run.rate,
    ]
    of_training = [section(one.config, "finetune"), "by weights and monitor", one.config.run.seed]
    return artifacts.fingerprint([of_data, *of_training])


def _trained(one: Opened, model: str) -> np.ndarray:
    from eegdm.evaluation.braindecode_baselines import logits_from_scratch

    config, recordings = one.config, one.data.recordings
    train, val, test = (
        SignalWindows(recordings, one.data.part(part), recordings.ch_names) for part in SPLITS
    )
    return logits_from_scratch(
        model,
        train,
        val,
        test,
        recordings.sfreq,
        len(config.corpus.classes),
        config.finetune,
        class_weights(config),
        config.run.seed,
        pick_device(config.run.device),
    )


def training_set_key(config: Config) -> str:
    """What tells which samples are learned from, validated and tested on, within the same
    recordings.
    """
    few = config.finetune.max_samples
    return artifacts.fingerprint(
        [section(config, "windows"), few, None if few is None else config.run.seed]
    )


def pooled_of(config: Config, data: LabelledData, samples: pd.DataFrame) -> np.ndarray:
    """Pooled tokens of each sample's window."""
    windows, window_of = shared_windows(samples)
    batches = loader(
        make_dataset(config, data, windows), config.finetune.batch_size, None, config.run.workers
    )
    return np.concatenate(
        [pooled_tokens(_as_classified(batch).numpy(), batch.mask.numpy()) for batch in batches]
    )[window_of]


def _as_classified(batch: WindowBatch) -> Tensor:
    """Stored tokens as the classifier beside takes them: centred, if it does."""
    return divided(batch.data, batch.reference) if batch.reference.numel() else batch.data


def band_power_of(data: LabelledData, samples: pd.DataFrame) -> np.ndarray:
    """Band power of each sample's window, channels that a recording lacks as zero."""
    windows, window_of = shared_windows(samples)
    channels = data.recordings.ch_names
    rows = {
        r.recording: [channels.index(n) for n in r.ch_names]
        for r in data.recordings.table.itertuples()
    }
    features = []
    for key in windows[WINDOW_KEY].itertuples(index=False, name=None):
        power = band_power(data.recordings.window(*key)[None], data.recordings.sfreq).reshape(
            len(rows[key[0]]), -1
        )
        full = np.zeros((len(channels), power.shape[1]))
        full[rows[key[0]]] = power
        features.append(full.ravel())
    return np.stack(features)[window_of]
