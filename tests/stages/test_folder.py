"""`corpus=folder`: any folder of recordings, also one with bad ones in it; events from a table,
from the files, or none at all.
"""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from pathlib import Path

import mne
import pandas as pd
import pytest

import eegdm
from eegdm import artifacts
from eegdm.compose import compose
from eegdm.data.recordings import Recordings
from eegdm.data.synthetic.layouts import write_folder
from eegdm.data.windows import assign_splits
from eegdm.errors import UserError
from eegdm.opening import open_data
from eegdm.pretraining import views
from eegdm.stages import run_stage
from stages.tiny import SIZES, command_line, snapshot

NAMES = r"corpus.pattern='(?P<subject>s\d+)_run(?P<run>\d+)'"
WITHOUT_BACKBONE = ["backbone=random", "latents.cached=false"]
LABELS = {"SPSW": "spike", "GPED": "periodic", "PLED": "periodic", "BCKG": "rest"}
BROKEN, PLAIN, STRANGE = "s07_run1", "s08_run1", "s09_run1"


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six good recordings with annotations in the files, a broken one, one without annotations, one
    with unknown channel names.
    """
    folder = tmp_path_factory.mktemp("mixed")
    good, *_ = write_folder(folder / "edf", "annotations", n_subjects=3, n_runs=2, minutes=1.2)
    (plain,) = write_folder(folder / "plain", "table", n_subjects=1, n_runs=1, minutes=1.2, seed=1)
    content = good.read_bytes()
    (folder / "edf" / f"{BROKEN}.edf").write_bytes(content[:300])
    plain.rename(folder / "edf" / f"{PLAIN}.edf")
    (folder / "edf" / f"{STRANGE}.edf").write_bytes(renamed(content))
    return folder / "edf"


def renamed(edf: bytes) -> bytes:
    """Call the first four electrodes of an EDF by numbers: the header's 16-byte labels begin at
    byte 256.
    """
    labels = b"".join(f"lead {n}".ljust(16).encode() for n in range(1, 5))
    return edf[:256] + labels + edf[256 + len(labels) :]


def words(source: Path, root: Path, *more: str) -> list[str]:
    return [
        "corpus=folder",
        f"source={source}",
        f"root={root}",
        *SIZES,
        "finetune.epochs=1",
        "pretrain.epochs=1",
        *more,
    ]


# ----------------------------------------------------------------------- with bad ones among them


@pytest.fixture(scope="module")
def typed(mixed: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What a user types for the folder, whose own words for events become three classes."""
    label_map = "corpus.label_map={" + ", ".join(f"{k}: {v}" for k, v in LABELS.items()) + "}"
    classes = ["corpus.classes=[rest,spike,periodic]", "corpus.event_classes=[spike,periodic]"]
    return words(mixed, tmp_path_factory.mktemp("runs"), NAMES, label_map, *classes)


@pytest.fixture(scope="module")
def preprocessed(typed: list[str]) -> subprocess.CompletedProcess[str]:
    return command_line("preprocess", *typed)


def recordings_of(typed: list[str]) -> Path:
    return Path(compose(typed).run.root) / "folder" / "base" / "recordings"


def test_the_run_names_each_bad_recording_with_its_reason_and_goes_on(
    preprocessed: subprocess.CompletedProcess[str], typed: list[str]
) -> None:
    assert preprocessed.returncode == 0, preprocessed.stderr
    said = {
        line.split()[1].removesuffix(":"): line
        for line in preprocessed.stdout.splitlines()
        if line.startswith("  ")
    }
    assert set(said) == {f"{name}.edf" for name in (BROKEN, PLAIN, STRANGE)}
    assert (
        "failed" in said[f"{BROKEN}.edf"] and "cut off inside its header" in said[f"{BROKEN}.edf"]
    )
    assert "failed" in said[f"{STRANGE}.edf"] and "lead 1" in said[f"{STRANGE}.edf"]
    assert "noted" in said[f"{PLAIN}.edf"] and "no events" in said[f"{PLAIN}.edf"]
    assert "Traceback" not in preprocessed.stdout + preprocessed.stderr

    table = pd.read_parquet(recordings_of(typed) / "recordings.parquet").set_index("recording")
    assert (
        table.status.to_dict()
        == {name: "failed" if name in (BROKEN, STRANGE) else "ok" for name in table.index}
        and len(table) == 9
    )
    for name in (BROKEN, PLAIN, STRANGE):
        assert table.reason[name] and table.reason[name] in said[f"{name}.edf"]
    assert table.signal.isna().to_dict() == (table.status == "failed").to_dict()
    assert artifacts.open_artifact(recordings_of(typed)).summary["failed"] == 2


def test_strict_ends_with_status_2_and_redoes_nothing(
    preprocessed: subprocess.CompletedProcess[str], typed: list[str]
) -> None:
    before = snapshot(recordings_of(typed))
    strict = command_line("preprocess", *typed, "strict=true")
    assert strict.returncode == 2
    assert strict.stderr.splitlines()[-1].startswith("eegdm: 2 recordings failed")
    assert f"{BROKEN}.edf" in strict.stdout and f"{STRANGE}.edf" in strict.stdout
    assert snapshot(recordings_of(typed)) == before


