"""Does a backbone's denoising error find seizures, spikes and artefacts without labels, and better
than simple features? The plan is in docs/surprise.md.

    mkdir -p runs/links && ln -s "$PWD"/../shared/data/eegmmidb/S001R0[3-8].edf runs/links
    ls "$PWD"/../shared/data/people/eegmat/*_1.edf | head -12 | xargs ln -st runs/links
    eegdm preprocess corpus=folder recipe=mini_a root=runs/clean source=runs/links events=none \
        "corpus.pattern='(?P<subject>S001|Subject[0-9]+)'"
    eegdm pretrain corpus=folder recipe=mini_a root=runs/clean seed=0 pretrain.batch_size=16 \
        pretrain.epochs=1 pretrain.samples=0 backbone.d_model=32 backbone.n_blocks=6 \
        backbone.d_state=16
    for backbone in clean=runs/clean/folder/mini_a/backbone mini=mini; do
      python examples/evidence/surprise.py measure --data ../shared/data --out runs/surprise \
          --backbone $backbone --steps 5
      python examples/evidence/surprise.py table --out runs/surprise --backbone $backbone --steps 5
    done

`measure` stores every quantity of every recording; what is stored is not computed again. `table`
prints the choice on the exploratory part and the scores on the others.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from ledger import markdown
from scipy.signal import butter, sosfiltfilt, welch
from sklearn.metrics import roc_auc_score

from eegdm.checkpoints.load import load
from eegdm.console import run_main
from eegdm.data.batches import generator
from eegdm.data.montage import CHANNEL_ID, TCP
from eegdm.data.plan import plan
from eegdm.data.reading import open_recording
from eegdm.data.signal import Filtering, preprocess, to_model_units
from eegdm.data.synthetic.simulate import record, six_classes, tcp
from eegdm.evaluation.surprise import log_powers
from eegdm.models.backbone import SSMDP
from eegdm.models.diffusion import NoiseSchedule

SFREQ, WINDOW_S, MU = 200, 5, 255.0
SIMPLE = ("own", "person", "rms", "line length", "bands")
PLANTED = ("spike", "muscle", "pop", "flat", "spike, matched", "muscle, matched", "pop, matched")
SCORED = ("seizure", "SPSW", "ARTF", *PLANTED)
LISTED = ("GPED", "PLED", "EYEM")
FLOOR = 1e-6
ROWS_AT_ONCE = 32


class Item(NamedTuple):
    """A recording in windows, with a label for each channel-second."""

    name: str
    part: str  # explored, confirmed or reference
    signal: Float[np.ndarray, "window channel time"]  # 100 µV, not companded
    ch_names: list[str]
    label: np.ndarray  # (window, channel, second) of str; "" counts as nothing


# ------------------------------------------------------------------------------------- recordings


def read(file: Path, notch: tuple[float, ...] = (60.0,)) -> tuple[np.ndarray, list[str]]:
    """The signal of a file as `mini` wants it, and its channels."""
    raw = open_recording(file)
    source, derivations, _ = plan(raw, TCP, "drop")
    done = preprocess(source, derivations, Filtering(float(SFREQ), 0.1, 75.0, notch))
    return np.asarray(done.signal), [d.name for d in derivations]


def windows(signal: np.ndarray) -> np.ndarray:
    """Cut (channel, time) into (window, channel, time)."""
    n = signal.shape[1] // (SFREQ * WINDOW_S)
    return signal[:, : n * SFREQ * WINDOW_S].reshape(len(signal), n, -1).transpose(1, 0, 2)


def seizures(data: Path) -> Iterator[Item]:
    """The records of CHB-MIT, in seconds of seizure and of what comes before it."""
    index = pd.read_csv(data / "chbmit" / "index.csv")
    for number, files in index.groupby("record", sort=True):
        parts, labels = [], []
        for file in files.itertuples():
            signal, ch_names = read(data / "chbmit" / file.file)
            cut = windows(signal)
            second = np.arange(len(cut) * WINDOW_S)
            ictal = (second >= file.seizure_onset_in_file_s) & (
                second + 1 <= file.seizure_end_in_file_s
            )
            label = np.where(ictal, "seizure", "before").reshape(-1, 1, WINDOW_S)
            parts.append(cut)
            labels.append(np.repeat(label, len(ch_names), axis=1))
        part = "explored" if str(number).startswith("chb01") else "confirmed"
        yield Item(
            f"chbmit {number}", part, np.concatenate(parts), ch_names, np.concatenate(labels)
        )


def synthetic() -> Iterator[Item]:
    """Synthetic recordings; a second belongs to the event that fills half of it or more."""
    for k in range(8):
        made = record(7, f"s{k}", 0, SFREQ, partial(six_classes, minutes=1.0))
        cut = windows(_filtered(tcp(made.potential_uV) / 100))
        label = np.full((len(cut), len(TCP), WINDOW_S), "", object)
        flat = label.transpose(1, 0, 2).reshape(len(TCP), -1)  # (channel, second)
        for event in made.events:
            first = round(event.onset_s)
            if first < flat.shape[1]:
                flat[list(event.channels), first] = event.label
        label = flat.reshape(len(TCP), len(cut), WINDOW_S).transpose(1, 0, 2)
        yield Item(f"synthetic s{k}", "explored" if k < 3 else "confirmed", cut, list(TCP), label)


def _filtered(signal: np.ndarray) -> np.ndarray:
    import mne

    raw = mne.io.RawArray(signal, mne.create_info(list(TCP), SFREQ, "misc"), verbose="error")
    raw.filter(0.1, 75.0, picks="all", verbose="error").notch_filter(
        60.0, picks="all", verbose="error"
    )
    return raw.get_data()


def planted(data: Path) -> Iterator[Item]:
    """A minute of rest of EEGMAT's people after the first twelve, with changes put in."""
    for k, file in enumerate(sorted((data / "people" / "eegmat").glob("*_1.edf"))[12:20]):
        signal, ch_names = read(file)
        cut = windows(signal[:, : 60 * SFREQ]).copy()
        label = np.full((*cut.shape[:2], WINDOW_S), "unchanged", object)
        spread = 1.4826 * np.median(np.abs(cut - np.median(cut, (0, 2), keepdims=True)), (0, 2))
        rng = generator("planted", k)
        chosen = rng.permutation(cut.shape[0] * cut.shape[1])[: cut.shape[0] * cut.shape[1] // 2]
        for number, place in enumerate(chosen):
            w, c = divmod(int(place), cut.shape[1])
            kind, second = PLANTED[number % len(PLANTED)], int(rng.integers(1, 4))
            label[w, c] = ""
            label[w, c, second] = kind
            if kind == "flat":
                label[w, c, second + 1 if second < 4 else second] = kind
            start = second * SFREQ
            cut[w, c] = _changed(cut[w, c], kind, start, float(spread[c]), rng)
        part = "explored" if k < 3 else "confirmed"
        yield Item(f"planted {file.stem}", part, cut, ch_names, label)


def _changed(
    x: np.ndarray, kind: str, start: int, spread: float, rng: np.random.Generator
) -> np.ndarray:
    """A window with one second changed."""
    x, time = x.copy(), np.arange(SFREQ) / SFREQ
    second = x[start : start + SFREQ].copy()
    at, sign = rng.uniform(0.2, 0.7), rng.choice([-1, 1])
    if kind == "flat":
        x[start : start + 2 * SFREQ] = x[start]
        return x
    if kind.startswith("spike"):
        added = 4 * spread * sign * np.clip(1 - np.abs(time - at) / 0.035, 0, None)
    elif kind.startswith("pop"):
        added = 4 * spread * sign * (time >= at) * np.exp(-np.clip(time - at, 0, None) / 0.1)
    else:
        noise = sosfiltfilt(
            butter(4, (20, 70), "bandpass", fs=SFREQ, output="sos"), rng.standard_normal(3 * SFREQ)
        )[SFREQ : 2 * SFREQ]
        added = spread * noise / noise.std() * np.hanning(SFREQ) * 1.63
    changed = second + added
    if kind.endswith("matched"):
        # What is taken back is the second's own part beside the change, so that the edges stay.
        changed = changed * second.std() / changed.std()
    x[start : start + SFREQ] = changed
    return x


def reference(data: Path) -> Iterator[Item]:
    """The reference people: 40 s of rest of EEGMAT's first twelve people."""
    for file in sorted((data / "people" / "eegmat").glob("*_1.edf"))[:12]:
        signal, ch_names = read(file)
        cut = windows(signal[:, 60 * SFREQ : 85 * SFREQ])
        label = np.full((*cut.shape[:2], WINDOW_S), "rest", object)
        yield Item(f"reference {file.stem}", "reference", cut, ch_names, label)


# ------------------------------------------------------------------------------------- quantities


def seconds(x: np.ndarray) -> np.ndarray:
    """Cut (..., time) into (..., second, sample)."""
    return x.reshape(*x.shape[:-1], WINDOW_S, SFREQ)


def spectrum(x: np.ndarray) -> np.ndarray:
    """Welch's spectrum of windows, as multiples of white noise of variance 1, at the frequencies of
    rfft.
    """
    f, p = welch(x, fs=SFREQ, nperseg=SFREQ, detrend=False)
    fine = np.fft.rfftfreq(x.shape[-1], 1 / SFREQ)
    at = np.clip(np.searchsorted(f, fine, "right") - 1, 0, len(f) - 2)
    share = (fine - f[at]) / (f[at + 1] - f[at])
    return ((1 - share) * p[..., at] + share * p[..., at + 1]) * SFREQ / 2


def noise_of(n: int, step: int, ids: list[int]) -> np.ndarray:
    """Noise (window, channel, time) that depends on window, channel and step alone."""
    drawn = [
        generator("surprise", w, step).standard_normal(
            (len(TCP), SFREQ * WINDOW_S), dtype=np.float32
        )[ids]
        for w in range(n)
    ]
    return np.stack(drawn)


def linear_error(x: np.ndarray, c: np.ndarray, level: float, noise: np.ndarray) -> np.ndarray:
    """Error of the Wiener denoiser for spectra c (window or 1, channel, frequency)."""
    a, s = level**0.5, (1 - level) ** 0.5
    gain = a * s * (1 - c) / (a**2 * c + s**2)
    found = np.fft.irfft(gain * np.fft.rfft(a * x + s * noise), n=x.shape[-1])
    return (seconds(found - (a * noise - s * x)) ** 2).mean(-1)


@torch.inference_mode()
def model_error(
    backbone: SSMDP, x: np.ndarray, ids: list[int], step: int, level: float, noise: np.ndarray
) -> np.ndarray:
    """Error of a backbone, (window, channel, second)."""
    a, s = level**0.5, (1 - level) ** 0.5
    rows = torch.from_numpy((a * x + s * noise).astype(np.float32)).reshape(-1, 1, x.shape[-1])
    channel = torch.tensor(ids).repeat(len(x))
    found = [
        backbone(some, torch.full_like(i, step), i)
        for some, i in zip(rows.split(ROWS_AT_ONCE), channel.split(ROWS_AT_ONCE), strict=True)
    ]
    v = torch.cat(found).numpy().reshape(x.shape)
    return (seconds(v - (a * noise - s * x)) ** 2).mean(-1)


def simple(x: np.ndarray) -> dict[str, np.ndarray]:
    """Features of channel-seconds, (window, channel, second); powers have bands before these."""
    cut = seconds(x)
    bands = np.stack([log_powers(window, SFREQ) for window in x])  # window, second, channel, band
    return {
        "rms": np.log(cut.std(-1) + FLOOR),
        "line length": np.log(np.abs(np.diff(cut, axis=-1)).mean(-1) + FLOOR),
        "powers": bands.transpose(3, 0, 2, 1),
    }


def measure(
    items: Iterator[Item],
    out: Path,
    backbones: dict[str, SSMDP],
    steps: list[int],
    parts: list[str],
) -> None:
    """Store every quantity of every item."""
    schedule = NoiseSchedule()
    out.mkdir(parents=True, exist_ok=True)
    for item in items:
        if item.part not in parts:
            continue
        path = out / f"{item.name}.npz"
        stored = dict(np.load(path)) if path.is_file() else {}
        x = to_model_units(item.signal.astype(np.float32), MU)
        ids = [CHANNEL_ID[name] for name in item.ch_names]
        n_stored = len(stored)
        if "powers" not in stored:
            stored |= {k: v.astype(np.float32) for k, v in simple(x).items()}
            stored |= {"label": item.label.astype(str), "part": np.array(item.part)}
        own = person = None
        for step in steps:
            level, noise = float(schedule.alphas_cumprod[step]), None
            for name in ("own", "person", *backbones):
                if f"{name} {step}" in stored:
                    continue
                if own is None:
                    own = spectrum(x)
                    person = own.mean(0, keepdims=True)
                noise = noise_of(len(x), step, ids) if noise is None else noise
                error = (
                    linear_error(x, own if name == "own" else person, level, noise)
                    if name in ("own", "person")
                    else model_error(backbones[name], x, ids, step, level, noise)
                )
                stored[f"{name} {step}"] = np.log(error + FLOOR).astype(np.float32)
        if len(stored) != n_stored:
            temporary = path.with_suffix(".tmp.npz")
            np.savez(temporary, **stored)
            temporary.replace(path)
            print(item.name, item.signal.shape, flush=True)


# ------------------------------------------------------------------------------------------ scores


def quantities(stored: dict[str, np.ndarray], backbone: str, steps: tuple[int, ...]) -> dict:
    """The quantities of the plan, for one choice of steps."""
    mean = {
        name: np.mean([stored[f"{name} {step}"] for step in steps], axis=0)
        for name in ("own", "person", backbone)
    }
    model = mean[backbone]
    return {
        "model": model,
        "model - own": model - mean["own"],
        "model - person": model - mean["person"],
        "own": mean["own"],
        "person": mean["person"],
        "rms": stored["rms"],
        "line length": stored["line length"],
    }


def centre(q: np.ndarray, axes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    middle = np.median(q, axes, keepdims=True)
    return middle, 1.4826 * np.median(np.abs(q - middle), axes, keepdims=True) + FLOOR


def scores(out: Path, backbone: str, steps: tuple[int, ...]) -> pd.DataFrame:
    """AUROC of every task, item, quantity and side."""
    files = {path.stem: dict(np.load(path)) for path in sorted(out.glob("*.npz"))}
    of_reference: dict[str, list] = {}
    for name, stored in files.items():
        if name.startswith("reference") and f"{backbone} {steps[0]}" in stored:
            for q, value in (
                quantities(stored, backbone, steps) | {"powers": stored["powers"]}
            ).items():
                flat = value.reshape(5, -1) if q == "powers" else value.reshape(-1)
                of_reference.setdefault(q, []).append(flat)
    base = {q: centre(np.concatenate(v, axis=-1), (-1,)) for q, v in of_reference.items()}
    rows = []
    for name, stored in files.items():
        if name.startswith("reference") or f"{backbone} {steps[0]}" not in stored:
            continue
        label, seizure = stored["label"], name.startswith("chbmit")
        found = quantities(stored, backbone, steps)
        if seizure:
            z = {q: (v - base[q][0]) / base[q][1] for q, v in found.items()}
            p, (m, d) = stored["powers"], base["powers"]
            z_bands = (p - m[:, None, None]) / d[:, None, None]
        else:
            z = {q: np.divide(*_z(v)) for q, v in found.items()}
            z_bands = np.stack([np.divide(*_z(b)) for b in stored["powers"]])
        z["bands"] = np.sqrt((z_bands**2).mean(0))
        if seizure:
            z = {q: v.mean(1) for q, v in z.items()}
            label = label[:, 0]
        background = {"chbmit": "before", "synthetic": "BCKG", "planted": "unchanged"}[
            name.split()[0]
        ]
        for task in np.unique(label):
            if task in ("", background):
                continue
            used = np.isin(label, (task, background))
            for q, v in z.items():
                for side in ("signed", "two-sided"):
                    value = np.abs(v) if side == "two-sided" else v
                    auroc = roc_auc_score(label[used] == task, value[used])
                    rows.append((str(stored["part"]), task, name, q, side, auroc))
    return pd.DataFrame(rows, columns=["part", "task", "item", "quantity", "side", "auroc"])


def _z(q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    middle, spread = centre(q, (0, 2))
    return q - middle, np.broadcast_to(spread, q.shape)


def overview(table: pd.DataFrame, tasks: tuple[str, ...] = SCORED) -> pd.DataFrame:
    """Mean AUROC by quantity, side and task, and over the scored tasks."""
    wide = table.groupby(["quantity", "side", "task"]).auroc.mean().unstack()
    wide = wide[[task for task in (*tasks, *LISTED) if task in wide]]
    wide.insert(0, "score", wide[[task for task in tasks if task in wide]].mean(axis=1))
    return wide


def print_table(out: Path, backbone: str, steps: list[int]) -> None:
    chosen = []
    for some in (*((s,) for s in steps), *itertools.combinations(steps, 2)):
        found = scores(out, backbone, some)
        explored = overview(found[found.part == "explored"])
        for (q, side), score in explored.score.items():
            chosen.append((some, q, side, score))
    explored = pd.DataFrame(chosen, columns=["steps", "quantity", "side", "score"])
    best = explored.loc[explored.groupby("quantity").score.idxmax()]
    print(f"explored, {backbone}\n")
    print(markdown(best.sort_values("score", ascending=False)))
    for row in explored.sort_values("score", ascending=False).head(12).itertuples():
        print(row)
    print("\nconfirmed\n")
    rows = []
    for some in best.steps.unique():
        found = scores(out, backbone, some)
        confirmed = overview(found[found.part == "confirmed"])
        for row in best[best.steps == some].itertuples():
            rows.append(
                {"quantity": row.quantity, "side": row.side, "steps": some}
                | confirmed.loc[(row.quantity, row.side)].to_dict()
            )
    print(markdown(pd.DataFrame(rows).sort_values("score", ascending=False)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("measure", "table"))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--backbone", required=True, help="NAME=FOLDER")
    parser.add_argument("--steps", default="2,5,10,20,30")
    parser.add_argument("--tasks", default="reference,seizures,planted,synthetic")
    parser.add_argument("--parts", default="reference,explored,confirmed")
    args = parser.parse_args()
    steps = [int(step) for step in args.steps.split(",")]
    name, _, folder = args.backbone.partition("=")
    if args.what == "table":
        print_table(args.out, name, steps)
        return
    backbones = {}
    if folder:
        backbones[name] = load(folder).eval()
    sources = {
        "reference": partial(reference, args.data),
        "seizures": partial(seizures, args.data),
        "planted": partial(planted, args.data),
        "synthetic": synthetic,
    }
    for chosen in args.tasks.split(","):
        measure(sources[chosen](), args.out, backbones, steps, args.parts.split(","))


if __name__ == "__main__":
    run_main(main)
