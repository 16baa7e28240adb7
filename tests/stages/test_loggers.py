"""Training curves go to TensorBoard and to W&B (offline here) when asked for, and the artefact
stays what it was.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from eegdm import artifacts
from stages.tiny import Finished, one_thread

pytestmark = pytest.mark.ci


def test_curves_reach_both_loggers(own: Finished, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    words = ["finetune", *own.words, "seed=1", "run.loggers=[tensorboard,wandb]"]
    environment = {**one_thread(), "WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    command = [sys.executable, "-m", "eegdm", *words]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=240, cwd=tmp_path, env=environment
    )
    assert done.returncode == 0, done.stderr
    folder = own.classifier.with_name("seed=1")
    curves = EventAccumulator(str(folder / "logs")).Reload()
    assert (
        len(curves.Scalars("train_loss"))
        == len((folder / "curves.csv").read_text().splitlines()) - 1
    )
    assert len(list((folder / "logs").glob("wandb/offline-run-*/run-*.wandb"))) == 1
    assert not any("logs" in name for name in artifacts.open_artifact(folder, "classifier").files)
    assert not (tmp_path / "wandb").exists(), "nothing is left where the command was typed"


def test_two_seeds_are_two_runs_and_the_programs_own_run_is_left_alone(
    own: Finished, tmp_path: Path
) -> None:
    code = f"""
import wandb
from eegdm.stages import run_stage
theirs = wandb.init(project="theirs", dir={str(tmp_path)!r})
for seed in (1, 2):
    run_stage("finetune", [*{own.words!r}, f"seed={{seed}}", "loggers=[wandb]"])
assert wandb.run is theirs
theirs.log({{"mine": 1.0}})
theirs.finish()
"""
    # W&B keeps what a program prints with its own run too, where the progress bar names the scores
    quiet = {"WANDB_SILENT": "true", "WANDB_CONSOLE": "off"}
    environment = {**one_thread(), "WANDB_MODE": "offline", **quiet}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=240, env=environment
    )
    assert done.returncode == 0, done.stderr
    runs = [
        next(
            (own.classifier.with_name(f"seed={seed}") / "logs").glob("wandb/offline-*/run-*.wandb")
        )
        for seed in (1, 2)
    ]
    for run in runs:
        assert b"val_kappa" in run.read_bytes()
    assert abs(runs[0].stat().st_size - runs[1].stat().st_size) < 5000
    (theirs,) = tmp_path.glob("wandb/offline-*/run-*.wandb")
    assert b"val_kappa" not in theirs.read_bytes() and b"mine" in theirs.read_bytes()


def test_without_a_login_nothing_is_trained_and_one_line_says_what_to_do(
    own: Finished, tmp_path: Path
) -> None:
    environment = {**one_thread(), "HOME": str(tmp_path), "NETRC": str(tmp_path / "none")}
    environment = {k: v for k, v in environment.items() if not k.startswith("WANDB")}
    command = [sys.executable, "-m", "eegdm", "finetune", *own.words, "seed=1", "loggers=[wandb]"]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        env=environment,
    )
    assert done.returncode == 2, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("eegdm: ")]
    assert "wandb login" in line and "WANDB_MODE=offline" in line
    assert "Traceback" not in done.stderr
    assert not (own.classifier.with_name("seed=1") / "curves.csv").exists()
