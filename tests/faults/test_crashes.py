"""A crash at every single change of the disk, in every stage: what is left is whole or absent, and
the same command completes it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from eegdm import artifacts
from eegdm.data.synthetic.layouts import write_tuev
from faults.crashing import CRASHED, Change
from stages.test_resume import KIND, folder_of, refuse_difference
from stages.tiny import SIZES, one_thread

pytestmark = [pytest.mark.ci, pytest.mark.timeout(1200)]

SMALLER = [
    "pretrain.max_windows=1",
    "finetune.epochs=2",
    "finetune.patience=100",
    "latents.shard_windows=8",
    "diffusion.n_steps=3",
]
DATED = {"report.html"}
"""Pages that say when they were made."""


BY_HAND = {"report", "pretrain"}
"""What takes minutes: a report has many small files and is made anew each time; a pretraining
writes what distill writes, by the same code.
"""


def refuse_disorder(changes: list[Change]) -> None:
    """Every rename follows the fsync of its file and is followed by the fsync of its folder, with
    no other rename between.
    """
    for before, after, i in (
        (changes[i], changes[i + 1], i)
        for i in range(len(changes) - 1)
        if changes[i].call == "before rename"
    ):
        assert Change("fsync", before.path) in changes[:i], before
        assert after.call == "after rename"
        folder = after.path.rpartition("/")[0] or "."
        following = [
            change
            for change in changes[i + 2 :]
            if change == Change("fsync", folder) or change.call == "before rename"
        ]
        assert following and following[0] == Change("fsync", folder), after


@pytest.mark.parametrize(
    "stage",
    [pytest.param(s, marks=pytest.mark.faults) if s in BY_HAND else s for s in KIND],
)
def test_a_crash_at_any_change_of_the_disk_is_survived(stage: str, tmp_path: Path) -> None:
    source, scratch = tmp_path / "corpus", tmp_path / "scratch"
    write_tuev(source, n_train=3, n_eval=1, minutes=1.0)
    scratch.mkdir()
    command = [
        sys.executable,
        str(Path(__file__).with_name("crashing.py")),
        tmp_path / "result.json",
        scratch,
        stage,
    ]
    words = ["corpus=tuev", f"source={source}", "windows.split=subject", *SIZES, *SMALLER]
    done = subprocess.run(
        [*command, *words], env=one_thread(), timeout=1100, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["status"] == 0, (scratch / "undisturbed.log").read_text()
    changes = [Change(*change) for change in result["changes"]]
    refuse_disorder(changes)
    place = folder_of(stage, Path())
    sealed = artifacts.open_artifact(scratch / "whole" / place).files
    renamed = {
        change.path.removeprefix(f"{place}/") for change in changes if change.call == "after rename"
    }
    assert renamed >= set(sealed) | {
        artifacts.PLAN,
        artifacts.MANIFEST,
    }  # every file of the artefact was written so
    assert (stage in ("pretrain", "finetune", "distill")) == any(
        path.endswith("last.ckpt") for path in renamed
    )

    assert len(result["runs"]) == sum(change.call != "after rename" for change in changes)
    for k, (crash, again) in result["runs"].items():
        assert (crash, again) == (CRASHED, 0), (changes[int(k)], (scratch / f"{k}.log").read_text())
        folder = scratch / k / place
        refuse_difference(scratch / "whole" / place, folder, but=tuple(DATED & set(sealed)))
        assert artifacts.verify(folder) == []
        assert not [
            path for path in folder.rglob("*") if ".tmp" in path.name or path.suffix == ".ckpt"
        ], changes[int(k)]
