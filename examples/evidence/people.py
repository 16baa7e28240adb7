"""The confirmatory run of docs/protocol.md: do the tokens of pretrained backbones help on people
whom they never met, beside random weights and classical features?

    examples/evidence/people.sh ../shared/data runs/protocol    # backbones and twins: three hours
    python examples/evidence/people.py features --data ../shared/data/people --root runs/protocol
    python examples/evidence/people.py heads --root runs/protocol
    python examples/evidence/people.py table --root runs/protocol

`features` makes the features of the chosen windows by every backbone that is finished; what is
stored is not computed again. `heads` fits the heads of a set and scores them, of all features that
are there; sets may be given one by one with --sets. `table` writes scores.csv and differences.csv
and prints the tables. All can be run while backbones are still being trained.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import joblib
import numpy as np
import pandas as pd
from ledger import markdown

from eegdm import artifacts
from eegdm.console import run_main, track
from eegdm.data.montage import CHANNEL_ID
from eegdm.data.windows import evenly, main_labels
from eegdm.evaluation.across_people import (
    Decisions,
    Kind,
    LabelledWindows,
    centred,
    decide,
)
from eegdm.evaluation.covariance import log_covariance
from eegdm.evaluation.people_scores import (
    Scored,
    drawn_scores,
    draws,
    interval,
    widening,
)
from eegdm.evaluation.study import (
    AS_THEY_ARE,
    BAND_POWER,
    CENTRED,
    CLASSICAL,
    COVARIANCE,
    MAIN,
    readouts,
)
from eegdm.features.classical import BandPower, Covariance
from eegdm.features.extractors import Extractor, Tokens
from eegdm.inference.chunks import Batch, read_batches
from eegdm.inference.embedding import EmbedOptions, prepare_windows
from eegdm.inference.preparation import PreparationSettings

INPUTS, HALVES, SEEDS = ("raw", "whitened"), (0, 1), (0, 1, 2)
N_FOLDS, WINDOW_S, BATCH_SIZE = 5, 5.0, 16
ALL_BLOCKS = "all blocks per channel"
ARRAYS = (MAIN, ALL_BLOCKS)


class TestSet(NamedTuple):
    """People on whom backbones are tested."""

    name: str
    channels: str
    most: int | None  # windows for each label of a person
    is_halved: bool  # a half of the people has backbones of its own
    score: tuple[str, str]  # level and score of the protocol
    second: tuple[str, str] | None

    @property
    def treatments(self) -> tuple[str, ...]:
        """What the protocol looks at, first the one that counts."""
        return (CENTRED, AS_THEY_ARE) if self.score[1] == "auroc_within" else (AS_THEY_ARE,)


WITHIN = ("window", "auroc_within"), ("window", "balanced_accuracy_within")
SETS = (
    TestSet("eegmat", "montage", None, True, *WITHIN),
    TestSet("adhd", "montage", 12, False, ("person", "auroc"), None),
    TestSet("guinea_bissau", "file", 20, False, *WITHIN),
)


class Network(NamedTuple):
    """A backbone of the protocol, or its twin with random weights."""

    input: str
    half: int  # of EEGMAT that it does not learn from
    seed: int
    is_trained: bool

    @property
    def name(self) -> str:
        return (
            f"{'' if self.is_trained else 'twin-'}{self.input}-without{self.half}-seed{self.seed}"
        )

    def backbone(self, root: Path) -> Path:
        return root / self.name / "folder" / "people" / "backbone"


def networks(half: int | None = None) -> list[Network]:
    """All networks, or those that were not trained on a half of EEGMAT. Random weights with raw
    input know nothing of the half, so that those of half 0 serve both."""
    every = itertools.starmap(Network, itertools.product(INPUTS, HALVES, SEEDS, (True, False)))
    if half is not None:
        return [network for network in every if network.half == half]
    return [n for n in every if n.is_trained or n.input != INPUTS[0] or n.half == HALVES[0]]


# -------------------------------------------------------------------------------------- features


def choose_windows(data: Path, chosen: TestSet) -> pd.DataFrame:
    """The windows of a set up to the last label's end, in order of file and time: file, window,
    onset_s, label, person."""
    events = pd.read_csv(data / chosen.name / "events.csv")
    found = []
    for file, own in events.groupby("file", sort=True):
        end = float((own.onset_s + own.duration_s).max())
        onset_s = np.arange(0, end - WINDOW_S + 1e-6, WINDOW_S)
        table = pd.DataFrame({"file": file, "window": np.arange(len(onset_s)), "onset_s": onset_s})
        table["label"] = main_labels(onset_s, WINDOW_S, own.assign(channel=None))
        table["person"] = own.subject.iloc[0]
        found.append(table)
    table = pd.concat(found, ignore_index=True).dropna(subset="label").reset_index(drop=True)
    if chosen.most is not None:
        groups = table.groupby(["person", "label"]).indices.values()
        rows = np.concatenate([own[evenly(len(own), chosen.most)] for own in groups])
        table = table.iloc[np.sort(rows)].reset_index(drop=True)
    return table


class Cut(NamedTuple):
    """The chosen windows of a recording."""

    person: str
    batch: Batch
    sfreq: float
    channel_ids: list[int]
    ch_names: list[str]

    def batches(self) -> Iterator[Batch]:
        for first in range(0, len(self.batch.starts), BATCH_SIZE):
            own = slice(first, first + BATCH_SIZE)
            yield self.batch._replace(starts=self.batch.starts[own], data=self.batch.data[own])


def cut_windows(
    data: Path, chosen: TestSet, table: pd.DataFrame, settings: PreparationSettings
) -> Iterator[Cut]:
    """Prepare the recordings of a set and cut the windows of its table."""
    for file, own in track(table.groupby("file", sort=True), chosen.name, table.file.nunique()):
        with tempfile.TemporaryDirectory() as work:
            path = data / chosen.name / str(file)
            prepared, windows = prepare_windows(path, settings, WINDOW_S, None, Path(work))
            windows = windows._replace(starts=windows.starts[own.window.to_numpy()])
            (batch,) = read_batches(windows, prepared.read, prepared.spread(), len(own))
        ids = [CHANNEL_ID[name] for name in prepared.taken_for]
        yield Cut(own.person.iloc[0], batch, windows.sfreq, ids, prepared.ch_names)


def make_features(data: Path, root: Path, chosen: TestSet) -> None:
    """Make what is missing of a set's features: an array per network, of its half if it has one."""
    folder = root / "features" / chosen.name
    folder.mkdir(parents=True, exist_ok=True)
    table = choose_windows(data, chosen)
    half_of = halves(table.person) if chosen.is_halved else None
    every = networks() if half_of is None else [n for half in HALVES for n in networks(half)]
    finished = [n for n in every if artifacts.is_finished(n.backbone(root))]
    half = {n.name: n.half for n in finished if half_of is not None}
    todo: dict[str, Extractor] = {BandPower().name: BandPower(), Covariance().name: Covariance()}
    todo |= {n.name: Tokens(str(n.backbone(root)), "cpu") for n in finished}
    todo = {name: made for name, made in todo.items() if not (folder / f"{name}.npy").is_file()}
    if not todo:
        return
    reader = Tokens(str(finished[0].backbone(root))).reader
    settings = reader.preparation(EmbedOptions(channels=chosen.channels, missing="drop"))
    cuts = list(cut_windows(data, chosen, table, settings))
    artifacts.write_json(folder / "ch_names.json", {"ch_names": cuts[0].ch_names})
    with artifacts.atomic_path(folder / "windows.csv") as temporary:
        table.to_csv(temporary, index=False)
    for name, make in track(todo.items(), "features", len(todo)):
        parts = [
            make(batch, cut.sfreq, cut.channel_ids)
            for cut in cuts
            if half_of is None or name not in half or half_of[cut.person] == half[name]
            for batch in cut.batches()
        ]
        artifacts.write_array(folder / f"{name}.npy", np.concatenate(parts))


