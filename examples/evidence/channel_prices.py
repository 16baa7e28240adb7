"""What channels cost that are not those of the montage: on real people, by leaving electrodes out.

    python examples/evidence/channel_prices.py --data ../shared/data/people/eegmat --out runs/prices

Of each person some electrodes are left out, 1, 3 and 6 of the 19. The pairs of the montage that
need them are then interpolated (spherical splines), taken for the nearest electrode that is left
(as with --channels file), or missing (masked); derived means that the pair is stored as a channel
of its own, in steps of 0.1 µV, instead of being the difference of two electrodes. Their tokens are
compared with those of the pair as it was, and a linear head that learned rest against arithmetic
from exact channels of other people is asked about windows with such pairs. Intervals are over
people, paired, widened for the folds of the cross-validation. Tokens of each recording are kept in
--out, and those that are there are not made again.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from ledger import markdown

from eegdm.console import run_main
from eegdm.data.interpolation import spline_weights
from eegdm.data.montage import CHANNEL_ID, TCP, electrodes_of
from eegdm.data.names import read_names
from eegdm.data.positions import template
from eegdm.data.signal import ModelUnits
from eegdm.evaluation import people_scores
from eegdm.evaluation.across_people import LabelledWindows
from eegdm.evaluation.cross_fitting import Fitted, Marked, fit_head
from eegdm.features.labels import evenly
from eegdm.inference.chunks import Batch
from eegdm.inference.embedding import BackboneReader, EmbedOptions, mean_over_pools, prepare_windows

CLASSES = ("rest", "arithmetic")
PAIRS = tuple(name for name in TCP if not {"A1", "A2"} & set(electrodes_of(name)))
ELECTRODES = tuple(dict.fromkeys(e for name in PAIRS for e in electrodes_of(name)))
LEFT_OUT = (1, 3, 6)
STATES = ("derived", "interpolated", "nearest", "missing")
N_WINDOWS, N_FOLDS, STEP_UV = 8, 4, 0.1


def left_out(person: int, n: int) -> list[str]:
    """Return n electrodes; more of them include the fewer."""
    order = np.random.default_rng(person).permutation(len(ELECTRODES))
    return [ELECTRODES[k] for k in order[:n]]


def nearest_electrode(pair: str, among: list[str]) -> str:
    """Return the electrode that lies nearest to the middle of a pair."""
    place = {k.upper(): v for k, v in template().get_positions()["ch_pos"].items()}
    middle = np.mean([place[e] for e in electrodes_of(pair)], axis=0)
    return min(among, key=lambda e: float(np.linalg.norm(place[e] - middle)))


def variants(
    person: int, signal: dict[str, np.ndarray]
) -> Iterator[tuple[str, int, str, np.ndarray]]:
    """Yield state, number of electrodes left out, pair and signal (window, time) of each pair that
    needs an electrode that is left out.

    Args:
        signal: of each electrode, (window, time).
    """
    for n in LEFT_OUT:
        gone = left_out(person, n)
        kept = [e for e in ELECTRODES if e not in gone]
        weights = spline_weights(kept, gone)
        made = np.einsum("gk,kwt->gwt", weights, np.stack([signal[e] for e in kept]))
        guess = signal | dict(zip(gone, made, strict=True))
        for pair in PAIRS:
            plus, minus = electrodes_of(pair)
            if not {plus, minus} & set(gone):
                continue
            steps = (signal[plus] - signal[minus]) * 100 / STEP_UV
            yield "derived", n, pair, np.round(steps) * STEP_UV / 100
            yield "interpolated", n, pair, guess[plus] - guess[minus]
            yield "nearest", n, pair, signal[nearest_electrode(pair, kept)]


def tokens_of(file: Path, person: int, reader: BackboneReader) -> dict[str, np.ndarray]:
    """Return tokens (window, block, query, channel, feature) of the exact pairs and of each state
    with each number of electrodes left out, and which pairs are affected.
    """
    with tempfile.TemporaryDirectory() as folder:
        settings = reader.preparation(EmbedOptions(channels="file"))
        prepared, grid = prepare_windows(file, settings, reader.window_s, None, Path(folder))
        starts = grid.starts[evenly(len(grid.starts), N_WINDOWS)]
        cut = np.stack([prepared.read(int(s), int(s) + grid.n_times) for s in starts], axis=1)
        whole = prepared.read(0, prepared.n_times)
    leads = read_names(prepared.ch_names).leads
    row = {lead.plus: prepared.ch_names.index(own[0]) for lead, own in leads.items() if own}
    row = {e: row[e] for e in ELECTRODES}
    pairs = [electrodes_of(pair) for pair in PAIRS]
    spread = float(np.median(np.abs(np.stack([whole[row[a]] - whole[row[b]] for a, b in pairs]))))
    signal = {e: cut[row[e]] for e in ELECTRODES}
    units = ModelUnits.of(reader.signal)

    def read(channels: list[np.ndarray], names: list[str]) -> np.ndarray:
        data = np.stack(channels, axis=1).astype(np.float32)
        batch = Batch(starts, data, spread / 0.6745).shown(units)
        ids = [CHANNEL_ID[name] for name in names]
        return mean_over_pools(reader.tokens(batch, ids, grid.sfreq, "cpu"))

    exact = read([signal[a] - signal[b] for a, b in pairs], list(PAIRS))
    found = {"exact": exact}
    asked = list(variants(person, signal))
    made = read([x for *_, x in asked], [pair for _, _, pair, _ in asked])
    for k, (state, n, pair, _) in enumerate(asked):
        own = found.setdefault(f"{state}-{n}", exact.copy())
        own[:, :, :, PAIRS.index(pair)] = made[:, :, :, k]
        found.setdefault(f"affected-{n}", np.zeros(len(PAIRS), bool))[PAIRS.index(pair)] = True
    for n in LEFT_OUT:
        found[f"missing-{n}"] = exact
    return found


def folds(people: np.ndarray) -> list[np.ndarray]:
    return np.array_split(np.random.default_rng(0).permutation(people), N_FOLDS)


def decide(fitted: Fitted, tokens: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Return logits where absent channels are masked."""
    with torch.inference_mode():
        read = fitted.readout.blocks(torch.from_numpy(np.ascontiguousarray(tokens)))
        return fitted.head.classify(read, torch.from_numpy(present)).numpy().astype(np.float64)


