"""Sweeps side by side: real processes here, and the script that SLURM would get."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from eegdm import artifacts
from eegdm.errors import UserError
from eegdm.experiments.sweeps import launch
from eegdm.stages import run_stage


def made_up(root: Path) -> list[str]:
    return [
        "corpus=synthetic",
        f"root={root}",
        "corpus.n_train=2",
        "corpus.n_eval=1",
        "corpus.minutes=1",
    ]


@pytest.mark.ci
@pytest.mark.timeout(600)
@pytest.mark.parametrize("launcher", ["joblib", "local"])
def test_each_combination_is_run_in_a_process_and_a_failure_is_one_run(
    tmp_path: Path, launcher: str
) -> None:
    run_stage("preprocess", made_up(tmp_path))
    words = [
        "corpus=synthetic",
        f"root={tmp_path}",
        "recipe=base,linear",
        "backbone.n_blocks=1",
        "backbone.d_model=8",
        "backbone.d_state=2",
        "pretrain.epochs=0",
        "pretrain.samples=0",
        "pretrain.max_windows=2",
    ]
    outcomes = launch("pretrain", words, launcher, logs=tmp_path / "logs")
    assert [re.findall(r"recipe=(\w+)", outcome.command) for outcome in outcomes] == [
        ["base"],
        ["linear"],
    ]
    assert all(outcome.status == 0 for outcome in outcomes)
    assert all(
        artifacts.is_finished(tmp_path / "synthetic" / recipe / "backbone")
        for recipe in ("base", "linear")
    )
    with pytest.raises(
        UserError, match="recipe=nolaw.*ended with status 2\nsweep: 1 of 2 runs failed"
    ):
        launch(
            "cache", [*words[:2], "recipe=base,nolaw", *words[3:]], launcher, logs=tmp_path / "logs"
        )
    assert artifacts.is_finished(tmp_path / "synthetic" / "base" / "latents")


def test_slurm_gets_one_array_of_jobs_with_the_parameters_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """sbatch here keeps the script instead of queueing it."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, line in (
        ("sbatch", f'cp "$1" {tmp_path}/script.sh && echo Submitted batch job 12'),
        ("srun", "true"),
    ):
        (programs / name).write_text(f"#!/bin/sh\n{line}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    job = ["timeout_min=600", "gpus_per_node=1", "slurm_partition=gpu"]
    outcomes = launch(
        "finetune",
        ["corpus=tuev", f"root={tmp_path}", "seed=0,1,2"],
        "slurm",
        job=job,
        logs=tmp_path / "logs",
    )
    assert outcomes == []
    script = (tmp_path / "script.sh").read_text()
    for line in (
        "--array=0-2%3",
        "--gpus-per-node=1",
        "--job-name=eegdm",
        "--partition=gpu",
        "--time=600",
    ):
        assert f"#SBATCH {line}\n" in script
    assert "-m submitit.core._submit" in script
    assert len(list((tmp_path / "logs").glob("*submitted.pkl"))) == 3


@pytest.mark.parametrize(
    ("stage", "words", "launcher", "job", "said"),
    [
        ("finetun", ["seed=0"], "joblib", [], 'did you mean "finetune"'),
        ("finetune", ["seed=0"], "dask", [], "choose from joblib, local, slurm"),
        ("finetune", ["sed=0,1"], "joblib", [], "no such setting"),
        ("finetune", ["seed=0"], "local", ["timeout_min"], "write KEY=VALUE"),
        ("finetune", ["seed=0"], "local", ["timeout=6"], "submitit refuses local with timeout=6"),
    ],
)
def test_what_can_not_be_swept_is_told_before_anything_starts(
    tmp_path: Path, stage: str, words: list[str], launcher: str, job: list[str], said: str
) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        launch(stage, [*words, f"root={tmp_path}"], launcher, job=job, logs=tmp_path / "logs")
