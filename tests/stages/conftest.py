"""One made-up corpus and one finished run of the five stages, shared by the tests of this folder;
no test changes them.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from eegdm import artifacts
from eegdm.data.synthetic.layouts import write_tuev
from eegdm.features.detector import fit
from eegdm.features.making import embed_folder
from eegdm.stages import run_stage
from stages.tiny import MADE_UP, SIZES, Finished


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five training and two test subjects in TUEV's layout."""
    folder = tmp_path_factory.mktemp("corpus") / "tuev"
    write_tuev(folder, **MADE_UP)
    return folder


@pytest.fixture(scope="session")
def finished(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The five stages with recipe `base`, each run once."""
    root = tmp_path_factory.mktemp("runs")
    words = ["corpus=tuev", f"root={root}", *SIZES]
    recordings = run_stage("preprocess", [*words, f"source={corpus}"])
    return Finished(
        corpus,
        root,
        recordings,
        *(run_stage(stage, words) for stage in ("pretrain", "cache", "finetune", "report")),
    )


@pytest.fixture
def own(finished: Finished, tmp_path: Path) -> Finished:
    """A copy of the finished run, to be added to."""
    return finished.copied(tmp_path / "runs")


@pytest.fixture(scope="session")
def marks(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eye movements of the corpus as a table of marks, each as long as a window."""
    recordings, events = (
        artifacts.read_table(finished.recordings / f"{name}.parquet")
        for name in ("recordings", "events")
    )
    rows = events[events.label == "EYEM"].merge(
        recordings[["recording", "file", "subject"]], on="recording"
    )
    rows["onset_s"], rows["duration_s"] = (rows.onset_s - 2).clip(lower=0), 5.0
    table = tmp_path_factory.mktemp("marks") / "marks.csv"
    columns = ["file", "onset_s", "duration_s", "label", "subject"]
    rows[columns].drop_duplicates().to_csv(table, index=False)
    return table


@pytest.fixture(scope="session")
def embeddings(finished: Finished, marks: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `eegdm embed` writes of the corpus by the finished backbone."""
    out = tmp_path_factory.mktemp("embeddings") / "tuev"
    return embed_folder(finished.source, finished.backbone, out, table=marks, step_s=1.0).path


@pytest.fixture(scope="session")
def detector(embeddings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `eegdm fit` writes of the corpus's events; beside it the features that it read, to which
    it adds.
    """
    folder = tmp_path_factory.mktemp("detectors")
    store = shutil.copytree(embeddings, folder / "embeddings" / "tuev")
    fit(store, out=folder / "tuev", background="rest")
    return folder / "tuev"
