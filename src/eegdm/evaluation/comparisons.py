"""What a classifier is compared with: chance, linear models, other recipes, models of
braindecode.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from eegdm import artifacts
from eegdm.artifacts import Artifact
from eegdm.compose import CONF
from eegdm.config import Config, section, with_settings
from eegdm.console import say
from eegdm.data.batches import SignalWindows, loader
from eegdm.data.windows import KEY, SPLITS
from eegdm.evaluation.baselines import band_power, chance, linear_probe, pooled_tokens
from eegdm.evaluation.metrics import scores
from eegdm.evaluation.results import Baseline
from eegdm.evaluation.scoring import logits_from_table, score_samples
from eegdm.layout import finished_classifiers
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
    "chance: majority class": "Always says the commonest class of the training windows.",
    "chance: label prior": "Says each class at random, as often as it occurs in training.",
    "band power + logistic regression": (
        "Logistic regression on the log power of five bands in each channel."
    ),
    "linear probe": (
        "Logistic regression on the same tokens, averaged over time and over channels, and over"
        " time and blocks."
    ),
    BRAINDECODE: "A model of braindecode, trained from scratch on the same training windows.",
}
# Training samples that a linear probe learns from, spread evenly: its features must fit into memory
MOST_PROBED = 20_000


def require_models(config: Config) -> None:
    """Refuse a model of braindecode that there is not, before anything is computed."""
    if names := [
        name.removeprefix(BRAINDECODE)
        for name in config.run.compare
        if name.startswith(BRAINDECODE)
    ]:
        from eegdm.evaluation.braindecode_baselines import find_model

        for name in names:
            find_model(name)


def baselines_of(
    opened: list[tuple[Config, LabelledData]], source: Artifact, folder: Path
) -> dict[str, Baseline]:
    """Scores of simpler means on each split that a classifier was scored on, and of what
    ``run.compare`` names.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    splits: dict[str, tuple[Config, LabelledData]] = {}  # classifiers of one fold share one
    for config, data in opened:
        splits.setdefault(training_set_key(config), (config, data))
    for config, data in splits.values():
        if data.part("train").empty:
            continue  # a classifier that learned elsewhere: nothing here can learn beside it
        for name, result in _simple(config, data).items():
            found.setdefault(name, []).append(result)
    shown = {
        name: Baseline(results, BASELINE_DESCRIPTIONS[name]) for name, results in found.items()
    }
    earlier = set(folder.glob(f"{BRAINDECODE}*.npy"))
    for other in opened[0][0].run.compare:
        if other.startswith(BRAINDECODE):
            paths = [_trained(config, data, other, folder) for config, data in opened]
            earlier.difference_update(paths)
            logits = [np.load(path, allow_pickle=False) for path in paths]
            results = [
                _scores_of(config, data.part("test"), values)
                for (config, data), values in zip(opened, logits, strict=True)
            ]
            shown[other] = Baseline(results, BASELINE_DESCRIPTIONS[BRAINDECODE])
        else:
            shown |= _compared(opened[0][0], source, other)
    for path in earlier:
        path.unlink()
    return shown


def _simple(config: Config, data: LabelledData) -> dict[str, dict[str, Any]]:
    """Scores on the test part of one split, by name in :data:`BASELINE_DESCRIPTIONS`."""
    train, test = data.part("train"), data.part("test")
    train_y, test_y = train.label.to_numpy(), test.label.to_numpy()
    blind = chance(train_y, test_y, len(config.corpus.classes), config.finetune.loss == "binary")
    results = {f"chance: {name}": result for name, result in blind.items()}
    power = (band_power_of(data, part) for part in (train, test))
    results["band power + logistic regression"] = _regression(config, data, train, test, *power)
    if data.store is not None:
        results["linear probe"] = _probe(config, data)
    return results


def _probe(config: Config, data: LabelledData) -> dict[str, Any]:
    """Scores of a linear head on stored tokens."""
    train, test = data.part("train"), data.part("test")
    chosen = np.unique(np.linspace(0, len(train) - 1, MOST_PROBED).round().astype(int))
    train = train.iloc[chosen].reset_index(drop=True)
    return _regression(
        config, data, train, test, pooled_of(config, data, train), pooled_of(config, data, test)
    )


