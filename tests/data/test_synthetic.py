"""The made-up corpora: what an electroencephalographer would check, and what a reader of each
layout relies on.
"""

from __future__ import annotations

import csv
import json
from itertools import pairwise

import mne
import numpy as np
import pytest
from scipy.signal import butter, sosfiltfilt, welch

from eegdm.data.montage import CHBMIT, TCP, derive
from eegdm.data.synthetic import sources
from eegdm.data.synthetic.layouts import (
    CHBMIT_CHANNELS,
    write_bids,
    write_chbmit,
    write_folder,
    write_tuev,
)
from eegdm.data.synthetic.simulate import (
    CLASSES,
    SEIZURE_CLASS,
    Subject,
    one_seizure,
    record,
    six_classes,
    subject_generator,
    tcp,
)
from eegdm.data.synthetic.sources import HEAD_ELECTRODES, POSITIONS
from eegdm.errors import UserError

SFREQ = 250
TIME = np.arange(8 * SFREQ) / SFREQ
SEEDS = range(8)
LEFT = [
    i
    for i, name in enumerate(TCP)
    if name.split("-")[0] in ("F7", "T3", "F3", "C3") and not name.endswith("CZ")
]
RIGHT = [
    i
    for i, name in enumerate(TCP)
    if name.split("-")[0] in ("F8", "T4", "F4", "C4") and not name.endswith("CZ")
]


def channels(source: sources.SimulatedSource) -> dict[str, np.ndarray]:
    return dict(zip(TCP, tcp(source.potential), strict=True))


def draw(kind, seed: int) -> sources.SimulatedSource:
    return kind(np.random.default_rng(seed), TIME)


def simulated(name: str, minutes: float = 4.0, seed: int = 0):
    return record(seed, name, 1, SFREQ, lambda rng: six_classes(rng, minutes))


# ---------------------------------------------------------------------------------------- sources


@pytest.mark.parametrize("seed", SEEDS)
def test_spike_reverses_phase_at_its_focus(seed):
    source = draw(sources.spike_and_wave, seed)
    row, sample = np.unravel_index(np.argmin(source.potential), source.potential.shape)
    focus, values = HEAD_ELECTRODES[row], {name: x[sample] for name, x in channels(source).items()}
    toward = [value for name, value in values.items() if name.endswith(f"-{focus}")]
    away = [value for name, value in values.items() if name.startswith(f"{focus}-")]
    assert toward + away
    assert all(value > 0 for value in toward) and all(value < 0 for value in away)


@pytest.mark.parametrize("seed", SEEDS)
def test_spike_is_short_and_its_wave_is_not(seed):
    source = draw(sources.spike_and_wave, seed)
    trace = -source.potential[np.argmin(source.potential.min(axis=1))]
    peak = int(np.argmax(trace))
    around = np.flatnonzero(trace[peak - 25 : peak + 13] > 0.1 * trace[peak]) / SFREQ
    assert 0.04 <= np.ptp(around) <= 0.08
    after = trace[peak + 13 : peak + 100]
    assert 0.08 <= np.count_nonzero(after > 0.5 * after.max()) / SFREQ <= 0.18


@pytest.mark.parametrize("kind", [sources.generalised_periodic, sources.lateralised_periodic])
@pytest.mark.parametrize("seed", SEEDS)
def test_periodic_discharges_recur_about_once_a_second(kind, seed):
    gaps = np.diff(draw(kind, seed).times_s)
    assert len(gaps) >= 3
    assert gaps.min() >= 0.7 and gaps.max() <= 1.65 and np.ptp(gaps) <= 0.2 * gaps.mean()


@pytest.mark.parametrize("seed", SEEDS)
def test_lateralised_has_a_side_and_generalised_has_none(seed):
    def asymmetry(source: sources.SimulatedSource) -> float:
        energy = np.var(tcp(source.potential), axis=1)
        left, right = energy[LEFT].sum(), energy[RIGHT].sum()
        return abs(left - right) / (left + right)

    assert asymmetry(draw(sources.lateralised_periodic, seed)) > 0.8
    assert asymmetry(draw(sources.generalised_periodic, seed)) < 0.5


