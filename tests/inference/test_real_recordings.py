"""`eegdm predict` as a user types it, on real EEG: bipolar CHB-MIT and 64 referential channels
named `Fp1.`.
"""

from __future__ import annotations  # noqa: I001

from pathlib import Path

import edfio
import mne
import numpy as np
import pandas as pd
import pytest
from inference.small import lively_model

from stages.tiny import command_line


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lively_model().save_pretrained(tmp_path_factory.mktemp("model"))


@pytest.mark.ci
@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "missing", "n_channels", "duration_s"),
    [
        ("chbmit/edf/chb01_03_seizure.edf", "drop", 16, 50.0),
        ("eegmmidb/S001R03.edf", "interpolate", 22, 125.0),
        ("eegmmidb/S001R03.edf", "drop", 20, 125.0),
    ],
)
def test_real_recordings(
    name: str,
    missing: str,
    n_channels: int,
    duration_s: float,
    model: Path,
    shared: Path,
    tmp_path: Path,
) -> None:
    source = shared / "data" / name
    done = command_line(
        "predict",
        source,
        "--model",
        model,
        "--out",
        tmp_path,
        "--missing",
        missing,
        "--copy",
        "edf",
        "--threshold",
        0.5,
    )
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(tmp_path / f"{source.stem}_events.tsv", sep="\t")
    assert (table.recordingDuration == duration_s).all()
    events = table[table.eventType != "bckg"]
    assert len(events) > 0

    copy = tmp_path / f"{source.stem}_annotated.edf"
    raw = mne.io.read_raw(copy, verbose="ERROR")
    marked = [
        (a["onset"], a["duration"], a["description"])
        for a in raw.annotations
        if a["description"] not in ("T0", "T1", "T2")
    ]
    assert marked == list(zip(events.onset, events.duration, events.eventType, strict=True))
    before, after = edfio.read_edf(source), edfio.read_edf(copy)
    assert all(
        np.array_equal(x.digital, y.digital)
        for x, y in zip(before.signals, after.signals, strict=True)
    )
    page = (tmp_path / f"{source.stem}_report.html").read_text()
    assert page.count("<td>0.0 %</td>") >= n_channels - 2  # flat: no channel of these is
    assert sorted(p.name.removeprefix(source.stem) for p in tmp_path.iterdir()) == [
        "_annotated.edf",
        "_events.json",
        "_events.tsv",
        "_probabilities.parquet",
        "_report.html",
    ]
