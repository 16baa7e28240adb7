"""Killed at any moment and started again by the same command, each stage ends with what an
undisturbed run would have left.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from eegdm import artifacts
from stages.tiny import SIZES, command_line, one_thread

pytestmark = pytest.mark.ci

KIND = {
    "preprocess": "recordings",
    "pretrain": "backbone",
    "cache": "latents",
    "finetune": "classifier/seed=0",
    "report": "report",
    "distill": "backbone",
}
LONGER = [
    "pretrain.epochs=8",
    "finetune.epochs=12",
    "finetune.patience=100",
    "latents.shard_windows=4",
    "run.workers=2",
]
"""So long that kills hit between two checkpoints or shards; with processes that read data ahead."""
KILLS = 3


class Undisturbed(NamedTuple):
    """Each stage run once, without a kill."""

    root: Path
    corpus: Path
    seconds: dict[str, float]  # from the announcement of the work to the end of the process

    def folder(self, stage: str) -> Path:
        return folder_of(stage, self.root)


class Moment(NamedTuple):
    """When to kill: so long after so many pieces of the work are finished."""

    pieces: int
    seconds: float


def folder_of(stage: str, root: Path) -> Path:
    """Where a stage writes; a student lies beside its teacher's recipe."""
    return root / "tuev" / ("lite" if stage == "distill" else "base") / KIND[stage]


def words_of(stage: str, root: Path, corpus: Path) -> list[str]:
    return [
        stage,
        "corpus=tuev",
        f"root={root}",
        *SIZES,
        *LONGER,
        *([f"source={corpus}"] if stage == "preprocess" else []),
        *(["recipe=lite", f"model={folder_of('pretrain', root)}"] if stage == "distill" else []),
    ]


@pytest.fixture(scope="module")
def undisturbed(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    root, seconds = tmp_path_factory.mktemp("undisturbed"), {}
    for stage in KIND:
        process, log = start(words_of(stage, root, corpus), root.parent / f"{stage}.log")
        wait_until(lambda: "->" in log.read_text() or process.poll() is not None)  # noqa: B023 - called before the next round
        begun = time.monotonic()
        assert process.wait(timeout=240) == 0, log.read_text()
        seconds[stage] = time.monotonic() - begun
    return Undisturbed(root, corpus, seconds)


def start(words: list[str], log: Path) -> tuple[subprocess.Popen, Path]:
    with open(log, "w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "eegdm", *words], stdout=stream, stderr=stream, env=one_thread()
        )
    return process, log


def wait_until(condition: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.005)


def pieces(stage: str, folder: Path) -> list[Path]:
    """The files that stand for finished pieces of work; a killed report begins anew."""
    if stage == "preprocess":
        return [
            folder / artifacts.read_json(part)["row"]["signal"]
            for part in artifacts.whole_files(folder, "parts/*.json")
        ]
    return artifacts.whole_files(folder, "shards/shard-*.npy") if stage == "cache" else []


def progress(stage: str, folder: Path) -> int:
    """How many pieces are finished: recordings, shards, epochs."""
    curves = folder / "curves.csv"
    return (
        len(curves.read_text().splitlines()) - 1 if curves.is_file() else len(pieces(stage, folder))
    )


def moments(stage: str, undisturbed: Undisturbed) -> list[Moment]:
    """Random moments, spread over the work, in order."""
    random = np.random.default_rng([20, *stage.encode()])
    total, seconds = progress(stage, undisturbed.folder(stage)), undisturbed.seconds[stage]
    if total == 0:
        return [Moment(0, part * seconds) for part in sorted(random.uniform(0.05, 0.9, KILLS))]
    done = sorted(random.choice(total - 2, KILLS, replace=False))
    return [
        Moment(int(n), part * seconds / total)
        for n, part in zip(done, random.uniform(0, 1, KILLS), strict=True)
    ]


def kill_at(moment: Moment, stage: str, words: list[str], folder: Path, log: Path) -> bool:
    """Run a stage and kill its process; whether it was still there to be killed."""
    process, log = start(words, log)
    wait_until(
        lambda: (
            process.poll() is not None
            or ("->" in log.read_text() and progress(stage, folder) >= moment.pieces)
        )
    )
    time.sleep(moment.seconds)
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


@pytest.mark.parametrize("stage", KIND)
@pytest.mark.timeout(600)
def test_a_killed_stage_ends_as_an_undisturbed_one(
    stage: str, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    root = tmp_path / "runs"
    for before in list(KIND)[: list(KIND).index(stage)]:
        shutil.copytree(undisturbed.folder(before), folder_of(before, root))
    folder, words = folder_of(stage, root), words_of(stage, root, undisturbed.corpus)

    in_time, kept = 0, {}
    for number, moment in enumerate(moments(stage, undisturbed)):
        killed = kill_at(moment, stage, words, folder, tmp_path / f"{number}.log")
        in_time += (
            killed and (folder / artifacts.PLAN).is_file() and not artifacts.is_finished(folder)
        )
        kept |= {
            piece: piece.stat().st_mtime_ns for piece in pieces(stage, folder) if piece not in kept
        }
    assert in_time >= 1, "no kill hit unfinished work"
    assert kept or stage not in ("preprocess", "cache")

    checkpoint = (folder / "checkpoints" / "last.ckpt").is_file()
    last = command_line(*words)
    assert last.returncode == 0, last.stderr
    assert ("Epoch 0/" in last.stdout) == (
        stage in ("pretrain", "finetune", "distill") and not checkpoint
    )  # it goes on from the checkpoint
    assert {piece: piece.stat().st_mtime_ns for piece in kept} == kept
    refuse_difference(undisturbed.folder(stage), folder, but=("report.html",))
    assert artifacts.verify(folder) == []


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="asks /proc which processes there are")
def test_the_workers_of_a_killed_stage_end(corpus: Path, tmp_path: Path) -> None:
    process, _ = start(words_of("preprocess", tmp_path, corpus), tmp_path / "log")
    wait_until(
        lambda: (
            progress("preprocess", tmp_path / "tuev" / "base" / "recordings") > 0
            or process.poll() is not None
        )
    )
    workers = [
        Path("/proc", number)
        for number in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    ]
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and len(workers) >= 2
    wait_until(lambda: not any(is_running(worker) for worker in workers), seconds=20)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="asks /proc which processes there are")