def test_gaze_has_opposite_sign_on_both_sides_and_blinks_the_same():
    signs = set()
    for seed in SEEDS:
        x = channels(draw(sources.eye_movement, seed))
        signs.add(round(np.corrcoef(x["FP1-F7"], x["FP2-F8"])[0, 1]))
        frontal = np.var(x["FP1-F7"]) + np.var(x["FP2-F8"])
        assert frontal > 20 * (np.var(x["P3-O1"]) + np.var(x["P4-O2"]))
    assert signs == {-1, 1}


def test_muscle_is_fast_and_eye_movements_are_slow():
    def median_hz(source: sources.SimulatedSource) -> float:
        frequency, power = welch(tcp(source.potential), SFREQ, nperseg=SFREQ)
        share = np.cumsum(power.sum(axis=0)) / power.sum()
        return frequency[np.searchsorted(share, 0.5)]

    assert 20 < median_hz(draw(sources._muscle, 0)) < 80
    assert median_hz(draw(sources.eye_movement, 0)) < 4


def test_a_pop_shows_on_the_channels_of_one_electrode():
    rms = np.std(tcp(draw(sources._pops, 0).potential), axis=1)
    shown = [set(TCP[i].split("-")) for i in np.flatnonzero(rms > 0.05 * rms.max())]
    assert len(set.intersection(*shown)) == 1


def test_seizure_slows_and_grows():
    source = draw(sources.seizure, 1)
    trace = tcp(source.potential)[np.argmax(np.var(tcp(source.potential), axis=1))]
    first, last = np.split(trace, 2)
    assert last.std() > 1.5 * first.std()
    peak_hz = [np.argmax(np.abs(np.fft.rfft(half))) / 4 for half in (first, last)]
    assert 3 <= peak_hz[1] < peak_hz[0] <= 8


# ------------------------------------------------------------------------------------- recordings


def test_recording_depends_on_seed_subject_and_run_alone():
    first = simulated("aaaaaaaa", 1.5)
    simulated("aaaaaaab", 1.5)
    again = simulated("aaaaaaaa", 1.5)
    np.testing.assert_array_equal(first.potential_uV, again.potential_uV)
    assert first.events == again.events
    assert not np.allclose(first.potential_uV, simulated("aaaaaaab", 1.5).potential_uV)
    assert not np.allclose(first.potential_uV, simulated("aaaaaaaa", 1.5, seed=1).potential_uV)


def test_samples_stay_inside_segments_of_their_class():
    segments = six_classes(subject_generator(0, "aaaaaaaa", 1), 4)
    events = simulated("aaaaaaaa").events
    assert {event.label for event in events} == set(CLASSES)
    for event in events:
        (home,) = [
            s for s in segments if s.start_s <= event.onset_s - 2 and event.onset_s + 3 <= s.stop_s
        ]
        assert home.label == event.label
    assert all(a.onset_s + a.duration_s <= b.onset_s for a, b in pairwise(events))


def test_segments_fill_the_recording_and_hold_every_class():
    segments = six_classes(subject_generator(0, "x"), 1.5)
    assert segments[0].start_s == 0 and segments[-1].stop_s == pytest.approx(90)
    assert all(a.stop_s == b.start_s for a, b in pairwise(segments))
    assert {segment.label for segment in segments} == set(CLASSES)


@pytest.mark.parametrize(("plan", "minutes"), [(six_classes, 0.5), (one_seizure, 1)])
def test_too_short_a_recording_is_refused(plan, minutes):
    with pytest.raises(UserError, match="too short"):
        plan(subject_generator(0, "x"), minutes)


def test_subjects_differ_and_their_traits_are_plausible():
    subjects = [
        Subject.draw(subject_generator(0, name)) for name in ("aaaaaaaa", "aaaaaaab", "aaaabaaa")
    ]
    assert len({subject.alpha_hz for subject in subjects}) == 3
    assert all(
        8.5 <= subject.alpha_hz <= 11.5 and subject.mains_hz in (50, 60) for subject in subjects
    )


