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
from eegdm.data.montage import derive
from eegdm.data.signal import Filtering, compand, preprocess
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
        word in card for word in ("eegmmidb", "CHB-MIT", "ODC-By", "not a medical device", "denois")
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
    """At each noise level it leaves less of the velocity than a network that has learned nothing
    (1).
    """
    raw = mne.io.read_raw(
        shared / "data" / "eegmmidb" / "S001R10.edf", preload=True, verbose="ERROR"
    )
    derivations = derive(raw.ch_names, missing="drop")
    x0 = compand(
        preprocess(raw, derivations, Filtering(notch=(60.0,))).signal[:, 4000:5000]
    ).astype(np.float32)
    ids, schedule, model = [d.channel_id for d in derivations], NoiseSchedule(), eegdm.load("mini")
    for step in (5, 20, 40):
        steps = torch.full((len(ids),), step)
        x, noise = (
            torch.from_numpy(x0)[:, None],
            torch.from_numpy(
                generator("noise", step).standard_normal((len(ids), 1, 1000), dtype=np.float32)
            ),
        )
        with torch.inference_mode():
            found = model(schedule.add_noise(x, noise, steps), steps, torch.tensor(ids))
        assert torch.nn.functional.mse_loss(found, schedule.velocity(x, noise, steps)) < 0.5


@pytest.mark.ci
def test_embed_and_generate_work_right_after_installation(tmp_path: Path) -> None:
    made_up(20.0).save(tmp_path / "recording_raw.fif", verbose="ERROR")
    for words in (
        "embed recording_raw.fif --out found.npz",
        "generate --channels FP1-F7 --sampler ddim --steps 5",
    ):
        done = command_line(*words.split(), cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert np.load(tmp_path / "found.npz")["embeddings"].shape == (4, 22, 8 * 64)
    drawn = mne.io.read_raw(tmp_path / "generated_raw.fif", verbose="ERROR").get_data()
    assert drawn.shape == (1, 1000) and 1e-6 < drawn.std() < 1e-3


@pytest.mark.parametrize(
    ("command", "takes_it"), [("predict", False), ("embed", True), ("generate", True)]
)
def test_help_names_the_models_that_a_command_takes(command: str, takes_it: bool) -> None:
    shown = CliRunner().invoke(cli.app, [command, "--help"], env={"COLUMNS": "400"}).output
    (line,) = [line for line in shown.splitlines() if "--model" in line]
    assert ("mini" in line) == ("backbone" in line) == takes_it
    assert "classifier" in line
