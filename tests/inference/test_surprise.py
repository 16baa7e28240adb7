"""Surprise points to the second and channel that are unlike the others, and says when a recording
is unlike what the model knows.
"""

from __future__ import annotations  # noqa: I001

import subprocess
import sys
from pathlib import Path

import mne
import numpy as np
import pandas as pd
import pytest
from inference.small import made_up, small_model

import eegdm
from eegdm.console import clock
from eegdm.errors import UserError
from eegdm.evaluation.surprise import Population, population_facts
from eegdm.inference import surprise_files
from eegdm.inference.surprising import SurpriseOptions, powers_of, reading_of, surprise_in
from eegdm.inference.surprise_files import surprise_file

MODEL = small_model()
SFREQ = 256.0


def steady(seconds: float = 40.0, seed: int = 0, gain: float = 0.1) -> mne.io.RawArray:
    """`made_up` without its louder stretch; 3 µV, so that companding leaves it as it is."""
    raw = made_up(seconds, SFREQ, seed=seed)
    loud = 1 + 4 * (np.abs(np.arange(raw.n_times) / raw.n_times - 0.5) < 0.15)
    return mne.io.RawArray(gain * raw.get_data() / loud, raw.info, verbose="ERROR")


def bipolar(seconds: float = 40.0) -> mne.io.RawArray:
    """The model's own 22 channels, so that a change stays in one of them."""
    rng = np.random.default_rng(3)
    data = np.cumsum(rng.standard_normal((22, round(seconds * SFREQ))), axis=1)
    raw = mne.io.RawArray(
        data, mne.create_info(list(MODEL.channels), SFREQ, "eeg"), verbose="ERROR"
    )
    raw.filter(1.0, 40.0, verbose="ERROR")
    return mne.io.RawArray(2e-5 * raw.get_data() / raw.get_data().std(), raw.info, verbose="ERROR")


def known(raw: mne.io.BaseRaw, tmp_path: Path) -> eegdm.EEGDM:
    """The model with the recording as the EEG that it learned from."""
    settings, _ = reading_of(MODEL, SurpriseOptions())
    _, prepared = surprise_in(tmp_path / "known", raw, MODEL, SurpriseOptions())
    population = Population.of([powers_of(prepared, settings.signal.mu)])
    folder = MODEL.save_pretrained(tmp_path / "model", info=population_facts(population))
    return eegdm.load(folder)


def test_every_second_of_every_channel_has_a_row() -> None:
    found = eegdm.surprise(steady(20.6), MODEL)
    assert found.seconds.shape == (20 * 22, 7)
    assert found.seconds.onset_s.tolist() == np.repeat(np.arange(20.0), 22).tolist()
    assert found.seconds.channel[:22].tolist() == found.ch_names == list(MODEL.channels)
    assert found.seconds.population.isna().all()
    ordinary = found.seconds.surprise.median()
    assert 0.5 < ordinary < 1.5


def test_the_same_recording_gives_the_same_numbers_whatever_its_amplitude() -> None:
    one, again, half = (
        eegdm.surprise(raw, MODEL).seconds for raw in (steady(), steady(), steady(gain=0.05))
    )
    pd.testing.assert_frame_equal(one, again)
    assert np.abs(one.surprise - half.surprise).max() < 1e-3


@pytest.mark.parametrize("second", [0, 17, 39])
def test_a_spike_is_found_in_its_second_and_channel(second: int) -> None:
    raw = bipolar()
    data, at = raw.get_data(), round((second + 0.5) * SFREQ)
    width = round(0.02 * SFREQ)
    data[6, at - width : at + width + 1] += 8e-5 * np.bartlett(2 * width + 1)
    found = eegdm.surprise(mne.io.RawArray(data, raw.info, verbose="ERROR"), MODEL)
    strangest = found.stretches.iloc[0]
    assert strangest.channel == MODEL.channels[6]
    assert strangest.onset_s <= second < strangest.onset_s + strangest.duration_s
    best = found.seconds.loc[found.seconds.surprise.idxmax()]
    assert (best.onset_s, best.channel) == (second, MODEL.channels[6])
    assert best.change_db > 6


def test_a_flat_line_is_found_below_the_median() -> None:
    raw = bipolar()
    data = raw.get_data()
    data[11, round(20 * SFREQ) : round(23 * SFREQ)] = data[11, round(20 * SFREQ)]
    found = eegdm.surprise(mne.io.RawArray(data, raw.info, verbose="ERROR"), MODEL)
    best = found.seconds.loc[found.seconds.surprise.idxmax()]
    assert best.channel == MODEL.channels[11] and best.onset_s in (20, 21, 22)
    assert best.change_db < -10


