"""`predict` with a classifier of centred tokens: by what a recording is centred, and what is said
of it.
"""

from __future__ import annotations  # noqa: I001

import json
from pathlib import Path

import mne
import numpy as np
import pytest
import torch
from inference.small import ELECTRODES, lively_model, made_up
from typer.testing import CliRunner

import eegdm
from eegdm import EEGDM, cli
from eegdm.data.montage import derive
from eegdm.data.signal import Filtering, compand, preprocess
from eegdm.errors import UserError
from eegdm.evaluation.metrics import class_probabilities
from eegdm.inference import chunks, prediction_folder
from eegdm.inference.prediction import Options
from eegdm.inference.prediction_folder import Outputs, predict_path
from eegdm.models.latents import extract

ITSELF = "tokens are centred by windows spread over this recording"
PLAIN = Outputs(report=False)


def centred_model(centre: str = "recording") -> EEGDM:
    """A classifier whose probabilities differ from window to window."""
    plain = lively_model()
    model = EEGDM(**(plain.config | {"centre": centre})).eval()
    model.load_state_dict(plain.state_dict())
    # Centred tokens are near 1
    model.fusion.token_mean.fill_(1.0)
    model.fusion.token_spread.fill_(0.5)
    return model


MODEL = centred_model()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("edf")
    made = {
        "one": made_up(),
        "other": made_up(30.0, seed=1),
        "few": made_up(30.0, names=ELECTRODES[:9], seed=1),
        "short": made_up(8.0, seed=1),
    }
    for name, raw in made.items():
        mne.export.export_raw(folder / f"{name}.edf", raw, fmt="edf", verbose="ERROR")
    return {name: folder / f"{name}.edf" for name in made}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(MODEL.save_pretrained(tmp_path_factory.mktemp("models") / "centred"))


def by_hand(recording: Path, calibration: Path) -> np.ndarray:
    """Probabilities of windows every second, from whole signals and one window at a time."""
    cut = {}
    for path, step in ((recording, 200), (calibration, 1000)):
        raw = mne.io.read_raw(path, verbose="ERROR")
        signal = compand(preprocess(raw, derive(raw.ch_names), Filtering()).signal)
        starts = range(0, signal.shape[1] - 999, step)
        windows = [
            torch.from_numpy(signal[None, :, k : k + 1000].astype(np.float32)) for k in starts
        ]
        with torch.no_grad():
            tokens = [extract(MODEL.backbone, x, MODEL.channel_ids, MODEL.spec) for x in windows]
        cut[step] = torch.cat(tokens)
    usual = cut[1000].mean(2).double().numpy()
    floor = 1e-3 * usual.mean(axis=(0, 4), keepdims=True)
    reference = np.exp(np.log(usual + floor).mean(axis=0))
    with torch.no_grad():
        logits = MODEL.fusion((cut[200] / torch.from_numpy(reference)[:, None]).float())
    return class_probabilities(logits.numpy())


def probabilities(found: eegdm.inference.Prediction) -> np.ndarray:
    return found.windows.drop(columns=["onset_s", "duration_s"]).to_numpy()


def test_a_recording_is_centred_by_itself_or_by_another_of_the_same_person(
    files: dict[str, Path],
) -> None:
    one, other = files["one"], files["other"]
    itself = eegdm.predict(one, MODEL)
    assert np.abs(probabilities(itself) - by_hand(one, one)).max() <= 1e-5
    assert probabilities(itself).std(axis=0).max() > 0.02
    assert any(note.startswith(ITSELF) for note in itself.notes)
    by_other = eegdm.predict(one, MODEL, calibration=other)
    assert np.abs(probabilities(by_other) - by_hand(one, other)).max() <= 1e-5
    assert np.abs(probabilities(by_other) - probabilities(itself)).max() > 0.01
    assert any("the calibration recording other.edf" in note for note in by_other.notes)
    of_raw = eegdm.predict(one, MODEL, calibration=mne.io.read_raw(one, verbose="ERROR"))
    assert np.array_equal(probabilities(of_raw), probabilities(itself))


