"""Rest against task on real EEG (eegmmidb, subject 1): what a pretrained backbone gives that random
weights and band power do not.

    python examples/evidence/rest_task.py --data ../shared/data/eegmmidb --root runs/rest-task \
        --backbone runs/mini-a/folder/mini_a/backbone --labels 20,100,all recipe=mini_a

Executed movement (runs 3, 5, 7, 9) and imagined movement (4, 6, 8, 10) apart, or both; each run is
tested by what learned from the other ones (for the transformer one of them validates; linear models
learn from all). Windows of 4 s around each annotated event. The pretrained backbone must not have
seen the runs that it is tested on: with one that was trained on runs 3-8, only runs 9 and 10 are
unseen by it, and --tested 9,10 scores those alone. Predictions of every method are kept in --root,
and those that are there are not made again; the differences between methods get 95 % intervals by a
paired bootstrap over the tested runs.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ledger import markdown

from eegdm.checkpoints.load import load
from eegdm.compose import compose
from eegdm.console import run_main
from eegdm.data.recordings import Recordings
from eegdm.data.windows import assign_splits
from eegdm.evaluation.baselines import linear_probe
from eegdm.evaluation.comparisons import band_power_of, pooled_of
from eegdm.evaluation.metrics import bootstrap, multiclass_scores
from eegdm.evaluation.scoring import logits_from_table, score_samples
from eegdm.opening import LabelledData, few_labels, open_data
from eegdm.stages import run_stage

SETS = {"executed": (3, 5, 7, 9), "imagined": (4, 6, 8, 10), "both": tuple(range(3, 11))}
EVENTS = [
    "events=annotations",
    "corpus.label_map={T0: rest, T1: task, T2: task}",
    "corpus.classes=[rest,task]",
    "corpus.event_classes=[task]",
    "missing=drop",
]
READING = [
    "windows.policy=event",
    "windows.duration_s=4",
    "split=kfold",
    "windows.kfold_unit=run",
    "finetune.monitor=kappa",
]


def recordings_of(root: Path, data: Path, runs: tuple[int, ...], words: list[str]) -> Path:
    """Preprocess the runs of one set, found through a folder of links."""
    links = root / "runs"
    links.mkdir(parents=True, exist_ok=True)
    for run in runs:
        link = links / f"S001R{run:02d}.edf"
        if not link.exists():
            link.symlink_to((data / link.name).resolve())
    return run_stage(
        "preprocess", ["corpus=folder", *words, f"root={root}", f"source={links}", *EVENTS]
    )


def methods(
    root: Path,
    recordings: Path,
    backbone: str,
    name: str,
    words: list[str],
    fold: int,
    labels: str,
    seed: int,
    with_transformer: bool,
) -> dict[str, pd.DataFrame]:
    """Predictions (label, logits) on a fold's tested run by the transformer and the linear models,
    on tokens of one backbone.
    """
    reading = [
        "corpus=folder",
        *words,
        f"recordings={recordings}",
        f"backbone={backbone}",
        *READING,
    ]
    latents = run_stage(
        "cache", [*reading, f"root={root / name}"]
    )  # the folder of fold 0; tokens are the same in all
    typed = [
        *reading,
        f"latents={latents}",
        f"root={root / name / labels}",
        f"fold={fold}",
        f"seed={seed}",
    ]
    typed += [] if labels == "all" else [f"finetune.max_samples={labels}"]
    config = compose(typed)
    config, data = open_data(config)
    test = data.part("test")
    found = {}
    if with_transformer:
        classifier = load(str(run_stage("finetune", typed)))
        found[f"transformer, {name}"] = score_samples(config, data, classifier, test)  # type: ignore[arg-type]
    for features, what in (
        (pooled_of(config, data, data.samples), f"probe, {name}"),
        (band_power_of(data, data.samples), "band power"),
    ):
        found[what] = _linear(data, features, test, labels, seed)
    return found


def _linear(
    data: LabelledData, features: np.ndarray, test: pd.DataFrame, labels: str, seed: int
) -> pd.DataFrame:
    """Logistic regression that learns from all runs but the tested one, or from so many of their
    labels.
    """
    label, tested = data.samples.label.to_numpy(), (data.samples.split == "test").to_numpy()
    rows = np.flatnonzero(~tested)
    rows = rows if labels == "all" else rows[few_labels(label[rows], int(labels), seed)]
    run = data.samples.recording.to_numpy()
    logits = linear_probe(features[rows], label[rows], features[tested], 2, seed, unit=run[rows])
    return test.assign(logit_rest=logits[:, 0], logit_task=logits[:, 1])


def collect(args: argparse.Namespace, kind: str, runs: tuple[int, ...]) -> pd.DataFrame:
    """All methods' predictions of one set of runs, kept in files."""
    root, words = args.root / kind, [*args.words, f"windows.n_folds={len(runs)}"]
    recordings = recordings_of(root, args.data, runs, words)
    rows = []
    for labels in args.labels.split(","):
        for seed in map(int, args.seeds.split(",")):
            for fold in range(len(runs)):
                if args.tested and tested_run(recordings, words, fold) not in args.tested.split(
                    ","
                ):
                    continue
                for name, backbone in (("pretrained", args.backbone), ("random weights", "random")):
                    by = "linear-" if args.linear else ""
                    path = (
                        root
                        / "predictions"
                        / f"{name}-{by}{labels}-seed={seed}-fold={fold}.parquet"
                    )
                    if not path.is_file():
                        found = methods(
                            root,
                            recordings,
                            backbone,
                            name,
                            words,
                            fold,
                            labels,
                            seed,
                            not args.linear,
                        )
                        parts = [
                            t.assign(method=m, labels=labels, seed=seed) for m, t in found.items()
                        ]
                        path.parent.mkdir(exist_ok=True)
                        pd.concat(parts).to_parquet(path)
                        print(f"{kind}: wrote {path.name}", flush=True)
                    rows.append(pd.read_parquet(path))
    return pd.concat(rows, ignore_index=True).drop_duplicates(
        ["recording", "start_sample", "method", "labels", "seed"]
    )


