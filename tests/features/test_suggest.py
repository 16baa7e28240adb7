"""Windows to mark next: unmarked, of several people, the same at each call; and the table to fill
in is one that `fit` and the next call take.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import eegdm
from eegdm import artifacts
from eegdm.errors import UserError
from eegdm.features import FeatureStore, embed_folder, suggestion_page, suggestions
from eegdm.features.detector import backbone_of, fit
from eegdm.features.suggesting import PAGE, TO_MARK, suggest
from eegdm.inference.embedding import EmbedOptions
from eegdm.inference.preparation import as_raw, prepare
from features.test_detector import BURST_S, ONSETS, SECONDS, write
from inference.small import ELECTRODES, small_model
from stages.tiny import one_thread

WINDOW_S = 5.0


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings of four people, one of them without an ear."""
    folder = tmp_path_factory.mktemp("recordings")
    for name, onset_s in ONSETS.items():
        write(folder, name, onset_s, ELECTRODES[:-1] if name == "b_1" else ELECTRODES)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    return small_model().backbone.save_pretrained(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture(scope="module")
def made(source: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tokens of the montage; nothing is marked."""
    return embed_folder(source, model, tmp_path_factory.mktemp("stores") / "s", missing="drop").path


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Path:
    """A store that marks may change."""
    return Path(shutil.copytree(made, tmp_path / "store"))


@pytest.fixture
def without_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw no traces, which take most of the time and decide nothing."""
    monkeypatch.setattr(suggestion_page, "write_suggestion_page", lambda *_: None)


def answered(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with the labels that somebody gives who sees the alpha waves."""
    onset = rows.file.str.removesuffix(".edf").map(ONSETS)
    middle = rows.onset_s + rows.duration_s / 2
    is_alpha = (middle > onset) & (middle < onset + BURST_S)
    return rows.assign(label=np.where(is_alpha, "alpha", "still"))


def write_table(path: Path, rows: pd.DataFrame) -> Path:
    rows.to_csv(path, index=False)
    return path


def places(rows: pd.DataFrame) -> set[tuple[str, float]]:
    return set(zip(rows.file, rows.onset_s, strict=True))


@pytest.mark.usefixtures("without_page")
def test_three_rounds_ask_for_new_windows_of_everybody_and_make_a_detector(
    store: Path, tmp_path: Path
) -> None:
    marks, asked = tmp_path / "marks.csv", set[tuple[str, float]]()
    table = None
    for _ in range(3):
        found = suggest(store, table, tmp_path / "next", n=8)
        rows = pd.read_csv(tmp_path / "next" / TO_MARK)
        assert list(rows) == ["file", "onset_s", "duration_s", "label", "subject"]
        assert rows.label.isna().all() and (rows.duration_s == WINDOW_S).all()
        assert places(rows) == places(found.windows) and len(places(rows)) == 8
        assert not places(rows) & asked
        assert found.windows.subject.value_counts().max() <= 2
        assert found.n_unmarked == 5 * SECONDS / WINDOW_S - len(asked)
        asked |= places(rows)
        old = [] if table is None else [pd.read_csv(table)]
        table = write_table(marks, pd.concat([*old, answered(rows)]))
    assert found.probabilities is not None and set(found.probabilities) == {"alpha", "still"}
    assert found.probabilities.sum(axis=1).to_numpy() == pytest.approx(np.ones(8))
    assert sum(found.n_marked.values()) == 16
    found_windows = eegdm.predict(write(tmp_path, "new", 30.0), fit(store, table).model).windows
    likeliest = found_windows.loc[found_windows["alpha"].idxmax()]
    assert 30 <= likeliest.onset_s + likeliest.duration_s / 2 <= 45


@pytest.mark.usefixtures("without_page")
def test_an_unmarked_kind_of_window_is_asked_about(store: Path, tmp_path: Path) -> None:
    """Of everybody, windows without alpha waves are marked; each next person is asked about alpha,
    which a sixth of the windows show.
    """
    every = FeatureStore.open(store).windows
    rows = answered(every.assign(file=every.recording + ".edf"))
    still = rows[rows.label == "still"].groupby("file").head(5)
    marks = write_table(tmp_path / "marks.csv", still[["file", "onset_s", "duration_s", "label"]])
    found = suggest(store, marks, tmp_path / "next", n=4)
    assert found.probabilities is None
    assert (answered(found.windows).label == "alpha").sum() >= 3


@pytest.mark.usefixtures("without_page")
def test_the_same_marks_get_the_same_suggestions_and_nothing_is_computed_again(
    store: Path, tmp_path: Path
) -> None:
    first = suggest(store, None, tmp_path / "a", n=6)
    marks = write_table(tmp_path / "marks.csv", answered(pd.read_csv(tmp_path / "a" / TO_MARK)))
    arrays = {path: artifacts.file_state(path) for path in store.rglob("*.npy")}
    again = [suggest(store, marks, tmp_path / name, n=6) for name in ("b", "c")]
    pd.testing.assert_frame_equal(again[0].windows, again[1].windows)
    assert (tmp_path / "b" / TO_MARK).read_text() == (tmp_path / "c" / TO_MARK).read_text()
    assert {path: artifacts.file_state(path) for path in store.rglob("*.npy")} == arrays
    assert not places(again[0].windows) & places(first.windows)


@pytest.mark.usefixtures("without_page")
def test_rows_without_a_label_are_neither_learned_nor_asked_about_again(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suggest(store, None, tmp_path / "a", n=12)
    rows = answered(pd.read_csv(tmp_path / "a" / TO_MARK))
    rows.loc[[0, 5, 7], "label"] = ""
    found = suggest(store, write_table(tmp_path / "marks.csv", rows), tmp_path / "b", n=12)
    assert "3 rows of the table have no label yet" in capsys.readouterr().out
    assert not places(found.windows) & places(rows)
    assert sum(found.n_marked.values()) in (0, 9)
    labels = FeatureStore.open(store).windows.label
    assert labels.notna().sum() == 9


def test_a_row_without_a_label_is_not_background(store: Path, tmp_path: Path) -> None:
    rows = [f"{name}.edf,{onset:g},{BURST_S:g},alpha" for name, onset in ONSETS.items()]
    rows.append("a_1.edf,40,10,")
    marks = tmp_path / "marks.csv"
    marks.write_text("\n".join(["file,onset_s,duration_s,label", *rows]))
    found = fit(store, marks, background="rest")
    assert found.expectation.n_units == {"alpha": 15, "rest": 5 * 9 - 2}


@pytest.mark.usefixtures("without_page")
def test_a_label_that_is_marked_once_waits(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suggest(store, None, tmp_path / "a", n=20)
    rows = answered(pd.read_csv(tmp_path / "a" / TO_MARK))
    rows.loc[rows.index[rows.label == "still"][0], "label"] = "blink"
    found = suggest(store, write_table(tmp_path / "marks.csv", rows), tmp_path / "b")
    assert "'blink' is marked once, so it is not learned yet" in capsys.readouterr().out
    assert found.n_marked.keys() == {"alpha", "still"} and sum(found.n_marked.values()) == 19


def test_of_many_windows_the_least_certain_of_each_person_are_compared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(suggestions, "MAX_COMPARED", 6)
    rows, person = np.arange(12) + 3, np.repeat([0, 1, 0], [5, 6, 4])
    unsure = np.linspace(1.0, 0.0, 15)
    unsure[14] = 2.0
    found = suggestions.compared(rows, person, unsure)
    assert found.tolist() == [3, 4, 5, 6, 7, 14]
    evenly = suggestions.compared(rows, person, None)
    assert evenly.tolist() == [3, 5, 8, 10, 11, 14] or np.bincount(person[evenly]).tolist() == [
        3,
        3,
    ]


# ------------------------------------------------------------------------------------------- page


def test_the_page_shows_every_window_and_why(store: Path, tmp_path: Path) -> None:
    suggest(store, None, tmp_path / "a", n=2)
    first = (tmp_path / "a" / PAGE).read_text(encoding="utf-8")
    assert "there is no detector" in first and "The detector thinks" not in first
    rows = [
        f"{name}.edf,{on:g},5,alpha\n{name}.edf,{(on + 30) % 60:g},5,still"
        for name, on in ONSETS.items()
    ]
    (tmp_path / "marks.csv").write_text("\n".join(["file,onset_s,duration_s,label", *rows]))
    found = suggest(store, tmp_path / "marks.csv", tmp_path / "b", n=3)
    page = (tmp_path / "b" / PAGE).read_text(encoding="utf-8")
    assert page.count("The window to mark is shaded") == page.count(", 5 s to mark") == 3
    assert page.count("The detector thinks") == 3
    for window in found.windows.itertuples():
        assert window.file in page
    assert str(store) not in page and not re.findall(r'src="https?://', page)


def test_traces_are_those_of_the_whole_recording(store: Path, source: Path, tmp_path: Path) -> None:
    """To a thousandth of what is shown, although a part of the file is read alone."""
    opened = FeatureStore.open(store)
    settings = backbone_of(opened, artifacts.read_json(store / "origin.json")["model"]).preparation(
        EmbedOptions(missing="drop")
    )
    names = (source / "c_1.edf", write(tmp_path, "long", 100.0, seconds=240.0))
    for file, onset_s in zip(names, (0.0, 120.0), strict=True):
        prepared, microvolts, start_s = suggestion_page.read_stretch(
            file, settings, onset_s, WINDOW_S
        )
        whole = prepare(as_raw(file), settings, tmp_path / file.stem)
        start = round(start_s * whole.sfreq)
        expected = 100 * whole.read(start, start + microvolts.shape[1])
        assert start_s == max(onset_s - 4, 0) and prepared.ch_names == whole.ch_names
        assert microvolts.shape[1] == round((9 if onset_s == 0 else 13) * whole.sfreq)
        assert np.abs(microvolts - expected).max() < 1e-3 * np.abs(expected).max()


# --------------------------------------------------------------------------------------- refusals


@pytest.mark.usefixtures("without_page")
def test_labels_that_were_filled_in_are_not_written_over(store: Path, tmp_path: Path) -> None:
    suggest(store, None, tmp_path / "next", n=4)
    filled = tmp_path / "next" / TO_MARK
    rows = answered(pd.read_csv(filled))
    write_table(filled, rows)
    with pytest.raises(UserError, match="holds 4 labels that are not in the table of marks"):
        suggest(store, None, tmp_path / "next", n=4)
    with pytest.raises(UserError, match="is the table to fill in"):
        suggest(store, filled, tmp_path / "next", n=4)
    marks = write_table(tmp_path / "marks.csv", rows)
    found = suggest(store, marks, tmp_path / "next", n=4)
    assert not places(found.windows) & places(rows)


def test_what_cannot_work_is_refused(store: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="n=0: at least one"):
        suggest(store, n=0)
    with pytest.raises(UserError, match="one notch filter for all recordings"):
        suggest(store, notch="auto")
    marks = tmp_path / "marks.csv"
    marks.write_text("file,label\n" + "\n".join(f"{name}.edf,still" for name in ONSETS))
    with pytest.raises(UserError, match="all 60 windows are in the table already"):
        suggest(store, marks, tmp_path / "next")
    origin = artifacts.read_json(store / "origin.json")
    artifacts.write_json(store / "origin.json", {**origin, "source": str(tmp_path / "gone")})
    with pytest.raises(UserError, match="gone that it was made from is not there"):
        suggest(store, None, tmp_path / "next")


# --------------------------------------------------------------------------------------- as typed


@pytest.mark.ci
def test_the_loop_by_commands(source: Path, model: Path, tmp_path: Path) -> None:
    def run(*words: str | Path) -> str:
        command = [sys.executable, "-m", "eegdm", *map(str, words)]
        done = subprocess.run(
            command, cwd=tmp_path, env=one_thread(), capture_output=True, text=True, check=True
        )
        return done.stdout

    shared = ["--model", model, "--missing", "drop"]
    said = run("suggest", source, *shared, "-n", "12")
    written = tmp_path / "runs" / "suggestions" / f"{source.name}-small"
    assert said.splitlines()[-2:] == [
        str((written / name).relative_to(tmp_path)) for name in (PAGE, TO_MARK)
    ]
    write_table(tmp_path / "marks.csv", answered(pd.read_csv(written / TO_MARK)))
    run("fit", source, *shared, "--table", "marks.csv", "--out", "det")
    said = run("suggest", source, *shared, "--table", "marks.csv", "-n", "4")
    assert "4 of 48 unmarked windows, of 4 people" in said
    stores = [path.name for path in (tmp_path / "runs" / "embeddings").iterdir()]
    assert stores == [f"{source.name}-small-missing-drop"]