def test_at_most_sixty_windows_say_what_is_usual(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    real = EEGDM.reference

    def counted(model: EEGDM, x: torch.Tensor, sfreq: float | None = None) -> torch.Tensor:
        seen.append(len(x))
        return real(model, x, sfreq)

    monkeypatch.setattr(EEGDM, "reference", counted)
    eegdm.predict(files["one"], MODEL, step_s=30.0)
    eegdm.predict(made_up(400.0), MODEL, step_s=390.0)
    assert seen == [8, 60]


def test_a_classifier_of_subjects_says_that_one_recording_may_be_too_little(
    files: dict[str, Path],
) -> None:
    model = centred_model("subject")
    notes = eegdm.predict(files["one"], model, step_s=30.0).notes
    assert any("centred over all recordings of a person" in note for note in notes)
    notes = eegdm.predict(files["one"], model, step_s=30.0, calibration=files["other"]).notes
    assert not any("all recordings of a person" in note for note in notes)


def test_the_command_says_by_what_and_notices_another_calibration(
    files: dict[str, Path], folder: str, tmp_path: Path
) -> None:
    def run(*words: str) -> str:
        done = CliRunner().invoke(
            cli.app,
            ["predict", str(files["one"]), "--model", folder, "--out", str(tmp_path), *words],
        )
        assert done.exit_code == 0, done.output
        return done.output

    assert ITSELF in " ".join(run("--step", "5").split())
    sidecar = json.loads((tmp_path / "one_events.json").read_text())
    assert any(note.startswith(ITSELF) for note in sidecar["Notes"])
    assert ITSELF in (tmp_path / "one_report.html").read_text()
    assert "finished before" in run("--step", "5")
    calibrated = run("--step", "5", "--calibration", str(files["other"]))
    assert "finished before" not in calibrated and "other.edf" in calibrated
    assert "finished before" in run("--step", "5", "--calibration", str(files["other"]))


class Killed(BaseException):
    """Like SIGKILL it is caught by nobody."""


@pytest.mark.parametrize("calibration", [None, "other"])
def test_a_killed_run_keeps_what_it_is_centred_by(
    calibration: str | None,
    files: dict[str, Path],
    folder: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(chunks, "CHUNK", 4)
    options = Options(calibration=None if calibration is None else files[calibration])
    predict_path(files["one"], folder, tmp_path / "whole", options, PLAIN)
    inside = prediction_folder.predict_in.__globals__
    real, calls = inside["classifier_logits"], []

    def killed(*args: object) -> np.ndarray:
        calls.append(1)
        if len(calls) == 3:
            raise Killed
        return real(*args)

    monkeypatch.setitem(inside, "classifier_logits", killed)
    with pytest.raises(Killed):
        predict_path(files["one"], folder, tmp_path / "killed", options, PLAIN)
    assert (tmp_path / "killed" / ".one.eegdm" / "reference.npy").is_file()
    monkeypatch.setitem(inside, "reference_of_signal", lambda *_: pytest.fail("computed again"))
    predict_path(files["one"], folder, tmp_path / "killed", options, PLAIN)
    for name in ("one_events.tsv", "one_probabilities.parquet"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_what_can_not_be_centred_is_refused(files: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"short\.edf: is one window long"):
        eegdm.predict(files["short"], MODEL)
    eegdm.predict(files["short"], MODEL, calibration=files["other"])
    with pytest.raises(UserError, match=r"few\.edf: lacks .*F8-T4"):
        eegdm.predict(files["one"], MODEL, calibration=files["few"], missing="drop")
    with pytest.raises(UserError, match=r"calibration=.*nothing\.edf"):
        eegdm.predict(files["one"], MODEL, calibration=tmp_path / "nothing.edf")
    with pytest.raises(UserError, match="tokens are not centred; leave it out"):
        eegdm.predict(files["one"], lively_model(), calibration=files["other"])
