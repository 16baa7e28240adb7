"""What is planted in several people is found, first, at its time and on its channel; the numbers
equal a slow reference.
"""

from __future__ import annotations  # noqa: I001

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import mne
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from inference.small import small_model
from scipy.stats import median_abs_deviation
from typer.testing import CliRunner

import eegdm
from eegdm import artifacts, cli
from eegdm.data.files import is_copy
from eegdm.data.montage import TCP
from eegdm.data.reading import open_recording
from eegdm.errors import UserError
from eegdm.features import FeatureStore, embed_folder, find_files
from eegdm.features.classical import BandPower
from eegdm.features.find_files import find_files as write_found
from eegdm.features.finding import Stretch, open_features, query_starts, read_query
from eegdm.features.making import ORIGIN
from eegdm.features.similarity import first_apart
from stages.tiny import one_thread

SFREQ, SECONDS = 200.0, 60
RHYTHM = {("a", 20.0): 3, ("b", 30.0): 9}
"""6, 20 and 40 Hz for 5 s: person, onset -> channel."""
BURST = {("a", 40.0), ("b", 10.0)}
"""3 and 10 Hz for 5 s on the first half of the channels."""


def sines(hertz: tuple[int, ...], t: np.ndarray) -> np.ndarray:
    return np.sin(2 * np.pi * np.outer(hertz, t)).sum(axis=0)


def recording(person: str, gain: float = 1.0) -> mne.io.RawArray:
    """A minute of 1/f noise, 20 µV, on the model's own channels, with what is planted in it."""
    rng = np.random.default_rng(ord(person))
    n_times = round(SECONDS * SFREQ)
    spectrum = np.fft.rfft(rng.standard_normal((len(TCP), n_times)))
    data = np.fft.irfft(spectrum / np.sqrt(1 + np.arange(spectrum.shape[1])), n_times)
    data *= 2e-5 / data.std()
    t = np.arange(round(5 * SFREQ)) / SFREQ
    for (who, onset), channel in RHYTHM.items():
        if who == person:
            at = round(onset * SFREQ)
            data[channel, at : at + len(t)] += 4e-5 * sines((6, 20, 40), t)
    for who, onset in BURST:
        if who == person:
            at = round(onset * SFREQ)
            data[:11, at : at + len(t)] += 4e-5 * sines((3, 10), t)
    return mne.io.RawArray(gain * data, mne.create_info(list(TCP), SFREQ, "eeg"), verbose="ERROR")


def write(folder: Path, gain_of_b: float = 1.0) -> Path:
    """Recordings of three people, of whom the third has nothing planted."""
    for person in "abc":
        raw = recording(person, gain_of_b if person == "b" else 1.0)
        path = folder / f"sub-{person}" / f"sub-{person}_eeg.edf"
        path.parent.mkdir(parents=True)
        mne.export.export_raw(path, raw, fmt="edf", physical_range=(-500, 500), verbose="ERROR")
    return folder


