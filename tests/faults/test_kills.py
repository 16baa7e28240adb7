"""`make test-faults`: stages killed at random and inside every kind of write, restarted by the
user's command until they are done.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from eegdm import artifacts
from eegdm.data.synthetic.layouts import write_tuev
from stages.test_resume import KIND, refuse_difference
from stages.tiny import MADE_UP, SIZES, one_thread

pytestmark = [pytest.mark.faults, pytest.mark.timeout(24 * 3600)]

RUNS, KILLS = int(os.environ.get("EEGDM_FAULT_RUNS", "10")), 10
LONGER = [
    "pretrain.epochs=12",
    "finetune.epochs=12",
    "finetune.patience=100",
    "latents.shard_windows=4",
    "run.workers=2",
    "device=cpu",
]
WRITES = {
    "preprocess": {
        "plan.json",
        "signals",
        "parts",
        "recordings.parquet",
        "events.parquet",
        "manifest.json",
    },
    "pretrain": {
        "plan.json",
        "samples",
        "checkpoints",
        "curves.csv",
        "samples.npy",
        "model.safetensors",
        "README.md",
        "config.json",
        "manifest.json",
    },
    "cache": {"plan.json", "shards", "windows.parquet", "manifest.json"},
    "finetune": {
        "plan.json",
        "checkpoints",
        "curves.csv",
        "model.safetensors",
        "README.md",
        "config.json",
        "manifest.json",
    },
    "report": {
        "plan.json",
        "predictions-seed=0.parquet",
        "report.html",
        "report.json",
        "report.md",
        "manifest.json",
    },
}
"""The kinds of write of each stage: a file, or the folder of many."""


def words_of(stage: str, root: Path, corpus: Path) -> list[str]:
    return [
        stage,
        "corpus=tuev",
        f"root={root}",
        *SIZES,
        *LONGER,
        *([f"source={corpus}"] if stage == "preprocess" else []),
    ]


def start(words: list[str], log: Path) -> subprocess.Popen:
    with open(log, "a") as stream:
        return subprocess.Popen(
            [sys.executable, "-m", "eegdm", *words],
            stdout=stream,
            stderr=stream,
            env=one_thread(),
            start_new_session=True,
        )


def open_writes(folder: Path) -> set[str]:
    """The kinds of write that are under way, by the temporary files that there are."""
    found = set()
    for temporary in folder.rglob(".*.tmp*"):
        parent = temporary.parent.relative_to(folder).as_posix()
        found.add(
            re.sub(r"^\.(.*)\.\d+\.tmp.*$", r"\1", temporary.name) if parent == "." else parent
        )
    return found


def kill(
    words: list[str], folder: Path, log: Path, inside: str | None, seconds: float
) -> set[str] | None:
    """Run a stage and kill all its processes, inside a kind of write or at a time; return the
    writes it was in, or None if it had ended.
    """
    process, begun = start(words, log), time.monotonic()
    while process.poll() is None and (
        inside not in open_writes(folder) if inside else time.monotonic() < begun + seconds
    ):
        time.sleep(0 if inside else 0.005)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() in (0, -signal.SIGKILL), log.read_text()
    return open_writes(folder) if process.returncode else None


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, float]]:
    """The corpus, the root of a run without kills, and how long each of its stages took."""
    corpus, root, seconds = (
        tmp_path_factory.mktemp("corpus") / "tuev",
        tmp_path_factory.mktemp("undisturbed"),
        {},
    )
    write_tuev(corpus, **MADE_UP)
    for stage in WRITES:
        begun = time.monotonic()
        assert start(words_of(stage, root, corpus), root.parent / f"{stage}.log").wait() == 0, (
            root.parent / f"{stage}.log"
        ).read_text()
        seconds[stage] = time.monotonic() - begun
    return corpus, root, seconds


@pytest.mark.parametrize("stage", WRITES)
def test_ten_kills_change_nothing(
    stage: str, undisturbed: tuple[Path, Path, dict[str, float]], tmp_path: Path
) -> None:
    corpus, whole, seconds = undisturbed
    place, random = Path("tuev") / "base" / KIND[stage], np.random.default_rng([7, *stage.encode()])
    hit: Counter[str] = Counter()
    kills = 0
    for run in range(RUNS):
        root, log = tmp_path / str(run), tmp_path / f"{run}.log"
        for before in list(KIND)[: list(KIND).index(stage)]:
            shutil.copytree(
                whole / "tuev" / "base" / KIND[before], root / "tuev" / "base" / KIND[before]
            )
        words, number = words_of(stage, root, corpus), 0
        while number < KILLS:
            missed = sorted(WRITES[stage] - set(hit))
            inside = str(random.choice(missed)) if missed and number % 2 else None
            found = kill(
                words, root / place, log, inside, float(random.uniform(0.3, 1.0)) * seconds[stage]
            )
            if found is None:
                if artifacts.is_finished(root / place):
                    shutil.rmtree(root / place)  # it was done before the kill: begin anew
                continue
            hit.update(found)
            number, kills = number + 1, kills + 1
        assert start(words, log).wait() == 0, log.read_text()
        assert artifacts.verify(root / place) == []
        refuse_difference(whole / place, root / place, but=("report.html",))
        assert open_writes(root / place) == set()
    print(f"{stage}: {RUNS} runs, {kills} kills, inside writes: {dict(hit)}")
    assert set(hit) >= WRITES[stage], f"no kill inside {WRITES[stage] - set(hit)}"