def halves(people: Sequence[str]) -> dict[str, int]:
    """The half of each person: in the order of their numbers, every second from the first on."""
    return {who: k % 2 for k, who in enumerate(sorted(set(people)))}


# ----------------------------------------------------------------------------------------- heads


class Part(NamedTuple):
    """People whose heads learn from each other, and the networks that they are tested with."""

    windows: LabelledWindows
    features: Mapping[str, np.ndarray]


class Rows(NamedTuple):
    """The rows of the protocol, and the kinds of features that each is the mean of."""

    members: dict[str, list[str]]

    @property
    def kinds(self) -> list[Kind]:
        """What heads learn from; a name says which arrays."""
        names = dict.fromkeys(itertools.chain.from_iterable(self.members.values()))
        return [Kind(name, tuple(name.split(" + "))) for name in names]


def rows_of(every: Sequence[Network]) -> Rows:
    """Return the rows; of a part, networks of one role and seed stand for each other."""
    found = {name: [name] for name in (BAND_POWER, COVARIANCE, CLASSICAL)}
    for shown, is_trained in itertools.product(INPUTS, (True, False)):
        own = [n for n in every if n.input == shown and n.is_trained == is_trained]
        if not own:
            continue
        label = f"{shown}, {'pretrained' if is_trained else 'random'}"
        found[label] = [f"{n.name}: {MAIN}" for n in own]
        found[f"{label}, all blocks"] = [f"{n.name}: {ALL_BLOCKS}" for n in own]
        if is_trained:
            found[f"{CLASSICAL} + {label}"] = [f"{CLASSICAL} + {n.name}: {MAIN}" for n in own]
    return Rows(found)


