"""eegmmidb and EEGMAT through all five stages, from real files in the databases' own layouts."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path

import mne
import pandas as pd
import pytest

import eegdm
from eegdm.stages import run_stage
from stages.tiny import SIZES

pytestmark = [pytest.mark.ci, pytest.mark.real, pytest.mark.timeout(900)]


def five_stages(words: list[str]) -> tuple[Path, Path]:
    """Run all stages; return recordings and report."""
    words = [*words, *SIZES, "workers=1"]
    recordings = run_stage("preprocess", words)
    for stage in ("pretrain", "cache", "finetune"):
        run_stage(stage, words)
    return recordings, run_stage("report", words)


def linked_people(shared: Path, folder: Path, *people: str) -> Path:
    """Link people of EEGMAT into a folder."""
    folder.mkdir()
    for name in (f"Subject{who}_{run}.edf" for who in people for run in (1, 2)):
        (folder / name).symlink_to(shared / "data/people/eegmat" / name)
    return folder


def test_motor_runs_of_one_person(shared: Path, tmp_path: Path) -> None:
    source = tmp_path / "eegmmidb"
    (source / "S001").mkdir(parents=True)
    for run in ("03", "04", "05", "06", "07", "08", "09", "10"):
        name = f"S001R{run}.edf"
        (source / "S001" / name).symlink_to(shared / "data/eegmmidb" / name)
    words = ["corpus=eegmmidb", f"source={source}", f"root={tmp_path / 'runs'}", "split=run"]
    recordings, report = five_stages(words)
    table = pd.read_parquet(recordings / "recordings.parquet")
    assert set(table.subject) == {"S001"} and set(table.status) == {"ok"}
    assert all(len(names) == 20 for names in table.ch_names)  # all but those of the ears
    events = pd.read_parquet(recordings / "events.parquet")
    for run, kind, one, other in (
        ("03", "executed", "left_fist", "right_fist"),
        ("08", "imagined", "left_fist", "right_fist"),
        ("09", "executed", "both_fists", "both_feet"),
        ("06", "imagined", "both_fists", "both_feet"),
    ):
        raw = mne.io.read_raw_edf(source / "S001" / f"S001R{run}.edf", verbose="ERROR")
        names = {"T0": "rest", "T1": f"{kind}_{one}", "T2": f"{kind}_{other}"}
        expected = [
            (note["onset"], note["duration"], names[note["description"]])
            for note in raw.annotations
        ]
        own = events[events.recording == f"S001/S001R{run}"]
        assert list(zip(own.onset_s, own.duration_s, own.label, strict=True)) == expected
    assert len(json.loads((report / "report.json").read_text())["classes"]) == 11


def test_rest_and_arithmetic_of_four_people(shared: Path, tmp_path: Path) -> None:
    source = linked_people(shared, tmp_path / "eegmat", "01", "02", "03", "04")
    words = ["corpus=eegmat", f"source={source}", f"root={tmp_path / 'runs'}"]
    recordings, report = five_stages(words)
    events = pd.read_parquet(recordings / "events.parquet")
    assert Counter(events.label) == {"rest": 4, "arithmetic": 4}
    given = pd.read_csv(shared / "data/people/eegmat/events.csv").set_index("file")
    for event in events.itertuples():
        row = given.loc[f"{event.recording}.edf"]
        assert (event.onset_s, event.duration_s, event.label) == (
            row.onset_s,
            row.duration_s,
            row.label,
        )
    classifier = eegdm.load(report.parent / "classifier" / "seed=0")
    assert list(classifier.classes) == ["rest", "arithmetic"]
    windows = pd.read_parquet(next(report.glob("predictions-*.parquet")))
    (tested,) = {name.split("_")[0] for name in windows.recording}
    assert len(windows) == sum(given[given.subject == tested].duration_s // 5)


def test_evaluate_names_the_people_that_a_backbone_learned_from(
    shared: Path, tmp_path: Path
) -> None:
    source = linked_people(shared, tmp_path / "eegmat", "01", "02", "03", "04")
    words = ["corpus=eegmat", f"source={source}", f"root={tmp_path / 'runs'}", *SIZES, "workers=1"]
    run_stage("preprocess", words)
    left_out = ["windows.leave_out=[Subject02]", "windows.split=recording"]
    backbone = run_stage("pretrain", [*words, *left_out, "windows.val_fraction=0"])
    learned = ("Subject01", "Subject03", "Subject04")
    people = [hashlib.sha256(name.encode()).hexdigest()[:12] for name in learned]
    assert json.loads((backbone / "config.json").read_text())["people"] == sorted(people)
    card = (backbone / "README.md").read_text()
    assert "learned from: 3, listed in `config.json`" in card
    assert "Subject0" not in card + (backbone / "config.json").read_text()
    again = eegdm.load(backbone).save_pretrained(tmp_path / "copy")
    assert eegdm.load(again).info["people"] == sorted(people)

    table = shared / "data/people/eegmat/events.csv"
    few = {"step_s": 20.0, "permutations": 2, "missing": "drop", "workers": 1}
    found = eegdm.evaluate(source, table, again, out=tmp_path / "out", **few)
    assert found.about.overlap == list(learned)
    assert "copy was pretrained on 3 of these people (Subject01, Subject03, Subject04)" in (
        found.page.read_text()
    )
