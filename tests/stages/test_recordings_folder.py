"""What a recordings folder takes on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import golden_folder
from eegdm import artifacts
from eegdm.stages import run_stage

MINUTES = 10


@pytest.fixture(scope="module")
def edf() -> bytes:
    """The golden recording of a minute, again and again."""
    data = (golden_folder("preproc_open") / "aaaaasyn_00000001.edf").read_bytes()
    n_header, n_records = int(data[184:192]), int(data[236:244])
    return (
        data[:236]
        + str(n_records * MINUTES).ljust(8).encode()
        + data[244:n_header]
        + data[n_header:] * MINUTES
    )


@pytest.mark.parametrize("per_second", [0.2, 5])
def test_the_size_is_that_of_the_signal_whatever_the_number_of_events(
    edf: bytes, tmp_path: Path, per_second: float
) -> None:
    path = tmp_path / "edf" / "train" / "a" / "a_1.edf"
    path.parent.mkdir(parents=True)
    path.write_bytes(edf)
    onsets = [k / per_second for k in range(int(60 * MINUTES * per_second) - 10)]
    path.with_suffix(".rec").write_text(
        "".join(
            f"{k % 22},{onset:.2f},{onset + 1:.2f},{k % 6 + 1}\n" for k, onset in enumerate(onsets)
        )
    )
    folder = run_stage(
        "preprocess",
        ["corpus=tuev", f"source={tmp_path}", f"root={tmp_path / 'runs'}", "workers=1"],
    )
    assert artifacts.open_artifact(folder).summary["events"] == len(onsets)
    n_bytes = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    assert 1 < n_bytes / (4 * 22 * 200 * 60 * MINUTES) < 1.01
