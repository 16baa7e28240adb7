"""Do suggested marks teach more than random ones? Scores on people of whom nobody marked anything,
after 30 marks chosen in three ways and at random.

    python examples/evidence/suggest.py --data ../shared/data/people --out runs/suggest

Each repetition draws half of the people, whose windows may be marked; the others are scored. In
three rounds of ten, windows are chosen and the annotations answer; a window that they leave open
costs a mark and teaches nothing. Ways: "both" weighs what a window speaks for by the uncertainty of
a detector of the marks so far, "diversity" does not, "uncertainty" takes the least certain windows
(until there is a detector, as "diversity"), "random" draws windows. In each way and round, at most
ten divided by the number of people, rounded up, are of one person.

The score is AUROC, each class against the others, averaged over classes, of a head as `eegdm fit`
fits it; a class that it does not know has 0.5. The rule, written before the first number was seen:
the default of `eegdm suggest` is the way, of the three, with the highest mean difference from
"random" over repetitions, the sets counting alike. That it is better than random marks may be said
of a set if the 95 % interval over repetitions (t distribution) of the difference is above 0 there,
and in general only if it is so on all sets.

Recordings are embedded by `mini` once: windows of 5 s, every 15 s of EEGMAT, every 30 s of
Guinea-Bissau, every 2.5 s of twelve synthetic people, whose stretches of about seven seconds show
one of six classes each and are labelled as a whole.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from ledger import Ledger, markdown
from scipy.stats import t as student
from sklearn.metrics import roc_auc_score

from eegdm.console import run_main
from eegdm.data.synthetic.simulate import Segment, record, six_classes
from eegdm.evaluation.choosing import uncertainty
from eegdm.evaluation.cross_fitting import Marked, ReadRows, fit_head, in_parts
from eegdm.features import FeatureStore, embed_folder
from eegdm.features.detector import as_marked, labels_of
from eegdm.features.suggestions import Thought, choose_windows, learnable, think
from eegdm.synthetic import write_folder

N_ROUNDS, N_EACH = 3, 10
N_SYNTHETIC, MINUTES, SEED = 12, 2.0, 21
SETS = {
    "synthetic": {"step_s": 2.5},
    "eegmat": {"step_s": 15.0, "missing": "drop"},
    "guinea_bissau": {"step_s": 30.0, "channels": "file", "notch": (50.0,)},
}
Way = Callable[..., np.ndarray]


class Windows(NamedTuple):
    """All windows of a set."""

    store: FeatureStore
    label: pd.Series
    person: np.ndarray
    read: ReadRows

    @classmethod
    def of(cls, store: FeatureStore) -> Windows:
        own = replace(store, recordings=store.recordings[store.recordings.status == "ok"])
        marked = as_marked(own, labels_of(own))
        return cls(own, labels_of(own), marked.windows.group["people"], marked.read(1))

    def knowing(self, rows: np.ndarray) -> Marked:
        """These windows as somebody knows them who has asked about some."""
        known = self.label.where(self.label.index.isin(rows), None)
        return as_marked(self.store, learnable(known, self.store.windows.recording)).windows


def recordings_of(name: str, data: Path, out: Path) -> Path:
    """The folder of a set; the synthetic one is written if it is not there."""
    if name != "synthetic":
        return data / name
    table = out / name / "events.csv"
    if not table.is_file():
        write_folder(out / name, "annotations", N_SYNTHETIC, 1, MINUTES, SEED)
        rows = [row for n in range(N_SYNTHETIC) for row in stretches(f"s{n + 1:02d}")]
        columns = ["file", "onset_s", "duration_s", "label", "subject"]
        pd.DataFrame(rows, columns=columns).to_csv(table, index=False)
    return out / name


def stretches(subject: str) -> list[tuple[str, float, float, str, str]]:
    """What each stretch of a synthetic recording shows; its events last a second of it."""
    drawn: list[Segment] = []

    def plan(rng: np.random.Generator) -> list[Segment]:
        drawn.extend(six_classes(rng, MINUTES))
        return drawn

    record(SEED, subject, 1, 160, plan)
    return [(f"{subject}_run1.edf", *_about(segment), subject) for segment in drawn]


def _about(segment: Segment) -> tuple[float, float, str]:
    return segment.start_s, segment.stop_s - segment.start_s, segment.label


def open_set(name: str, data: Path, out: Path) -> Windows:
    folder, store = recordings_of(name, data, out), out / f"{name}-mini"
    return Windows.of(embed_folder(folder, "mini", store, table="events.csv", **SETS[name]))


# -------------------------------------------------------------------------------------------- ways


def both(windows: Windows, is_open: np.ndarray, thought: Thought | None, _: object) -> np.ndarray:
    return choose_windows(windows.read, is_open, windows.person, N_EACH, thought)[0]


def diversity(windows: Windows, is_open: np.ndarray, *_: object) -> np.ndarray:
    return choose_windows(windows.read, is_open, windows.person, N_EACH, None)[0]


def unsure(windows: Windows, is_open: np.ndarray, thought: Thought | None, _: object) -> np.ndarray:
    if thought is None:
        return diversity(windows, is_open)
    order = np.argsort(-uncertainty(thought.probability), kind="stable")
    return first_of_people(order[is_open[order]], windows.person)


def random(
    windows: Windows, is_open: np.ndarray, _: object, rng: np.random.Generator
) -> np.ndarray:
    return first_of_people(rng.permutation(np.flatnonzero(is_open)), windows.person)


def first_of_people(order: np.ndarray, person: np.ndarray) -> np.ndarray:
    """The first rows of an order, but of nobody more than their share."""
    most = math.ceil(N_EACH / len(np.unique(person[order])))
    place = pd.Series(person[order]).groupby(person[order]).cumcount().to_numpy()
    return order[place < most][:N_EACH]


WAYS: dict[str, Way] = {
    "both": both,
    "diversity": diversity,
    "uncertainty": unsure,
    "random": random,
}


# ----------------------------------------------------------------------------------------- a score


def run_rounds(windows: Windows, way: str, seed: int) -> dict[str, float]:
    """Mark in three rounds among half of the people; score on the others."""
    people = np.random.default_rng(seed).permutation(np.unique(windows.person))
    mine = np.isin(windows.person, people[: len(people) // 2])
    rng, asked = np.random.default_rng([seed, 1]), np.empty(0, int)
    for _ in range(N_ROUNDS):
        # Windows of others are neither open nor asked about, so they are hidden from the choice.
        own = narrowed(windows, mine)
        places = np.flatnonzero(mine)
        is_open = ~np.isin(places, asked)
        thought = think(own.knowing(np.flatnonzero(~is_open)), own.read)
        asked = np.append(asked, places[WAYS[way](own, is_open, thought, rng)])
    return {
        "auroc": score(windows, asked, ~mine),
        "answered": int(windows.label[asked].notna().sum()),
    }


def narrowed(windows: Windows, mine: np.ndarray) -> Windows:
    """The windows of some people."""
    rows, store = np.flatnonzero(mine), windows.store
    own = replace(store, windows=store.windows.iloc[rows].reset_index(drop=True))
    return Windows(
        own,
        windows.label.iloc[rows].reset_index(drop=True),
        windows.person[rows],
        lambda chosen: windows.read(rows[chosen]),
    )


def score(windows: Windows, asked: np.ndarray, of_others: np.ndarray) -> float:
    """Mean AUROC of the classes, each against the others."""
    known = windows.knowing(asked)
    rows = np.flatnonzero(of_others & windows.label.notna().to_numpy())
    truth, names = windows.label.iloc[rows].to_numpy(str), sorted(set(windows.label.dropna()))
    if len(known.classes) < 2:
        return 0.5
    learn = np.flatnonzero(known.learn)
    head = fit_head(known, learn, windows.read(learn))
    decided = np.concatenate([head.decide(windows.read(part)) for part in in_parts(rows)])
    found = dict(zip(known.classes, (decided - decided.mean(axis=1, keepdims=True)).T, strict=True))
    each = [roc_auc_score(truth == c, found[c]) if c in found else 0.5 for c in names]
    return float(np.mean(each))


# ------------------------------------------------------------------------------------------- table


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Scores, and differences from random marks with intervals over repetitions."""
    wide = table.pivot(index=["set", "seed"], columns="way", values="auroc")
    rows = []
    for name, own in wide.groupby(level="set", sort=False):
        for way in WAYS:
            difference = own[way] - own["random"]
            half = student.ppf(0.975, len(own) - 1) * difference.std() / len(own) ** 0.5
            said = (
                ""
                if way == "random"
                else (
                    f"{difference.mean():+.3f} [{difference.mean() - half:+.3f},"
                    f" {difference.mean() + half:+.3f}]"
                )
            )
            rows.append((name, way, f"{own[way].mean():.3f}", said))
    for way in WAYS:
        mean = (wide[way] - wide["random"]).groupby(level="set").mean().mean()
        rows.append(("mean of the sets", way, "", "" if way == "random" else f"{mean:+.3f}"))
    return pd.DataFrame(rows, columns=["set", "way", "AUROC", "minus random"])


def command_line(description: str | None) -> argparse.ArgumentParser:
    """What this script and few_marks.py are told."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--repetitions", type=int, default=10)
    return parser


def main() -> None:
    args = command_line(__doc__).parse_args()
    ledger = Ledger(args.out / "suggest.csv")
    for name in args.sets.split(","):
        windows = open_set(name, args.data, args.out)
        for seed in range(args.repetitions):
            for way in WAYS:
                key = {"set": name, "way": way, "seed": seed}
                ledger.add(key, lambda w=windows, v=way, s=seed: run_rounds(w, v, s))
    print(markdown(summary(ledger.table)))


if __name__ == "__main__":
    run_main(main)