def test_alpha_lives_at_the_back_at_the_subjects_frequency():
    subject = Subject.draw(subject_generator(0, "aaaaaaac"))
    x = tcp(simulated("aaaaaaac").potential_uV)
    frequency, power = welch(x, SFREQ, nperseg=4 * SFREQ)
    alpha = (frequency >= 8) & (frequency <= 12)
    back, front = (
        power[[TCP.index(name) for name in names]].mean(axis=0)
        for names in (("P3-O1", "P4-O2"), ("FP1-F3", "FP2-F4"))
    )
    assert back[alpha].sum() > 3 * front[alpha].sum()
    assert abs(frequency[alpha][np.argmax(back[alpha])] - subject.alpha_hz) <= 0.75


def test_left_and_right_electrodes_mirror_each_other():
    pairs = [
        ("FP1", "FP2"),
        ("F7", "F8"),
        ("T3", "T4"),
        ("T5", "T6"),
        ("O1", "O2"),
        ("A1", "A2"),
        ("FT9", "FT10"),
    ]
    for left, right in pairs:
        mirrored = POSITIONS[HEAD_ELECTRODES.index(left)] * [-1, 1, 1]
        np.testing.assert_allclose(mirrored, POSITIONS[HEAD_ELECTRODES.index(right)], atol=1e-12)


def test_amplitude_alone_tells_the_classes_apart_badly():
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import cohen_kappa_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def rows(names: list[str]) -> tuple[np.ndarray, list[str]]:
        features, labels = [], []
        for name in names:
            recording = simulated(name)
            x = sosfiltfilt(
                butter(2, [0.1, 75], "bandpass", fs=SFREQ, output="sos"),
                tcp(recording.potential_uV),
            )
            for event in recording.events:
                start = round((event.onset_s - 2) * SFREQ)
                window = np.log(np.std(x[:, start : start + 5 * SFREQ], axis=1))
                features += [window] * len(event.channels)  # one sample for each row of the .rec
                labels += [event.label] * len(event.channels)
        return np.array(features), labels

    train, labels = rows([f"aaaaaaa{letter}" for letter in "abcdefghijkl"])
    test, truth = rows([f"aaaabaa{letter}" for letter in "abcdefgh"])
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(train, labels)
    assert cohen_kappa_score(truth, model.predict(test)) < 0.4


# ---------------------------------------------------------------------------------------- layouts