def pairs() -> list[tuple[str, str]]:
    """The differences of the protocol, the first minus the second."""
    found = []
    for shown in INPUTS:
        found.append((f"{shown}, pretrained", f"{shown}, random"))
        found.append((f"{shown}, pretrained, all blocks", f"{shown}, random, all blocks"))
    found += [(f"{INPUTS[1]}, {what}", f"{INPUTS[0]}, {what}") for what in ("random", "pretrained")]
    for shown in reversed(INPUTS):
        found += [(f"{shown}, pretrained", other) for other in (BAND_POWER, CLASSICAL)]
        found.append((f"{CLASSICAL} + {shown}, pretrained", CLASSICAL))
    return found


def read_part(folder: Path, table: pd.DataFrame, half: int | None) -> Part:
    """Windows and features of a set, or of one of its halves, whose networks are called by input
    and seed alone."""
    labels = sorted(table.label.unique())
    number = table.label.map({name: k for k, name in enumerate(labels)}).to_numpy(int)
    own = (
        np.ones(len(table), bool)
        if half is None
        else table.person.map(halves(table.person)).to_numpy() == half
    )
    windows = LabelledWindows(
        number[own], table.person.to_numpy(str)[own], table.file.to_numpy(str)[own], labels
    )
    ch_names = artifacts.read_json(folder / "ch_names.json")["ch_names"]
    power = np.load(folder / f"{BandPower().name}.npy")[own]
    features = {
        BAND_POWER: power.reshape(len(power), -1),
        COVARIANCE: log_covariance(np.load(folder / f"{Covariance().name}.npy")[own], ch_names),
    }
    for network in networks(half):
        path = folder / f"{network.name}.npy"
        if path.is_file():
            name = (network if half is None else network._replace(half=0)).name
            features |= {
                key: values
                for key, values in readouts(name, np.load(path)).items()
                if key.removeprefix(f"{name}: ") in ARRAYS
            }
    return Part(windows, features)


def known(parts: Sequence[Part]) -> list[Network]:
    """The networks whose features every part has."""
    return [n for n in networks() if all(f"{n.name}: {MAIN}" in part.features for part in parts)]


def decide_parts(
    parts: Sequence[Part], rows: Rows, treatment: str
) -> tuple[LabelledWindows, dict[str, Decisions]]:
    """Decisions on the windows of all parts; heads learn within a part."""
    found = []
    for part in parts:
        arrays = {array for kind in rows.kinds for array in kind.arrays}
        features = {name: part.features[name] for name in arrays}
        if treatment == CENTRED:
            features = {k: centred(v, part.windows.person) for k, v in features.items()}
        none = np.empty((0, len(part.windows.label)), int)
        found.append(decide(features, part.windows, rows.kinds, none))
    windows = LabelledWindows(
        *(
            np.concatenate([getattr(part.windows, field) for part in parts])
            for field in ("label", "person", "recording")
        ),
        parts[0].windows.classes,
    )
    joined = {
        name: Decisions(
            np.concatenate([one[name].values for one in found]),
            found[0][name].permuted,
            {
                n: np.concatenate([one[name].curve[n] for one in found], axis=1)
                for n in found[0][name].curve
            },
            [],
        )
        for name in found[0]
    }
    return windows, joined


