"""The backbone that comes with the package: small, found by its name, and it has learned to
denoise.
"""

from __future__ import annotations  # noqa: I001

from pathlib import Path

import mne
import numpy as np
import pytest
from typer.testing import CliRunner
import torch
from inference.small import made_up

import eegdm
from eegdm import cli
from eegdm.data.batches import generator
from eegdm.data.montage import TCP
from eegdm.data.names import read_names
from eegdm.data.positions import match_to_montage
from eegdm.data.signal import Filtering, ModelUnits, preprocess
from eegdm.models.backbone import SSMDP
from eegdm.models.diffusion import NoiseSchedule
from eegdm.models.locate import PACKAGED
from stages.tiny import command_line


def test_its_folder_is_small_and_says_what_it_was_trained_on() -> None:
    assert sorted(path.name for path in (PACKAGED / "mini").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    assert sum(path.stat().st_size for path in (PACKAGED / "mini").iterdir()) < 2_000_000
    card = (PACKAGED / "mini" / "README.md").read_text()
    assert all(
        word in card
        for word in ("EEGMAT", "eegmmidb", "CHB-MIT", "ODC-By", "not a medical device", "denois")
    )


def test_what_lies_on_disk_wins_over_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert isinstance(eegdm.load("mini"), SSMDP)
    SSMDP(d_model=8, n_blocks=1, d_state=4, d_cond=8, d_embed=8).save_pretrained("mini")
    assert eegdm.load("mini").config["d_model"] == 8


def test_an_unknown_name_is_told_what_there_is() -> None:
    with pytest.raises(
        eegdm.UserError, match="there is no such file or folder.* and mini comes with the package"
    ):
        eegdm.load("maxi")


@pytest.mark.real
def test_it_denoises_real_eeg(shared: Path) -> None:
    """Of a person whom it never met: at each noise level it leaves less of the velocity than a
    network that has learned nothing (1).
    """
    file = shared / "data" / "people" / "guinea_bissau" / "gb02.edf"
    raw = mne.io.read_raw(file, preload=True, verbose="ERROR")
    placed = match_to_montage(read_names(raw.ch_names), TCP)
    schedule, model = NoiseSchedule(), eegdm.load("mini")
    units, stated = ModelUnits.of(model.info["signal"]), model.info["signal"]
    filtering = Filtering(
        stated["sfreq"], stated["highpass"], stated["lowpass"], tuple(stated["notch"])
    )
    recording = preprocess(raw, [p.derivation for p in placed], filtering).signal
    x0 = units.shown(recording[:, 4000:4500], units.measure(recording))
    ids = torch.tensor([p.derivation.channel_id for p in placed])
    x = torch.from_numpy(x0)[:, None]
    for step in (5, 20, 40):
        steps = torch.full_like(ids, step)
        drawn = generator("noise", step).standard_normal(x.shape, dtype=np.float32)
        noise = torch.from_numpy(drawn)
        with torch.inference_mode():
            found = model(schedule.add_noise(x, noise, steps), steps, ids, stated["sfreq"])
        truth = schedule.velocity(x, noise, steps)
        assert torch.nn.functional.mse_loss(found, truth) < 0.8


@pytest.mark.ci
def test_embed_and_generate_work_right_after_installation(tmp_path: Path) -> None:
    made_up(20.0).save(tmp_path / "recording_raw.fif", verbose="ERROR")
    for words in (
        "embed recording_raw.fif --out found.npz",
        "generate --channels FP1-F7 --sampler ddim --steps 5",
    ):
        done = command_line(*words.split(), cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert np.load(tmp_path / "found.npz")["embeddings"].shape == (4, 22, 8 * 32)
    drawn = mne.io.read_raw(tmp_path / "generated_raw.fif", verbose="ERROR").get_data()
    assert drawn.shape == (1, 500) and 1e-6 < drawn.std() < 1e-3


@pytest.mark.parametrize(
    ("command", "takes_it"), [("predict", False), ("embed", True), ("generate", True)]
)
def test_help_names_the_models_that_a_command_takes(command: str, takes_it: bool) -> None:
    shown = CliRunner().invoke(cli.app, [command, "--help"], env={"COLUMNS": "400"}).output
    (line,) = [line for line in shown.splitlines() if "--model" in line]
    assert ("mini" in line) == ("backbone" in line) == takes_it
    assert "classifier" in line
