"""What few marks are worth: heads of `eegdm fit` on tokens, on random weights and on band power,
and a fusion transformer that is trained on the same marks.

    python examples/evidence/few_marks.py --data ../shared/data/people --out runs/few_marks

Each repetition draws people, and of their windows marks: of each label the same number, spread over
the people as evenly as it goes. Everybody else's windows are scored: AUROC, each class against the
others, averaged over classes. A cell for which a set has too few windows is left out.

Heads are those of `eegdm fit` (readout and penalty chosen within the marks). "centred" divides by
what is usual for the person, as `--centre subject` does. The transformer is the one of recipe
`small`, with its optimiser, learning rate, batches and epochs; it is judged after the last epoch,
because so few marks leave nothing to choose an epoch by. Its tokens keep their five seconds; those
of heads are averaged over them.

Recordings and windows are those of suggest.py, embedded by `mini` once.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from fusion import LFT, train_transformer
from ledger import Ledger, markdown
from sklearn.metrics import roc_auc_score
from suggest import SETS, command_line, recordings_of

from eegdm.console import run_main
from eegdm.data.signal import ModelUnits
from eegdm.evaluation.cross_fitting import Marked, ReadRows, fit_head, in_parts
from eegdm.features import FeatureStore, embed_folder
from eegdm.features.classical import BandPower
from eegdm.features.detector import MarkedStore, as_marked, labels_of
from eegdm.features.extractors import Description, Tokens
from eegdm.features.twins import twin_tokens
from eegdm.inference.chunks import Batch

N_PEOPLE, N_MARKS = (2, 4, 8), (10, 30, 100)


@dataclass(frozen=True)
class Pools:
    """The tokens of `mini`, second by second: (window, channel, block, pool, feature)."""

    name: str = "pools"

    def describe(self) -> Description:
        axes = ("window", "channel", "block", "pool", "feature")
        return Description(f"pools of {Tokens('mini').describe().fingerprint}", axes, {})

    def __call__(self, batch: Batch, sfreq: float, channel_ids: Sequence[int]) -> np.ndarray:
        reader = Tokens("mini").reader
        shown = batch.shown(ModelUnits.of(asdict(reader.signal_config)))
        tokens = reader.tokens(shown, channel_ids, sfreq, torch.device("cpu"))
        return tokens[:, :, :, 0].transpose(0, 3, 1, 2, 4)


class Windows(NamedTuple):
    """All labelled windows of a set."""

    store: MarkedStore
    pools: np.ndarray

    @property
    def label(self) -> np.ndarray:
        return self.store.windows.label

    @property
    def person(self) -> np.ndarray:
        return self.store.windows.group["people"]

    def knowing(self, rows: np.ndarray) -> Marked:
        """These windows as somebody knows them who has marked some."""
        known = np.isin(np.arange(len(self.label)), rows)
        return replace(self.store.windows, label=np.where(known, self.label, -1), learn=known)


def open_set(name: str, data: Path, out: Path) -> Windows:
    extractors = (BandPower(), twin_tokens("mini", 0), Pools())
    folder = recordings_of(name, data, out)
    options: dict[str, Any] = {"table": "events.csv", "extractors": extractors, **SETS[name]}
    store = embed_folder(folder, "mini", out / f"{name}-mini", **options)
    usable = store.recordings.status == "ok"
    store = replace(store, recordings=store.recordings[usable])
    marked = as_marked(store, labels_of(store))
    return Windows(marked, stacked(store, marked.ch_names))


def stacked(store: FeatureStore, ch_names: list[str]) -> np.ndarray:
    """(window, block, pool, query, channel, feature)"""
    values = store.stack(Pools().name, ch_names).values
    return np.ascontiguousarray(values.transpose(0, 2, 3, 1, 4))[:, :, :, None]


def draw(windows: Windows, n_people: int, n_marks: int, seed: int) -> np.ndarray | None:
    """The rows of the marks, in order; nothing if there are too few."""
    rng = np.random.default_rng([seed, n_people, n_marks])
    labels = np.unique(windows.label[windows.label >= 0])
    people = rng.permutation(np.unique(windows.person))[:n_people]
    rows = []
    for label in labels:
        queues = [
            list(
                rng.permutation(np.flatnonzero((windows.label == label) & (windows.person == who)))
            )
            for who in people
        ]
        turns = itertools.chain.from_iterable(itertools.zip_longest(*queues))
        own = [row for row in turns if row is not None][: round(n_marks / len(labels))]
        if len(own) < round(n_marks / len(labels)):
            return None
        rows += own
    return np.sort(rows)


# ------------------------------------------------------------------------------------- classifiers

Decide = Callable[[np.ndarray], np.ndarray]


def head(windows: Windows, rows: np.ndarray, read: ReadRows) -> Decide:
    fitted = fit_head(windows.knowing(rows), rows, read(rows))
    return lambda asked: np.concatenate([fitted.decide(read(part)) for part in in_parts(asked)])


def transformer(windows: Windows, rows: np.ndarray, seed: int) -> Decide:
    decide = train_transformer(windows.pools[rows], windows.label[rows], seed)
    return lambda asked: decide(windows.pools[asked])


def ways(windows: Windows) -> dict[str, Callable[[np.ndarray, int], Decide]]:
    store = windows.store
    reads = {
        f"{name}{', centred' if centre else ''}": store.read(1, centre, array)
        for name, array in (
            ("mini", "tokens"), ("random weights", "random-0"), ("band power", BandPower().name)
        )
        for centre in (None, "subject")
    }  # fmt: skip
    found = {
        name: lambda rows, _, read=read: head(windows, rows, read) for name, read in reads.items()
    }
    return found | {LFT: lambda rows, seed: transformer(windows, rows, seed)}


def score(windows: Windows, rows: np.ndarray, decide: Decide) -> float:
    """Mean AUROC of the classes, on people of whom nothing is marked."""
    learned = np.unique(windows.person[rows])
    asked = np.flatnonzero((windows.label >= 0) & ~np.isin(windows.person, learned))
    decided = decide(asked)
    decided = decided - decided.mean(axis=1, keepdims=True)
    label = windows.label[asked]
    return float(np.mean([roc_auc_score(label == k, decided[:, k]) for k in np.unique(label)]))


def run_set(
    name: str, windows: Windows, ledger: Ledger, repetitions: int, transformers: int
) -> None:
    made = ways(windows)
    for seed, people, marks in itertools.product(range(repetitions), N_PEOPLE, N_MARKS):
        rows = draw(windows, people, marks, seed)
        for way, make in made.items():
            if rows is None or (way == LFT and seed >= transformers):
                continue
            key = {"set": name, "way": way, "people": people, "marks": marks, "seed": seed}
            ledger.add(key, lambda m=make, r=rows, s=seed: {"auroc": score(windows, r, m(r, s))})


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Means over repetitions, and median seconds."""
    grouped = table.groupby(["set", "way", "people", "marks"], sort=False)
    shown = grouped.agg(auroc=("auroc", "mean"), n=("auroc", "size"), seconds=("seconds", "median"))
    wide = shown.reset_index().pivot_table(
        index=["set", "way"], columns=["people", "marks"], values="auroc", sort=False
    )
    wide.columns = [f"{marks} of {people}" for people, marks in wide.columns]
    wide["seconds"] = table.groupby(["set", "way"]).seconds.median()
    return wide.reset_index()


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--transformers", type=int, default=3, help="repetitions that train one")
    args = parser.parse_args()
    ledger = Ledger(args.out / "few_marks.csv")
    for name in args.sets.split(","):
        windows = open_set(name, args.data, args.out)
        run_set(name, windows, ledger, args.repetitions, args.transformers)
    print(markdown(summary(ledger.table)))


if __name__ == "__main__":
    run_main(main)