def tested_run(recordings: Path, words: list[str], fold: int) -> str:
    """Number of the run that a fold tests."""
    config = compose(
        ["corpus=folder", *words, f"recordings={recordings}", *READING, f"fold={fold}"]
    )
    table = Recordings(recordings).table
    (name,) = table.recording[
        np.array(assign_splits(table, config.corpus.name, config.windows)) == "test"
    ]
    return str(int(name.removeprefix("S001R")))


def compare(table: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Balanced accuracy of each method and number of labels, and its difference to band power with
    a paired interval.
    """
    rows = []
    for labels, of_labels in table.groupby("labels", sort=False):
        wide = {
            m: t.sort_values(["seed", "recording", "start_sample"])
            for m, t in of_labels.groupby("method", sort=False)
        }
        truth, run = (wide["band power"][column].to_numpy() for column in ("label", "recording"))
        said = {m: logits_from_table(t) for m, t in wide.items()}
        for method, logits in said.items():
            score: dict[str, Any] = {
                "set": kind,
                "labels": labels,
                "method": method,
                "runs": len(set(run)),
                "windows": len(truth),
            }
            score["balanced accuracy"] = multiclass_scores(truth, logits, 2)["balanced_accuracy"]
            for other in ("band power", method.replace("pretrained", "random weights")):
                if other != method:
                    found = bootstrap((truth, logits, said[other]), run, _difference)[
                        "balanced_accuracy"
                    ]
                    score[f"minus {other.split(', ')[-1]}"] = _with_interval(**found)
            rows.append(score)
    return pd.DataFrame(rows).fillna("")


def _with_interval(value: float, low: float | None, high: float | None, n_undefined: int) -> str:
    """A single run that is tested gives no interval."""
    return (
        f"{value:+.3f}"
        if low is None or high is None
        else f"{value:+.3f} [{low:+.3f}, {high:+.3f}]"
    )


def _difference(label: np.ndarray, ours: np.ndarray, theirs: np.ndarray) -> dict[str, Any]:
    first, second = (
        multiclass_scores(label, logits, 2)["balanced_accuracy"] for logits in (ours, theirs)
    )
    return {"balanced_accuracy": None if first is None else first - second}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="folder of S001R03.edf .. S001R10.edf"
    )
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--backbone", required=True, help="the pretrained backbone's folder")
    parser.add_argument("--labels", default="20,100,all")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--sets", default="executed,imagined")
    parser.add_argument("--tested", help="only the folds that test these runs, such as 9,10")
    parser.add_argument("--linear", action="store_true", help="linear models only, no transformer")
    parser.add_argument("words", nargs="*", help="settings of every stage, such as recipe=mini_a")
    args = parser.parse_args()
    tables = [compare(collect(args, kind, SETS[kind]), kind) for kind in args.sets.split(",")]
    result = pd.concat(tables, ignore_index=True)
    result.to_csv(args.root / "rest_task.csv", index=False)
    print(markdown(result))


if __name__ == "__main__":
    run_main(main)