def test_stretches_lie_apart_and_are_in_order() -> None:
    found = eegdm.surprise(made_up(60.0), MODEL).stretches
    middles = np.sort(found.onset_s + found.duration_s / 2)
    assert found.surprise.is_monotonic_decreasing and 2 <= len(found) <= 6
    assert (np.diff(middles) > 0).all()


def test_a_short_recording_and_an_unknown_option_are_refused() -> None:
    with pytest.raises(UserError, match="needs 2 or more"):
        eegdm.surprise(steady(1.5), MODEL)
    with pytest.raises(UserError, match="missing='guess'"):
        eegdm.surprise(steady(), MODEL, missing="guess")


# ------------------------------------------------------------------------------- the population


def test_a_reader_is_warned_of_a_recording_unlike_what_the_model_learned_from(
    tmp_path: Path,
) -> None:
    model = known(steady(), tmp_path)
    usual = eegdm.surprise(steady(seed=1), model)
    strange = eegdm.surprise(steady(gain=1.0), model)
    assert (usual.seconds.population > 1).mean() < 0.05 and not usual.notes
    share = (strange.seconds.population > 1).mean()
    assert share > 0.9
    (note,) = [note for note in strange.notes if "is unlike" in note]
    assert f"{100 * share:.0f} % of it" in note


def test_predict_notes_it_too(tmp_path: Path) -> None:
    model = known(steady(20.0), tmp_path)
    usual, strange = (eegdm.predict(steady(20.0, gain=gain), model).notes for gain in (0.1, 1.0))
    assert not [note for note in usual if "is unlike" in note]
    assert [note for note in strange if "is unlike" in note]


def test_the_backbone_of_the_package_describes_its_population() -> None:
    population = Population.from_info(eegdm.load("mini").info)
    assert population is not None and population.n_recordings > 60
    assert len(population.center) == len(population.spread) == 5 and min(population.spread) > 0


# --------------------------------------------------------------------------------------- files


@pytest.fixture(scope="module")
def edf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("edf") / "recording.edf"
    mne.export.export_raw(path, made_up(20.0), fmt="edf", verbose="ERROR")
    return path


def test_table_and_page(edf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(MODEL.save_pretrained(tmp_path / "model"))
    expected = eegdm.surprise(edf, MODEL)
    tsv, page = surprise_file(edf, model, tmp_path / "x.tsv")
    parquet, _ = surprise_file(edf, model, tmp_path / "y.parquet")
    read = pd.read_csv(tsv, sep="\t")
    assert np.abs(read.surprise - expected.seconds.surprise).max() <= 5.1e-4
    assert read.channel.tolist() == expected.seconds.channel.tolist()
    assert pd.read_parquet(parquet).surprise.equals(expected.seconds.surprise)
    best = expected.stretches.iloc[0]
    printed = capsys.readouterr().out
    assert f"surprise: open {clock(best.onset_s)}, {best.channel}: " in printed
    html = page.read_text()
    assert html.count("<figure>") == 1 + len(expected.stretches) and "not a medical device" in html
    assert "recording.edf lasts 0:20" in html and str(edf.parent) not in html
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "model", "x.html", "x.tsv", "y.html", "y.parquet",
    ]  # fmt: skip


def test_a_killed_run_resumes_and_gives_the_same(
    edf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        """Like SIGKILL it is caught by nobody."""

    def kill(*args: object) -> None:
        raise Killed

    model = str(MODEL.save_pretrained(tmp_path / "model"))
    whole, _ = surprise_file(edf, model, tmp_path / "whole.tsv")
    with monkeypatch.context() as patch:
        patch.setattr(surprise_files, "_write_table", kill)
        with pytest.raises(Killed):
            surprise_file(edf, model, tmp_path / "killed.tsv")
    work = tmp_path / ".killed.eegdm"
    before = (work / "signal.npy").stat().st_mtime_ns
    with monkeypatch.context() as patch:  # the signal that was prepared is not made again
        patch.setattr("eegdm.inference.preparation.preprocess", kill)
        resumed, _ = surprise_file(edf, model, tmp_path / "killed.tsv")
    assert before and resumed.read_bytes() == whole.read_bytes() and not work.exists()


def test_what_cannot_be_written_is_refused(edf: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"written as \.tsv or \.parquet"):
        surprise_file(edf, "mini", tmp_path / "x.csv")
    with pytest.raises(UserError, match="does not exist"):
        surprise_file(tmp_path / "nothing.edf", "mini")
    assert not list(tmp_path.iterdir())


@pytest.mark.ci
def test_the_command_in_a_process_of_its_own(edf: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "eegdm", "surprise", str(edf), "--out", "x.tsv"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == ["x.tsv", "x.html"]
    assert "surprise: open " in done.stdout
    wrong = [*command, "--missing", "guess"]
    refused = subprocess.run(wrong, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert refused.returncode == 2 and "--missing 'guess'" in refused.stderr