def decisions(
    tokens: dict[str, np.ndarray], label: np.ndarray, person: np.ndarray, recording: np.ndarray
) -> dict[str, np.ndarray]:
    """Return logits of each window by heads that learned from exact channels of other people."""
    group = {"people": person, "recordings": recording, "marks": recording}
    marked = Marked(label, np.ones(len(label), bool), group, CLASSES)
    names = ["exact", *(f"{state}-{n}" for state in STATES for n in LEFT_OUT)]
    found = {name: np.zeros((len(label), 2)) for name in names}
    for test in folds(np.unique(person)):
        own = np.isin(person, test)
        learn = np.flatnonzero(~own)
        fitted = fit_head(marked, learn, torch.from_numpy(tokens["exact"][learn]))
        for name in names:
            present = np.ones((int(own.sum()), len(PAIRS)), bool)
            if name.startswith("missing"):
                present = ~tokens[name.replace("missing", "affected")][own]
            found[name][own] = decide(fitted, tokens[name][own], present)
    return found


def token_losses(
    tokens: dict[str, np.ndarray], state: str, n: int, person: np.ndarray
) -> dict[str, float]:
    """Return the relative error of tokens, its range over people, and the correlation of their logs
    over windows, of affected pairs.
    """
    exact, other = tokens["exact"][:, :, 0], tokens[f"{state}-{n}"][:, :, 0]
    affected = tokens[f"affected-{n}"]
    errors, correlations = [], []
    for who in np.unique(person):
        own = person == who
        pairs = affected[own][0]
        true, got = exact[own][:, :, pairs], other[own][:, :, pairs]
        errors.append(float(np.median(np.abs(got - true) / true)))
        a, b = (np.log(x + 1e-3) - np.log(x + 1e-3).mean(axis=0) for x in (true, got))
        r = (a * b).sum(axis=0) / np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
        correlations.append(float(np.median(r)))
    low, high = np.percentile(errors, [25, 75])
    return {
        "error": float(np.median(errors)),
        "error low": float(low),
        "error high": float(high),
        "correlation": float(np.median(correlations)),
        "pairs": float(affected.sum(axis=1).mean()),
    }


