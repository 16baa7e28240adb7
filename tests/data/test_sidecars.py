"""What BIDS says beside a recording: types, units and status of channels, the power line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from eegdm import artifacts
from eegdm.cli import run_stage
from eegdm.data.reading import open_recording
from eegdm.data.sidecars import Sidecars, mains_of, notes_of, sidecars_of
from eegdm.data.synthetic.layouts import write_bids
from eegdm.errors import UserError
from eegdm.inference.preparation import as_raw
from stages.tiny import SIZES


@pytest.fixture
def bids(tmp_path: Path) -> Path:
    """Two people with a run each; with channels.tsv and eeg.json."""
    write_bids(tmp_path / "bids", n_subjects=2, n_runs=1, minutes=1.0)
    return tmp_path / "bids"


def beside(file: Path, suffix: str) -> Path:
    return file.with_name(file.name.replace("_eeg.edf", suffix))


def first(bids: Path) -> Path:
    return sorted(bids.rglob("*_eeg.edf"))[0]


def changed(file: Path, **columns: dict[str, str]) -> None:
    """Write cells of a channels.tsv anew: {column: {channel: value}}."""
    path = beside(file, "_channels.tsv")
    table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    for column, values in columns.items():
        if column not in table:
            table[column] = "good"
        table[column] = [
            values.get(n, old) for n, old in zip(table.name, table[column], strict=True)
        ]
    table.to_csv(path, sep="\t", index=False)


def without_unit(file: Path) -> None:
    """Blank the unit of every signal in an EDF's header."""
    data = bytearray(file.read_bytes())
    n = int(data[252:256])
    at = 256 + n * (16 + 80)
    data[at : at + 8 * n] = b" " * 8 * n
    file.write_bytes(data)


def test_channels_of_other_types_are_left_out_and_bad_ones_marked(bids):
    file = first(bids)
    changed(file, type={"Cz": "misc"}, status={"Pz": "bad", "Fz": "BAD"})
    raw = as_raw(file)
    names = open_recording(file).ch_names
    assert "ECG" in names and raw.ch_names == [n for n in names if n not in ("ECG", "Cz")]
    assert sorted(raw.info["bads"]) == ["Fz", "Pz"]
    left_out, bad, *_ = notes_of(raw)
    assert "left out, of another type than EEG" in left_out
    assert "Cz (MISC)" in left_out and "ECG (ECG)" in left_out and bad.endswith(": Fz, Pz")
    table = beside(file, "_channels.tsv")
    table.write_text("name\ttype\n" + "".join(f"{n}\tEOG\n" for n in names))
    with pytest.raises(UserError, match="says of no channel in the recording that it is of type"):
        as_raw(file)


@pytest.mark.parametrize(("spelling", "factor"), [("uV", 1), ("µV", 1), ("μV", 1), ("mV", 1e3)])
def test_a_unit_that_the_file_does_not_state_is_taken_from_beside(bids, spelling, factor):
    file = first(bids)
    expected = as_raw(file).get_data(["Fp1"])
    names = open_recording(file).ch_names
    changed(file, units=dict.fromkeys(names, spelling))
    assert np.array_equal(as_raw(file).get_data(["Fp1"]), expected)  # the file states its own
    without_unit(file)
    np.testing.assert_allclose(as_raw(file).get_data(["Fp1"]), expected * factor, rtol=1e-9)


def test_the_nearest_sidecar_of_those_that_fit_decides(bids):
    file = first(bids)  # sub-01_task-rest_run-01_eeg.edf
    beside(file, "_eeg.json").write_text('{"EEGReference": "Cz"}')
    (bids / "task-rest_eeg.json").write_text(
        '{"EEGReference": "linked ears", "PowerLineFrequency": 60}'
    )
    (bids / "task-other_eeg.json").write_text('{"PowerLineFrequency": 16}')
    (bids.parent / "task-rest_eeg.json").write_text('{"PowerLineFrequency": 17}')
    found = sidecars_of(file)
    assert (found.reference, found.mains_hz) == ("Cz", 60.0)
    table = beside(file, "_channels.tsv")
    table.rename(bids / "sub-01" / "sub-01_channels.tsv")
    assert sidecars_of(file).types["ECG"] == "ECG"
    part = file.with_name(file.name.replace("_eeg", "_split-01_eeg").replace(".edf", ".fif"))
    assert sidecars_of(part).types == sidecars_of(file).types


