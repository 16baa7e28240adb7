"""A crash at every single change of the disk, in every stage: what is left is whole or absent, and the same command completes it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from eegdm import artifacts
from faults.crashing import CRASHED, Change
from stages.test_resume import KIND, refuse_difference
from stages.tiny import Finished, one_thread

pytestmark = [pytest.mark.ci, pytest.mark.timeout(1200)]

SMALLER = ["pretrain.max_windows=1", "finetune.epochs=2", "finetune.patience=100", "latents.shard_windows=32"]
INPUTS = {
    "preprocess": (),
    "pretrain": ("recordings",),
    "cache": ("recordings", "backbone"),
    "finetune": ("recordings", "backbone", "latents"),
    "report": ("recordings", "backbone", "latents", "classifiers"),
}
DATED = {"report.html"}
"""Pages that say when they were made."""


def words_of(stage: str, finished: Finished) -> list[str]:
    places = {name: getattr(finished, name.replace("classifiers", "classifier")) for name in INPUTS[stage]}
    own = [word for word in finished.words if not word.startswith("root=")]
    own = own if stage == "report" else [*own, *SMALLER]
    given = [f"run.{name}=['{path}']" if name == "classifiers" else f"{name}={path}" for name, path in places.items()]
    return [*own, *given, *([f"source={finished.source}"] if stage == "preprocess" else [])]


def refuse_disorder(changes: list[Change]) -> None:
    """Every rename follows the fsync of its file and is followed by the fsync of its folder, with no other rename between."""
    for before, after, i in ((changes[i], changes[i + 1], i) for i in range(len(changes) - 1) if changes[i].call == "before rename"):
        assert Change("fsync", before.path) in changes[:i], before
        assert after.call == "after rename"
        folder = after.path.rpartition("/")[0] or "."
        following = [change for change in changes[i + 2 :] if change == Change("fsync", folder) or change.call == "before rename"]
        assert following and following[0] == Change("fsync", folder), after


@pytest.mark.parametrize("stage", KIND)
def test_a_crash_at_any_change_of_the_disk_is_survived(stage: str, finished: Finished, tmp_path: Path) -> None:
    command = [sys.executable, str(Path(__file__).with_name("crashing.py")), tmp_path / "result.json", tmp_path, stage]
    subprocess.run([*command, *words_of(stage, finished)], check=True, env=one_thread(), timeout=1100)
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["status"] == 0, (tmp_path / "undisturbed.log").read_text()
    changes = [Change(*change) for change in result["changes"]]
    refuse_disorder(changes)
    sealed = artifacts.open_artifact(tmp_path / "undisturbed" / "tuev" / "base" / KIND[stage]).files
    renamed = {change.path.partition(KIND[stage] + "/")[2] for change in changes if change.call == "after rename"}
    assert renamed >= set(sealed) | {artifacts.PLAN, artifacts.MANIFEST}  # every file of the artefact was written so
    assert (stage in ("pretrain", "finetune")) == any(path.endswith("last.ckpt") for path in renamed)

    for k, (crash, again) in enumerate(result["runs"]):
        assert (crash, again) == (CRASHED, 0), (changes[k], (tmp_path / f"{k}.log").read_text())
        folder = tmp_path / str(k) / "tuev" / "base" / KIND[stage]
        refuse_difference(tmp_path / "undisturbed" / "tuev" / "base" / KIND[stage], folder, but=tuple(DATED & set(sealed)))
        assert artifacts.verify(folder) == []
        assert not [path for path in folder.rglob("*") if ".tmp" in path.name or path.suffix == ".ckpt"], changes[k]
