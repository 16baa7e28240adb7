"""What the fusion transformer adds to a linear head on unseen people, and what centring adds to it.

    python examples/evidence/fusion.py --root runs/protocol

Exploratory: it was planned, as described here, before any number of it existed, and after the
confirmatory run (people.py), whose features, folds, scores and intervals it uses. Tokens are those
of the protocol's backbones with raw input, averaged over the seconds of a window; all blocks, one
kind of pool. The head (ridge, its penalty chosen over people) and the transformer (that of recipe
`small`, with its optimiser, learning rate, batches and epochs, judged after the last epoch) get the
same tokens of the same windows: log tokens for the head, tokens for the transformer, as in the
package. "Centred" divides a person's tokens by their geometric mean over the person's windows, as
`fusion.centre=subject` does. There is a transformer for each fold and backbone (three seeds; on
EEGMAT those that have not learned from its half, on the others those without half 0), and it learns
from all people of the other folds. ADHD is not centred, since a child has one class.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from ledger import markdown
from people import (
    ALL_BLOCKS,
    HALVES,
    INPUTS,
    N_FOLDS,
    SETS,
    ScoredSet,
    TestSet,
    networks,
    read_part,
)

from eegdm import artifacts
from eegdm.console import run_main, track
from eegdm.evaluation.across_people import Decisions, Kind, LabelledWindows, centred, decide, folds
from eegdm.evaluation.cross_fitting import in_parts
from eegdm.evaluation.people_scores import drawn_scores, draws, interval, widening
from eegdm.evaluation.study import CENTRED, readouts
from eegdm.models.centring import divided, reference_of
from eegdm.models.fusion import LatentFusionTransformer

HEAD, LFT = "head", "fusion transformer"
SMALL = {"n_tokens": 4, "n_heads": 4, "depth": 2, "standardise": True}
EPOCHS, BATCH_SIZE, MAX_LR, WEIGHT_DECAY = 25, 64, 2e-3, 0.05

Decide = Callable[[np.ndarray], np.ndarray]
"""Tokens (window, block, pool, query, channel, feature) -> (window, class)."""


def train_transformer(tokens: np.ndarray, label: np.ndarray, seed: int) -> Decide:
    """Train the transformer of recipe `small` on windows, for all its epochs."""
    torch.manual_seed(seed)
    learned, wanted = torch.from_numpy(tokens), torch.from_numpy(label)
    _, n_blocks, n_pools, _, n_channels, d_model = learned.shape
    model = LatentFusionTransformer(
        n_blocks=n_blocks,
        n_pools=n_pools,
        n_channels=n_channels,
        n_classes=int(wanted.max()) + 1,
        d_model=d_model,
        **SMALL,
    )
    model.fit_tokens(learned)
    optimiser = torch.optim.AdamW(model.parameters(), MAX_LR, weight_decay=WEIGHT_DECAY)
    n_batches = -(-len(label) // BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, MAX_LR, total_steps=EPOCHS * n_batches
    )
    for _ in range(EPOCHS):
        for own in torch.randperm(len(label)).split(BATCH_SIZE):
            loss = torch.nn.functional.cross_entropy(model(learned[own]), wanted[own])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()

    @torch.inference_mode()
    def decide_on(asked: np.ndarray) -> np.ndarray:
        parts = [torch.from_numpy(asked[own]) for own in in_parts(np.arange(len(asked)))]
        return torch.cat([model(part) for part in parts]).double().numpy()

    return decide_on


def of_parts(
    root: Path, chosen: TestSet
) -> Iterator[tuple[LabelledWindows, dict[int, np.ndarray]]]:
    """The windows of each half of a set (or of all of it), and for each seed their tokens:
    (window, channel, block, feature)."""
    folder = root / "features" / chosen.name
    table = pd.read_csv(folder / "windows.csv")
    for half in HALVES if chosen.is_halved else (None,):
        windows = read_part(folder, table, half).windows
        own = [n for n in networks(half or 0) if n.is_trained and n.input == INPUTS[0]]
        yield windows, {n.seed: np.load(folder / f"{n.name}.npy") for n in own}


def heads(windows: LabelledWindows, tokens: np.ndarray, is_centred: bool) -> np.ndarray:
    features = readouts(HEAD, tokens)[f"{HEAD}: {ALL_BLOCKS}"]
    if is_centred:
        features = centred(features, windows.person)
    none = np.empty((0, len(windows.label)), int)
    return decide({HEAD: features}, windows, [Kind(HEAD, (HEAD,))], none)[HEAD].values


def transformers(
    windows: LabelledWindows, tokens: np.ndarray, is_centred: bool, seed: int
) -> np.ndarray:
    # (window, channel, block, feature) -> (window, block, pool, query, channel, feature)
    tokens = np.ascontiguousarray(tokens.transpose(0, 2, 1, 3))[:, :, None, None]
    if is_centred:
        for who in windows.people:
            own = windows.person == who
            one = torch.from_numpy(tokens[own])
            tokens[own] = divided(one, reference_of(one[:, :, 0])).numpy()
    values = np.full((len(windows.label), len(windows.classes)), np.nan, np.float32)
    for learn, test in folds(windows):
        values[test] = train_transformer(tokens[learn], windows.label[learn], seed)(tokens[test])
    return values


def row(way: str, treatment: str) -> str:
    return f"{way}, {treatment}"


def score_set(root: Path, chosen: TestSet) -> ScoredSet:
    """Decisions are stored as they are made: one array per way, treatment, seed and half."""
    stored = root / "fusion" / chosen.name
    stored.mkdir(parents=True, exist_ok=True)
    parts = list(of_parts(root, chosen))
    seeds = list(parts[0][1])
    decided, members = {}, {}
    wanted = [(way, t, s) for way in (HEAD, LFT) for t in chosen.treatments for s in seeds]
    for way, treatment, seed in track(wanted, chosen.name, len(wanted)):
        values = []
        for number, (windows, of_seed) in enumerate(parts):
            path = stored / f"{way}-{treatment}-{seed}-{number}.npy"
            if not path.is_file():
                centre = treatment == CENTRED
                made = (
                    heads(windows, of_seed[seed], centre)
                    if way == HEAD
                    else transformers(windows, of_seed[seed], centre, seed)
                )
                artifacts.write_array(path, made)
            values.append(np.load(path))
        name = f"{row(way, treatment)}, seed {seed}"
        decided[name] = Decisions(np.concatenate(values), np.empty((0, 0, 0)), {}, [])
        members.setdefault(row(way, treatment), []).append(name)
    whole = LabelledWindows(
        *(
            np.concatenate([getattr(windows, field) for windows, _ in parts])
            for field in ("label", "person", "recording")
        ),
        parts[0][0].classes,
    )
    scored = drawn_scores(whole, decided, members, draws(whole))
    return ScoredSet({"": scored}, {name: len(own) for name, own in members.items()})


def pairs(chosen: TestSet) -> list[tuple[str, str]]:
    """The first minus the second."""
    found = [(row(LFT, t), row(HEAD, t)) for t in chosen.treatments]
    if len(chosen.treatments) == 2:
        of, without = chosen.treatments
        found += [(row(way, of), row(way, without)) for way in (HEAD, LFT)]
    return found


def table_of(root: Path, chosen: TestSet) -> Iterator[dict[str, object]]:
    level, score = chosen.score
    scored = score_set(root, chosen).of_treatment[""]
    rows = {name: values for (name, at, n, what), values in scored.items()
            if (at, n, what) == (level, None, score)}  # fmt: skip
    wider = widening(N_FOLDS)
    for name, values in rows.items():
        yield {"set": chosen.name, "row": name, "minus": "", **interval(values, wider, (0.0, 1.0))}
    for first, second in pairs(chosen):
        about = {"set": chosen.name, "row": first, "minus": second}
        yield about | interval(rows[first] - rows[second], wider)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--sets", default=",".join(chosen.name for chosen in SETS))
    arguments = parser.parse_args()
    chosen = [one for one in SETS if one.name in arguments.sets.split(",")]
    table = pd.DataFrame([line for one in chosen for line in table_of(arguments.root, one)])
    table.to_csv(arguments.root / "fusion.csv", index=False)
    print(markdown(table))


if __name__ == "__main__":
    run_main(main)
