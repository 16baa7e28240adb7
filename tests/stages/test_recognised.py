"""What preprocess prints and keeps of people and classes, and what later stages say of samples."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from eegdm import artifacts
from eegdm.cli import run_stage
from eegdm.compose import compose
from eegdm.data.recordings import Recordings
from eegdm.data.synthetic.layouts import write_folder
from eegdm.errors import UserError
from eegdm.opening import label_data, open_data, resolve
from eegdm.pretraining import views
from stages.tiny import SIZES

RANDOM = ["backbone=random", "latents.cached=false"]


@pytest.fixture(scope="module")
def edf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten recordings of five people, s01_run1.edf ..., and a table of their events."""
    folder = tmp_path_factory.mktemp("people") / "edf"
    write_folder(folder, "table", n_subjects=5, n_runs=2, minutes=1.0)
    return folder


def words(source: Path, root: Path, *more: str) -> list[str]:
    return ["corpus=folder", f"source={source}", f"root={root}", *SIZES, *more]


def test_people_are_printed_with_doubts_and_kept(edf, tmp_path, capsys):
    recordings = run_stage("preprocess", words(edf, tmp_path, "events=none"))
    told = capsys.readouterr().out
    assert (
        "10 people in 10 recordings, recognised by file names: s01_run1.edf -> s01_run1,"
        " s01_run2.edf -> s01_run2, s02_run1.edf -> s02_run1" in told
    )
    summary = artifacts.open_artifact(recordings).summary
    (warning,) = summary["subject_warnings"]
    assert f"preprocess: warning: {warning}" in told and "share 's01'" in warning
    assert summary["subjects"] == 10 and summary["subjects_from"] == "file names"


def test_folders_of_people_are_recognised(edf, tmp_path, capsys):
    for file in edf.glob("*.edf"):
        person, run = file.stem.split("_")
        (tmp_path / "edf" / person).mkdir(parents=True, exist_ok=True)
        (tmp_path / "edf" / person / f"{run}.edf").symlink_to(file)
    recordings = run_stage("preprocess", words(tmp_path / "edf", tmp_path, "events=none"))
    assert "5 people in 10 recordings, recognised by folder names: run1.edf -> s01" in (
        capsys.readouterr().out
    )
    table = pd.read_parquet(recordings / "recordings.parquet")
    assert table.subject.tolist() == [name.split("/")[0] for name in table.recording]
    assert artifacts.open_artifact(recordings).summary["subject_warnings"] == []


def test_one_file_under_two_names_is_found(edf, tmp_path, capsys):
    source = tmp_path / "edf"
    source.mkdir()
    for name in ("anna.edf", "ben.edf"):
        (source / name).write_bytes((edf / "s01_run1.edf").read_bytes())
    (source / "carl.edf").write_bytes((edf / "s02_run1.edf").read_bytes())
    recordings = run_stage("preprocess", words(source, tmp_path, "events=none"))
    (warning,) = artifacts.open_artifact(recordings).summary["subject_warnings"]
    assert warning.startswith("anna.edf and ben.edf are the same file") and "2 people" in warning
    assert warning in capsys.readouterr().out


# ---------------------------------------------------------------------------------------- classes


def labelled(edf: Path, folder: Path, **people: str) -> Path:
    """A table of one label for each whole recording of these people."""
    table = folder / "labels.csv"
    rows = [
        f"{name}_run{run}.edf,{label},{name}" for name, label in people.items() for run in (1, 2)
    ]
    table.write_text("\n".join(["file,label,subject", *rows]) + "\n")
    return table


PEOPLE = {"s01": "rest", "s02": "task", "s03": "rest", "s04": "task", "s05": "rest"}


def test_classes_come_from_the_table_and_are_kept(edf, tmp_path, capsys):
    table = labelled(edf, tmp_path, **PEOPLE)
    typed = words(edf, tmp_path, "events=table", f"table={table}")
    recordings = run_stage("preprocess", typed)
    assert f"2 classes, the labels in {table}: rest, task" in capsys.readouterr().out
    events = pd.read_parquet(recordings / "events.parquet")
    assert events.duration_s.tolist() == [60.0] * 10 and set(events.onset_s) == {0.0}
    # labels of whole recordings leave no grid window without one: no background is needed
    config, data = open_data(compose([*typed, *RANDOM, "windows.policy=grid"]))
    assert config.corpus.classes == ["rest", "task"] == config.corpus.event_classes
    assert len(data.samples) == 10 * 12 and set(data.samples.label) == {0, 1}


