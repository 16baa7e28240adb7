"""Folders that version 0.1.0 wrote are read, and its unfinished work is finished."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pandas as pd
import pytest

import eegdm
from conftest import ROOT
from eegdm import artifacts
from eegdm.compose import compose
from eegdm.errors import UserError
from eegdm.opening import open_data
from eegdm.stages import run_stage

OLD = ROOT / "tests" / "golden" / "v0.1.0"
WORDS = (OLD / "words.txt").read_text().split()
LABELS = [
    "corpus.label_map={alpha: slow, beta: fast}",
    "corpus.classes=[slow,fast]",
    "corpus.event_classes=[fast]",
]


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    with tarfile.open(OLD / "folders.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    return Path("runs/folder/base")


def fingerprints(runs: Path) -> dict[str, str]:
    return {
        str(path.parent.relative_to(runs)): artifacts.open_artifact(path.parent).fingerprint
        for path in runs.rglob("manifest.json")
    }


def test_finished_folders_are_taken_as_they_are(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = fingerprints(runs)
    assert set(before) == {"recordings", "backbone", "latents", "classifier/seed=0"}
    source = ["source=source", "events=table", "table=source/events.csv"]
    run_stage("preprocess", [*WORDS, *source, *LABELS])
    for stage in ("pretrain", "cache", "finetune"):
        run_stage(stage, WORDS)
    assert capsys.readouterr().out.count(" is finished") == 3
    assert fingerprints(runs) == before
    _, data = open_data(compose(WORDS))
    assert sorted(set(data.samples.label)) == [0, 1] and set(data.recordings.events.label) == {
        "slow",
        "fast",
    }


def test_an_unfinished_training_is_finished_from_its_last_epoch(runs: Path) -> None:
    first = pd.read_csv(runs / "classifier" / "seed=1" / "curves.csv").iloc[0]
    classifier = run_stage("finetune", [*WORDS, "seed=1"])
    curves = pd.read_csv(classifier / "curves.csv")
    assert curves.epoch.tolist() == [0, 1, 2]
    pd.testing.assert_series_equal(curves.iloc[0], first, check_names=False)
    assert isinstance(eegdm.load(classifier), eegdm.EEGDM)


def test_a_report_and_a_prediction_come_of_them(runs: Path) -> None:
    report = run_stage("report", WORDS)
    assert (report / "report.html").stat().st_size > 10_000
    found = eegdm.predict("source/s0.edf", runs / "classifier" / "seed=0", missing="drop")
    assert list(found.windows.columns[:2]) == ["onset_s", "duration_s"]


def test_other_files_and_another_grouping_are_refused(runs: Path) -> None:
    """Its recordings hold labels that were mapped already."""
    with pytest.raises(
        UserError, match=r"corpus.label_map=\{'alpha': 'slow', 'beta': 'fast'\}, not"
    ):
        run_stage("cache", [*WORDS, "corpus.label_map={slow: a, fast: b}", "corpus.classes=[a,b]"])
    Path("source/s3.edf").unlink()
    table = pd.read_csv("source/events.csv")
    table[table.file != "s3.edf"].to_csv("source/events.csv", index=False)
    source = ["source=source", "events=table", "table=source/events.csv"]
    with pytest.raises(UserError, match=r"1 gone \(such as s3.edf\)"):
        run_stage("preprocess", [*WORDS, *source, *LABELS])
