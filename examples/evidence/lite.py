"""Which small model gives the decision of a larger one? Kappa on unseen synthetic people over the
price of a window.

    python examples/evidence/lite.py make --root runs/lite
    python examples/evidence/lite.py prices --root runs/lite
    python examples/evidence/lite.py table --root runs/lite --out examples/evidence/results \
        --plot docs/images/lite-models.png

The plan, written before any number was seen. The corpus is 24 people to learn from and 24 to test
on, two minutes each. The teacher is recipe `small` (width 32, 8 blocks), pretrained for 12 epochs
on 80 windows of 22 channels. Its students have width 32 and 3 blocks, or width 16 and 4 blocks, and
see the same windows for 6 epochs. Compared are:

- first 3 blocks: the teacher's first 3 blocks, with a fusion of their own;
- denoising: a student's size, pretrained without a teacher;
- tokens: the same size, trained by `eegdm distill` to predict the teacher's tokens;
- logits: on the tokens of width 16, a fusion that learns the teacher's logits, without labels;
- logits, end to end: then also the backbone, for 2 more epochs;
- 100 Hz: the teacher, and the students of its tokens, on windows resampled to 100 Hz;
- BIOT: a small patch network (64 wide, 2 layers) of random weights that learns the teacher's
  logits.

Fusions learn from labels, as recipe `small` does, but for the students of logits; with seeds 0 and
1, and a student of logits learns from the teacher of its seed. Scored are Cohen's kappa over all
samples of the test people, mean over seeds; its difference to the teacher's, with the 95 % interval
of a bootstrap over people; and how often student and teacher decide alike. The goal is 40 ms a
window on one core, within 0.01 of the teacher's kappa.

`make` stores the logits of each candidate and does not make them again; words at its end are
settings of every stage. `prices` takes processor time, from a window of 22 channels and 5 s to its
logits, candidates in turn, and keeps the least of `--rounds`.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from ledger import markdown
from sklearn.metrics import cohen_kappa_score
from torch import Tensor, nn

from eegdm.artifacts import is_finished
from eegdm.checkpoints.load import load
from eegdm.compose import compose
from eegdm.config import Config
from eegdm.console import run_main
from eegdm.data.batches import SignalWindows, WindowBatch, generator
from eegdm.evaluation.scoring import logits_from_table
from eegdm.models.eegdm import EEGDM
from eegdm.opening import LabelledData, make_dataset, open_data, shared_windows
from eegdm.stages import run_stage
from eegdm.stages.finetune import make_classifier

SEEDS = (0, 1)
CORPUS = ["corpus.n_train=24", "corpus.n_eval=24", "corpus.minutes=2"]
LARGE = ["recipe=small", "pretrain.max_windows=80", "pretrain.samples=0"]
STUDENT = ["recipe=small", "pretrain.max_windows=80", "pretrain.epochs=6"]
SIZES = {
    "width 16, 4 blocks": ["backbone.d_model=16", "backbone.n_blocks=4"],
    "width 32, 3 blocks": ["backbone.n_blocks=3"],
}
OF_LOGITS = "width 16, 4 blocks"
TEACHER, FIRST, PATCHES = "teacher", "first 3 blocks", "BIOT, 64 wide, 2 layers"
WAYS = {"tokens": "distill", "denoising": "pretrain"}
FUSION_EPOCHS, WHOLE_EPOCHS, PATCH_EPOCHS, BATCH = 25, 2, 15, 32
HALF = "100 Hz"


class Place(NamedTuple):
    """Where the runs lie, and the words of all of them."""

    root: Path
    words: list[str]

    def folder(self, name: str) -> Path:
        """Where a candidate's runs lie."""
        return self.root / name.replace(", ", "-").replace(" ", "_") / "synthetic" / "small"

    def typed(self, name: str, settings: list[str]) -> list[str]:
        """The words of a candidate's runs, in a root of its own."""
        return [*settings, *self.words, f"root={self.folder(name).parents[1]}"]

    def student(self, name: str, size: str) -> list[str]:
        """The words of a student's runs."""
        recordings = f"recordings={self.folder(TEACHER) / 'recordings'}"
        return [*self.typed(name, STUDENT), *SIZES[size], recordings]


# --------------------------------------------------------------------------------------- training


