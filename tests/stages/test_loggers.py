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
