"""The published numbers through the whole path: raw files -> `preprocess` -> recordings folder ->
the loader's batches.
"""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from conftest import golden_folder
from eegdm import artifacts
from eegdm.compose import compose
from eegdm.config import TUEV_CLASSES, Config
from eegdm.data.batches import Denoising, SignalWindows, loader
from eegdm.data.montage import CHANNEL_ID, CHBMIT
from eegdm.data.recordings import Recordings
from eegdm.data.signal import ModelUnits
from eegdm.data.windows import assign_splits, make_samples, pretraining_view
from eegdm.info import describe_artifact
from eegdm.stages import run_stage

PUBLISHED_TUEV = ["corpus=tuev", "signal.mu=0"]  # the golden windows are not companded
PUBLISHED_CHBMIT = ["corpus=chbmit", "compat=published"]


def tensors(name: str) -> dict[str, np.ndarray]:
    return {
        key: value
        for file in golden_folder(name).glob("expected*.safetensors")
        for key, value in load_file(file).items()
    }


def assert_agrees(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


def all_of(dataset: SignalWindows | Denoising, n: int) -> list:
    """What a loader gives in batches of four, one after the other."""
    batches = list(loader(dataset, 4, seed=None))
    assert sum(len(batch[0]) for batch in batches) == n
    return [
        np.concatenate([part.numpy() for part in parts]) for parts in zip(*batches, strict=True)
    ]


# ------------------------------------------------------------------------------------------- TUEV


class Golden(NamedTuple):
    config: Config
    recordings: Recordings
    samples: pd.DataFrame
    split: dict


def write(stem: Path, edf: bytes, rec: str) -> None:
    stem.parent.mkdir(parents=True)
    stem.with_suffix(".edf").write_bytes(edf)
    stem.with_suffix(".rec").write_text(rec)


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Golden:
    """The golden recording of a test subject, and its first seconds, with one event, as the
    recording of every golden training subject.
    """
    folder, root = golden_folder("preproc_open"), tmp_path_factory.mktemp("golden")
    split = json.loads((folder / "split.json").read_text())
    edf = (folder / "aaaaasyn_00000001.edf").read_bytes()
    rec = (folder / "aaaaasyn_00000001.rec").read_text()
    n_header, n_records = int(edf[184:192]), int(edf[236:244])
    record = edf[236:244], f"{10 * n_records // 60:<8}".encode()
    short = (
        edf[:n_header].replace(*record, 1) + edf[n_header:][: (len(edf) - n_header) // 6],
        rec.splitlines()[0],
    )
    for subject in split["subjects"]:
        write(root / "edf" / "train" / subject / f"{subject}_00000001", *short)
    write(root / "edf" / "eval" / "000" / "bckg_000_a_", edf, rec)
    words = [*PUBLISHED_TUEV, f"root={root / 'runs'}", f"source={root}", "workers=2"]
    config = compose(words)
    recordings = Recordings(run_stage("preprocess", words), ModelUnits(mu=config.signal.mu))
    return Golden(
        config,
        recordings,
        make_samples(recordings.table, recordings.events, config.windows, list(TUEV_CLASSES)),
        split,
    )


@pytest.fixture(scope="module")
def of_one(golden: Golden) -> pd.DataFrame:
    """The samples of one recording, in the order of its .rec."""
    return golden.samples[golden.samples.recording == "edf/eval/000/bckg_000_a_"].reset_index(
        drop=True
    )


def test_a_window_of_all_channels_per_event(golden: Golden, of_one: pd.DataFrame) -> None:
    expected = tensors("preproc_open")
    data, mask, label, *_ = all_of(
        SignalWindows(golden.recordings, of_one, golden.recordings.ch_names), len(of_one)
    )
    assert mask.all()
    np.testing.assert_array_equal(label + 1, expected["faithful.label"][:, 0])
    np.testing.assert_array_equal(
        of_one.channel.map(CHANNEL_ID), expected["faithful.offending_channel"][:, 0]
    )
    signals = expected["faithful.signal"]
    assert_agrees(data[: len(signals)], signals)
    assert of_one.start_sample.iloc[0] < 0  # the first window wraps around ...
    assert of_one.start_sample.iloc[-1] + 1000 > 12_000  # ... and the last


def test_a_window_of_a_single_channel_per_distinct_event(
    golden: Golden, of_one: pd.DataFrame
) -> None:
    expected = tensors("preproc_open")
    view = pretraining_view(of_one, golden.recordings.table)
    signal, _, _, channel = all_of(
        Denoising(golden.recordings, view, n_steps=50, seed=0), len(view)
    )
    assert_agrees(signal, expected["pretrain.data"])
    np.testing.assert_array_equal(channel, expected["pretrain.ch_idx"])
    np.testing.assert_array_equal(view.label + 1, expected["pretrain.label"])


def test_the_published_split(golden: Golden) -> None:
    table = golden.recordings.table
    split = assign_splits(table, "tuev", golden.config.windows)
    assert sorted(table.subject[split == "val"]) == golden.split["val_subjects"]
    assert table.subject[split == "test"].tolist() == ["000"]
    assert len(table) == len(golden.split["subjects"]) + 1


def test_info_counts_events_per_class_and_published_part(golden: Golden) -> None:
    lines = list(describe_artifact(golden.recordings.artifact.path))
    assert "events in the published train part: BCKG 35 (35)" in lines
    assert "events in the published val part: BCKG 8 (8)" in lines
    assert (
        "events in the published test part: ARTF 2, BCKG 2, EYEM 2, GPED 3, PLED 2, SPSW 2 (13)"
        in lines
    )
    assert any(
        line.startswith(
            "35 / 8 / 13 (56) events in train / val / test: this fits no release of TUEV"
        )
        for line in lines
    )


# ---------------------------------------------------------------------------------------- CHB-MIT


def chbmit_windows(recordings: Recordings, config: Config) -> np.ndarray:
    """All windows of the grid, through the loader."""
    samples = make_samples(
        recordings.table, recordings.events, config.windows, config.corpus.classes
    )
    grid = samples[samples.start_sample % 2560 == 0].drop_duplicates("start_sample")
    return all_of(SignalWindows(recordings, grid, list(CHBMIT)), len(grid))[0]


def test_made_up_windows_of_chbmit_as_published(tmp_path: Path) -> None:
    """The golden windows are not multiples of a file's step, so the folder is written as
    `preprocess` would from their exact values.
    """
    expected, folder = tensors("chbmit_window"), tmp_path / "recordings"
    signal = np.concatenate([*expected["x_uV"]], axis=1).astype(np.float32) / 100
    config = compose(PUBLISHED_CHBMIT)
    with artifacts.building(
        folder, "recordings", {"signal": {"per_window": config.signal.per_window}}, {}
    ):
        with artifacts.atomic_path(folder / "signals" / "a.npy") as temporary:
            np.save(temporary, signal)
        row = {
            "recording": "a",
            "subject": "chb01",
            "session": "chb01",
            "sfreq": 256.0,
            "n_times": signal.shape[1],
            "ch_names": CHBMIT,
            "channel_ids": [CHANNEL_ID[name] for name in CHBMIT],
            "status": "ok",
            "reason": "",
            "signal": "signals/a.npy",
        }
        artifacts.write_table(folder / "recordings.parquet", pd.DataFrame([row]))
        artifacts.write_table(
            folder / "events.parquet",
            pd.DataFrame({"recording": [], "onset_s": [], "duration_s": [], "label": []}),
        )
        artifacts.finish(folder)
    assert_agrees(chbmit_windows(Recordings(folder), config), expected["filtered"])


@pytest.mark.real
def test_a_real_window_of_chbmit_as_published(tmp_path: Path, shared: Path) -> None:
    with (shared / "data" / "chbmit" / "index.csv").open() as stream:
        about = next(
            row for row in csv.DictReader(stream) if row["file"] == "edf/chb01_03_seizure.edf"
        )
    patient = tmp_path / "chbmit" / "chb01"
    patient.mkdir(parents=True)
    shutil.copyfile(shared / "data" / "chbmit" / about["file"], patient / "chb01_03.edf")
    (patient / "chb01-summary.txt").write_text(
        "File Name: chb01_03.edf\nNumber of Seizures in File: 1\nSeizure Start Time:"
        f" {about['seizure_onset_in_file_s']} seconds\nSeizure End Time:"
        f" {about['seizure_end_in_file_s']} seconds\n"
    )
    words = [
        *PUBLISHED_CHBMIT,
        f"root={tmp_path / 'runs'}",
        f"source={tmp_path / 'chbmit'}",
        "workers=1",
    ]
    recordings = Recordings(run_stage("preprocess", words))
    assert recordings.table.sfreq.tolist() == [256.0] and recordings.sfreq == 200.0
    windows = chbmit_windows(recordings, compose(words))
    assert windows.shape == (5, 16, 2000)
    assert_agrees(windows[:1], tensors("chbmit_window")["real_filtered"])