def make(place: Place) -> None:
    """Train all candidates and store the logits of the test part."""
    run_stage("preprocess", place.typed(TEACHER, ["recipe=small", *CORPUS]))
    typed = place.typed(TEACHER, LARGE)
    backbone, latents = run_stage("pretrain", typed), run_stage("cache", typed)
    finetuned(place, TEACHER, typed)
    inputs = [f"recordings={place.folder(TEACHER) / 'recordings'}", f"backbone={backbone}"]
    first = [*place.typed(FIRST, LARGE), *inputs, f"latents={latents}", "fusion.last_block=3"]
    finetuned(place, FIRST, first)
    for size in SIZES:
        for way, stage in WAYS.items():
            typed = place.student(f"{way}, {size}", size)
            said = [f"model={backbone}"] if stage == "distill" else ["pretrain.samples=0"]
            run_stage(stage, [*typed, *said])
            run_stage("cache", typed)
            finetuned(place, f"{way}, {size}", typed)
    for seed in SEEDS:
        learn_logits(place, seed)


def finetuned(place: Place, name: str, typed: list[str]) -> None:
    """Train classifiers on labels, and store the logits of each."""
    for seed in SEEDS:
        folder = run_stage("finetune", [*typed, f"seed={seed}"])
        config, data = open_data(compose([*typed, f"seed={seed}"]))
        score(place, name, seed, data, config, load(folder))


def score(
    place: Place, name: str, seed: int, data: LabelledData, config: Config, model: EEGDM
) -> None:
    store(place, name, seed, data, lambda batch: model.logits_from_tokens(batch.data), config)
    if name.startswith((TEACHER, "tokens")):
        store(place, f"{name}, {HALF}", seed, data, lambda batch: at_half(model, batch.data))


def learn_logits(place: Place, seed: int) -> None:
    """Train what learns the teacher's logits, without labels, and store the logits of each."""
    if stored(place, PATCHES, seed).is_file():
        return
    name = f"tokens, {OF_LOGITS}"
    config, data = open_data(compose([*place.student(name, OF_LOGITS), f"seed={seed}"]))
    teacher = load(place.folder(TEACHER) / "classifier" / f"seed={seed}")
    torch.manual_seed(seed)
    student = make_classifier(config, data, load(place.folder(name) / "backbone"))
    parts = [shared_windows(data.part(part))[0] for part in ("train", "val")]
    signals = [every(SignalWindows(data.recordings, p, data.channels), BATCH) for p in parts]
    wanted = [[answer(teacher, batch.data) for batch in batches] for batches in signals]
    tokens = [every(make_dataset(config, data, p), BATCH) for p in parts]
    student.fusion.fit_tokens(
        torch.cat([b.data for b in tokens[0]]), torch.cat([b.mask for b in tokens[0]])
    )
    frozen, max_lr = student.logits_from_tokens, config.finetune.max_lr
    follow(student.fusion, frozen, tokens, wanted, FUSION_EPOCHS, max_lr, seed)
    store(place, f"logits, {OF_LOGITS}", seed, data, lambda batch: frozen(batch.data), config)
    follow(student, student, signals, wanted, WHOLE_EPOCHS, max_lr / 4, seed)
    store(place, f"logits, end to end, {OF_LOGITS}", seed, data, lambda b: student(b.data))
    patches = biot(64, 2)
    follow(patches, patches, signals, wanted, PATCH_EPOCHS, 1e-3, seed)
    store(place, PATCHES, seed, data, lambda batch: patches(batch.data))


def follow(
    trained: nn.Module,
    logits: Callable[[Tensor], Tensor],
    batches: list[list[WindowBatch]],
    wanted: list[list[Tensor]],
    epochs: int,
    lr: float,
    seed: int,
) -> None:
    """Teach a model the teacher's logits; it keeps the epoch that is nearest to them on the
    validation part.

    Args:
        trained: whose parameters learn.
        logits: of the data of a batch.
        batches: of the training and of the validation part.
        wanted: the teacher's logits of each of them.
        epochs: passes.
        lr: highest learning rate of OneCycle.
        seed: of the order.
    """
    optimizer = torch.optim.AdamW(trained.parameters(), lr=lr, weight_decay=0.05)
    steps = epochs * len(batches[0])
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, steps, pct_start=0.1)
    data = torch.cat([batch.data for batch in batches[0]])
    of_teacher = torch.cat(wanted[0])
    best, kept = float("inf"), trained.state_dict()
    for epoch in range(epochs):
        trained.train()
        order = torch.from_numpy(generator("order of logits", seed, epoch).permutation(len(data)))
        for rows in order.split(BATCH):
            loss = apart(logits(data[rows]), of_teacher[rows])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(trained.parameters(), 3.0)
            optimizer.step()
            schedule.step()
        trained.eval()
        with torch.inference_mode():
            found = [logits(batch.data) for batch in batches[1]]
        now = apart(torch.cat(found), torch.cat(wanted[1])).item()
        if now < best:
            best, kept = now, {k: v.clone() for k, v in trained.state_dict().items()}
    trained.load_state_dict(kept)