def _regression(
    config: Config,
    data: LabelledData,
    train: pd.DataFrame,
    test: pd.DataFrame,
    train_x: np.ndarray,
    test_x: np.ndarray,
) -> dict[str, Any]:
    """Scores of a logistic regression on features of the training and the test samples."""
    binary, n_classes = config.finetune.loss == "binary", len(config.corpus.classes)
    subject = train.recording.map(
        dict(zip(data.recordings.table.recording, data.recordings.table.subject, strict=True))
    ).to_numpy()
    logits = linear_probe(
        train_x, train.label.to_numpy(), test_x, n_classes, seed=0, unit=subject, balanced=binary
    )
    return _scores_of(config, test, logits)


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


def _compared(config: Config, source: Artifact, recipe: str) -> dict[str, Baseline]:
    """Scores of another recipe's finished seeds on its test part, and of a linear head on each kind
    of tokens that they read.
    """
    found, probes = [], {}
    for path in finished_classifiers(config, recipe):
        unbound = with_settings(config, {"recipe": recipe, "explicit": []})
        own, model, inputs = open_classifier(unbound, path, source)
        data = label_data(own, inputs, model.channels)
        predictions = score_samples(own, data, model, data.part("test"), own.run.devices)
        found.append(
            scores(
                predictions.label.to_numpy(),
                logits_from_table(predictions),
                own.finetune.loss == "binary",
            )
        )
        if (
            data.store is not None
            and (key := artifacts.fingerprint([data.inputs["latents"], training_set_key(own)]))
            not in probes
        ):
            probes[key] = _probe(own, data)
    what = f"The same data and split with recipe={recipe}: {_recipe_description(recipe)}."
    shown = {recipe: Baseline(found, what)} if found else {}
    return shown | (
        {
            f"{recipe}, linear probe": Baseline(
                list(probes.values()), f"{what} {BASELINE_DESCRIPTIONS['linear probe']}"
            )
        }
        if probes
        else {}
    )


def _trained(config: Config, data: LabelledData, name: str, folder: Path) -> Path:
    """The logits on the test part of a model of braindecode that learned from a classifier's
    windows, with its seed; kept in the report.
    """
    from eegdm.evaluation.braindecode_baselines import logits_from_scratch

    of_data = [
        data.inputs["recordings"],
        training_set_key(config),
        list(config.corpus.classes),
        config.run.rate,
    ]
    path = (
        folder
        / f"{name}-{artifacts.fingerprint([of_data, section(config, 'finetune'), config.run.seed])}.npy"  # noqa: E501
    )
    if not path.is_file():
        say(f"report: training {name}, seed {config.run.seed}")
        train, val, test = (
            SignalWindows(data.recordings, data.part(part), data.recordings.ch_names)
            for part in SPLITS
        )
        n_classes, where = len(config.corpus.classes), pick_device(config.run.device)
        model = name.removeprefix(BRAINDECODE)
        logits = logits_from_scratch(
            model,
            train,
            val,
            test,
            data.recordings.sfreq,
            n_classes,
            config.finetune,
            config.run.seed,
            where,
        )
        artifacts.write_array(path, logits)
    return path


def _scores_of(config: Config, test: pd.DataFrame, logits: np.ndarray) -> dict[str, Any]:
    """Scores of logits (sample, class) of all classes, by the rules of the classifier's loss."""
    binary = config.finetune.loss == "binary"
    return scores(
        test.label.to_numpy(), logits[:, 1:] - logits[:, :1] if binary else logits, binary
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
        [pooled_tokens(batch.data.numpy(), batch.mask.numpy()) for batch in batches]
    )[window_of]


def band_power_of(data: LabelledData, samples: pd.DataFrame) -> np.ndarray:
    """Band power of each sample's window, channels that a recording lacks as zero."""
    windows, window_of = shared_windows(samples)
    channels = data.recordings.ch_names
    rows = {
        r.recording: [channels.index(n) for n in r.ch_names]
        for r in data.recordings.table.itertuples()
    }
    found = []
    for key in windows[KEY].itertuples(index=False, name=None):
        power = band_power(data.recordings.window(*key)[None], data.recordings.sfreq).reshape(
            len(rows[key[0]]), -1
        )
        full = np.zeros((len(channels), power.shape[1]))
        full[rows[key[0]]] = power
        found.append(full.ravel())
    return np.stack(found)[window_of]
