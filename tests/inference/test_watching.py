"""`eegdm watch`: the numbers of `predict` while the recording is written, by real recorders."""

from __future__ import annotations  # noqa: I001

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mne
import numpy as np
import pandas as pd
import pytest
from inference import recorder
from inference.small import lively_model, made_up, small_model
from inference.test_centred import centred_model

import eegdm
from eegdm.data import incoming
from eegdm.data.filtering import Filtering, conditioned
from eegdm.data.incoming import Incoming
from eegdm.data.montage import derive
from eegdm.data.resampling import Resampling
from eegdm.data.signal import SpreadSoFar, preprocess, robust_spread
from eegdm.errors import UserError
from eegdm.evaluation.decision import Follower, Rule, find_events
from eegdm.inference import growing, live, prediction, watching
from eegdm.inference.prediction_files import szcore_table
from eegdm.inference.prediction_folder import Outputs
from eegdm.inference.watching import Watch

PLAIN = Outputs(report=False)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(lively_model().save_pretrained(tmp_path_factory.mktemp("models") / "lively"))


@pytest.fixture(scope="module")
def edf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 s at 256 Hz."""
    return exported(tmp_path_factory.mktemp("edf") / "finished.edf", made_up(100.0))


def exported(path: Path, raw: mne.io.BaseRaw) -> Path:
    mne.export.export_raw(path, raw, fmt=path.suffix[1:], verbose="ERROR")
    return path


@contextlib.contextmanager
def being_recorded(finished: Path, target: Path, *pace: float | Path) -> Iterator[None]:
    """Let another process write the file; it has begun when this returns."""
    command = [sys.executable, recorder.__file__, finished, target, *pace]
    with subprocess.Popen(list(map(str, command))) as process:
        while not target.exists():
            assert process.poll() is None
            time.sleep(0.01)
        yield
        assert process.wait() == 0


def watched(watch: Watch) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """All windows, events that ended and events that began."""
    updates = list(watch)
    return tuple(
        pd.concat([getattr(update, name) for update in updates], ignore_index=True)
        for name in ("windows", "ended", "begun")
    )


def probabilities(table: pd.DataFrame) -> np.ndarray:
    return table[list(lively_model().decision["classes"])].to_numpy()


def test_a_file_that_is_being_recorded_gives_the_numbers_of_predict(
    edf: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "night.edf"
    with being_recorded(edf, target, 0.02):
        watch = Watch(target, model)
        windows, ended, begun = watched(watch)
    expected = eegdm.predict(edf, model)

    # All but the windows that wait for 22 s of filters, which the recording does not have.
    n = len(windows)
    assert 100 - 5 - 24 <= n <= 100 - 5 - 21
    assert windows.onset_s.tolist() == expected.windows.onset_s[:n].tolist()
    assert np.abs(probabilities(windows) - probabilities(expected.windows)[:n]).max() < 1e-5
    assert probabilities(windows).std(axis=0).max() > 0.02
    # A window came with 22 s to 24 s of recording behind it, or in the next look at the file.
    late_s = windows.recorded_s - (windows.onset_s + 0.5 + 2.5)
    assert late_s.min() > 21

    known = expected.events[expected.events.onset_s + expected.events.duration_s < n - 2]
    assert len(known) > 2
    pd.testing.assert_frame_equal(ended[: len(known)], known, check_dtype=False, atol=1e-5)
    # What comes all at once may begin and end in one update.
    assert set(begun.onset_s) <= set(expected.events.onset_s)

    # The chunk that is full is not computed again, and the folder is predict's.
    computed = []
    compute = prediction.classifier_logits
    monkeypatch.setattr(
        prediction,
        "classifier_logits",
        lambda model, chunk, *rest: (
            computed.append(len(chunk.starts)) or compute(model, chunk, *rest)
        ),
    )
    written = watch.finish(PLAIN)
    assert computed == [len(expected.windows) - 64]
    assert {path.name for path in written} == {"night_events.tsv", "night_probabilities.parquet"}
    table = pd.read_parquet(tmp_path / "night_probabilities.parquet")
    assert table.onset_s.tolist() == expected.windows.onset_s.tolist()
    assert np.abs(probabilities(table) - probabilities(expected.windows)).max() < 1e-5
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "night_events.tsv", sep="\t", keep_default_na=False),
        szcore_table(expected.events, 100.0),
        check_dtype=False,
        atol=2e-4,
    )
    assert not [*tmp_path.glob(".*")]

    # The files that grew hold what came.
    rows = pd.read_csv(tmp_path / "night_live_probabilities.tsv", sep="\t")
    pd.testing.assert_frame_equal(rows, windows, check_dtype=False, rtol=1e-5)
    rows = pd.read_csv(tmp_path / "night_live_events.tsv", sep="\t")
    pd.testing.assert_frame_equal(rows, ended, check_dtype=False, rtol=1e-5)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Said:
    """What is printed, and what is done as soon as it is."""
    lines = Said()
    monkeypatch.setattr(watching, "say", lines.say)
    return lines


class Said(list[str]):
    def __init__(self) -> None:
        super().__init__()
        self.then: dict[str, Callable[[], Any]] = {}

    def say(self, line: str) -> None:
        self.append(line)
        for words, act in self.then.items():
            if words in line:
                act()


@pytest.mark.ci
def test_a_break_of_the_recorder_is_said_and_changes_nothing(
    edf: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Said
) -> None:
    monkeypatch.setattr(watching, "SILENCE_S", 0.3)
    target, go = tmp_path / "night.edf", tmp_path / "go"
    said.then["no new samples for"] = go.touch
    with being_recorded(edf, target, 0.002, 40, go):
        windows, _, _ = watched(Watch(target, model))
    expected = eegdm.predict(edf, model).windows[: len(windows)]
    assert len(windows) > 70
    assert np.abs(probabilities(windows) - probabilities(expected)).max() < 1e-5
    assert [line for line in said if "samples come again, after" in line]


def test_a_file_out_of_reach_is_waited_for(
    edf: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Said
) -> None:
    """As of a drive of another computer."""
    monkeypatch.setattr(watching, "SILENCE_S", 0.2)
    monkeypatch.setattr(growing, "ENDED_AFTER_S", 0.5)
    target, whole = tmp_path / "night.edf", Path(shutil.copy(edf, tmp_path / "whole.edf"))
    target.write_bytes(whole.read_bytes()[:200_000])
    said.then["a window is known"] = target.unlink
    said.then["(No such file or directory), waiting"] = lambda: whole.rename(target)
    windows, _, _ = watched(Watch(target, model))
    assert len(windows) > 70
    assert [line for line in said if "samples come again, after" in line]


@pytest.mark.ci
def test_what_lies_in_memory_does_not_grow_with_the_recording(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growing, "ENDED_AFTER_S", 0.0)
    monkeypatch.setattr(incoming, "BLOCKS_S", (30.0, 1.0))
    held: dict[str, list[int]] = {}

    def note(name: str, length: int) -> None:
        held.setdefault(name, []).append(length)

    fetch, step = growing.GrowingEdf.fetch, live.Live.step
    monkeypatch.setattr(
        growing.GrowingEdf,
        "fetch",
        lambda self, start, stop: (note("read", stop - start), fetch(self, start, stop))[1],
    )

    def noted_step(self: Any, seconds: float | None) -> Any:
        update = step(self, seconds)
        note("filtered", self._signal.shape[1])
        note("logits", sum(map(len, self._logits)))
        note("rows", 0 if self._follower._kept is None else len(self._follower._kept))
        return update

    monkeypatch.setattr(live.Live, "step", noted_step)
    largest = {}
    for seconds in (150, 450):
        path = exported(tmp_path / f"{seconds}.edf", made_up(seconds, 128.0))
        windows, _, _ = watched(Watch(path, model, step_s=5.0, min_duration_s=0.0))
        assert len(windows) > seconds / 5 - 12
        largest[seconds] = {name: max(lengths) for name, lengths in held.items()}
        held.clear()
    # Blocks of 30 s, margins of 2 s, half the filters on either side; FFTs add up to a tenth.
    assert largest[450]["read"] <= (1.1 * 34 + 40) * 128
    assert largest[450]["filtered"] <= (30 + 10) * 200
    assert largest[450]["logits"] <= 64
    assert largest[450]["rows"] < 20
    assert largest[450]["read"] <= largest[150]["read"]
    assert largest[450]["filtered"] <= largest[150]["filtered"]


@pytest.mark.parametrize("sfreq", [200.0, 256.0])
def test_incoming_samples_are_those_of_the_whole_recording(sfreq: float) -> None:
    n_times = round(200 * sfreq)
    rng = np.random.default_rng(0)
    signal = np.cumsum(rng.standard_normal((2, n_times)), axis=1)
    wanted = Filtering()
    whole = np.concatenate(
        [
            part.signal
            for part in conditioned(
                lambda a, b: signal[:, a:b].copy(), n_times, sfreq, wanted, n_times
            )
        ],
        axis=1,
    )
    there = 0

    def read(start: int, stop: int) -> np.ndarray:
        assert 0 <= start < stop <= there
        return signal[:, start:stop].copy()

    samples, parts = Incoming(read, sfreq, wanted), []
    for there in range(0, n_times, round(1.7 * sfreq)):
        while found := samples.next_span(there):
            parts.append(samples.block(found[0]).signal)
        # What is there is used as soon as the look-ahead allows.
        assert samples.n_done / 200 > there / sfreq - samples.look_ahead_s - 1e-6
    found = np.concatenate(parts, axis=1)
    assert samples.shares_grid(n_times)
    assert samples.look_ahead_s < (20.9 if sfreq == 200 else 23.2)
    assert np.abs(found - whole[:, : found.shape[1]]).max() < 1e-5 * np.abs(whole).max()


def test_the_documented_delays_are_those_that_are_waited_for() -> None:
    page = (Path(__file__).parents[2] / "docs/watch.md").read_text()
    rows = re.findall(r"^\| ([\d.]+) Hz \| ([\d.]+) s \| ([\d.]+) s \|$", page, re.MULTILINE)
    assert len(rows) == 3
    for highpass, same_rate_s, resampled_s in (map(float, row) for row in rows):
        wanted = Filtering(highpass=highpass)
        for sfreq, delay_s in ((200.0, same_rate_s), (256.0, resampled_s), (500.0, resampled_s)):
            samples = Incoming(lambda a, b: np.zeros((1, b - a)), sfreq, wanted)
            assert samples.look_ahead_s == pytest.approx(delay_s, abs=0.2)


@pytest.mark.parametrize("sfreq", [250.0, 500.0, 1000.0, 256.0])
def test_a_grid_that_depends_on_the_length_is_known_to(sfreq: float) -> None:
    """MNE places output samples by the length of the recording: up to one sample of 5 ms away."""
    samples = Incoming(lambda a, b: np.zeros((1, b - a)), sfreq, Filtering())
    for n_times in (round(100 * sfreq), round(100 * sfreq) + 7, round(3600 * sfreq)):
        whole = Resampling.of(n_times, sfreq, 200.0)
        at_s = (whole.removed + np.arange(whole.n_out)) * (whole.circle / whole.new_circle)
        at_s = (at_s - whole.pad) / sfreq
        apart_s = np.abs(at_s - np.arange(whole.n_out) / 200).max()
        assert samples.shares_grid(n_times) == (apart_s < 1e-9)
        assert apart_s < 0.005
    assert samples.shares_grid(round(100 * sfreq)) == (sfreq == 256.0)


@pytest.mark.ci
def test_a_recording_of_another_grid_is_finished_by_predict_alone(
    model: str, tmp_path: Path
) -> None:
    path = exported(tmp_path / "night.edf", made_up(100.0, 250.0))
    watch = Watch(path, model, tmp_path / "out", seconds=99.0)
    windows, _, _ = watched(watch)
    expected = eegdm.predict(path, model).windows
    # Samples are 1 ms away, which moves probabilities by little.
    away = np.abs(probabilities(windows) - probabilities(expected)[: len(windows)]).max()
    assert 1e-6 < away < 0.05
    watch.finish(PLAIN)
    table = pd.read_parquet(tmp_path / "out/night_probabilities.parquet")
    assert np.array_equal(probabilities(table), probabilities(expected))


@pytest.mark.ci
def test_a_centred_classifier_needs_a_calibration(edf: Path, tmp_path: Path) -> None:
    saved = str(centred_model().save_pretrained(tmp_path / "centred"))
    with pytest.raises(UserError, match="name another recording of the same person with calib"):
        Watch(edf, saved, tmp_path)
    calibration = exported(tmp_path / "rest.edf", made_up(30.0, seed=1))
    windows, _, _ = watched(Watch(edf, saved, tmp_path, calibration=calibration, seconds=60.0))
    expected = eegdm.predict(edf, saved, calibration=calibration).windows[: len(windows)]
    assert len(windows) > 30
    assert np.abs(probabilities(windows) - probabilities(expected)).max() < 1e-5


@pytest.mark.ci
def test_the_spread_is_that_of_what_has_come(
    edf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signal = {"sfreq": 100.0, "highpass": 0.5, "lowpass": 40.0, "mu": 0.0, "spread": 0.5}
    saved = small_model(signal=signal, n_times=500, sfreq=100.0).save_pretrained(
        tmp_path / "spread"
    )
    raw = mne.io.read_raw(edf, verbose="ERROR")
    wanted = Filtering(100.0, 0.5, 40.0)
    whole = preprocess(raw, derive(raw.ch_names), wanted).signal
    compute, seen = live.classifier_logits, []

    def noted(model: Any, windows: Any, read: Any, spread: float, *rest: Any) -> np.ndarray:
        seen.append((int(windows.starts[-1]) + 500, spread))
        return compute(model, windows, read, spread, *rest)

    monkeypatch.setattr(live, "classifier_logits", noted)
    monkeypatch.setattr(growing, "ENDED_AFTER_S", 0.0)
    monkeypatch.setattr(live, "SETTLED_S", 60.0)
    watch = Watch(edf, saved, tmp_path / "out", batch_size=1)
    windows, _, _ = watched(watch)
    # Two blocks of 30 s come in, then one of 5 s or of 1 s whenever a window needs it.
    first = robust_spread(whole[:, :6000])
    assert [spread for stop, spread in seen if stop <= 6000] == pytest.approx([first] * 56, 1e-4)
    for stop, spread in seen[-5:]:
        near = [robust_spread(whole[:, :n]) for n in range(stop, stop + 501, 100)]
        assert min(abs(spread / other - 1) for other in near) < 1e-4
    watch.finish(PLAIN)
    table = pd.read_parquet(tmp_path / "out/finished_probabilities.parquet")
    expected = eegdm.predict(edf, saved, batch_size=1).windows
    assert np.array_equal(probabilities(table), probabilities(expected))


def test_the_spread_so_far_is_bounded_and_near_that_of_the_whole() -> None:
    rng = np.random.default_rng(0)
    signal = rng.standard_normal((3, 500_000)) * [[1.0], [2.0], [4.0]]
    so_far = SpreadSoFar()
    for first in range(0, signal.shape[1], 777):
        so_far.add(signal[:, first : first + 777])
        assert so_far._sampled.shape[1] < 40_000
        if first < 39_000:
            assert so_far.measure() == robust_spread(signal[:, : first + 777])
    np.testing.assert_array_equal(so_far._sampled, signal[:, :: so_far._stride])
    assert so_far.measure() == pytest.approx(robust_spread(signal), rel=0.02)


def test_what_the_whole_recording_decides_is_refused(edf: Path, model: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="state 50 or 60"):
        Watch(edf, model, tmp_path, notch="auto")
    with pytest.raises(UserError, match="EDF and BDF files can be watched"):
        next(iter(Watch(tmp_path / "night.fif", model, tmp_path)))
    with pytest.raises(UserError, match="start the recording first"):
        next(iter(Watch(tmp_path / "night.edf", model, tmp_path)))
    assert not [*tmp_path.glob(".*")]


@pytest.mark.parametrize("suffix", [".edf", ".bdf"])
def test_a_piece_of_a_growing_file_is_that_of_the_whole(suffix: str, tmp_path: Path) -> None:
    raw = made_up(30.0)
    raw.set_annotations(mne.Annotations([3.0, 12.0, 25.0], [1.0, 0.0, 2.0], ["a", "b", "c"]))
    path = exported(tmp_path / f"night{suffix}", raw)
    whole = mne.io.read_raw(path, preload=True, verbose="ERROR").get_data()
    file = growing.GrowingEdf(path, None, (), tmp_path)
    file.poll()
    assert file.n_times == whole.shape[1] == 30 * 256
    for start, stop in ((0, 256), (5000, 5100), (300, 7000), (7600, 7680)):
        assert np.array_equal(file.get_data([3, 0], start, stop), whole[[3, 0], start:stop])
    path.write_bytes(path.read_bytes()[:-100_000])
    with pytest.raises(UserError, match="was replaced or shortened while it was watched"):
        file.poll()


def test_a_gap_between_records_is_refused_as_predict_refuses_it(model: str, tmp_path: Path) -> None:
    path = exported(tmp_path / "night.edf", made_up(60.0))
    # EDF+ stamps each record with its time.
    data = path.read_bytes().replace(b"+40\x14\x14", b"+49\x14\x14")
    assert data != path.read_bytes()
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"night\.edf has .*gap"):
        list(Watch(path, model, tmp_path))


def test_what_cannot_be_eeg_is_said_at_once(model: str, tmp_path: Path, said: Said) -> None:
    raw = made_up(40.0)
    raw.apply_function(lambda x: x / 1e5, channel_wise=False)
    path = exported(tmp_path / "night.edf", raw)
    assert list(Watch(path, model, tmp_path / "out", seconds=39.0))
    assert any("so far: suspect units: the channels' robust spread is" in line for line in said)


@pytest.mark.parametrize("smoothing_s", [0.0, 3.0, 7.0])
@pytest.mark.parametrize("n_at_once", [1, 5, 64])
def test_events_are_found_as_soon_as_they_end(smoothing_s: float, n_at_once: int) -> None:
    rng = np.random.default_rng(0)
    rule = Rule(
        ("rest", "a", "b"),
        ("a", "b"),
        threshold=0.55,
        smoothing_s=smoothing_s,
        min_duration_s=2.0,
    )
    likely = np.repeat(rng.dirichlet((1, 1, 1), 30), rng.integers(1, 12, 30), axis=0)
    likely = 0.7 * likely + 0.3 * rng.dirichlet((1, 1, 1), len(likely))
    onset_s = 2.0 + np.arange(len(likely))
    windows = pd.DataFrame({"onset_s": onset_s, "duration_s": 1.0}).assign(
        **dict(zip(rule.classes, likely.T, strict=True))
    )
    expected = find_events(windows, rule)
    assert len(expected) > 5
    follower, ended, begun = Follower(rule, 1.0), [], []
    for first in range(0, len(windows), n_at_once):
        some, beginning = follower.add(windows[first : first + n_at_once])
        # As soon as the smoothing has what it needs, and a window of something else.
        known_s = onset_s[: first + n_at_once][-1] - follower.delay
        ended.append(some)
        begun.append(beginning)
        stop_s = expected.onset_s + expected.duration_s
        n_due = (stop_s <= known_s).sum()
        assert sum(map(len, ended)) == n_due
    ended = pd.concat(ended, ignore_index=True)
    pd.testing.assert_frame_equal(ended, expected[: len(ended)], check_dtype=False)
    assert len(ended) >= len(expected) - 1
    begun = pd.concat(begun, ignore_index=True)
    if n_at_once == 1:
        assert set(ended.onset_s) <= set(begun.onset_s)
    assert set(begun.onset_s) <= set(expected.onset_s)
    assert begun.onset_s.is_unique


def test_it_is_said_when_the_computer_can_t_keep_up(
    monkeypatch: pytest.MonkeyPatch, said: Said
) -> None:
    now = [0.0]
    monkeypatch.setattr(watching.time, "monotonic", lambda: now[0])
    pace = watching._Pace("night.edf")
    for at, onset_s, behind_s in (
        (0, 5, 1),
        (10, 10, 4),
        (20, 15, 12),
        (30, 20, 18),
        (40, 25, 26),
        (50, 225, 60),
        (60, 450, 0),
        (70, 460, 0),
    ):
        now[0] = at
        row = pd.DataFrame({"onset_s": [float(onset_s)]})
        pace.say_of(watching.Update(Path("night.edf"), row, row, row, behind_s))
    assert said == [
        "watch: night.edf: 12 s behind the recording, 0.5 s of EEG per second: this computer can't"
        " keep up with it",
        "watch: night.edf: 26 s behind the recording, 0.5 s of EEG per second: this computer can't"
        " keep up with it",
        "watch: night.edf: 60 s behind the recording, 20 s of EEG per second: it is catching up",
        "watch: night.edf: has caught up with the recording",
    ]


def test_a_slow_computer_is_noticed(
    edf: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Said
) -> None:
    monkeypatch.setattr(watching, "LATE_S", 0.5)
    compute = live.classifier_logits

    def slow(*arguments: Any) -> np.ndarray:
        time.sleep(1.2)
        return compute(*arguments)

    monkeypatch.setattr(live, "classifier_logits", slow)
    watch = Watch(edf, model, tmp_path, batch_size=1)
    said.then["can't keep up with it"] = watch.stop.set
    assert len(list(watch)) < 5
    assert watch.stop.is_set()


@pytest.mark.ci
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_the_watching_and_finishes_the_folder(
    number: signal.Signals, edf: Path, model: str, tmp_path: Path
) -> None:
    target = tmp_path / "night.edf"
    command = [sys.executable, "-m", "eegdm", "watch", str(target), "--model", model]
    with being_recorded(edf, target, 0.02, 60, tmp_path / "go"):
        with subprocess.Popen(
            [*command, "--no-report"], stdout=subprocess.PIPE, text=True, env=os.environ
        ) as process:
            rows = tmp_path / "night_live_probabilities.tsv"
            while not rows.exists():
                assert process.poll() is None
                time.sleep(0.1)
            process.send_signal(number)
            said = process.communicate()[0]
        assert process.returncode == 0, said
        table = pd.read_parquet(tmp_path / "night_probabilities.parquet")
        # predict reads what is there: 60 s.
        sidecar = json.loads((tmp_path / "night_events.json").read_text())
        assert sidecar["RecordingDuration"] == 60.0
        assert len(table) == 56
        assert "is finished as by eegdm predict" in said
        (tmp_path / "go").touch()
