"""From a few marks to a detector: what is stored, what `predict` sees and what is said agree."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import mne
import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

import eegdm
from eegdm import artifacts, cli
from eegdm.data.signal import ModelUnits
from eegdm.data.windows import WindowGrid
from eegdm.errors import UserError
from eegdm.evaluation.cross_fitting import cross_fit, expect
from eegdm.evaluation.metrics import class_probabilities
from eegdm.evaluation.results import RunResult, of_units
from eegdm.evaluation.scoring import logits_from_table
from eegdm.features import FeatureStore, embed_folder
from eegdm.features.detector import Detector, _marked, fit
from eegdm.features.store import ARRAYS
from eegdm.inference.chunks import read_batches
from eegdm.inference.embedding import prepare_windows
from eegdm.inference.prediction import Options, preparation_settings
from eegdm.inference.prediction_folder import predict_path
from eegdm.models.linear import LinearHead
from inference.small import ELECTRODES, made_up, small_model
from stages.tiny import command_line, one_thread

SECONDS, BURST_S = 60.0, 15.0
ONSETS = {"a_1": 10.0, "a_2": 35.0, "b_1": 20.0, "c_1": 40.0, "d_1": 5.0}


def write(
    folder: Path,
    name: str,
    onset_s: float,
    names: tuple[str, ...] = ELECTRODES,
    seconds: float = SECONDS,
    burst_s: float = BURST_S,
) -> Path:
    """A recording in which alpha waves come and go."""
    raw = made_up(seconds, 200.0, names, seed=sum(map(ord, name)))
    rng = np.random.default_rng(sum(map(ord, name)))
    spectrum = np.fft.rfft(rng.standard_normal((len(names), raw.n_times)))
    noise = np.fft.irfft(spectrum / np.sqrt(1 + np.arange(spectrum.shape[1])), raw.n_times)
    times = raw.times
    burst = (times >= onset_s) & (times < onset_s + burst_s)
    phase = np.arange(len(names))[:, None]
    signal = 2e-5 * noise / noise.std() + 6e-5 * burst * np.sin(20 * np.pi * times + phase)
    path = folder / f"{name}.edf"
    made = mne.io.RawArray(signal, raw.info, verbose="ERROR")
    mne.export.export_raw(path, made, fmt="edf", physical_range=(-1000, 1000), verbose="ERROR")
    return path


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings of four people with their marks; one of them without an ear."""
    folder = tmp_path_factory.mktemp("recordings")
    rows = ["file,onset_s,duration_s,label,subject"]
    for name, onset_s in ONSETS.items():
        write(folder, name, onset_s, ELECTRODES[:-1] if name == "b_1" else ELECTRODES)
        rows.append(f"{name}.edf,{onset_s:g},{BURST_S:g},alpha,{name[0]}")
    (folder / "marks.csv").write_text("\n".join(rows))
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    backbone = small_model().backbone
    return backbone.save_pretrained(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture(scope="module")
def store(source: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tokens of the montage, with labels."""
    out = tmp_path_factory.mktemp("stores") / "montage"
    return embed_folder(source, model, out, table=source / "marks.csv", missing="drop").path


@pytest.fixture(scope="module")
def own_store(source: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tokens of the file's own channels, with labels."""
    out = tmp_path_factory.mktemp("stores") / "file"
    return embed_folder(source, model, out, table=source / "marks.csv", channels="file").path


@pytest.fixture(scope="module")
def detector(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Detector:
    return fit(store, out=tmp_path_factory.mktemp("detectors") / "det", background="rest")


def stored_logits(store: Path, detector: Detector, recording: str) -> np.ndarray:
    """What the head says of tokens as they lie in the store."""
    opened, model = FeatureStore.open(store), detector.model
    row = opened.recordings[opened.recordings.recording == recording].iloc[0]
    places = [list(row.ch_names).index(name) for name in model.channels]
    tokens = torch.from_numpy(np.array(opened.array("tokens", recording)[:, places]))
    pooled = tokens.permute(0, 2, 1, 3)[:, model.spec.first_block :, None]
    with torch.no_grad():
        return model.fusion.classify(pooled).numpy()


def logits_of_file(path: Path, model: eegdm.EEGDM, folder: Path) -> np.ndarray:
    """What the whole classifier says of the file, window by window."""
    settings = preparation_settings(model, Options(missing="drop"))
    prepared, windows = prepare_windows(path, settings, 5.0, None, folder)
    assert isinstance(windows, WindowGrid) and prepared.ch_names == list(model.channels)
    with torch.no_grad():
        parts = [
            model(torch.from_numpy(batch.shown(ModelUnits.of(model.signal)).data))
            for batch in read_batches(windows, prepared.read, prepared.spread(), 4)
        ]
    return torch.cat(parts).numpy()


def test_the_head_gives_the_same_on_stored_tokens_and_inside_the_classifier(
    detector: Detector, source: Path, store: Path, tmp_path: Path
) -> None:
    model = eegdm.load(detector.path)
    assert isinstance(model, eegdm.EEGDM) and isinstance(model.fusion, LinearHead)
    assert len(model.channels) == 21 and "A2-T4" not in model.channels
    found = logits_of_file(source / "c_1.edf", model, tmp_path)
    assert np.abs(found - stored_logits(store, detector, "c_1")).max() < 1e-5
    assert np.ptp(found, axis=0).min() > 0.5


def test_the_marked_events_are_found_and_expected(detector: Detector, source: Path) -> None:
    assert detector.decision.counts is not None
    assert detector.decision.counts[:3] == (5, 5, 0)
    scores = detector.expectation.scores.iloc[:2].set_index("score")
    assert detector.expectation.across == "people" and scores.value["auroc"] > 0.95
    events = eegdm.predict(source / "d_1.edf", detector.path, missing="drop").events
    assert list(events.label) == ["alpha"]
    assert events.onset_s[0] == pytest.approx(ONSETS["d_1"], abs=5)
    assert events.duration_s[0] == pytest.approx(BURST_S, abs=5)


def test_band_power_and_random_weights_are_judged_on_the_same_marks(
    detector: Detector, store: Path, model: Path
) -> None:
    """The rows beside the detector's own are those of heads on arrays that lie in the store."""
    scores = detector.expectation.scores
    assert list(scores.features.unique()) == [model.name, "band power", "random weights"]
    opened, channels = FeatureStore.open(store), detector.model.channels
    windows = _marked(opened, "rest").windows
    power = torch.from_numpy(opened.stack("band_power", channels).values)
    random = torch.from_numpy(opened.stack("random-0", channels).values)
    tokens = {
        "band power": (10 ** (power / 2))[:, None, None],
        "random weights": random.permute(0, 2, 1, 3)[:, :, None],
    }
    for name, values in tokens.items():
        found = cross_fit(windows, lambda rows, values=values: values[torch.from_numpy(rows)])
        by_hand = expect(windows, {name: found}).scores
        own = scores[scores.features == name].reset_index(drop=True)
        pd.testing.assert_frame_equal(own, by_hand, rtol=1e-4)
    page = (detector.path / "expectation.html").read_text()
    for sentence in detector.expectation.comparisons():
        assert sentence in page
    assert "small minus band power" in page and "of whom nothing was learned" in page


@pytest.mark.parametrize("centre", [None, "subject"])
def test_tokens_come_in_the_order_of_the_rows(store: Path, centre: str | None) -> None:
    read = _marked(FeatureStore.open(store), "rest").read(1, centre)
    rows = np.random.default_rng(0).permutation(60)[:40]
    assert torch.equal(read(rows), read(np.arange(60))[torch.from_numpy(rows)])


def test_only_what_is_marked_goes_through_random_weights(
    source: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Later marks add the recordings that they are in; a store whose recordings are gone, and
    somebody who does not want it, get a detector all the same.
    """
    shutil.copytree(source, tmp_path / "recordings")
    rows = [f"{name}.edf,{on:g},15,alpha,{name[0]}" for name, on in list(ONSETS.items())[:3]]
    marks = write_marks(tmp_path, rows)
    store = embed_folder(tmp_path / "recordings", model, tmp_path / "store", missing="drop").path
    names = {"alone": fit(store, marks, background="rest", compare=False).expectation}
    assert set(FeatureStore.open(store).features) == {"tokens"}
    names["compared"] = fit(store, marks, background="rest").expectation
    for name in ("band_power", "random-0"):
        made = [path.stem for path in sorted((store / ARRAYS / name).glob("*.npy"))]
        assert made == ["a_1", "a_2", "b_1"]
    rows.append(f"c_1.edf,{ONSETS['c_1']:g},15,alpha,c")
    fit(store, write_marks(tmp_path, rows), background="rest")
    assert (store / ARRAYS / "random-0" / "c_1.npy").is_file()
    shutil.rmtree(tmp_path / "recordings")
    capsys.readouterr()
    names["gone"] = fit(store, background="rest").expectation
    assert "the recordings are not where they were" in capsys.readouterr().out
    compared = {name: list(found.scores.features.unique()) for name, found in names.items()}
    assert compared == {
        "alone": ["small"],
        "compared": ["small", "band power", "random weights"],
        "gone": ["small"],
    }


def test_a_detector_finds_events_in_a_recording_of_somebody_new(
    detector: Detector, tmp_path: Path
) -> None:
    events = eegdm.predict(write(tmp_path, "new", 30.0), detector.model).events
    assert list(events.onset_s) == pytest.approx([30.0], abs=5)


def test_it_is_a_classifier_as_others_are(detector: Detector, source: Path, tmp_path: Path) -> None:
    from eegdm.sklearn import EEGDMFeatures

    described = CliRunner().invoke(cli.app, ["info", str(detector.path), "--verify"])
    assert "classifier, 4 files" in described.stdout and "intact" in described.stdout
    assert "across 4 people" in described.stdout
    embedded = eegdm.embed(source / "a_1.edf", detector.path)
    assert embedded.about.ch_names == list(detector.model.channels)
    raw = mne.io.read_raw_edf(source / "a_1.edf", preload=True, verbose="ERROR")
    epochs = mne.make_fixed_length_epochs(raw, 5.0, preload=True, verbose="ERROR")
    assert len(EEGDMFeatures(str(detector.path)).fit_transform(epochs)) == 12
    again = detector.model.save_pretrained(tmp_path / "copy")
    assert eegdm.load(again).config == detector.model.config


def test_new_marks_replace_a_detector_and_nothing_else(
    store: Path, model: Path, tmp_path: Path
) -> None:
    first = fit(store, out=tmp_path / "det", background="rest")
    second = fit(store, out=tmp_path / "det", background="quiet")
    assert first.model.classes == ("rest", "alpha")
    assert eegdm.load(tmp_path / "det").classes == second.model.classes == ("quiet", "alpha")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="is not empty"):
        fit(store, out=tmp_path / "mine", background="rest")


# ---------------------------------------------------------------------------- the file's channels


def test_a_detector_of_own_channels_takes_them_by_name(
    own_store: Path, source: Path, tmp_path: Path
) -> None:
    found = fit(own_store, out=tmp_path / "det", background="rest")
    model = eegdm.load(found.path)
    assert model.channels[0] == "EEG Fp1-REF" and len(model.channels) == len(ELECTRODES) - 1
    assert model.taken_for is not None and model.taken_for[0] in ("FP1-F7", "FP1-F3")
    logits = logits_of_file(source / "c_1.edf", model, tmp_path / "work")
    assert np.abs(logits - stored_logits(own_store, found, "c_1")).max() < 1e-5

    turned = write(tmp_path, "new", 30.0, ELECTRODES[::-1])
    prediction = eegdm.predict(turned, model)
    assert list(prediction.events.onset_s) == pytest.approx([30.0], abs=5)
    assert prediction.ch_names == list(model.channels)
    assert eegdm.embed(turned, model).about.ch_names == list(model.channels)


def test_a_detector_of_own_channels_refuses_other_electrodes(
    own_store: Path, tmp_path: Path
) -> None:
    found = fit(own_store, background="rest")
    assert found.path is None
    other = write(tmp_path, "new", 30.0, ELECTRODES[3:])
    with pytest.raises(UserError, match="lacks 'EEG Fp1-REF', 'EEG Fp2-REF', 'EEG F7-REF'"):
        eegdm.predict(other, found.model)
    kept = eegdm.predict(other, found.model, missing="drop")
    assert len(kept.ch_names) == len(found.model.channels) - 3
    assert list(kept.events.onset_s) == pytest.approx([30.0], abs=5)


# ------------------------------------------------------------------------------------------ marks


def write_marks(folder: Path, rows: list[str]) -> Path:
    table = folder / "marks.csv"
    table.write_text("\n".join(["file,onset_s,duration_s,label,subject", *rows]))
    return table


@pytest.fixture
def copy(store: Path, tmp_path: Path) -> Path:
    """A store that other marks may change."""
    return Path(shutil.copytree(store, tmp_path / "store"))


def test_a_window_that_a_mark_touches_is_not_background(copy: Path, tmp_path: Path) -> None:
    """Of 10..15 s half is marked, of 25..30 s two of five seconds are, of 5..10 s nothing."""
    rows = [f"{name}.edf,12.5,14.5,alpha,{name[0]}" for name in ONSETS]
    found = fit(copy, write_marks(tmp_path, rows), background="rest")
    assert found.expectation.n_units == {"rest": 5 * 8, "alpha": 5 * 3}


def test_without_a_background_the_rest_is_nobodys(copy: Path, tmp_path: Path) -> None:
    rows = [
        f"{name}.edf,{on:g},10,{label},{name[0]}"
        for name in ONSETS
        for on, label in ((ONSETS[name], "alpha"), ((ONSETS[name] + 30) % 60, "still"))
    ]
    found = fit(copy, write_marks(tmp_path, rows))
    assert found.expectation.n_units == {"alpha": 10, "still": 10}
    assert found.decision.rule.event_classes == ("alpha", "still")
    assert found.decision.counts is None  # windows do not cover the recordings
    chosen = fit(copy, events=["alpha"])
    assert chosen.decision.rule.event_classes == ("alpha",)


def test_a_label_that_covers_no_window_is_left_out_and_said(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"{name}.edf,{on:g},{BURST_S:g},alpha,{name[0]}" for name, on in ONSETS.items()]
    rows.append("a_1.edf,50,0.3,blink,a")
    found = fit(copy, write_marks(tmp_path, rows), background="rest")
    assert found.model.classes == ("rest", "alpha")
    assert "no mark of 'blink' covers half of a window" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("rows", "options", "said"),
    [
        (["a_1.edf,10,15,alpha,a", "b_1.edf,20,15,alpha,b"], {}, "all marks are 'alpha'.*NAME"),
        (
            ["a_1.edf,,,alpha,a", "b_1.edf,,,alpha,b"],
            {"background": "rest"},
            "nothing of the marked recordings is left",
        ),
        (["a_1.edf,10,15,alpha,a"], {"background": "rest"}, r"in one recording \(a_1"),
        (
            ["a_1.edf,10,1,alpha,a", "b_1.edf,20,2,alpha,b"],
            {"background": "rest"},
            "the table's 2 marks meet no window: none covers half of a window of 5 s",
        ),
        (
            ["a_1.edf,10,15,alpha,a", "b_1.edf,20,15,beta,b"],
            {"background": "rest"},
            "'alpha' is marked once",
        ),
        (
            ["a_1.edf,10,15,alpha,a", "b_1.edf,20,15,alpha,b"],
            {"background": "rest", "events": ["spike"]},
            "event class 'spike' is none",
        ),
        (["a_1.edf,10,15,alpha,a"], {"notch": "auto"}, "one notch filter for all recordings"),
    ],
)
def test_what_cannot_work_is_refused(
    rows: list[str], options: dict[str, Any], said: str, copy: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=said):
        fit(copy, write_marks(tmp_path, rows), **options)


def test_one_label_is_refused_before_recordings_are_read(source: Path, tmp_path: Path) -> None:
    command = ["fit", str(source), "--table", "marks.csv", "--out", str(tmp_path / "det")]
    found = CliRunner().invoke(cli.app, command)
    assert "--background NAME" in str(found.exception)
    assert not list(tmp_path.iterdir())


def test_tokens_that_are_no_standard_deviations_are_refused(source: Path, tmp_path: Path) -> None:
    made = small_model(tokens={"pool": ["mean"]}).save_pretrained(tmp_path / "model")
    kept = embed_folder(source, made, tmp_path / "store", table="marks.csv", missing="drop")
    with pytest.raises(UserError, match="tokens of pool mean"):
        fit(kept.path, background="rest")


def test_a_model_that_has_changed_since_is_refused(
    source: Path, model: Path, tmp_path: Path
) -> None:
    again = Path(shutil.copytree(model, tmp_path / "model"))
    kept = embed_folder(source, again, tmp_path / "store", table="marks.csv", missing="drop")
    small_model(seed=1).backbone.save_pretrained(again)
    with pytest.raises(UserError, match="which has changed since"):
        fit(kept.path, background="rest")


# --------------------------------------------------------------------------------------- as typed


@pytest.mark.ci
def test_from_recordings_to_events_by_commands(source: Path, model: Path, tmp_path: Path) -> None:
    def run(*words: str | Path) -> str:
        command = [sys.executable, "-m", "eegdm", *map(str, words)]
        done = subprocess.run(
            command, cwd=tmp_path, env=one_thread(), capture_output=True, text=True, check=True
        )
        return done.stdout

    said = run(
        "fit", source, "--table", "marks.csv", "--out", "det", "--model", model,
        "--background", "background", "--missing", "drop",
    )  # fmt: skip
    assert "across 4 people: AUROC" in said and "with the tokens stored; wrote det" in said
    stores = [path.name for path in (tmp_path / "runs" / "embeddings").iterdir()]
    assert stores == [f"{source.name}-small-missing-drop"]
    run("predict", source, "--model", "det", "--out", "found", "--missing", "drop", "--no-report")
    for name, onset_s in ONSETS.items():
        events = pd.read_csv(tmp_path / "found" / f"{name}_events.tsv", sep="\t")
        assert list(events.onset) == pytest.approx([onset_s], abs=5), name
    stage = ["corpus=folder", "recipe=small", f"source={source}", "events=table"]
    labels = ["table=marks.csv", "corpus.classes=[background,alpha]"]
    run("preprocess", *stage, *labels, "corpus.event_classes=[alpha]", "missing=drop")
    said = run("report", "corpus=folder", "recipe=small", 'run.classifiers=["det"]', "compare=[]")
    scored = artifacts.read_json(tmp_path / "runs" / "folder" / "small" / "report" / "report.json")
    assert scored and "report.html" in said


# ---------------------------------------------------------------------------------------- centring


@pytest.mark.parametrize("centre", ["recording", "subject"])
def test_a_centred_detector_judges_as_by_hand(
    centre: str, store: Path, source: Path, tmp_path: Path
) -> None:
    found = fit(store, out=tmp_path / "det", background="rest", centre=centre)
    model = eegdm.load(tmp_path / "det")
    assert isinstance(model, eegdm.EEGDM) and model.centre == centre
    opened = FeatureStore.open(store)
    centred = {}
    for _, names in opened.recordings.groupby(centre).recording:
        logs = {}
        for name in names:
            row = opened.recordings[opened.recordings.recording == name].iloc[0]
            places = [list(row.ch_names).index(channel) for channel in model.channels]
            tokens = np.array(opened.array("tokens", name), float)[:, places]
            tokens = tokens[:, :, model.spec.first_block :]
            floor = 1e-3 * tokens.mean(axis=(0, 3), keepdims=True)
            logs[name] = tokens, np.log(tokens + floor)
        usual = np.concatenate([log for _, log in logs.values()]).mean(axis=0)
        centred |= {name: tokens / np.exp(usual) for name, (tokens, _) in logs.items()}
    # Two recordings are of one person, who is centred over both
    for name in ("a_1", "c_1"):
        pooled = torch.from_numpy(centred[name]).float().permute(0, 2, 1, 3)[:, :, None]
        with torch.no_grad():
            logits = model.fusion.classify(pooled).numpy()
        expected = class_probabilities(logits, model.decision["temperature"])
        windows = eegdm.predict(source / f"{name}.edf", model, missing="drop").windows
        alike = centre == "recording" or name == "c_1"
        odds = windows.alpha / windows.rest, expected[:, 1] / expected[:, 0]
        difference = float(np.abs(np.log(odds[0]) - np.log(odds[1])).max())
        assert difference < 1e-3 if alike else difference > 1e-2
    counts = found.decision.counts
    assert counts is not None and counts.found == counts.annotated == 5


def test_the_gain_of_an_amplifier_moves_a_centred_detector_less(
    detector: Detector, store: Path, source: Path
) -> None:
    """It is companded, and passes a network, before it reaches tokens."""
    raw = mne.io.read_raw_edf(source / "d_1.edf", preload=True, verbose="ERROR")
    louder = mne.io.RawArray(1.5 * raw.get_data(), raw.info, verbose="ERROR")
    moved = {}
    for name, model in (
        ("plain", detector.model),
        ("centred", fit(store, background="rest", centre="recording").model),
    ):
        one, other = (eegdm.predict(r, model, missing="drop").windows.alpha for r in (raw, louder))
        moved[name] = float(np.abs(one - other).mean())
    assert moved["centred"] < moved["plain"] / 2


def test_centring_that_would_remove_the_labels_is_refused(
    store: Path, source: Path, model: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="centre='person' is unknown; choose from recording, sub"):
        fit(store, background="rest", centre="person")
    shutil.copytree(source, tmp_path / "whole")
    rows = ["file,label,subject"]
    rows += [f"{name}.edf,{'up' if name[0] in 'ab' else 'down'},{name[0]}" for name in ONSETS]
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    for centre, said in (("recording", "may keep them"), ("subject", "leave it out$")):
        with pytest.raises(UserError, match=f"each {centre} has windows of one label.*{said}"):
            fit(store, tmp_path / "labels.csv", centre=centre)


# ------------------------------------------------------------------------------- whole recordings


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings of four people, two of one of them, with a label a file; one without a label."""
    folder = tmp_path_factory.mktemp("labelled")
    rows = ["file,label"]
    for who in ("sub-1", "sub-2", "sub-3", "sub-4"):
        label = "alpha" if who in ("sub-1", "sub-2") else "control"
        for run in (1, 2) if who == "sub-1" else (1,):
            burst_s = SECONDS if label == "alpha" else 0.0
            file = write(folder, f"{who}_run-{run}", 0.0, burst_s=burst_s)
            rows.append(f"{file.name},{label}")
    write(folder, "sub-5_run-1", 20.0)
    (folder / "labels.csv").write_text("\n".join(rows))
    return folder


@pytest.fixture(scope="module")
def of_recordings(
    labelled: Path, model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Detector:
    folder = tmp_path_factory.mktemp("whole")
    store = embed_folder(labelled, model, folder / "store", table="labels.csv")
    return fit(store.path, out=folder / "det", background="control")


def test_labels_of_files_make_a_classifier_of_recordings(of_recordings: Detector) -> None:
    model = eegdm.load(of_recordings.path)
    assert isinstance(model, eegdm.EEGDM) and model.decision["decide"] == "recording"
    assert of_recordings.decision.counts is None
    assert "each recording gets one class" in of_recordings.decision.sentence()


def test_marks_of_stretches_make_a_classifier_of_events(detector: Detector) -> None:
    assert detector.decision.rule.decide == "events"


def test_the_whole_recording_is_decided_about_and_its_windows_are_kept(
    of_recordings: Detector, labelled: Path
) -> None:
    for name, label in (("sub-1_run-1", "alpha"), ("sub-3_run-1", "control")):
        found = eegdm.predict(labelled / f"{name}.edf", of_recordings.path)
        assert found.decision is not None and found.decision.n_windows == len(found.windows) == 12
        expected = found.windows[["control", "alpha"]].mean()
        assert found.decision.probability == pytest.approx(expected.to_dict())
        assert found.decision.label == expected.idxmax() == label
        assert found.events[["onset_s", "duration_s", "label"]].values.tolist() == (
            [[0.0, SECONDS, "alpha"]] if label == "alpha" else []
        )


def test_the_decision_stands_first_on_the_page_and_is_printed(
    of_recordings: Detector, labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predict_path(labelled / "sub-1_run-1.edf", str(of_recordings.path), tmp_path)
    (path,) = tmp_path.glob("*_report.html")
    decision = artifacts.read_json(tmp_path / "sub-1_run-1_events.json")["Decision"]
    sentence = f"alpha, mean probability {decision['probability']['alpha']:.2f} over 12 windows"
    said = capsys.readouterr().out
    assert f"predict: {sentence} (control " in said
    page = path.read_text()
    assert "<title>sub-1_run-1.edf: alpha</title>" in page
    body = page[page.index('<div class="eegdm">') :]  # behind MNE's scripts
    first = body.index(f"<p>sub-1_run-1.edf: {sentence}")
    assert body.index("<p>") == first < body.index("not a medical device")
    assert "The strongest window" in page and "shortest event" not in page


def test_stretches_can_be_asked_for(of_recordings: Detector, labelled: Path) -> None:
    found = eegdm.predict(labelled / "sub-5_run-1.edf", of_recordings.path, decide="events")
    assert found.decision is None
    assert list(found.events.onset_s) == pytest.approx([20.0], abs=5)


@pytest.mark.ci
def test_from_labels_of_files_to_decisions_by_commands(
    labelled: Path, model: Path, tmp_path: Path
) -> None:
    """What is printed, what lies in the files and what a report scores are one number."""

    def run(*words: str | Path) -> str:
        done = command_line(*words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    said = run(
        "fit", labelled, "--table", "labels.csv", "--out", "det", "--model", model,
        "--background", "control",
    )  # fmt: skip
    assert "labels are of whole recordings" in said
    said = run("predict", labelled, "--model", "det", "--out", "found", "--no-report")
    assert "5 people in 6 recordings, recognised by names like sub-01" in said
    found = pd.read_csv(tmp_path / "found" / "eegdm_recordings.tsv", sep="\t")
    people = pd.read_csv(tmp_path / "found" / "eegdm_people.tsv", sep="\t")
    assert list(found) == [
        "file", "subject", "label", "n_windows", "probability_control", "probability_alpha",
    ]  # fmt: skip
    windows = {}
    for row in found.itertuples():
        stem = tmp_path / "found" / Path(row.file).stem
        own = windows[row.file] = pd.read_parquet(f"{stem}_probabilities.parquet")
        assert row.probability_alpha == pytest.approx(own.alpha.mean(), abs=1e-6)
        decision = artifacts.read_json(Path(f"{stem}_events.json"))["Decision"]
        assert decision["probability"]["alpha"] == pytest.approx(own.alpha.mean())
        assert decision["label"] == row.label
        sentence = f"{row.label}, mean probability {max(own.alpha.mean(), own.control.mean()):.2f}"
        assert f"{Path(row.file).stem}: {sentence} over 12 windows" in said
        events = pd.read_csv(f"{stem}_events.tsv", sep="\t")
        assert events[["onset", "duration", "eventType"]].values.tolist() == [
            [0.0, SECONDS, "alpha" if row.label == "alpha" else "bckg"]
        ]
    for row in people.itertuples():
        own = pd.concat([windows[file] for file in found.file[found.subject == row.subject]])
        assert row.n_windows == len(own)
        assert row.probability_alpha == pytest.approx(own.alpha.mean(), abs=1e-6)

    stage = ["corpus=folder", "recipe=small", f"source={labelled}", "events=table"]
    run(
        "preprocess", *stage, "table=labels.csv", "corpus.classes=[control,alpha]",
        "corpus.event_classes=[alpha]",
    )  # fmt: skip
    run("report", "corpus=folder", "recipe=small", 'run.classifiers=["det"]', "compare=[]")
    folder = tmp_path / "runs" / "folder" / "small" / "report"
    (predictions,) = folder.glob("predictions-*.parquet")
    table = pd.read_parquet(predictions)
    scored = of_units(
        RunResult(
            "det", 0, {}, table.label.to_numpy(), logits_from_table(table),
            table.subject.to_numpy(str), table.recording.to_numpy(str),
        ),
        "recording",
    )  # fmt: skip
    assert scored is not None and len(scored.recording) == 6  # one without a label is background
    by_predict = found.set_index(found.file.map(lambda file: Path(file).stem)).probability_alpha
    probability = class_probabilities(scored.logits)[:, 1]
    np.testing.assert_allclose(probability, by_predict[scored.recording], atol=1e-4)
    (of_report,) = artifacts.read_json(folder / "report.json")["recordings_and_people"][
        "recording"
    ]["EEGDM"]
    assert of_report["n"] == 6


@pytest.mark.ci
@pytest.mark.real
def test_children_with_one_label_a_file(shared: Path, tmp_path: Path) -> None:
    """The beginning of six recordings of real children, from a table of file and label."""
    source, kept = shared / "data" / "people" / "adhd", tmp_path / "children"
    kept.mkdir()
    table = pd.read_csv(source / "events.csv").groupby("label").head(3)
    for name in table.file:
        raw = mne.io.read_raw_edf(source / name, preload=True, verbose="ERROR").crop(0, 20)
        mne.export.export_raw(kept / name, raw, fmt="edf", verbose="ERROR")
    table[["file", "label"]].to_csv(kept / "labels.csv", index=False)
    words = ["--missing", "drop"]
    fitted = command_line(
        "fit", kept, "--table", "labels.csv", "--out", "det", *words, cwd=tmp_path
    )
    assert fitted.returncode == 0 and "labels are of whole recordings" in fitted.stdout
    done = command_line(
        "predict", kept, "--model", "det", "--out", "found", "--no-report", *words, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    found = pd.read_csv(tmp_path / "found" / "eegdm_recordings.tsv", sep="\t")
    assert sorted(found.file) == sorted(table.file)
    for row in found.itertuples():
        stem = Path(row.file).stem
        own = pd.read_parquet(tmp_path / "found" / f"{stem}_probabilities.parquet")
        mean = {"adhd": row.probability_adhd, "control": row.probability_control}
        assert mean == pytest.approx(own[list(mean)].mean().to_dict(), abs=1e-6)
        assert row.label == max(mean, key=mean.__getitem__)
        (event,) = pd.read_csv(tmp_path / "found" / f"{stem}_events.tsv", sep="\t").itertuples()
        assert (event.onset, event.eventType) == (0.0, row.label)
        assert event.duration == event.recordingDuration
    assert not (tmp_path / "found" / "eegdm_people.tsv").exists()  # each has one recording
