"""Score the pipeline of eegdm.yml by MOABB's three evaluations, on MOABB's synthetic noise:

    python -W ignore examples/moabb/run.py

To score it on recordings, replace `FakeDataset` by a data set of MOABB, and let `ch_names` and
`sfreq` in eegdm.yml be the channels and the sampling rate of the paradigm.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import pandas as pd
from moabb.datasets.fake import FakeDataset
from moabb.evaluations import (
    CrossSessionEvaluation,
    CrossSubjectEvaluation,
    WithinSessionEvaluation,
)
from moabb.paradigms import LeftRightImagery
from moabb.pipelines.utils import parse_pipelines_from_directory

EVALUATIONS = (WithinSessionEvaluation, CrossSessionEvaluation, CrossSubjectEvaluation)
SHOWN = ["evaluation", "subject", "session", "samples", "samples_test", "score"]


def main() -> None:
    """Print a row per evaluation, subject and session."""
    (found,) = parse_pipelines_from_directory(str(Path(__file__).with_name("eegdm.yml")))
    # The band that the backbone learned from; MOABB's own default is 8 to 32 Hz.
    paradigm = LeftRightImagery(fmin=0.5, fmax=45, resample=100, channels=["C3", "Cz", "C4"])
    noise = FakeDataset(
        ["left_hand", "right_hand"], n_subjects=3, n_sessions=2, n_runs=1, n_events=40, seed=0
    )
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for evaluation in EVALUATIONS:
            scored = evaluation(paradigm, [noise], overwrite=True, hdf5_path=folder, random_state=0)
            table = scored.process({found["name"]: found["pipeline"]})
            rows.append(table.assign(evaluation=evaluation.__name__.removesuffix("Evaluation")))
    table = pd.concat(row.sort_values(["subject", "session"]) for row in rows)
    print(table[SHOWN].round(3).to_string(index=False))


if __name__ == "__main__":
    main()