A, B = "sub-a/sub-a_eeg.edf", "sub-b/sub-b_eeg.edf"
C = "sub-c/sub-c_eeg.edf"
RECORDING_A = A.removesuffix(".edf")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("recordings"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model().save_pretrained(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture(scope="module")
def store(source: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stores") / "store"
    return embed_folder(source, model, folder, extractors=[BandPower()]).path


@pytest.fixture(scope="module")
def finer(source: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """Windows that overlap by half."""
    folder = tmp_path_factory.mktemp("stores") / "finer"
    return embed_folder(source, model, folder, step_s=2.5, extractors=[BandPower()])


# ----------------------------------------------------------------------------------- what is found


@pytest.mark.parametrize("features", ["band_power", "tokens"])
def test_a_planted_burst_is_found_first_in_the_other_person(store: Path, features: str) -> None:
    found = eegdm.find(store, f"{A}@40-45", features=features)
    first = found.matches.iloc[0]
    assert (first.file, first.onset, first.duration, first.channel) == (B, 10.0, 5.0, "n/a")
    others = found.matches.iloc[1:]
    assert first.nearness > 4 > others.nearness.max() and first.distance < others.distance.min()
    assert found.n_people == 3 and found.n_windows == 3 * 12 - 1 and not found.notes


def test_tokens_are_made_when_they_are_compared(
    source: Path, store: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for features, made in (("band_power", {"band_power"}), ("tokens", {"band_power", "tokens"})):
        found = eegdm.find(source, f"{A}@40-45", model=model, features=features)
        (folder,) = (tmp_path / "runs" / "embeddings").iterdir()
        assert set(FeatureStore.open(folder).features) == made
        expected = eegdm.find(store, f"{A}@40-45", features=features)
        pd.testing.assert_frame_equal(found.matches, expected.matches)


def test_a_channel_is_found_in_another_channel(store: Path) -> None:
    found = eegdm.find(store, f"{A}@20-25", channel=TCP[3])
    first = found.matches.iloc[0]
    assert (first.file, first.onset, first.channel) == (B, 30.0, TCP[9])
    back = eegdm.find(store, f"{B}@30-35", channel=TCP[9]).matches.iloc[0]
    assert (back.file, back.onset, back.channel) == (A, 20.0, TCP[3])


def test_the_query_is_read_at_its_own_time(
    store: Path, finer: FeatureStore, tmp_path: Path
) -> None:
    """Off the grid of the store; a finer grid has the same window."""
    at = round(37.5 / 2.5)
    for features in ("band_power", "tokens"):
        stretch = Stretch(A, 39.0, 41.0)
        opened, reading = open_features(store, stretch, None, features, {})
        row = next(opened.recordings[opened.recordings.file == A].itertuples())
        query, values, notes = read_query(tmp_path / "work", reading, row, stretch, None)
        expected = reading.comparable(finer.array(features, RECORDING_A)[at : at + 1])
        np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-5)
        assert query.windows_s == [37.5] and query.duration_s == 2.0
        assert notes == [
            "the stretch is 2 s long and is compared with what surrounds it: windows are 5 s long"
        ]


def test_an_ordinary_query_is_noted(store: Path) -> None:
    (note,) = eegdm.find(store, f"{C}@50-55").notes
    assert note.startswith("the stretch is ordinary for c: its features differ from this person's")
    assert not eegdm.find(store, f"{A}@20-25", channel=TCP[3]).notes


@pytest.mark.ci
def test_how_loud_a_person_is_changes_nothing(model: Path, store: Path, tmp_path: Path) -> None:
    louder = embed_folder(
        write(tmp_path / "recordings", gain_of_b=3.0),
        model,
        tmp_path / "store",
        extractors=[BandPower()],
    )
    one, other = (eegdm.find(folder, f"{A}@40-45").matches for folder in (store, louder.path))
    assert one[["file", "onset"]].equals(other[["file", "onset"]])
    np.testing.assert_allclose(one.distance, other.distance, rtol=0.01)


def test_matches_overlap_neither_each_other_nor_the_query(finer: FeatureStore) -> None:
    found = eegdm.find(finer.path, f"{A}@21-28", top=1000)
    assert found.query.windows_s == [22.0]
    for file, own in found.matches.groupby("file"):
        assert (np.diff(np.sort(own.onset)) >= 5).all()
        assert file != A or ((own.onset >= 28) | (own.onset + 5 <= 21)).all()
    assert found.matches.distance.is_monotonic_increasing
    assert len(eegdm.find(finer.path, f"{A}@21-28", top=4).matches) == 4


# --------------------------------------------------------------------------------------- reference


@pytest.mark.parametrize("features", ["band_power", "tokens"])
@pytest.mark.parametrize("channel", [None, TCP[3], f"{TCP[3]},{TCP[17]}"])
def test_distance_and_nearness_equal_a_slow_reference(
    store: Path, features: str, channel: str | None
) -> None:
    opened = FeatureStore.open(store)
    values, people = {}, {}
    for row in opened.recordings.itertuples():
        own = np.array(opened.array(features, row.recording), float)
        if features == "tokens":
            own = np.log(own[:, :, 1:]).reshape(12, 22, -1)  # two blocks, of which one is deep
        values[row.subject] = own
        people[row.subject] = row.file
    least = 0.1 * np.median(
        [own.std(axis=0)[c] for own in values.values() for c in range(22)], axis=0
    )
    rows = []
    for person, own in values.items():
        z = (own - own.mean(axis=0)) / np.maximum(own.std(axis=0), least)
        values[person] = z
    query = values["a"][4]
    for person, z in values.items():
        for w in range(12):
            if person == "a" and w == 4:
                continue
            each = []
            for c in range(22):
                asked = [c] if channel is None else [TCP.index(n) for n in channel.split(",")]
                each.append(min(np.mean((z[w, c] - query[k]) ** 2) for k in asked))
            best = int(np.argmin(each))
            distance = np.sqrt(np.mean(each) if channel is None else each[best])
            named = "n/a" if channel is None else TCP[best]
            rows.append((person, 5.0 * w, named, distance))
    expected = pd.DataFrame(rows, columns=["subject", "onset", "channel", "distance"])
    for _, own in expected.groupby("subject"):
        logs = np.log(own.distance)
        score = (np.median(logs) - logs) / median_abs_deviation(logs, scale="normal")
        expected.loc[own.index, "nearness"] = score
    expected = expected.sort_values("distance").reset_index(drop=True)
    found = eegdm.find(store, f"{A}@20-25", features=features, channel=channel, top=1000).matches
    assert len(found) == 35
    pd.testing.assert_frame_equal(
        found[list(expected)], expected, check_dtype=False, rtol=2e-3, atol=2e-3
    )
    assert found.file.tolist() == found.subject.map(people).tolist()
    assert (found.trial_type == "similar").all()


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 40)), max_size=30))
def test_the_first_apart_are_those_that_no_better_one_touches(
    places: list[tuple[str, int]],
) -> None:
    table = pd.DataFrame(places, columns=["recording", "onset_s"])
    kept: list[tuple[str, int]] = []
    for recording, onset in places:
        if not any(r == recording and abs(o - onset) < 5 for r, o in kept):
            kept.append((recording, onset))
    found = first_apart(table, 5.0, 1000)
    assert list(found.itertuples(index=False, name=None)) == kept
    assert len(first_apart(table, 5.0, 2)) == min(2, len(kept))