@pytest.fixture(scope="module")
def tuev(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuev")
    write_tuev(folder, n_train=2, n_eval=1, minutes=1.5)
    return folder


def test_tuev_layout(tuev):
    found = sorted(path.relative_to(tuev).as_posix() for path in tuev.rglob("*") if path.is_file())
    stems = [
        "edf/eval/aaaabaaa/aaaabaaa",
        "edf/train/aaaaaaaa/aaaaaaaa",
        "edf/train/aaaaaaab/aaaaaaab",
    ]
    assert found == [f"{stem}_00000001.{suffix}" for stem in stems for suffix in ("edf", "rec")]


def test_tuev_recording_is_read_by_mne_in_volts(tuev):
    for path in tuev.rglob("*.edf"):
        raw = mne.io.read_raw_edf(path, preload=True, verbose="error")
        assert raw.info["sfreq"] == SFREQ and raw.times[-1] == pytest.approx(90 - 1 / SFREQ)
        derivations = derive(raw.ch_names)
        assert [derivation.name for derivation in derivations] == list(TCP)
        x = np.array([raw[d.plus][0][0] - raw[d.minus][0][0] for d in derivations])
        assert 10e-6 < np.median(np.std(x, axis=1)) < 200e-6
        assert {
            "EEG FP1-REF",
            "EEG A2-REF",
            "EEG T1-REF",
            "EEG EKG1-REF",
            "EEG ROC-REF",
            "PHOTIC-REF",
            "IBI",
        } <= set(raw.ch_names)
        assert (
            raw.info["subject_info"]["his_id"] == "X"
            and raw.info["subject_info"]["last_name"] == "X"
        )


def test_rec_rows_are_those_of_tuev(tuev):
    for path in tuev.rglob("*.rec"):
        rows = [line.split(",") for line in path.read_text().splitlines()]
        assert {int(code) for *_, code in rows} == {1, 2, 3, 4, 5, 6}
        for channel, start, end, _ in rows:
            assert int(channel) in range(22) and float(end) - float(start) == pytest.approx(1)
            assert all(1 <= len(text.split(".")[1]) <= 2 for text in (start, end))


def test_tuev_files_do_not_depend_on_their_neighbours(tuev, tmp_path):
    write_tuev(tmp_path, n_train=0, n_eval=1, minutes=1.5)
    for path in tmp_path.rglob("aaaabaaa_*"):
        assert path.read_bytes() == (tuev / path.relative_to(tmp_path)).read_bytes()


def test_chbmit_layout(tmp_path):
    write_chbmit(tmp_path, patients=(1, 23), minutes=1.5)
    files = sorted(path.name for path in tmp_path.rglob("*.edf"))
    assert files == ["chb01_01.edf", "chb01_02.edf", "chb23_01.edf", "chb23_02.edf"]
    raw = mne.io.read_raw_edf(tmp_path / "chb01" / "chb01_01.edf", verbose="error")
    assert raw.info["sfreq"] == 256 and len(raw.ch_names) == len(CHBMIT_CHANNELS) == 23
    assert [d.minus for d in derive(raw.ch_names, CHBMIT)] == [None] * 16

    summary = (tmp_path / "chb01" / "chb01-summary.txt").read_text()
    assert "Data Sampling Rate: 256 Hz" in summary and "Channel 23: T8-P8" in summary
    entry = record(0, "chb01", 1, 256, lambda rng: one_seizure(rng, 1.5))
    (seizure,) = [event for event in entry.events if event.label == SEIZURE_CLASS]
    assert (
        "File Name: chb01_01.edf\nFile Start Time: 9:00:00\nFile End Time: 9:01:30\nNumber of"
        f" Seizures in File: 1\nSeizure Start Time: {seizure.onset_s:.0f} seconds\nSeizure End"
        f" Time: {seizure.onset_s + seizure.duration_s:.0f} seconds\n" in summary
    )
    assert "File Name: chb01_02.edf\nFile Start Time: 9:01:35\n" in summary
    assert summary.count("Number of Seizures in File: 0") == 1


def test_folder_with_a_table_and_with_annotations_say_the_same(tmp_path):
    (recording,) = write_folder(tmp_path / "table", "table", n_subjects=1, n_runs=1)
    (annotated,) = write_folder(tmp_path / "inside", "annotations", n_subjects=1, n_runs=1)
    with open(tmp_path / "table" / "events.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["file", "onset_s", "duration_s", "label", "subject", "run"]
    assert {(row["file"], row["subject"], row["run"]) for row in rows} == {
        ("s01_run1.edf", "s01", "1")
    }
    assert not (tmp_path / "inside" / "events.csv").exists()

    raw = mne.io.read_raw_edf(annotated, verbose="error")
    assert list(raw.annotations.description) == [row["label"] for row in rows]
    np.testing.assert_allclose(raw.annotations.onset, [float(row["onset_s"]) for row in rows])
    np.testing.assert_allclose(raw.annotations.duration, [float(row["duration_s"]) for row in rows])
    assert {"Fp1", "T7", "FT9"} <= set(raw.ch_names) and raw.info["sfreq"] == 160
    assert len(mne.io.read_raw_edf(recording, verbose="error").annotations) == 0


def test_bids_layout(tmp_path):
    (recording,) = write_bids(tmp_path, n_subjects=1, n_runs=1)
    assert recording == tmp_path / "sub-01" / "eeg" / "sub-01_task-rest_run-01_eeg.edf"
    events = (recording.parent / "sub-01_task-rest_run-01_events.tsv").read_text().splitlines()
    assert events[0] == "onset\tduration\ttrial_type"
    assert {line.split("\t")[2] for line in events[1:]} == set(CLASSES)
    channels_tsv = (
        (recording.parent / "sub-01_task-rest_run-01_channels.tsv").read_text().splitlines()
    )
    names = [line.split("\t")[0] for line in channels_tsv[1:]]
    assert names == mne.io.read_raw_edf(recording, verbose="error").ch_names
    sidecar = json.loads((recording.parent / "sub-01_task-rest_run-01_eeg.json").read_text())
    assert {
        "TaskName",
        "SamplingFrequency",
        "EEGReference",
        "PowerLineFrequency",
        "SoftwareFilters",
    } <= set(sidecar)
    assert json.loads((tmp_path / "dataset_description.json").read_text())["BIDSVersion"] == "1.9.0"
    assert (tmp_path / "participants.tsv").read_text() == "participant_id\nsub-01\n"
