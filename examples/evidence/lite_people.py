"""What three blocks instead of eight cost on unseen people.

    examples/evidence/people.sh ../shared/data runs/protocol      # and people.py: features
    examples/evidence/lite_people.sh ../shared/data runs/protocol
    python examples/evidence/lite_people.py --data ../shared/data/people --root runs/protocol

Exploratory: it was planned, as described here, before any number of it existed, and after the
confirmatory run (people.py), whose windows, folds, scores and intervals it uses. "Eight blocks" are
the protocol's backbones with raw input (recipe `people`: width 32), "first three" are the first
three blocks of the same, and "three blocks" are backbones of recipe `lite`'s size that were trained
as the eight were. Each row is the mean of three seeds; the head reads the tokens of all its blocks,
as a classifier does. The sets are those of whose people no backbone has learned; ADHD is not
centred, since a child has one class.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from ledger import markdown
from people import (
    ALL_BLOCKS,
    HALVES,
    INPUTS,
    N_FOLDS,
    SEEDS,
    SETS,
    Network,
    TestSet,
    cut_windows,
    read_part,
)

from eegdm import artifacts
from eegdm.console import run_main
from eegdm.evaluation.across_people import Kind, LabelledWindows, centred, decide
from eegdm.evaluation.people_scores import drawn_scores, draws, interval, widening
from eegdm.evaluation.study import CENTRED, readouts
from eegdm.features.extractors import Tokens
from eegdm.inference.embedding import EmbedOptions

EIGHT, FIRST, THREE = "eight blocks", "first three", "three blocks"
N_BLOCKS = 3
PAIRS = ((FIRST, EIGHT), (THREE, EIGHT), (THREE, FIRST))


def make_features(data: Path, root: Path, chosen: TestSet, name: str) -> np.ndarray:
    """Tokens (window, channel, block, feature) of a backbone of three blocks, stored."""
    path = root / "features" / chosen.name / f"{name}.npy"
    if not path.is_file():
        make = Tokens(str(root / name / "folder" / "people" / "backbone"), "cpu")
        settings = make.reader.preparation(EmbedOptions(channels=chosen.channels, missing="drop"))
        table = pd.read_csv(path.with_name("windows.csv"))
        parts = [
            make(batch, cut.sfreq, cut.channel_ids)
            for cut in cut_windows(data, chosen, table, settings)
            for batch in cut.batches()
        ]
        artifacts.write_array(path, np.concatenate(parts))
    return np.load(path)


def tokens_of(data: Path, root: Path, chosen: TestSet) -> Iterator[tuple[str, int, np.ndarray]]:
    """Row, seed and tokens of each network."""
    for seed in SEEDS:
        network = Network(INPUTS[0], HALVES[0], seed, is_trained=True)
        eight = np.load(root / "features" / chosen.name / f"{network.name}.npy")
        yield EIGHT, seed, eight
        yield FIRST, seed, eight[:, :, :N_BLOCKS]
        yield THREE, seed, make_features(data, root, chosen, f"lite-{network.name}")


def of_treatment(
    tokens: list[tuple[str, int, np.ndarray]],
    windows: LabelledWindows,
    chosen: TestSet,
    treatment: str,
) -> Iterator[dict[str, object]]:
    """The lines of a set's table."""
    features, members = {}, {}
    for row, seed, values in tokens:
        name = f"{row}, seed {seed}"
        features[name] = readouts(name, values)[f"{name}: {ALL_BLOCKS}"]
        if treatment == CENTRED:
            features[name] = centred(features[name], windows.person)
        members.setdefault(row, []).append(name)
    none = np.empty((0, len(windows.label)), int)
    decided = decide(features, windows, [Kind(name, (name,)) for name in features], none)
    scored = drawn_scores(windows, decided, members, draws(windows))
    level, score = chosen.score
    rows = {row: scored[row, level, None, score] for row in members}
    about, wider = {"set": chosen.name, "treatment": treatment}, widening(N_FOLDS)
    for row, values in rows.items():
        yield about | {"row": row, "minus": "", **interval(values, wider, (0.0, 1.0))}
    for first, second in PAIRS:
        difference = interval(rows[first] - rows[second], wider)
        yield about | {"row": first, "minus": second, **difference}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    arguments = parser.parse_args()
    lines = []
    for chosen in SETS:
        if chosen.is_halved:
            continue
        table = pd.read_csv(arguments.root / "features" / chosen.name / "windows.csv")
        windows = read_part(arguments.root / "features" / chosen.name, table, None).windows
        tokens = list(tokens_of(arguments.data, arguments.root, chosen))
        for treatment in chosen.treatments:
            lines += of_treatment(tokens, windows, chosen, treatment)
    found = pd.DataFrame(lines)
    found.to_csv(arguments.root / "lite-people.csv", index=False)
    print(markdown(found))


if __name__ == "__main__":
    run_main(main)