def test_annotations_become_events_by_the_label_map(
    preprocessed: subprocess.CompletedProcess[str], typed: list[str], mixed: Path
) -> None:
    label_map = compose(typed).corpus.label_map
    events = Recordings(recordings_of(typed), label_map=label_map).events
    files = [
        mne.io.read_raw_edf(file, verbose="error") for file in sorted(mixed.glob("s0[1-3]*.edf"))
    ]
    texts = [text for raw in files for text in raw.annotations.description]
    assert Counter(events.label) == Counter(LABELS[text] for text in texts if text in LABELS)
    assert set(texts) - set(LABELS) == {"EYEM", "ARTF"}
    stored = pd.read_parquet(recordings_of(typed) / "events.parquet")
    assert Counter(stored.label) == Counter(texts)  # as they stand in the files: readers map them
    assert events.channel.isna().all() and PLAIN not in set(events.recording)


def test_kfold_by_run_tests_every_run_once(
    preprocessed: subprocess.CompletedProcess[str], typed: list[str]
) -> None:
    folds = ["split=kfold", "windows.kfold_unit=run", "windows.n_folds=3"]
    recordings = Recordings(recordings_of(typed), label_map=compose(typed).corpus.label_map)
    table = recordings.table
    assert set(zip(table.subject, table.run, strict=True)) == {
        (f"s0{s}", str(r)) for s in (1, 2, 3) for r in (1, 2)
    } | {("s08", "1")}
    parts = [
        assign_splits(
            table,
            "folder",
            compose([*typed, *folds, f"fold={fold}"]).windows,
            recordings.events,
        )
        for fold in range(3)
    ]
    n_tests = sum((part == "test").astype(int) for part in parts)
    # PLAIN has nothing to be tested on
    assert n_tests.tolist() == [int(name != PLAIN) for name in table.recording]

    classifier = run_stage("finetune", [*typed, *folds, "fold=1", *WITHOUT_BACKBONE])
    assert list(eegdm.load(classifier).classes) == ["rest", "spike", "periodic"]
    report = run_stage("report", [*typed, *folds, "fold=1"])
    numbers = json.loads((report / "report.json").read_text())
    assert {f["recording"] for f in numbers["failures"]} == {BROKEN, STRANGE}
    in_test = set(table.recording[parts[1] == "test"])
    (predictions,) = report.glob("predictions-*.parquet")
    assert set(pd.read_parquet(predictions).recording) == in_test


# -------------------------------------------------------------------------- a table, or no events


def test_a_table_gives_events_and_split(tmp_path: Path) -> None:
    source, split = tmp_path / "edf", {"s01": "train", "s02": "val", "s03": "test"}
    write_folder(source, "table", n_subjects=3, n_runs=1, minutes=1.2)
    table = pd.read_csv(source / "events.csv")
    table.assign(split=table.subject.map(split)).to_csv(tmp_path / "events.csv", index=False)
    typed = words(
        source,
        tmp_path / "runs",
        "events=table",
        f"table={tmp_path / 'events.csv'}",
        "split=column",
    )
    run_stage("preprocess", typed)
    classifier = run_stage("finetune", [*typed, *WITHOUT_BACKBONE])
    assert artifacts.open_artifact(classifier).config["windows"]["split"] == "column"
    samples = open_data(compose([*typed, *WITHOUT_BACKBONE]))[1].samples
    assert (samples.split == samples.recording.str[:3].map(split)).all() and set(
        samples.split
    ) == set(split.values())


def test_a_row_without_a_label_is_refused_before_any_recording_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.edf").touch()
    table = tmp_path / "events.csv"
    table.write_text("file,onset_s,duration_s,label\nx.edf,1,2,spike\nx.edf,5,2,\n")
    typed = words(tmp_path, tmp_path / "runs", "events=table", f"table={table}")
    with pytest.raises(UserError, match="the label of x.edf at 5 s is empty; fill it in"):
        run_stage("preprocess", typed)
    assert not (tmp_path / "runs").exists()


def test_recordings_without_events_are_enough_for_pretraining(tmp_path: Path) -> None:
    source = tmp_path / "edf"
    write_folder(source, "table", n_subjects=3, n_runs=1, minutes=1.2)
    typed = words(
        source, tmp_path / "runs", "events=none", "pretrain.max_windows=null", "pretrain.samples=0"
    )
    recordings = run_stage("preprocess", typed)
    assert pd.read_parquet(recordings / "recordings.parquet").reason.tolist() == [""] * 3
    train, val = views(compose(typed), Recordings(recordings))
    windows_per_recording = int(1.2 * 60 / 5)
    assert (len(train), len(val)) == (windows_per_recording * 22, windows_per_recording * 22)
    assert sorted(set(train.start_sample)) == [1000 * k for k in range(windows_per_recording)]
    assert isinstance(eegdm.load(run_stage("pretrain", typed)), eegdm.SSMDP)