def test_a_background_that_is_typed_is_a_class(edf, tmp_path):
    table = labelled(edf, tmp_path, s01="task", s02="task")
    typed = words(
        edf, tmp_path, "events=table", f"table={table}", "windows.background=rest",
        "windows.policy=grid", *RANDOM,
    )  # fmt: skip
    run_stage("preprocess", typed)
    config, data = open_data(compose(typed))
    assert (config.corpus.classes, config.corpus.event_classes) == (["rest", "task"], ["task"])
    assert data.samples.label.value_counts().to_dict() == {0: 6 * 12, 1: 4 * 12}


@pytest.mark.parametrize(
    "typed, said",
    [
        ("corpus.classes=[rest,tsak]", "'task', which is none of corpus.classes=['rest', 'tsak']"),
        ("corpus.event_classes=[tsak]", "'tsak', which is none of corpus.classes=['rest', 'task']"),
    ],
)
def test_wrong_classes_are_refused_before_anything_is_read(edf, tmp_path, typed, said):
    table = labelled(edf, tmp_path, **PEOPLE)
    with pytest.raises(UserError) as caught:
        run_stage("preprocess", words(edf, tmp_path, "events=table", f"table={table}", typed))
    assert said in str(caught.value) and "did you mean" in str(caught.value)
    assert not (tmp_path / "folder").exists()


# --------------------------------------------------------------------------- samples and divisions


def test_those_with_labels_are_divided_and_the_same_ones_in_every_stage(edf, tmp_path, capsys):
    table = labelled(edf, tmp_path, s01="rest", s03="task", s05="rest")
    typed = words(
        edf, tmp_path, "events=table", f"table={table}", "pretrain.windows=event", *RANDOM
    )
    run_stage("preprocess", typed)
    config, data = open_data(compose(typed))
    assert sorted(data.samples.groupby("split").recording.nunique().to_dict().items()) == [
        ("test", 2),
        ("train", 2),
        ("val", 2),
    ]
    capsys.readouterr()
    recordings = Recordings(resolve(compose(typed), "pretrain")[1].recordings.path)
    train, val = views(config, recordings)
    assert "4 of 10 recordings hold no event and are not learned from" in capsys.readouterr().out
    part = data.samples.groupby("recording").split.first()
    assert set(part[list(set(train.recording))]) == {"train"}
    grid = compose([*typed, "pretrain.windows=grid"])
    train, val = views(resolve(grid, "pretrain")[0], recordings)
    in_test = set(part.index[part == "test"])
    assert not in_test & (set(train.recording) | set(val.recording))
    assert len(set(train.recording)) == 2 + 4  # those without labels learn


def test_windows_without_a_label_are_left_out_of_cache_and_classifier(edf, tmp_path, capsys):
    table = tmp_path / "t.csv"
    rows = [
        f"{file.name},0,20,rest\n{file.name},40,20,task\n" for file in sorted(edf.glob("*.edf"))
    ]
    table.write_text("file,onset_s,duration_s,label\n" + "".join(rows))
    pattern = "corpus.pattern=(?P<subject>s\\d+)_"
    typed = words(edf, tmp_path, "events=table", f"table={table}", pattern)
    run_stage("preprocess", typed)
    with pytest.raises(UserError, match="windows.background=BCKG: 40 of 120 windows"):
        run_stage("cache", [*typed, "windows.policy=grid", "backbone=random"])
    capsys.readouterr()
    run_stage("cache", [*typed, "backbone=random", f"root={tmp_path}"])
    assert "20 of 20 events are more than 2 times as long (up to 20 s)" in capsys.readouterr().out

    grid = [*typed, "windows.policy=grid", "windows.background=null", "recipe=linear"]
    latents = run_stage("cache", [*grid, "backbone=random"])
    assert len(pd.read_parquet(latents / "windows.parquet")) == 80
    config, inputs = resolve(compose([*typed, "recipe=linear", "backbone=random"]), "finetune")
    assert config.windows.background is None  # taken over from the tokens
    assert len(label_data(config, inputs).samples) == 80
    with pytest.raises(UserError, match=r"was made with .*windows.*labels"):
        run_stage(
            "cache",
            [
                *typed,
                "windows.policy=grid",
                "recipe=linear",
                "backbone=random",
                "windows.background=rest",
            ],
        )
