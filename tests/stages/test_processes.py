"""Two processes learn, score and write what one does, from the user's commands, with shares that
are unequal or empty.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import eegdm
from eegdm import artifacts
from eegdm.compose import compose
from eegdm.data.recordings import Recordings
from eegdm.evaluation.scoring import logits_from_table, score_samples
from eegdm.opening import open_data, shared_windows
from eegdm.pretraining import views
from stages.tiny import Finished, command_line, one_thread

pytestmark = [pytest.mark.ci, pytest.mark.timeout(600)]

STEPS = 20
FOLDER = {"pretrain": "backbone", "distill": "backbone", "finetune": "classifier/seed=0"}
INPUTS = {
    "pretrain": ("recordings",),
    "distill": ("recordings",),
    "finetune": ("recordings", "backbone", "latents"),
}


def words_of(stage: str, finished: Finished, root: Path, *more: str) -> list[str]:
    elsewhere = [word for word in finished.words if not word.startswith("root=")]
    given = [f"{name}={getattr(finished, name)}" for name in INPUTS[stage]]
    given += [f"model={finished.backbone}"] if stage == "distill" else []
    return [*elsewhere, f"root={root}", *given, "device=cpu", "finetune.patience=1000", *more]


def n_samples(stage: str, words: list[str]) -> int:
    config = compose(words)
    if stage != "finetune":
        return len(views(config, Recordings(Path(config.run.recordings or "")))[0])
    samples = open_data(config)[1].samples
    return int((samples.split == "train").sum())


def odd_batches(finished: Finished, stage: str) -> list[str]:
    """Two batches in an epoch: one that two processes share unequally or almost, and one of a
    single sample, so that a share is empty.
    """
    split = (
        ["windows.split_seed=5"] if stage == "finetune" else []
    )  # its validation subject has an odd number of windows
    n = n_samples(stage, words_of(stage, finished, finished.root, *split))
    settings = "finetune" if stage == "finetune" else "pretrain"
    return [f"{settings}.batch_size={n - 1}", f"{settings}.epochs={STEPS // 2}", *split]


@pytest.mark.parametrize("stage", FOLDER)
def test_two_processes_learn_the_weights_of_one(
    stage: str, finished: Finished, tmp_path: Path
) -> None:
    kept, curves = {}, {}
    for devices in (1, 2):
        root = tmp_path / str(devices)
        words = words_of(
            stage,
            finished,
            root,
            *odd_batches(finished, stage),
            f"devices={devices}",
            "precision=64-true",
        )
        command = [
            sys.executable,
            str(Path(__file__).with_name("as_many_processes.py")),
            str(tmp_path),
            stage,
            *words,
        ]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=280, env=one_thread()
        )
        assert done.returncode == 0, done.stderr
        kept[devices] = torch.load(tmp_path / f"{devices}.pt", weights_only=True)
        folder = root / "tuev" / "base" / FOLDER[stage]
        curves[devices] = pd.read_csv(folder / "curves.csv")
        assert artifacts.verify(folder) == []
    assert int(curves[1].step.iloc[-1]) == int(curves[2].step.iloc[-1]) == STEPS
    learned = [name for name, weight in kept[1].items() if weight.is_floating_point()]
    assert learned and all(kept[1][name].dtype == torch.float64 for name in learned)
    assert max(float((kept[1][name] - kept[2][name]).abs().max()) for name in learned) < 1e-9
    np.testing.assert_allclose(curves[2], curves[1], rtol=1e-9)

    if stage == "finetune":
        config = compose(words)
        val = open_data(config)[1].samples.query("split == 'val'").reset_index(drop=True)
        assert len(shared_windows(val)[0]) % 2 == 1 or len(val) % 2 == 1
        one, two = (np.load(tmp_path / f"{devices}.npz") for devices in (1, 2))
        assert len(one["logits"]) == len(val)
        np.testing.assert_allclose(two["logits"], one["logits"], rtol=0, atol=1e-12)
        assert (two["logits"].argmax(1) == one["logits"].argmax(1)).all() and (
            two["scores"] == one["scores"]
        ).all()


@pytest.mark.parametrize("stage", FOLDER)
def test_the_command_on_two_devices_gives_the_curve_of_one(
    stage: str, finished: Finished, tmp_path: Path
) -> None:
    curves = []
    for devices in (1, 2):
        root = tmp_path / str(devices)
        done = command_line(
            stage,
            *words_of(stage, finished, root, *odd_batches(finished, stage), f"devices={devices}"),
        )
        assert done.returncode == 0, done.stderr
        assert "Warning" not in done.stderr, done.stderr
        assert [line for line in done.stdout.splitlines() if "->" in line][
            1:
        ] == []  # said once, not by each process
        curves.append(pd.read_csv(root / "tuev" / "base" / FOLDER[stage] / "curves.csv"))
        assert artifacts.verify(root / "tuev" / "base" / FOLDER[stage]) == []
    np.testing.assert_allclose(curves[1].train_loss, curves[0].train_loss, rtol=1e-4)
    np.testing.assert_allclose(curves[1].val_loss, curves[0].val_loss, rtol=1e-4)


def test_a_training_of_two_processes_stops_on_nan_with_a_sentence(
    finished: Finished, tmp_path: Path
) -> None:
    done = command_line(
        "finetune",
        *words_of(
            "finetune",
            finished,
            tmp_path,
            "finetune.max_lr=1e30",
            "finetune.grad_clip=0",
            "devices=2",
        ),
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert "the loss became" in done.stderr and "Lower the learning rate" in done.stderr


@pytest.mark.parametrize("shared", ["two processes", "a dask cluster"])
def test_shards_that_several_processes_write_are_those_of_one(
    shared: str, finished: Finished, tmp_path: Path, cluster: str
) -> None:
    more = ["device=cpu", "devices=2" if shared == "two processes" else f"cluster={cluster}"]
    given = [f"{name}={getattr(finished, name)}" for name in ("recordings", "backbone")]
    words = [word for word in finished.words if not word.startswith("root=")]
    done = command_line("cache", *words, *given, f"root={tmp_path}", *more)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "tuev" / "base" / "latents"
    assert artifacts.verify(folder) == []
    pd.testing.assert_frame_equal(
        pd.read_parquet(folder / "windows.parquet"),
        pd.read_parquet(finished.latents / "windows.parquet"),
    )
    shards = sorted(path.name for path in (finished.latents / "shards").iterdir())
    assert len(shards) > 3 and shards == sorted(path.name for path in (folder / "shards").iterdir())
    for name in shards:
        np.testing.assert_allclose(
            np.load(folder / "shards" / name),
            np.load(finished.latents / "shards" / name),
            rtol=0,
            atol=1e-3,
        )


@pytest.mark.parametrize("cached", [True, False])
def test_a_report_by_two_processes_is_that_of_one(
    cached: bool, finished: Finished, tmp_path: Path
) -> None:
    config = compose([*finished.words, f"latents.cached={str(cached).lower()}", "device=cpu"])
    config, data = open_data(config)
    config.finetune.batch_size = (
        len(shared_windows(data.samples)[0]) - 1
    ) // 2  # batches of unequal shares, the last with one or two
    model = eegdm.load(str(finished.classifier))
    one, two = (score_samples(config, data, model, data.samples, processes) for processes in (1, 2))
    assert len(one) == len(data.samples)
    np.testing.assert_allclose(logits_from_table(two), logits_from_table(one), rtol=0, atol=1e-5)
    pd.testing.assert_frame_equal(two.filter(regex="^(?!logit_)"), one.filter(regex="^(?!logit_)"))


def test_the_report_command_on_two_devices(finished: Finished, tmp_path: Path) -> None:
    copy = finished.copied(tmp_path / "copy")
    done = command_line("report", *copy.words, "device=cpu", "devices=2")
    assert done.returncode == 0, done.stderr
    found, expected = (
        json.loads((folder / "report.json").read_text())
        for folder in (copy.report, finished.report)
    )
    assert found["runs"][0]["scores"] == expected["runs"][0]["scores"]