@pytest.mark.parametrize(
    ("start", "stop", "expected"),
    [
        (20, 25, [20]),
        (21, 24, [20]),
        (20, 32, [20, 27]),
        (20, 35, [20, 25, 30]),
        (0, 2, [0]),
        (59, 60, [55]),
    ],
)
def test_windows_stand_for_a_stretch(start: float, stop: float, expected: list[int]) -> None:
    starts = query_starts(Stretch("x", start, stop), 60 * 200, 5 * 200, 200.0)
    assert (starts / 200).tolist() == expected


# ---------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("night.edf@12.5-17.5", ("night.edf", 12.5, 17.5)),
        ("a@b/c@1-2.edf@3-4", ("a@b/c@1-2.edf", 3.0, 4.0)),
    ],
)
def test_the_last_at_sign_counts(text: str, expected: tuple[str, float, float]) -> None:
    assert Stretch.parse(text) == expected


@pytest.mark.parametrize(
    ("like", "settings", "reason"),
    [
        ("night.edf", {}, r"like=night\.edf: is not FILE@START-STOP"),
        ("night.edf@5", {}, "is not FILE@START-STOP"),
        ("night.edf@a-b", {}, "is not FILE@START-STOP"),
        ("night.edf@-1-4", {}, "is not FILE@START-STOP"),
        ("@1-4", {}, "is not FILE@START-STOP"),
        (f"{A}@7-7", {}, "stops at 7 s, before or where it starts"),
        ("nobody.edf@1-6", {}, "is not one of the recordings in .*such as sub-a/sub-a_eeg.edf"),
        (f"{A}@58-63", {}, "the recording lasts 60 s; name a stretch within it"),
        (f"{A}@1-6", {"channel": "FP1"}, "channel=FP1: is not a channel of .* which has FP1-F7"),
        (f"{A}@1-6", {"features": "faces"}, "features='faces' is unknown; choose from band_power"),
        (f"{A}@1-6", {"top": 0}, "top=0: give 1 or more"),
    ],
)
def test_what_cannot_be_looked_for_is_refused(
    store: Path, like: str, settings: dict[str, object], reason: str
) -> None:
    with pytest.raises(UserError, match=reason) as refused:
        eegdm.find(store, like, **settings)
    assert "\n" not in str(refused.value)