def test_a_run_does_not_begin_beside_the_workers_of_a_killed_one(
    corpus: Path, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    words, folder = (
        words_of("preprocess", tmp_path, corpus),
        tmp_path / "tuev" / "base" / "recordings",
    )
    first, _ = start(words, tmp_path / "first.log")
    wait_until(lambda: any(folder.glob(artifacts.WRITER.format("*"))) or first.poll() is not None)
    workers = [int(file.name.split("-")[-2]) for file in folder.glob(artifacts.WRITER.format("*"))]
    assert workers
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)  # a worker that is slow to notice that it is alone
    done = len(artifacts.whole_files(folder, "parts/*.json"))
    first.kill()
    first.wait()
    run = artifacts.run_of(folder)

    second, log = start(words, tmp_path / "second.log")
    try:
        wait_until(lambda: artifacts.run_of(folder) not in ("", run) or second.poll() is not None)
        time.sleep(2)
        assert (
            second.poll() is None and len(artifacts.whole_files(folder, "parts/*.json")) == done
        ), log.read_text()
    finally:
        for worker in workers:
            os.kill(worker, signal.SIGCONT)
    assert second.wait(timeout=200) == 0, log.read_text()
    refuse_difference(undisturbed.folder("preprocess"), folder, but=())
    assert artifacts.verify(folder) == []


@pytest.mark.parametrize(
    ("stage", "number"),
    [
        ("preprocess", signal.SIGINT),
        ("pretrain", signal.SIGTERM),
        ("cache", signal.SIGTERM),
        ("finetune", signal.SIGINT),
        ("report", signal.SIGINT),
    ],
)
def test_a_stage_that_is_asked_to_end_says_one_line(
    stage: str, number: signal.Signals, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    root = tmp_path / "runs"
    for before in list(KIND)[: list(KIND).index(stage)]:
        shutil.copytree(undisturbed.folder(before), root / "tuev" / "base" / KIND[before])
    folder = root / "tuev" / "base" / KIND[stage]
    process, log = start(words_of(stage, root, undisturbed.corpus), tmp_path / "log")
    wait_until(
        lambda: (
            process.poll() is not None
            or ("->" in log.read_text() and (folder / artifacts.PLAN).is_file())
        )
    )
    process.send_signal(number)
    assert process.wait(timeout=60) == 128 + number, log.read_text()
    said = log.read_text()
    assert said.rstrip().endswith(
        "eegdm: interrupted; what is finished is kept, the same command resumes from there"
    )
    assert "Traceback" not in said and not artifacts.is_finished(folder)
    with artifacts.building(folder, **artifacts_plan(folder)):  # nobody holds it any more
        assert not list(folder.rglob("*.tmp*"))


def artifacts_plan(folder: Path) -> dict:
    plan = artifacts.read_json(folder / artifacts.PLAN)
    return {name: plan[name] for name in ("kind", "config", "inputs")}


def is_running(process: Path) -> bool:
    """Whether a process of /proc is there and no zombie."""
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def refuse_difference(expected: Path, found: Path, but: tuple[str, ...]) -> None:
    """Compare two artefacts file by file; pages of ``but`` without the time they were made at."""
    wanted, got = artifacts.open_artifact(expected), artifacts.open_artifact(found)
    assert set(got.files) == set(wanted.files)
    assert [
        name for name in wanted.files if name not in but and got.files[name] != wanted.files[name]
    ] == []
    for name in set(but) & set(wanted.files):
        assert undated(found / name) == undated(expected / name)
    if not set(but) & set(wanted.files):
        assert got.fingerprint == wanted.fingerprint
    assert (got.config, got.inputs, got.summary) == (wanted.config, wanted.inputs, wanted.summary)


def undated(page: Path) -> str:
    return re.sub(r"Created on [\d-]+ [\d:]+", "", page.read_text())
