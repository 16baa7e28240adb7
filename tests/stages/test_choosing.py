"""The epoch that is kept: by the validation score, among equals by the loss, and by the loss where
the score is undefined.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from eegdm import artifacts
from eegdm.compose import compose
from eegdm.errors import UserError
from eegdm.opening import resolve
from eegdm.stages import run_stage
from eegdm.training import Curves, KeepBest
from stages.tiny import Finished


def kept(score: str | None, epochs: list[tuple[float, float]], tmp_path: Path) -> int:
    """The last epoch that was saved as best, of (score, loss) in turn."""
    curves, saved = Curves(tmp_path / "curves.csv"), []
    keeping = KeepBest(score)
    for number, (value, loss) in enumerate(epochs):
        trainer = SimpleNamespace(
            callbacks=[curves, keeping],
            callback_metrics={"val_kappa": value, "val_loss": loss},
            default_root_dir=tmp_path,
            save_checkpoint=lambda path, number=number: saved.append(number),
        )
        keeping.on_validation_end(trainer, None)  # type: ignore[arg-type]
        curves.rows.append({"val_kappa": value, "val_loss": loss})
    return saved[-1]


@pytest.mark.parametrize(
    ("score", "epochs", "best"),
    [
        ("val_kappa", [(0.1, 1.0), (0.5, 0.9), (0.4, 0.1)], 1),
        ("val_kappa", [(0.5, 1.0), (0.5, 0.7), (0.5, 0.8)], 1),
        ("val_kappa", [(0.5, 0.7), (0.5, 0.7)], 0),
        (None, [(0.0, 1.0), (float("nan"), 0.4), (float("nan"), 0.6)], 1),
        (None, [(float("nan"), 0.9), (0.0, 2.0), (float("nan"), 0.2)], 2),
    ],
)
def test_the_best_epoch(
    score: str | None, epochs: list[tuple[float, float]], best: int, tmp_path: Path
) -> None:
    assert kept(score, epochs, tmp_path) == best


def test_one_class_in_validation_keeps_the_epoch_of_the_lowest_loss(
    own: Finished, capsys: pytest.CaptureFixture[str]
) -> None:
    """Kappa of one class is undefined as long as all windows are right, and 0 as soon as one is
    wrong: it must not choose.
    """
    table = pd.read_parquet(own.recordings / "events.parquet")
    recordings = pd.read_parquet(own.recordings / "recordings.parquet")
    of_val = recordings.recording[recordings.subject == recordings.subject.iloc[0]]
    table.loc[table.recording.isin(of_val), "label"] = "BCKG"
    recordings["split"] = [
        "val" if name in set(of_val) else "train" if split == "train" else "test"
        for name, split in zip(recordings.recording, recordings.split, strict=True)
    ]
    artifacts.reopen(own.recordings)
    table.to_parquet(own.recordings / "events.parquet")
    recordings.to_parquet(own.recordings / "recordings.parquet")
    artifacts.finish(own.recordings, unlisted=("parts",))
    typed = [*own.words, "backbone=random", f"root={own.root / 'x'}", "split=column"]
    typed = [*typed, f"recordings={own.recordings}", "windows.policy=event"]
    run_stage("cache", typed)
    classifier = run_stage("finetune", [*typed, "finetune.epochs=5"])
    assert "holds one class, so that kappa is undefined" in capsys.readouterr().out
    curves = pd.read_csv(classifier / "curves.csv")
    best = artifacts.open_artifact(classifier).summary["best_epoch"]
    assert best == int(curves.val_loss.idxmin())


NAMES = [
    ("backbone.d_model=16", "16"),
    ("backbone.n_blocks=3", "3"),
    ("diffusion.n_steps=11", "11"),
    ("diffusion.schedule=linear", "linear"),
    ("pretrain.epochs=7", "7"),
    ("pretrain.ema.decay=0.5", "0.5"),
    ("signal.lowpass=60", "60.0"),
    ("signal.notch=[60]", "[60.0]"),
    ("latents.dtype=int8", "int8"),
    ("latents.step=3", "3"),
    ("windows.duration_s=4", "4.0"),
]


@pytest.mark.parametrize(("word", "typed"), NAMES)
def test_what_contradicts_an_input_is_refused_by_name(
    finished: Finished, word: str, typed: str
) -> None:
    with pytest.raises(UserError, match="was made with") as refused:
        resolve(compose([*finished.words, word]), "finetune")
    assert word.partition("=")[0] in str(refused.value) and f"not {typed}" in str(
        refused.value
    ).replace("'", "")
