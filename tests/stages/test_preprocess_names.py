"""What preprocess makes of channel names, and says of it: in the table and on the screen."""

from __future__ import annotations

from pathlib import Path

import mne
import numpy as np
import pandas as pd
import pytest

from eegdm.errors import UserError
from eegdm.stages import run_stage

NAMES = "Fp1 Fp2 F7 F3 Fz F4 F8 T3 C3 Cz C4 T4 T5 P3 Pz P4 T6 O1 O2 A1 A2"
SIGNALS = {
    name: np.random.default_rng(k).normal(0, 3e-5, 8000) for k, name in enumerate(NAMES.split())
}


def write(path: Path, signals: dict[str, np.ndarray]) -> None:
    raw = mne.io.RawArray(
        np.stack([*signals.values()]), mne.create_info([*signals], 200.0, "eeg"), verbose="ERROR"
    )
    mne.export.export_raw(path, raw, fmt="edf", verbose="ERROR")


def contacts(*letters: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(99)
    return {f"{row}{k}": rng.normal(0, 3e-5, 8000) for row in letters for k in range(1, 13)}


def preprocess(folder: Path, missing: str) -> pd.DataFrame:
    recordings = run_stage(
        "preprocess",
        [
            *("corpus=folder", "events=none", f"source={folder}", f"root={folder / 'runs'}"),
            *(f"missing={missing}", "workers=1", "signal.notch=[]"),
        ],
    )
    table = pd.read_parquet(recordings / "recordings.parquet").set_index("recording")
    table["values"] = [
        None if pd.isna(name) else np.load(recordings / name) for name in table.signal
    ]
    return table


def test_names_are_read_together_and_what_was_decided_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "few.edf", {name: SIGNALS[name] for name in ("Fp1", "F7", "T3", "F3", "C3")})
    write(tmp_path / "whole.edf", SIGNALS)
    write(
        tmp_path / "turned.edf",
        {
            "Cz-C4": SIGNALS["Cz"] - SIGNALS["C4"],
            "C4-T4": SIGNALS["C4"] - SIGNALS["T4"],
            "F7-T3": SIGNALS["F7"] - SIGNALS["T3"],
        },
    )
    scalp = {name: x for name, x in SIGNALS.items() if name[0] not in "AC" or name == "Cz"}
    write(tmp_path / "depth.edf", {**scalp, **contacts("A", "C", "LA")})
    write(tmp_path / "cap.edf", contacts("A", "B", "C", "D"))
    table = preprocess(tmp_path, "drop")
    said = capsys.readouterr().out

    assert table.status.to_dict() == {
        name: "failed" if name == "cap" else "ok"
        for name in ("cap", "depth", "few", "turned", "whole")
    }
    assert table.reason["few"] == "5 of 22 channels: FP1-F7, F7-T3, T3-C3, FP1-F3, F3-C3"
    assert table.reason["turned"] == "3 of 22 channels: F7-T3, C4-CZ, T4-C4"
    assert table.reason["whole"] == ""
    assert (
        "not taken for electrodes of the 10-20 system: A1 to A12, C1 to C12"
        in (table.reason["depth"])
    )
    assert "12 of 22 channels, left out: A1-T3, T3-C3" in table.reason["depth"]
    assert "no channel of the montage can be derived from A1, A2" in table.reason["cap"]
    for reason in table.reason[table.reason != ""]:
        assert reason in said

    whole = dict(zip(table.ch_names["whole"], table["values"]["whole"], strict=True))
    for name in ("turned", "depth", "few"):
        for channel, values in zip(table.ch_names[name], table["values"][name], strict=True):
            assert np.abs(values - whole[channel]).max() < 1e-3, (name, channel)  # steps of 16 bit


def test_a_refusal_advises_what_the_stage_takes(tmp_path: Path) -> None:
    write(tmp_path / "few.edf", {name: SIGNALS[name] for name in ("Fp1", "F7", "T3")})
    with pytest.raises(UserError, match="leave out what is missing with missing=drop"):
        preprocess(tmp_path, "error")
