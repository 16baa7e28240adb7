"""Runs of a sweep that would write to one folder are refused before any of them starts, with
commands that work.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from eegdm import artifacts
from eegdm.cli import app
from eegdm.errors import UserError
from eegdm.experiments.sweeps import launch, plan_runs
from eegdm.stages import run_stage
from stages.tiny import Finished, snapshot


def test_a_sweep_of_a_hyperparameter_is_refused_with_commands_that_work(own: Finished) -> None:
    before = snapshot(own.root)
    words = [*own.words, "seed=3", "finetune.max_lr=1e-3,1e-2"]
    result = CliRunner().invoke(app, ["finetune", "-m", *words])
    assert isinstance(result.exception, UserError)
    message = str(result.exception)
    assert f"two runs would write to {own.classifier.with_name('seed=3')}; corpus=, " in message
    assert snapshot(own.root) == before and "\n" not in message
    with pytest.raises(UserError, match="two runs would write to"):
        launch("finetune", words, "joblib")
    commands = re.findall(r"eegdm finetune .*?(?=;|$)", message.partition("root=: ")[2])
    assert len(commands) == 2
    rates = []
    for command in commands:
        folder = run_stage("finetune", shlex.split(command)[2:])
        made = artifacts.open_artifact(folder, "classifier")
        rates.append(made.config["finetune"]["max_lr"])
        assert made.inputs == artifacts.open_artifact(own.classifier, "classifier").inputs
    assert rates == [1e-3, 1e-2]


@pytest.mark.parametrize(
    ("stage", "word"),
    [
        ("preprocess", "signal.notch=[50],[60]"),
        ("pretrain", "seed=0,1"),
        ("pretrain", "pretrain.lr=choice(1e-3,1e-4)"),
        ("cache", "latents.dtype=float16,float32"),
        ("finetune", "device=cpu,cuda"),
        ("report", "seed=range(0,2)"),
    ],
)
def test_no_stage_runs_two_into_one_folder(stage: str, word: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"two runs would write to .*: eegdm {stage} "):
        plan_runs(stage, ["corpus=tuev", f"root={tmp_path}", word])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("stage", "words", "n_runs"),
    [
        ("finetune", ["seed=range(0,3)"], 3),
        ("finetune", ["seed=0,1", "fold=all", "split=kfold"], 2),
        ("finetune", ["seed=0,0"], 1),
        ("finetune", ["seed=0,1", "fold=0,1", "split=kfold"], 4),
        ("pretrain", ["fold=0,1", "split=kfold"], 2),
        ("pretrain", ["recipe=base,linear"], 2),
        ("preprocess", ["signal.notch=[50]", "root=a,b"], 2),
        ("report", ["rate=0.9,0.95"], 2),
    ],
)
def test_what_folders_are_named_after_may_be_swept(
    stage: str, words: list[str], n_runs: int
) -> None:
    assert len(plan_runs(stage, ["corpus=tuev", *words])) == n_runs
