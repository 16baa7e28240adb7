"""`eegdm info --privacy` names every file in which somebody's id or recording can be found."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from eegdm import artifacts, cli
from eegdm.errors import UserError
from eegdm.privacy import describe_privacy
from stages.tiny import Finished


def ids(finished: Finished) -> re.Pattern[str]:
    """What stands for people in the corpus, in file names and as subject ids."""
    table = artifacts.read_table(finished.recordings / "recordings.parquet")
    return re.compile("|".join(map(re.escape, sorted(set(table.subject)))))


def words_of(path: Path) -> str:
    """All that a file says in words."""
    if path.suffix == ".parquet":
        return pd.read_parquet(path).to_csv()
    return path.read_bytes().decode("latin-1")


def split(folder: Path) -> tuple[list[str], str, str]:
    """The lines on what could identify people, that on what could not, and that on the unknown."""
    lines = list(describe_privacy(folder))
    assert lines[0] == f"{folder}: what could identify people"
    harmless, unknown = (
        next((line for line in lines if line.startswith(start)), "")
        for start in ("nothing that identifies people: ", "not known to eegdm")
    )
    return [line for line in lines if line.startswith("  ")], harmless, unknown


def check(folder: Path, people: re.Pattern[str]) -> list[str]:
    """Every file with an id in its name or content is among the telling ones; return their
    lines.
    """
    telling, harmless, unknown = split(folder)
    assert not unknown, unknown
    found = 0
    for path in folder.rglob("*"):
        if not path.is_file() or path.name in (".lock", ".run"):
            continue
        name = path.relative_to(folder).as_posix()
        if people.search(path.name) or people.search(words_of(path)):
            found += 1
            # A file stands under its own name, or under the pattern of several
            patterns = [line.strip().split(": ")[0].split(" (")[0] for line in telling]
            assert any(name == p or path.match(p) for p in patterns), name
            assert name not in harmless.split(": ")[-1].split(", "), name
    return telling if found else []


def test_folders_of_the_stages(finished: Finished) -> None:
    people = ids(finished)
    recordings = "\n".join(check(finished.recordings, people))
    assert "signals/*.npy (7 files): the EEG itself; the files are named" in recordings
    assert "manifest.json: names of recordings" in recordings
    assert "recordings.parquet: file names, subject ids" in recordings
    latents = "\n".join(check(finished.latents, people))
    assert "shards/*.npy (5 files): numbers computed from the EEG" in latents
    report = "\n".join(check(finished.report, people))
    assert "report.html: traces of the EEG of one recording with its name" in report
    assert "predictions-seed=0.parquet: for each window" in report
    for model in (finished.backbone, finished.classifier):
        assert not check(model, people)  # no names at all
    telling, harmless, _ = split(finished.backbone)
    assert "  config.json: hashes of the subject ids of 4 people" in "\n".join(telling)
    assert "curves.csv" in harmless and "samples.npy" in harmless
    telling, harmless, _ = split(finished.classifier)
    assert [line.split(":")[0].strip() for line in telling] == ["model.safetensors"]
    assert "config.json" in harmless


def test_embeddings_and_a_detector(finished: Finished, embeddings: Path, detector: Path) -> None:
    people = ids(finished)
    telling = "\n".join(check(embeddings, people))
    assert "features/*/*.npy (7 files): numbers computed from the EEG, by which people" in telling
    assert "labels.csv: a copy of the table" in telling
    assert str(finished.source) in (embeddings / "origin.json").read_text()
    assert "origin.json: the folders of recordings and model" in telling
    assert not check(detector, people)


@pytest.mark.ci
def test_what_other_commands_leave(
    finished: Finished, embeddings: Path, detector: Path, tmp_path: Path
) -> None:
    """Of one recording and of a folder of them."""
    people, store = ids(finished), tmp_path / "store"
    shutil.copytree(embeddings, store)
    (recording, *_) = sorted(finished.source.rglob("*.edf"))
    like = f"{recording.relative_to(finished.source)}@10-15"
    out = {name: tmp_path / name for name in ("one", "all", "found", "marks", "made")}
    made = out["made"] / "generated_raw.fif"
    for words in (
        ["predict", recording, "--model", detector, "--out", out["one"], "--copy", "edf"],
        ["predict", recording, "--model", detector, "--out", out["one"], "--copy", "fif"],
        ["surprise", recording, "--out", out["one"] / f"{recording.stem}_surprise.tsv"],
        ["embed", recording, "--model", detector, "--out", out["one"] / "x_embeddings.npz"],
        ["predict", finished.source / "edf" / "eval", "--model", detector, "--out", out["all"]]
        + ["--decide", "recording", "--no-report"],
        ["find", store, "--like", like, "--out", out["found"]],
        ["suggest", store, "--out", out["marks"], "-n", 2],
        ["generate", "--model", finished.backbone, "--out", made],
    ):
        cli.app([*map(str, words)], standalone_mode=False)
    said = {name: "\n".join(check(folder, people)) for name, folder in out.items()}
    assert "_annotated.edf: the recording itself; patient and date are left out" in said["one"]
    assert "_report.html: traces of the EEG and events of a recording" in said["one"]
    assert "eegdm_recordings.tsv: the decision about each recording" in said["all"]
    assert "found.html: traces of the EEG of many people" in said["found"]
    assert "to_mark.csv: file names and times" in said["marks"]
    assert not said["made"]
    assert (
        "generated_raw.png" in split(out["made"])[1] or "generated_raw.*" in split(out["made"])[1]
    )
    everything = "\n".join(check(tmp_path, people))
    assert "recordings.parquet" in everything and "suggest.html" in everything


def test_what_eegdm_did_not_write_is_unknown(finished: Finished, tmp_path: Path) -> None:
    moved = tmp_path / "backbone"
    shutil.copytree(finished.backbone, moved)
    (moved / "notes.txt").write_text("the patient of last week")
    (moved / "generated" / "deeper").mkdir(parents=True)
    (moved / "generated" / "deeper" / "a.edf").write_bytes(b"")
    (moved / ".a.eegdm").mkdir()
    (moved / ".a.eegdm" / "signal.npy").write_bytes(b"")
    telling, _, unknown = split(moved)
    assert unknown.endswith("yourself: generated/deeper/a.edf, notes.txt")
    assert "  .a.eegdm/signal.npy: the EEG of unfinished work" in telling


def test_ids_that_were_typed_are_named(finished: Finished, tmp_path: Path) -> None:
    moved = tmp_path / "classifier"
    shutil.copytree(finished.classifier, moved)
    for name in ("plan.json", "manifest.json"):
        content = artifacts.read_json(moved / name)
        content["config"]["windows"]["leave_out"] = ["chb12"]
        artifacts.write_json(moved / name, content)
    telling, harmless, _ = split(moved)
    for name in ("plan.json", "manifest.json"):
        assert f"  {name}: ids of subjects or sessions in windows.leave_out" in telling
        assert name not in harmless


def test_no_folder_is_one_line(tmp_path: Path) -> None:
    for folder, fault in ((tmp_path / "none", "is not a folder"), (tmp_path, "holds no files")):
        with pytest.raises(UserError, match=fault):
            list(describe_privacy(folder))