# ---------------------------------------------------------------------------------------- tables


class ScoredSet(NamedTuple):
    """What came of the heads of a set."""

    of_treatment: dict[str, Scored]
    """Scores of each draw."""
    networks: dict[str, int]
    """How many networks each row is the mean of."""


def score_set(root: Path, chosen: TestSet) -> ScoredSet:
    """Fit the heads of a set and score them."""
    folder = root / "features" / chosen.name
    table = pd.read_csv(folder / "windows.csv")
    of = HALVES if chosen.is_halved else (None,)
    parts = [read_part(folder, table, half) for half in of]
    rows = rows_of(known(parts))
    found = {}
    for treatment in chosen.treatments:
        windows, decided = decide_parts(parts, rows, treatment)
        found[treatment] = drawn_scores(windows, decided, rows.members, draws(windows))
    return ScoredSet(found, {row: len(members) for row, members in rows.members.items()})


def scored_path(root: Path, chosen: TestSet) -> Path:
    return root / "heads" / f"{chosen.name}.joblib"


def tables(root: Path) -> Iterator[tuple[str, pd.DataFrame]]:
    """Scores and differences of every set, and the pooled differences, as long tables."""
    wider = widening(N_FOLDS)
    scores, differences, drawn = [], [], {}
    for chosen in SETS:
        if not scored_path(root, chosen).is_file():
            continue
        found = ScoredSet(*joblib.load(scored_path(root, chosen)))
        size = found.networks
        for treatment, scored in found.of_treatment.items():
            for (row, level, n_people, score), values in scored.items():
                if (level, score) not in (chosen.score, chosen.second):
                    continue
                about = {"set": chosen.name, "treatment": treatment, "n_people": n_people}
                about["score"] = score
                scores.append({**about, "features": row, "networks": size[row]})
                scores[-1] |= interval(values, wider, (0.0, 1.0))
                for first, second in pairs():
                    if row == first and second in size:
                        difference = values - scored[second, level, n_people, score]
                        differences.append({**about, "features": first, "minus": second})
                        differences[-1] |= interval(difference, wider)
                        if treatment == chosen.treatments[0] and (level, score) == chosen.score:
                            drawn.setdefault((first, second, n_people), []).append(difference)
    for (first, second, n_people), of_sets in drawn.items():
        if len(of_sets) == len(SETS):
            about = {"set": "pooled", "treatment": "", "n_people": n_people, "score": "auroc"}
            differences.append({**about, "features": first, "minus": second})
            differences[-1] |= interval(np.mean(of_sets, axis=0), wider)
    for name, rows in (("scores", scores), ("differences", differences)):
        if rows:
            yield name, pd.DataFrame(rows).astype({"n_people": "Int64"})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("features", "heads", "table"))
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--sets", default=",".join(chosen.name for chosen in SETS))
    arguments = parser.parse_args()
    for chosen in SETS:
        if chosen.name not in arguments.sets.split(","):
            continue
        if arguments.what == "features":
            make_features(arguments.data, arguments.root, chosen)
        if arguments.what == "heads":
            path = scored_path(arguments.root, chosen)
            path.parent.mkdir(exist_ok=True)
            with artifacts.atomic_path(path) as temporary:
                joblib.dump(tuple(score_set(arguments.root, chosen)), temporary)
    if arguments.what != "table":
        return
    for name, table in tables(arguments.root):
        table.to_csv(arguments.root / f"{name}.csv", index=False)
        primary = table[table.n_people.isna()]
        print(f"\n## {name}\n\n{markdown(primary)}")


if __name__ == "__main__":
    run_main(main)
