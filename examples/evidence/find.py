"""Does the nearest EEG show the same thing? Precision of `eegdm find` by band power, by the tokens
of `mini` and by those of random weights. The plan is in docs/find.md.

    python examples/evidence/find.py make --data ../shared/data --out runs/find
    python examples/evidence/find.py table --out runs/find

`make` embeds the recordings; what is embedded is not embedded again. `table` chooses the variant of
each kind of features on the exploratory people, and prints the precision on the others.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from ledger import markdown

from eegdm.console import run_main
from eegdm.data.batches import generator
from eegdm.data.montage import TCP
from eegdm.data.synthetic.simulate import CLASSES, SimulatedEvent, record, six_classes
from eegdm.features import embed_folder
from eegdm.features.classical import BandPower
from eegdm.features.extractors import Tokens
from eegdm.features.finding import Query, Reading, Stretch, open_features, parts_of, read_query
from eegdm.features.similarity import (
    Part,
    backgrounds,
    channel_distances,
    common_distances,
    first_apart,
    nearness,
)
from eegdm.features.store import FeatureStore
from eegdm.features.twins import twin_tokens
from eegdm.synthetic import write_folder

WINDOW_S, TOP, MINUTES, SHRINKAGE = 5.0, 20, 2.0, 0.1
RANDOM = "random weights"
METRICS = ("euclidean", "cosine", "euclidean, whitened", "cosine, whitened")
TASKS = (*CLASSES[:5], "seizure", "eyes closed")
SYNTHETIC = {"synthetic-explored": (5, 11), "synthetic": (4, 12)}  # people, seed
SETS = {
    "synthetic-explored": {"step_s": 2.5},
    "synthetic": {},
    "seizure": {"missing": "drop"},
    "eyes": {"step_s": 20.0, "channels": "file", "notch": (50.0,)},
}
N_EYES = 5


def extractors() -> list[BandPower | Tokens]:
    return [BandPower(), twin_tokens("mini", 0)]


def make(data: Path, out: Path) -> None:
    for name, options in SETS.items():
        folder = out / name
        if not (folder / "events.csv").is_file():
            write(name, data, folder)
        embed_folder(
            folder,
            "mini",
            out / f"{name}-features",
            table=folder / "events.csv",
            extractors=extractors(),
            **options,
        )


def write(name: str, data: Path, folder: Path) -> None:
    """The recordings of a set and its table of events."""
    folder.mkdir(parents=True, exist_ok=True)
    if name in SYNTHETIC:
        n, seed = SYNTHETIC[name]
        write_folder(folder, n_subjects=n, n_runs=1, minutes=MINUTES, seed=seed)
        return
    if name == "seizure":
        rows = []
        for row in pd.read_csv(data / "chbmit" / "index.csv").itertuples():
            file = Path(shutil.copy(data / "chbmit" / row.file, folder)).name
            onset, end = row.seizure_onset_in_file_s, row.seizure_end_in_file_s
            is_ictal = pd.notna(onset)
            about = (onset, end - onset, "seizure") if is_ictal else (0.0, row.duration_s, "before")
            rows.append((file, *about, file[:5]))
        columns = ["file", "onset_s", "duration_s", "label", "subject"]
        pd.DataFrame(rows, columns=columns).to_csv(folder / "events.csv", index=False)
        return
    people = data / "people" / "guinea_bissau"
    events = pd.read_csv(people / "events.csv")
    files = sorted(events.file.unique())[:N_EYES]
    for file in files:
        shutil.copy(people / file, folder)
    events[events.file.isin(files)].to_csv(folder / "events.csv", index=False)


# ----------------------------------------------------------------------------------------- queries


class Asked(NamedTuple):
    """A stretch to look for, and which windows and channels of a set show the same."""

    task: str
    stretch: Stretch
    channel: str | None
    is_right: Callable[[str, float, str], bool]
    """Of recording, onset_s of a window and channel."""


def queries(name: str, out: Path) -> Iterator[Asked]:
    events = pd.read_csv(out / name / "events.csv")
    if name in SYNTHETIC:
        yield from synthetic_queries(name)
    elif name == "seizure":
        for event in events[events.label == "seizure"].itertuples():
            middle = event.onset_s + event.duration_s / 2
            yield asked_at(event.file, middle, "seizure", events, "seizure")
    else:
        for event in events[events.label == "eyes_closed"].itertuples():
            for share in (1 / 3, 2 / 3):
                middle = event.onset_s + share * event.duration_s
                yield asked_at(event.file, middle, "eyes closed", events, "eyes_closed")


def asked_at(file: str, middle: float, task: str, events: pd.DataFrame, label: str) -> Asked:
    """All channels around a time; right are windows of which the label covers half or more."""
    of_label = dict(tuple(events[events.label == label].groupby("file")))

    def is_right(recording: str, onset: float, _: str) -> bool:
        own = of_label.get(f"{recording}.edf")
        if own is None:
            return False
        stop = own.onset_s + own.duration_s
        shared = np.minimum(stop, onset + WINDOW_S) - np.maximum(own.onset_s, onset)
        return bool(shared.clip(lower=0).sum() >= WINDOW_S / 2)

    return Asked(task, Stretch(file, middle - WINDOW_S / 2, middle + WINDOW_S / 2), None, is_right)


def synthetic_queries(name: str) -> Iterator[Asked]:
    """The first and the last event of each class and person, on one of its channels, drawn."""
    n, seed = SYNTHETIC[name]
    subjects = [f"s{number:02d}" for number in range(1, n + 1)]
    of_subject = {
        subject: record(seed, subject, 1, 160, partial(six_classes, minutes=MINUTES)).events
        for subject in subjects
    }
    for subject, events in of_subject.items():
        for label in CLASSES[:5]:
            own = [event for event in events if event.label == label]
            for k, event in enumerate((own[0], own[-1])):
                drawn = generator("find", seed, subject, label, k).choice(event.channels)
                middle = event.onset_s + event.duration_s / 2
                start = min(max(middle - WINDOW_S / 2, 0), 60 * MINUTES - WINDOW_S)

                stretch = Stretch(f"{subject}_run1.edf", start, start + WINDOW_S)
                yield Asked(label, stretch, TCP[drawn], partial(holds_event, of_subject, label))


def holds_event(
    events: dict[str, list[SimulatedEvent]],
    label: str,
    recording: str,
    onset: float,
    channel: str,
) -> bool:
    return any(
        event.label == label
        and onset <= event.onset_s
        and event.onset_s + event.duration_s <= onset + WINDOW_S
        and TCP.index(channel) in event.channels
        for event in events[recording.removesuffix("_run1")]
    )


# ----------------------------------------------------------------------------------------- answers


def readings(name: str, out: Path) -> dict[str, tuple[FeatureStore, Reading]]:
    source, any_stretch = out / f"{name}-features", Stretch("", 0, 1)
    found = {
        "band power": open_features(source, any_stretch, None, "band_power", {}),
        "mini": open_features(source, any_stretch, None, "tokens", {}),
    }
    store, own = found["mini"]
    twin = extractors()[1]
    return {**found, RANDOM: (store, own._replace(extractor=twin, reader=twin.reader))}


def whitening(values: list[np.ndarray]) -> np.ndarray:
    """What makes standardised features uncorrelated within people; directions that hardly vary are
    not blown up.
    """
    rows = np.concatenate([v.reshape(-1, v.shape[-1]) for v in values]).astype(np.float64)
    variance, axes = np.linalg.eigh(rows.T @ rows / len(rows))
    return axes / np.sqrt(variance + SHRINKAGE * variance.mean())


def answers(name: str, out: Path) -> pd.DataFrame:
    """The precision of every query by every kind of features and variant."""
    with tempfile.TemporaryDirectory() as work:
        rows = [
            row
            for features, (store, reading) in readings(name, out).items()
            for row in answers_of(name, out, store, reading, Path(work), features)
        ]
    return pd.DataFrame(rows)


def answers_of(
    name: str, out: Path, store: FeatureStore, reading: Reading, work: Path, features: str
) -> Iterator[dict[str, str | float]]:
    parts = list(parts_of(store, reading))
    people = backgrounds(parts)
    own = {p.recording: people[p.person].standardised(p.values, p.ch_names) for p in parts}
    white = whitening(list(own.values()))
    for asked in queries(name, out):
        row = next(store.recordings[store.recordings.file == asked.stretch.file].itertuples())
        query, values, _ = read_query(work, reading, row, asked.stretch, asked.channel)
        standard = people[query.subject].standardised(values, query.channels).mean(axis=0)
        others = [p for p in parts if p.person != query.subject]
        right = rights(others, asked)
        for metric in METRICS:
            z = {p.recording: seen(own[p.recording], metric, white) for p in others}
            table = distances(others, z, seen(standard, metric, white), query)
            for ranked_by in ("distance", "nearness"):
                yield {
                    "task": asked.task,
                    "person": query.subject,
                    "features": features,
                    "variant": f"{metric}, by {ranked_by}",
                    "precision": precision(table, ranked_by, right),
                    "chance": float(np.mean(list(right.values()))),
                }


def rights(parts: list[Part], asked: Asked) -> dict[tuple[str, float, str], bool]:
    """Whether each place of a set shows what was asked for; without a channel, of each window."""
    return {
        (p.recording, onset, channel): asked.is_right(p.recording, onset, channel)
        for p in parts
        for onset in p.onset_s.tolist()
        for channel in (p.ch_names if asked.channel else ["n/a"])
    }


def seen(values: np.ndarray, metric: str, white: np.ndarray) -> np.ndarray:
    """Features such that the root mean square of differences is the metric."""
    if "whitened" in metric:
        values = values @ white
    if "cosine" in metric:
        values = values / np.linalg.norm(values, axis=-1, keepdims=True)
    return values


def distances(
    parts: list[Part], values: dict[str, np.ndarray], asked: np.ndarray, query: Query
) -> pd.DataFrame:
    tables = []
    for p in parts:
        channel = "n/a"
        if query.is_any_channel:
            each = channel_distances(values[p.recording], asked)
            distance = each.min(axis=1)
            channel = np.array(p.ch_names, object)[each.argmin(axis=1)]
        else:
            distance = common_distances(values[p.recording], p.ch_names, asked, query.channels)
        about = {"recording": p.recording, "person": p.person, "onset_s": p.onset_s}
        tables.append(pd.DataFrame({**about, "channel": channel, "distance": distance}))
    table = pd.concat(tables, ignore_index=True)
    # The smaller the nearer, as with distances.
    table["nearness"] = -table.groupby("person").distance.transform(
        lambda own: nearness(own.to_numpy(), own.to_numpy())
    )
    return table


def precision(
    table: pd.DataFrame, ranked_by: str, right: dict[tuple[str, float, str], bool]
) -> float:
    there = pd.DataFrame([key for key, value in right.items() if value])
    there.columns = ["recording", "onset_s", "channel"]
    n = min(TOP, len(first_apart(there, WINDOW_S, len(there))))
    first = first_apart(table.sort_values(ranked_by, kind="stable"), WINDOW_S, n)
    places = first[["recording", "onset_s", "channel"]].itertuples(index=False, name=None)
    return float(np.mean([right[place] for place in places]))


# ------------------------------------------------------------------------------------------- table


def print_table(out: Path) -> None:
    tables = {}
    for name in SETS:
        path = out / f"{name}.csv"
        if not path.is_file():
            answers(name, out).to_csv(path, index=False)
        tables[name] = pd.read_csv(path)
    explored = tables.pop("synthetic-explored")
    every = pd.concat(tables.values(), ignore_index=True)
    best = best_variants(explored)
    judged = every[every.variant == every.features.map(best)]
    print("explored, mean over tasks\n")
    print(markdown(means(explored).unstack("features").reset_index()))
    print("\nconfirmed, mean over tasks\n")
    print(markdown(means(every).unstack("features").reset_index()))
    rows = [
        {"features": features, "variant": best[features]} | summary(own, "precision")
        for features, own in judged.groupby("features")
    ]
    chance = judged[judged.features == "mini"]
    rows.append({"features": "chance", "variant": ""} | summary(chance, "chance"))
    print("\nprecision\n")
    print(markdown(pd.DataFrame(rows)))
    print("\ndifferences\n")
    for one, other in itertools.combinations(best, 2):
        print(one, "minus", other, difference(judged, one, other))


def means(table: pd.DataFrame) -> pd.Series:
    by_task = table.groupby(["features", "variant", "task"], sort=False).precision.mean()
    return by_task.groupby(["features", "variant"], sort=False).mean()


def best_variants(table: pd.DataFrame) -> dict[str, str]:
    """The variant of each kind of features that has the highest mean over tasks."""
    return {features: variant for features, variant in means(table).groupby("features").idxmax()}


def summary(own: pd.DataFrame, column: str) -> dict[str, str]:
    found = {}
    for task in TASKS:
        of_people = own[own.task == task].groupby("person")[column].mean().to_numpy()
        low, high = interval(of_people)
        found[task] = f"{of_people.mean():.2f} [{low:.2f}, {high:.2f}]"
    mean = own.groupby("task")[column].mean()
    return {"mean": f"{mean.mean():.3f}", **found}


def drawn(n: int) -> np.ndarray:
    return generator("find, people", n).integers(n, size=(2000, n))


def interval(of_people: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(of_people[drawn(len(of_people))].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


def difference(judged: pd.DataFrame, one: str, other: str) -> str:
    """The mean over tasks of the difference, with an interval over the people of each task."""
    draws, middle = [], []
    for task in TASKS:
        own = judged[judged.task == task].groupby(["features", "person"]).precision.mean()
        apart = (own[one] - own[other]).to_numpy()
        middle.append(apart.mean())
        draws.append(apart[drawn(len(apart))].mean(axis=1))
    low, high = np.quantile(np.mean(draws, axis=0), [0.025, 0.975])
    return f"{np.mean(middle):+.3f} [{low:+.3f}, {high:+.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("make", "table"))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    if args.what == "make":
        make(args.data, args.out)
    else:
        print_table(args.out)


if __name__ == "__main__":
    run_main(main)
