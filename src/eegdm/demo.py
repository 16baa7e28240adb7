"""`eegdm demo`: everything, on synthetic EEG, in minutes."""

from __future__ import annotations

import time
from pathlib import Path

from eegdm.artifacts import make_folder, storage_faults
from eegdm.console import say
from eegdm.data.synthetic.layouts import write_tuev
from eegdm.inference.prediction_folder import predict_path
from eegdm.stages import run_stage

UNSEEN_SEED = 4711  # another seed than the corpus's: a subject that no stage has met


def run_demo(root: Path) -> Path:
    """Run the five stages with recipe `demo`, the same fusion on random weights, and mark an unseen
    recording; return the report's path.
    """
    make_folder(root, "--out")
    start = time.monotonic()
    where = [f"root={root}"]
    for step, (stage, words, text) in enumerate(_demo_steps(), 1):
        say(f"\n[{step}/{len(_demo_steps())}] {text}\n      $ eegdm {' '.join([stage, *words])}")
        folder = run_stage(stage, [*words, *where])
    say("\nAn unseen recording: a new synthetic subject, its events marked by the classifier")
    with storage_faults(root, "--out"):
        recording = _unseen(root)
    model = root / "synthetic" / "demo" / "classifier" / "seed=0"
    say(f"      $ eegdm predict {recording} --model {model}")
    for path in predict_path(recording, str(model), root / "synthetic" / "demo" / "prediction"):
        say(f"wrote {path}")
    say(
        f"\nDone in {time.monotonic() - start:.0f} s. Open this in a"
        f" browser:\n{(folder / 'report.html').resolve()}"
    )
    return folder / "report.html"


def _demo_steps() -> list[tuple[str, list[str], str]]:
    return [
        (
            "preprocess",
            ["recipe=demo"],
            "Recordings: EDF files and their annotations -> one filtered signal each",
        ),
        ("pretrain", ["recipe=demo"], "Backbone: learn single-channel EEG by denoising it"),
        (
            "cache",
            ["recipe=demo"],
            "Latents: the backbone's gate activities, pooled, become tokens",
        ),
        (
            "finetune",
            ["recipe=demo"],
            "Classifier: the latent fusion transformer learns the events from tokens",
        ),
        (
            "cache",
            ["recipe=demo_random"],
            "For comparison: tokens of a backbone that has learned nothing",
        ),
        (
            "finetune",
            ["recipe=demo_random"],
            "For comparison: the same transformer on those tokens",
        ),
        ("report", ["recipe=demo"], "Report: scores on subjects that were never seen"),
    ]


def _unseen(root: Path) -> Path:
    folder = root / "synthetic" / "unseen"
    # Written once: repeating the command finds the recording unchanged, and its prediction done.
    if not folder.is_dir():
        write_tuev(folder, n_train=0, n_eval=1, minutes=2, seed=UNSEEN_SEED)
    return next(folder.rglob("*.edf"))