def test_a_file_outside_the_folder_is_refused_before_any_work(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(source / A, tmp_path / "elsewhere.edf")
    with pytest.raises(UserError, match=r"like=elsewhere\.edf@\.\.\.: is not a file in"):
        eegdm.find(source, "elsewhere.edf@1-6")
    assert [path.name for path in tmp_path.iterdir()] == ["elsewhere.edf"]


def test_recordings_that_are_gone_are_refused(store: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(store, tmp_path / "store"))
    origin = json.loads((moved / ORIGIN).read_text())
    (moved / ORIGIN).write_text(json.dumps({**origin, "source": "/nowhere"}))
    with pytest.raises(UserError, match="are not at /nowhere; name the folder of recordings"):
        eegdm.find(moved, f"{A}@1-6")


@pytest.mark.ci
def test_too_short_people_are_left_out_and_named(model: Path, tmp_path: Path) -> None:
    folder = write(tmp_path / "recordings")
    short = folder / "sub-d" / "sub-d_eeg.edf"
    short.parent.mkdir()
    raw = recording("b").crop(0, 22, include_tmax=False)
    mne.export.export_raw(short, raw, fmt="edf", physical_range=(-500, 500), verbose="ERROR")
    made = embed_folder(folder, model, tmp_path / "store", extractors=[BandPower()]).path
    found = eegdm.find(made, f"{A}@40-45", top=1000)
    assert found.notes == ["left out, for they have fewer than 5 windows: d"]
    assert set(found.matches.subject) == {"a", "b", "c"}
    with pytest.raises(UserError, match="fewer than 5 windows of d, too few to know what is usual"):
        eegdm.find(made, f"{short}@1-6")


# ------------------------------------------------------------------------------------------- files


def test_table_page_and_copies(
    store: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    expected = eegdm.find(store, f"{A}@40-45", top=5)
    written = write_found(store, f"{A}@40-45", out=out, top=5, copy="edf")
    table = pd.read_csv(out / "found.tsv", sep="\t", keep_default_na=False)
    assert list(table)[:3] == ["onset", "duration", "trial_type"]
    pd.testing.assert_frame_equal(table, expected.matches, check_dtype=False, atol=0.006, rtol=0)
    sidecar = json.loads((out / "found.json").read_text())
    assert sidecar.keys() >= {*table, "GeneratedBy", "Notice", "Query"}
    assert sidecar["Query"]["file"] == A and sidecar["Query"]["onset_s"] == 40
    page = (out / "found.html").read_text()
    assert page.count("<figure>") == 1 + 5 and "not a medical device" in page
    assert str(source) not in page
    assert f"find: the nearest is {B} at 0:10: distance" in capsys.readouterr().out
    copies = sorted(out.glob("*_annotated.edf"))
    assert sorted(path for path in written if "annotated" in path.name) == copies
    assert len(copies) == table.file.nunique()
    for copied in copies:
        stem = copied.name.removesuffix("_annotated.edf")
        events = pd.read_csv(out / f"{stem}_events.tsv", sep="\t")
        marks = open_recording(copied).annotations
        assert sorted(marks.onset) == sorted(events.onset) and is_copy(copied)
        original = open_recording(source / events.file.iloc[0])
        assert np.array_equal(open_recording(copied).get_data()[:22], original.get_data())
    assert not (out / ".find.eegdm").exists()


def test_a_killed_run_resumes_and_gives_the_same(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        """Like SIGKILL it is caught by nobody."""

    def kill(*args: object) -> None:
        raise Killed

    whole = write_found(store, f"{A}@40-45", out=tmp_path / "whole", top=2)[0]
    with monkeypatch.context() as patch:
        patch.setattr(find_files, "_write_events", kill)
        with pytest.raises(Killed):
            write_found(store, f"{A}@40-45", out=tmp_path / "killed", top=2)
    with monkeypatch.context() as patch:  # the signals that were prepared are not made again
        patch.setattr("eegdm.inference.preparation.preprocess", kill)
        resumed = write_found(store, f"{A}@40-45", out=tmp_path / "killed", top=2)[0]
    assert resumed.read_bytes() == whole.read_bytes()
    assert sorted(p.name for p in resumed.parent.iterdir()) == [
        "found.html", "found.json", "found.tsv",
    ]  # fmt: skip


def test_a_copy_that_cannot_be_made_is_refused(store: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="copy=wav: is unknown"):
        write_found(store, f"{A}@40-45", out=tmp_path / "out", copy="wav")


@pytest.mark.ci
def test_the_command_makes_features_is_killed_and_resumes(
    source: Path, model: Path, store: Path, tmp_path: Path
) -> None:
    words = ["find", str(source), "--like", f"{A}@40-45", "--model", str(model), "--out", "found"]
    command = [sys.executable, "-m", "eegdm", *words]
    process = subprocess.Popen(command, env=one_thread(), cwd=tmp_path, stdout=subprocess.DEVNULL)
    while not artifacts.whole_files(tmp_path, "runs/embeddings/*/parts/*.json"):
        assert process.poll() is None
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(1.0)  # its worker ends
    assert not (tmp_path / "found" / "found.tsv").exists()
    done = subprocess.run(
        command, cwd=tmp_path, env=one_thread(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == ["found/found.tsv", "found/found.html"]
    table = pd.read_csv(tmp_path / "found" / "found.tsv", sep="\t")
    expected = eegdm.find(store, f"{A}@40-45").matches
    assert table.onset.tolist() == expected.onset.tolist()
    refused = CliRunner().invoke(cli.app, ["find", str(store), "--like", f"{A}@58-63"])
    assert "--like" in str(refused.exception)
