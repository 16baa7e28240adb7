"""One made-up corpus and one finished run of the five stages, shared by the tests of this folder;
no test changes them.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from eegdm.data.synthetic.layouts import write_tuev
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