def yardstick(tokens: dict[str, np.ndarray], recording: np.ndarray) -> float:
    """Return by how much the tokens of a pair differ between two windows of one recording."""
    exact = tokens["exact"]
    own = [exact[recording == name] for name in np.unique(recording)]
    return float(np.median([np.median(np.abs(x[1:] - x[:-1]) / x[:-1]) for x in own]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--people", type=int, default=8)
    parser.add_argument("--model", default="mini")
    given = parser.parse_args()
    torch.set_num_threads(1)
    table = pd.read_csv(given.data / "events.csv")
    people = sorted(table.subject.unique())[: given.people]
    reader = BackboneReader.of(given.model)
    given.out.mkdir(parents=True, exist_ok=True)
    parts, label, person, recording = [], [], [], []
    for row in table[table.subject.isin(people)].itertuples():
        kept = given.out / f"{Path(row.file).stem}.npz"
        number = people.index(row.subject)
        if not kept.is_file():
            made = tokens_of(given.data / row.file, number, reader)
            temporary = kept.with_suffix(".part.npz")
            np.savez(temporary, **made)
            temporary.rename(kept)
        with np.load(kept) as stored:
            parts.append(dict(stored))
        n = len(parts[-1]["exact"])
        label += [CLASSES.index(row.label)] * n
        person += [number] * n
        recording += [len(parts)] * n
    tokens = {
        name: np.concatenate(
            [
                np.repeat(part[name][None], len(part["exact"]), axis=0)
                if name.startswith("affected")
                else part[name]
                for part in parts
            ]
        )
        for name in parts[0]
    }
    report(tokens, np.array(label), np.array(person), np.array(recording))


def said(drawn: np.ndarray, wider: float, form: str) -> str:
    """Value and interval, for people to read."""
    x = people_scores.interval(drawn, wider)
    return f"{x['value']:{form}} ({x['low']:{form}} to {x['high']:{form}})"


def report(
    tokens: dict[str, np.ndarray], label: np.ndarray, person: np.ndarray, recording: np.ndarray
) -> None:
    """Print the table."""
    windows = LabelledWindows(label, person, recording, CLASSES)
    units = people_scores.units_of(windows, "window")
    drawn = people_scores.draws(windows).weight
    decided = decisions(tokens, label, person, recording)
    scores = {
        name: people_scores.score(people_scores.count_people(units, found), drawn)
        for name, found in decided.items()
    }
    likeliest = {name: found.argmax(axis=1) for name, found in decided.items()}
    wider = people_scores.widening(N_FOLDS)
    for name in ("auroc", "auroc_within"):
        print(f"{name} with exact channels: {said(scores['exact'][name], wider, '.3f')}")
    print(f"{len(label)} windows of {len(np.unique(person))} people, {len(PAIRS)} pairs")
    differ = yardstick(tokens, recording)
    print(f"tokens of a pair in two windows of a recording differ by {differ:.3f}")
    rows = []
    for state in STATES:
        for n in LEFT_OUT:
            loss = token_losses(tokens, state, n, person)
            row = {"state": state, "electrodes": n, "pairs of 20": f"{loss['pairs']:.1f}"}
            row["error of tokens"] = row["correlation"] = "-"
            if state != "missing":
                row["error of tokens"] = (
                    f"{loss['error']:.3f} ({loss['error low']:.3f} to {loss['error high']:.3f})"
                )
                row["correlation"] = f"{loss['correlation']:.2f}"
            other = likeliest[f"{state}-{n}"] != likeliest["exact"]
            row["decided otherwise"] = f"{other.mean():.3f}"
            for name in ("auroc", "auroc_within"):
                change = scores[f"{state}-{n}"][name] - scores["exact"][name]
                row[f"change of {name}"] = said(change, wider, "+.3f")
            rows.append(row)
    print(markdown(pd.DataFrame(rows)))


if __name__ == "__main__":
    run_main(main)
