"""report: recordings + classifiers -> scores on the test part, beside what simpler means reach, as
a page, text and tables.
"""

from __future__ import annotations

import copy
import platform
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from eegdm import __version__, artifacts
from eegdm.artifacts import Artifact
from eegdm.checkpoints.load import load
from eegdm.compose import CONF
from eegdm.config import Config, section
from eegdm.console import say, track
from eegdm.data.batches import Windows, loader
from eegdm.data.montage import TCP
from eegdm.data.recordings import Recordings
from eegdm.data.signal import expand
from eegdm.data.windows import KEY, SPLITS
from eegdm.errors import UserError
from eegdm.evaluation.baselines import band_power, chance, linear_probe, pooled_tokens
from eegdm.evaluation.decision import find_events, rule_of
from eegdm.evaluation.event_scores import average_over_subjects, count_events
from eegdm.evaluation.metrics import scores
from eegdm.evaluation.results import Baseline, RunResult
from eegdm.inference import predict_signal
from eegdm.layout import adopt, finished_classifiers, numbers, own_folder, upstream
from eegdm.models.eegdm import EEGDM
from eegdm.report.content import Example, Report, Samples
from eegdm.report.write import write_report
from eegdm.stages.cache import device
from eegdm.stages.finetune import (
    Data,
    event_windows,
    label_data,
    logits_of,
    make_dataset,
    predict,
    shared_windows,
)