def test_files_that_bids_does_not_name_have_no_sidecars(bids):
    file = first(bids)
    plain = file.with_name("recording.edf")
    file.rename(plain)
    assert sidecars_of(plain) == Sidecars()
    assert as_raw(plain).ch_names == open_recording(plain).ch_names


@pytest.mark.parametrize("mains", ['"n/a"', "null", "true", "0", "[50]"])
def test_a_power_line_without_a_frequency_is_none(bids, mains):
    beside(first(bids), "_eeg.json").write_text(f'{{"PowerLineFrequency": {mains}}}')
    assert sidecars_of(first(bids)).mains_hz is None


def test_predict_reads_the_sidecars_of_a_file(bids):
    file = first(bids)
    changed(file, status={"Pz": "bad"})
    raw = as_raw(file)
    assert raw.info["bads"] == ["Pz"] and "ECG" not in raw.ch_names


# -------------------------------------------------------------------------------- preprocess


def words(bids: Path, *more: str) -> list[str]:
    return [
        "corpus=bids",
        f"source={bids}",
        f"root={bids.parent / 'runs'}",
        "corpus.label_map={}",
        *SIZES,
        *more,
    ]


def with_mains(bids: Path, *hertz: float) -> None:
    for file, hz in zip(sorted(bids.rglob("*_eeg.edf")), hertz, strict=True):
        about = json.loads(beside(file, "_eeg.json").read_text())
        beside(file, "_eeg.json").write_text(json.dumps(about | {"PowerLineFrequency": hz}))


def test_preprocess_notches_where_the_power_line_is(bids, capsys):
    with_mains(bids, 60, 60)
    recordings = run_stage("preprocess", words(bids))
    assert "notch at 60 Hz, the PowerLineFrequency of 2 recordings" in capsys.readouterr().out
    assert artifacts.open_artifact(recordings).config["signal"]["notch"] == [60.0]
    table = pd.read_parquet(recordings / "recordings.parquet")
    assert all("left out, of another type than EEG" in reason for reason in table.reason)
    assert run_stage("preprocess", words(bids)) == recordings  # and changes nothing


def test_a_notch_that_was_typed_stays_and_disagreement_is_said(bids, capsys):
    with_mains(bids, 60, 60)
    folder = run_stage("preprocess", words(bids, "signal.notch=[50]"))
    assert artifacts.open_artifact(folder).config["signal"]["notch"] == [50.0]
    with_mains(bids, 50, 60)
    folder = run_stage("preprocess", words(bids, f"root={bids.parent / 'other'}"))
    assert artifacts.open_artifact(folder).config["signal"]["notch"] == [50.0]
    assert "warning: PowerLineFrequency is 50 Hz (1 recordings), 60 Hz" in capsys.readouterr().out
    assert mains_of(sorted(bids.rglob("*_eeg.edf"))) == {50.0: 1, 60.0: 1}


def test_a_sidecar_at_fault_costs_its_recording_alone(bids):
    beside(first(bids), "_eeg.json").write_text("{")
    table = pd.read_parquet(run_stage("preprocess", words(bids)) / "recordings.parquet")
    assert table.status.tolist() == ["failed", "ok"]
    assert "can't be read as JSON" in table.reason[0]


def test_an_odd_row_of_events_costs_itself_alone(bids):
    events = beside(first(bids), "_events.tsv")
    n = len(events.read_text().splitlines()) - 1
    events.write_bytes(
        events.read_bytes() + "n/a\t1\tBCKG\n-2\t1\tBCKG\n3\t1\t\xd6l\n".encode("latin-1")
    )
    recordings = run_stage("preprocess", words(bids))
    table = pd.read_parquet(recordings / "recordings.parquet")
    assert table.status.tolist() == ["ok", "ok"]
    assert "2 of" in table.reason[0] and "before the recording" in table.reason[0]
    assert "read as Latin-1" in table.reason[0]
    found = pd.read_parquet(recordings / "events.parquet")
    assert (found.recording == table.recording[0]).sum() == n + 1 and "Öl" in set(found.label)
