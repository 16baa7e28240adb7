"""Models come from the hub wherever a model is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import mne
import numpy as np
import pandas as pd
import pytest

import eegdm
from conftest import golden_folder
from eegdm import artifacts
from eegdm.models.pretrained import weights_fingerprint
from hub import Hub, run_client
from inference.small import ELECTRODES, made_up

COMMANDS = """
import json, sys
from eegdm import cli
for words in json.loads(sys.argv[1]):
    cli.app(words, standalone_mode=False)
"""


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A hub with the published kind of repository: several checkpoints in one."""
    files = {
        f"{name}.ckpt": (golden_folder("open") / f"{name}.ckpt").read_bytes()
        for name in ("backbone", "classifier")
    }
    found = Hub({"lab/several": {"main": {"README.md": b""}, "v1": files}})
    yield found
    found.close()


@pytest.mark.ci
def test_a_file_of_a_repository_is_named_wherever_a_model_is_asked_for(
    hub: Hub, tmp_path: Path
) -> None:
    """By commands and stages alike, which then do what they do with the file on the disk."""
    (tmp_path / "source").mkdir()
    raw = made_up(20.0, 200.0, ELECTRODES)
    recording = tmp_path / "source" / "a.edf"
    mne.export.export_raw(recording, raw, fmt="edf", verbose="ERROR")
    backbone, classifier = (f"lab/several@v1:{name}.ckpt" for name in ("backbone", "classifier"))
    stage = ["corpus=folder", "events=none", f"root={tmp_path}", "windows.policy=grid"]
    commands = [
        ["embed", str(recording), "--model", backbone, "--out", str(tmp_path / "hub.npz")],
        ["predict", str(recording), "--model", classifier, "--out", str(tmp_path), "--no-report"],
        ["preprocess", *stage[:3], f"source={recording.parent}"],
        ["cache", *stage, "windows.split=none", f"backbone={backbone}"],
    ]
    run_client(hub, tmp_path / "cache", COMMANDS, commands)
    golden = golden_folder("open")
    found = eegdm.embed(recording, golden / "backbone.ckpt").values
    with np.load(tmp_path / "hub.npz") as stored:
        assert np.array_equal(stored["embeddings"], found)
    windows = eegdm.predict(recording, golden / "classifier.ckpt").windows
    written = pd.read_parquet(tmp_path / "a_probabilities.parquet")
    pd.testing.assert_frame_equal(written[windows.columns], windows)
    latents = artifacts.open_artifact(tmp_path / "folder" / "base" / "latents")
    weights = weights_fingerprint(eegdm.load(golden / "backbone.ckpt"))
    assert latents.inputs["backbone"] == weights