EXAMPLE_S = 240.0  # how much of one test recording the page shows
BRAINDECODE = "braindecode."  # begins the names of its models among run.compare
SENTENCES = {
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
REAL_WINDOWS = 40  # real windows per channel beside the generated ones


def run(config: Config) -> Path:
    """Write ``report/``: report.html, .md, .json, .csv, .tex and the predictions of each
    classifier.

    Raises:
        UserError: no classifier is finished, or one does not fit the recordings.
    """
    folder = own_folder(config, "report")
    source = upstream(config, "recordings")
    found = _classifiers(config)
    _require_models(config)
    inputs = {"recordings": source.fingerprint, **{name: identity for name, _, identity in found}}
    say(f"report: {len(found)} classifiers -> {folder}")
    with artifacts.building(folder, "report", {}, {}):
        artifacts.reopen(folder)
        for earlier in folder.glob("predictions-*.parquet"):
            earlier.unlink()  # of classifiers that this report may no longer be about
        results, opened = [], []
        for name, path, _ in track(found, "report", len(found)):
            own = copy.deepcopy(config)
            own.run.seed = int(numbers(path).get("seed", config.run.seed))
            data, model = _open(own, source, path)
            results.append(_score(own, data, model, name, path, folder))
            opened.append((own, data))
        page = _page(own, data, model, results, _baselines(opened, source, folder))
        write_report(page, folder)
        artifacts.finish(folder, {"classifiers": inputs})
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


def _require_models(config: Config) -> None:
    """Refuse a model of braindecode that there is not, before anything is computed."""
    if names := [
        name.removeprefix(BRAINDECODE)
        for name in config.run.compare
        if name.startswith(BRAINDECODE)
    ]:
        from eegdm.evaluation.braindecode_baselines import find_model

        for name in names:
            find_model(name)


def _identity(path: Path) -> str:
    return (
        artifacts.open_artifact(path, "classifier").fingerprint
        if artifacts.is_finished(path)
        else artifacts.sha256(path)
    )


def _open(config: Config, source: Artifact, path: Path) -> tuple[Data, EEGDM]:
    """Open a classifier and the data it is scored on; its tokens are read if they are stored, else
    computed.
    """
    model = load(str(path), compat=config.run.compat)
    if not isinstance(model, EEGDM):
        raise UserError(f"{path}: is a backbone; report needs classifiers")
    latents, inputs = None, {"recordings": source.fingerprint}
    if artifacts.is_finished(path):
        made = artifacts.open_artifact(path, "classifier")
        adopt(config, made)
        config.run.compat = made.config.get("compat")
        inputs = made.inputs
        if "latents" in inputs and config.run.rate == 1.0:
            latents = upstream(
                config, "latents", {k: inputs[k] for k in ("recordings", "backbone")}
            )
    return label_data(config, source, latents, inputs), model


def _score(
    config: Config, data: Data, model: EEGDM, name: str, path: Path, folder: Path
) -> RunResult:
    test = _part(data, "test")
    if test.empty:
        raise UserError(f"windows.split={config.windows.split}: no sample is in the test part")
    predictions = predict(config, data, model, test, config.run.devices)
    artifacts.write_table(
        folder
        / f"predictions-{name.replace(', ', ',').replace(' ', '=').replace('/', '-')}.parquet",
        predictions,
    )
    labels, logits = predictions.label.to_numpy(), logits_of(predictions)
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
    config: Config, data: Data, model: EEGDM, predictions: pd.DataFrame
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
    data: Data,
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


def _counts(config: Config, data: Data) -> pd.DataFrame:
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


def _provenance(data: Data) -> dict[str, Any]:
    import mne
    import torch

    versions = {
        "eegdm": __version__,
        "torch": torch.__version__,
        "mne": mne.__version__,
        "python": platform.python_version(),
    }
    return {**versions, **{f"{name} fingerprint": value for name, value in data.inputs.items()}}


def _baselines(
    opened: list[tuple[Config, Data]], source: Artifact, folder: Path
) -> dict[str, Baseline]:
    """Scores of simpler means on each split that a classifier was scored on, and of what
    ``run.compare`` names.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    splits: dict[str, tuple[Config, Data]] = {}  # classifiers of one fold share one
    for config, data in opened:
        splits.setdefault(_learned_from(config), (config, data))
    for config, data in splits.values():
        for name, result in _simple(config, data).items():
            found.setdefault(name, []).append(result)
    shown = {name: Baseline(results, SENTENCES[name]) for name, results in found.items()}
    earlier = set(folder.glob(f"{BRAINDECODE}*.npy"))
    for other in opened[0][0].run.compare:
        if other.startswith(BRAINDECODE):
            paths = [_trained(config, data, other, folder) for config, data in opened]
            earlier.difference_update(paths)
            logits = [np.load(path, allow_pickle=False) for path in paths]
            results = [
                _scores_of(config, _part(data, "test"), some)
                for (config, data), some in zip(opened, logits, strict=True)
            ]
            shown[other] = Baseline(results, SENTENCES[BRAINDECODE])
        else:
            shown |= _compared(opened[0][0], source, other)
    for path in earlier:
        path.unlink()
    return shown


def _part(data: Data, name: str) -> pd.DataFrame:
    """The samples of one part (train, val, test), numbered anew."""
    return data.samples[data.samples.split == name].reset_index(drop=True)


def _simple(config: Config, data: Data) -> dict[str, dict[str, Any]]:
    """Scores on the test part of one split, by name in :data:`SENTENCES`."""
    train, test = _part(data, "train"), _part(data, "test")
    train_y, test_y = train.label.to_numpy(), test.label.to_numpy()
    blind = chance(train_y, test_y, len(config.corpus.classes), config.finetune.loss == "binary")
    results = {f"chance: {name}": result for name, result in blind.items()}
    power = (band_power_of(data, part) for part in (train, test))
    results["band power + logistic regression"] = _regression(config, data, train, test, *power)
    if data.store is not None:
        results["linear probe"] = _probe(config, data)
    return results


def _probe(config: Config, data: Data) -> dict[str, Any]:
    """Scores of a linear head on stored tokens."""
    train, test = _part(data, "train"), _part(data, "test")
    chosen = np.unique(np.linspace(0, len(train) - 1, MOST_PROBED).round().astype(int))
    train = train.iloc[chosen].reset_index(drop=True)
    return _regression(
        config, data, train, test, pooled_of(config, data, train), pooled_of(config, data, test)
    )


def _regression(
    config: Config,
    data: Data,
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


def _sentence_of(recipe: str) -> str:
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
        own = copy.deepcopy(config)
        own.recipe, own.explicit = recipe, []
        data, model = _open(own, source, path)
        predictions = predict(own, data, model, _part(data, "test"), own.run.devices)
        found.append(
            scores(
                predictions.label.to_numpy(), logits_of(predictions), own.finetune.loss == "binary"
            )
        )
        if (
            data.store is not None
            and (key := artifacts.fingerprint([data.inputs["latents"], _learned_from(own)]))
            not in probes
        ):
            probes[key] = _probe(own, data)
    what = f"The same data and split with recipe={recipe}: {_sentence_of(recipe)}."
    shown = {recipe: Baseline(found, what)} if found else {}
    return shown | (
        {
            f"{recipe}, linear probe": Baseline(
                list(probes.values()), f"{what} {SENTENCES['linear probe']}"
            )
        }
        if probes
        else {}
    )


def _trained(config: Config, data: Data, name: str, folder: Path) -> Path:
    """The logits on the test part of a model of braindecode that learned from a classifier's
    windows, with its seed; kept in the report.
    """
    from eegdm.evaluation.braindecode_baselines import logits_from_scratch

    of_data = [
        data.inputs["recordings"],
        _learned_from(config),
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
            Windows(data.recordings, _part(data, part), data.recordings.ch_names) for part in SPLITS
        )
        n_classes, where = len(config.corpus.classes), device(config)
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


def _learned_from(config: Config) -> str:
    """What tells which samples are learned from, validated and tested on, within the same
    recordings.
    """
    few = config.finetune.max_samples
    return artifacts.fingerprint(
        [section(config, "windows"), few, None if few is None else config.run.seed]
    )


def pooled_of(config: Config, data: Data, samples: pd.DataFrame) -> np.ndarray:
    """Pooled tokens of each sample's window."""
    windows, window_of = shared_windows(samples)
    batches = loader(
        make_dataset(config, data, windows), config.finetune.batch_size, None, config.run.workers
    )
    return np.concatenate(
        [pooled_tokens(batch.data.numpy(), batch.mask.numpy()) for batch in batches]
    )[window_of]


def band_power_of(data: Data, samples: pd.DataFrame) -> np.ndarray:
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


def _example(config: Config, data: Data, model: EEGDM) -> Example | None:
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
