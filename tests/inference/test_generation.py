"""Generated EEG is a function of model, seed, number and channel, in volts, and files keep it."""

from __future__ import annotations  # noqa: I001

from pathlib import Path

import mne
import numpy as np
import pytest
import torch
from inference.small import small_model

import eegdm
from eegdm import cli
from eegdm.data.signal import expand
from eegdm.errors import UserError
from eegdm.inference.generation import _row_seed, generate_file
from eegdm.models.diffusion import NoiseSchedule, sample_with
from eegdm.models.eegdm import backbone_of

MODEL = small_model(tokens={"n_steps": 6})


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpmsolver++"])
def test_a_window_depends_on_its_seed_number_and_channel_alone(sampler: str) -> None:
    options = {"sampler": sampler, "steps": 4}
    many = eegdm.generate(MODEL, ["FP1-F7", "T3-C3", "P4-O2"], 2, seed=3, **options)
    alone = eegdm.generate(MODEL, ["T3-C3"], 2, seed=3, **options)
    assert many.signal.shape == (2, 3, 1000)
    assert np.abs(many.signal[:, 1] - alone.signal[:, 0]).max() <= 1e-5 * np.abs(alone.signal).max()
    other = eegdm.generate(MODEL, ["T3-C3"], 2, seed=4, **options)
    assert np.abs(other.signal - alone.signal).max() > 0.01 * np.abs(alone.signal).max()


def test_it_is_the_reverse_process_in_volts() -> None:
    found = eegdm.generate(MODEL, ["F7-T3"], sampler="ddim", steps=3, seed=5)
    start = torch.randn(1, 1000, generator=torch.Generator().manual_seed(_row_seed(5, 0, 1)))[None]
    drawn = sample_with(
        MODEL.backbone, NoiseSchedule(6).sampler("ddim", 3), torch.tensor([1]), start
    ).numpy()
    assert np.allclose(found.signal[0], expand(drawn[0], 255.0) * 1e-4, atol=1e-9)


def test_all_channels_by_default_and_a_backbone_s_own_schedule(tmp_path: Path) -> None:
    MODEL.backbone.save_pretrained(
        tmp_path,
        info={
            "diffusion": {"n_steps": 3, "schedule": "linear", "beta_start": 1e-4, "beta_end": 0.2}
        },
    )
    assert eegdm.generate(tmp_path).signal.shape == (1, 22, 1000)
    with pytest.raises(UserError, match="1..3 steps"):
        eegdm.generate(tmp_path, ["F7-T3"], steps=4)


BETAS = {"schedule": "linear", "n_steps": 6, "beta_start": 1e-3, "beta_end": 0.4}


@pytest.mark.parametrize("kind", ["classifier", "its folder", "its backbone", "backbone's folder"])
def test_the_whole_noise_schedule_is_the_one_of_pretraining(kind: str, tmp_path: Path) -> None:
    classifier = small_model(tokens=BETAS)
    backbone = backbone_of(classifier)
    model = {
        "classifier": lambda: classifier,
        "its folder": lambda: classifier.save_pretrained(tmp_path),
        "its backbone": lambda: backbone,
        "backbone's folder": lambda: eegdm.load(
            backbone.save_pretrained(tmp_path / "a")
        ).save_pretrained(tmp_path / "b"),
    }[kind]()
    found = eegdm.generate(model, ["F7-T3"], sampler="ddim", steps=6, seed=5)
    start = torch.randn(1, 1000, generator=torch.Generator().manual_seed(_row_seed(5, 0, 1)))[None]
    schedule = NoiseSchedule(6, "linear", 1e-3, 0.4)
    drawn = sample_with(
        classifier.backbone, schedule.sampler("ddim", 6), torch.tensor([1]), start
    ).numpy()
    assert np.allclose(found.signal[0], expand(drawn[0], 255.0) * 1e-4, atol=1e-9)


def test_a_schedule_in_unknown_words_is_refused(tmp_path: Path) -> None:
    MODEL.backbone.save_pretrained(tmp_path, info={"diffusion": {"zero_snr": True}})
    with pytest.raises(UserError, match="words that this version does not know: zero_snr; known"):
        eegdm.generate(tmp_path)


@pytest.mark.parametrize(("suffix", "step_v"), [(".fif", 1e-10), (".edf", 1e-7)])
def test_files_hold_the_windows_one_after_another(
    suffix: str, step_v: float, tmp_path: Path
) -> None:
    found = eegdm.generate(MODEL, ["FP1-F7", "F7-T3"], 2, steps=2)
    recording, picture = generate_file(
        tmp_path / f"made_raw{suffix}", MODEL, ["FP1-F7", "F7-T3"], 2, steps=2
    )
    raw = mne.io.read_raw(recording, verbose="ERROR")
    assert raw.ch_names == ["FP1-F7", "F7-T3"]
    assert np.abs(raw.get_data() - found.signal.transpose(1, 0, 2).reshape(2, -1)).max() <= step_v
    assert [(a["onset"], a["duration"], a["description"]) for a in raw.annotations] == [
        (0, 5, "generated 0"),
        (5, 5, "generated 1"),
    ]
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"channels": ["FP1-F8"]}, r"unknown montage channel 'FP1-F8', did you mean"),
        ({"n": 0}, r"n=0.*at least 1 window"),
        ({"seed": -1}, r"seed=-1"),
        (
            {"sampler": "euler"},
            r"sampler 'euler' with 6 steps: choose from ddpm, ddim, dpmsolver\+\+",
        ),
    ],
)
def test_what_can_not_be_drawn_is_refused(options: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        eegdm.generate(MODEL, **options)


def test_the_command_writes_what_the_function_draws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = MODEL.save_pretrained(tmp_path / "model")
    words = [
        "generate",
        "--model",
        model,
        "--channels",
        "F7-T3,C4-P4",
        "-n",
        2,
        "--steps",
        2,
        "--seed",
        7,
        "--out",
        tmp_path / "x_raw.fif",
    ]
    monkeypatch.setattr("sys.argv", ["eegdm", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 0
    assert capsys.readouterr().out.split() == [
        str(tmp_path / "x_raw.fif"),
        str(tmp_path / "x_raw.png"),
    ]
    raw = mne.io.read_raw(tmp_path / "x_raw.fif", verbose="ERROR")
    expected = eegdm.generate(MODEL, ["F7-T3", "C4-P4"], 2, steps=2, seed=7).signal
    assert np.allclose(
        raw.get_data(), expected.transpose(1, 0, 2).reshape(2, -1), rtol=1e-6, atol=1e-12
    )


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"generated EEG is written as .fif or .edf"):
        generate_file(tmp_path / "x.bdf", MODEL, ["F7-T3"], steps=1)