def apart(logits: Tensor, teacher: Tensor) -> Tensor:
    """The divergence of probabilities (sample, class) from the teacher's."""
    return F.kl_div(
        logits.log_softmax(-1), teacher.log_softmax(-1), log_target=True, reduction="batchmean"
    )


def every(dataset: object, size: int) -> list[WindowBatch]:
    """All windows of a dataset, in batches."""
    chunks = np.array_split(np.arange(len(dataset)), -(-len(dataset) // size))  # type: ignore[arg-type]
    return [dataset[[(0, int(i)) for i in rows]] for rows in chunks]  # type: ignore[index]


def stored(place: Place, name: str, seed: int) -> Path:
    return place.root / "predictions" / f"{name};{seed}.parquet"


def store(
    place: Place,
    name: str,
    seed: int,
    data: LabelledData,
    logits: Callable[[WindowBatch], Tensor],
    of_tokens: Config | None = None,
) -> None:
    """Store the logits of the test part, unless they are there.

    Args:
        logits: of a batch of tokens, if ``of_tokens`` says which are read, else of signals.
    """
    path = stored(place, name, seed)
    if path.is_file():
        return
    samples = data.part("test")
    windows, window_of = shared_windows(samples)
    dataset = (
        SignalWindows(data.recordings, windows, data.channels)
        if of_tokens is None
        else make_dataset(of_tokens, data, windows)
    )
    with torch.inference_mode():
        found = torch.cat([logits(batch) for batch in every(dataset, BATCH)]).numpy()[window_of]
    subject = data.recordings.table.set_index("recording").subject
    columns = {f"logit_{i}": found[:, i] for i in range(found.shape[1])}
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame({"subject": samples.recording.map(subject), "label": samples.label})
    table.assign(**columns).to_parquet(path)


@torch.inference_mode()
def answer(model: EEGDM, x: Tensor) -> Tensor:
    return model(x)


def at_half(model: EEGDM, x: Tensor) -> Tensor:
    """Logits (batch, class) of windows that are resampled to half their rate."""
    spectrum = torch.fft.rfft(x)[..., : x.shape[-1] // 4 + 1]
    halved = torch.fft.irfft(spectrum, n=x.shape[-1] // 2) / 2
    return model(halved, sfreq=model.sfreq / 2)


def biot(width: int, n_layers: int) -> nn.Module:
    from braindecode.models import BIOT

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return BIOT(
            n_chans=22, n_outputs=6, n_times=1000, sfreq=200, embed_dim=width, num_layers=n_layers
        )


# ------------------------------------------------------------------------------------------ prices


def prices(place: Place, rounds: int) -> None:
    """Time a window to its logits, all candidates in turn; write ``prices.csv``."""
    torch.set_num_threads(1)
    x = torch.from_numpy(generator("a window").standard_normal((1, 22, 1000), dtype=np.float32))
    work = dict(candidates(place))
    taken: dict[str, list[float]] = {name: [] for name in work}
    with torch.inference_mode():
        for _ in range(rounds + 1):  # the first one also fills caches
            for name, logits in work.items():
                begun = time.process_time()
                logits(x)
                taken[name].append(1000 * (time.process_time() - begun))
    table = pd.DataFrame({"model": list(taken), "ms": [min(t[1:]) for t in taken.values()]})
    table.to_csv(place.root / "prices.csv", index=False)
    print(markdown(table))


def candidates(place: Place) -> Iterator[tuple[str, Callable[[Tensor], Tensor]]]:
    """The candidates that are finished, as what makes logits of a window; then larger models of
    braindecode.
    """
    for name in (TEACHER, FIRST, *(f"{way}, {size}" for way in WAYS for size in SIZES)):
        path = place.folder(name) / "classifier" / "seed=0"
        if not is_finished(path):
            continue
        model = load(path)
        yield name, model
        if name.startswith((TEACHER, "tokens")):
            yield f"{name}, {HALF}", lambda x, model=model: at_half(model, x)
    yield PATCHES, biot(64, 2).eval()
    from braindecode import models

    sizes = {"n_chans": 22, "n_outputs": 6, "n_times": 1000, "sfreq": 200}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in ("CBraMod", "BIOT"):
            yield name, getattr(models, name)(**sizes).eval()
        labram = models.Labram(**sizes).eval()
    known = list(models.labram.LABRAM_CHANNEL_ORDER[:22])
    yield "Labram", lambda x: labram(x, ch_names=known)


# ------------------------------------------------------------------------------------------ scores


def table(place: Place, out: Path, plot: Path | None, resamples: int = 2000) -> None:
    """Write ``lite.csv`` and the plot, and print the table."""
    found = {
        (name, int(seed)): pd.read_parquet(path)
        for path in sorted((place.root / "predictions").glob("*.parquet"))
        for name, seed in [path.stem.split(";")]
    }
    ms = pd.read_csv(place.root / "prices.csv").set_index("model").ms
    names = sorted({n for n, _ in found if all((n, seed) in found for seed in SEEDS)})
    decided = {key: logits_from_table(t).argmax(1) for key, t in found.items()}
    truth = next(iter(found.values()))
    label, subject = truth.label.to_numpy(), truth.subject.to_numpy()
    drawn = [np.arange(len(label)), *people_drawn(subject, resamples)]
    kappas = {
        name: np.array(
            [
                np.mean([kappa(label[rows], decided[name, seed][rows]) for seed in SEEDS])
                for rows in drawn
            ]
        )
        for name in names
    }
    rows = []
    for name in names:
        less = kappas[name] - kappas[TEACHER]
        low, high = np.quantile(less[1:], [0.025, 0.975])
        by_seed = [kappa(label, decided[name, seed]) for seed in SEEDS]
        alike = np.mean([(decided[name, s] == decided[TEACHER, s]).mean() for s in SEEDS])
        rows.append(
            {
                "model": name,
                "ms": ms[price_of(name)],
                "kappa": kappas[name][0],
                **{f"kappa, seed {s}": k for s, k in zip(SEEDS, by_seed, strict=True)},
                "minus teacher": less[0],
                "low": low,
                "high": high,
                "alike": alike,
            }
        )
    rows += [{"model": name, "ms": ms[name]} for name in ("CBraMod", "BIOT", "Labram")]
    result = pd.DataFrame(rows).sort_values("ms", ascending=False).round(4)
    out.mkdir(parents=True, exist_ok=True)
    result.to_csv(out / "lite.csv", index=False)
    print(markdown(result))
    if plot is not None:
        draw(result.dropna(), plot)


def price_of(name: str) -> str:
    """Students of logits cost what the students of tokens of their size cost."""
    return f"tokens, {OF_LOGITS}" if name.startswith("logits") else name


def people_drawn(subject: np.ndarray, n: int) -> Iterator[np.ndarray]:
    """Rows of as many people as there are, drawn with replacement, ``n`` times."""
    people = [np.flatnonzero(subject == name) for name in np.unique(subject)]
    random = generator("people of lite models")
    for _ in range(n):
        yield np.concatenate([people[i] for i in random.integers(len(people), size=len(people))])


def kappa(label: np.ndarray, decision: np.ndarray) -> float:
    return float(cohen_kappa_score(label, decision))


def draw(result: pd.DataFrame, path: Path) -> None:
    """Kappa over the price, with the interval of the difference to the teacher."""
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    teacher = float(result.kappa[result.model == TEACHER].iloc[0])
    axes.axhline(teacher - 0.01, color="0.7", lw=1)
    axes.axvline(40, color="0.7", lw=1)
    for how, rows in result.groupby(result.model.str.split(",").str[0], sort=False):
        reach = np.abs(rows[["low", "high"]].to_numpy().T + teacher - rows.kappa.to_numpy())
        axes.errorbar(rows.ms, rows.kappa, reach, fmt="o", ms=5, lw=1, capsize=2, label=how)
    axes.set_xscale("log")
    axes.set_xticks([10, 20, 40, 80], ["10", "20", "40", "80"])
    axes.minorticks_off()
    axes.set_xlabel("processor time of a window of 22 channels and 5 s, ms")
    axes.set_ylabel("kappa on unseen people")
    axes.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("make", "prices", "table"))
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, default=Path())
    parser.add_argument("--plot", type=Path)
    parser.add_argument("words", nargs="*", help="settings of every stage")
    args = parser.parse_intermixed_args()
    place = Place(args.root, args.words)
    if args.what == "make":
        make(place)
    elif args.what == "prices":
        prices(place, args.rounds)
    else:
        table(place, args.out, args.plot)


if __name__ == "__main__":
    run_main(main)
