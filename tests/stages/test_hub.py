"""Models of every kind go to the hub with their cards, and come from there wherever a model is
asked for.
"""

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
from hub import TOKEN, Hub, run_client
from inference.small import ELECTRODES, made_up
from stages.tiny import Finished

PUSH = """
import json, sys, eegdm
from eegdm.models.pretrained import weights_fingerprint
for folder, hub_id, private in json.loads(sys.argv[1]):
    try:
        print(eegdm.push_to_hub(folder, hub_id, private=private))
        print(weights_fingerprint(eegdm.load(hub_id)))
    except eegdm.UserError as error:
        print("refused", error)
"""
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
def test_backbone_classifier_and_detector_go_to_a_hub_with_their_cards(
    finished: Finished, detector: Path, hub: Hub, tmp_path: Path
) -> None:
    folders = {
        "lab/backbone": finished.backbone,
        "lab/classifier": finished.classifier,
        "lab/detector": detector,
        "lab/mini": "mini",
    }
    wanted = [(str(folder), hub_id, True) for hub_id, folder in folders.items()]
    lines = run_client(hub, tmp_path, PUSH, wanted, HF_TOKEN=TOKEN)
    for (hub_id, folder), said, same in zip(folders.items(), lines[::2], lines[1::2], strict=True):
        assert said == f"{hub.url}/{hub_id}/commit/{Hub.commit('main')}" and hub.private[hub_id]
        assert same == weights_fingerprint(eegdm.load(folder))
        files = hub.repositories[hub_id]["main"]
        assert sorted(files) == ["README.md", "config.json", "model.safetensors"]
        if isinstance(folder, Path):
            assert files["config.json"] == (folder / "config.json").read_bytes()
            card = (folder / "README.md").read_text()
            assert files["README.md"].decode() == card.replace("PATH_OR_HUB_ID", hub_id)
        assert f'eegdm.load("{hub_id}")' in files["README.md"].decode()
    assert not hub.stored


def test_what_the_hub_or_we_do_not_take_is_one_sentence(
    finished: Finished, hub: Hub, tmp_path: Path
) -> None:
    unfinished = finished.copied(tmp_path / "runs").backbone
    (unfinished / "manifest.json").unlink()
    nameless = eegdm.load("mini").save_pretrained(tmp_path / "nameless")
    (nameless / "README.md").unlink()
    checkpoint = golden_folder("open") / "classifier.ckpt"
    wanted = [
        (str(unfinished), "lab/a", "is unfinished: run its command again"),
        (str(nameless), "lab/a", "has no README.md"),
        (str(checkpoint), "lab/a", "turn it into a folder with `eegdm convert`"),
        (str(finished.classifier), "lab/a:file", "lab/a:file: the hub did not take it"),
        (str(finished.classifier), "lab/a", "401"),
    ]
    asked = [(*request, True) for *request, _ in wanted]
    lines = run_client(hub, tmp_path, PUSH, asked)
    for (*_, words), line in zip(wanted, lines, strict=True):
        assert line.startswith("refused ") and words in line
    assert lines[-1].endswith("may write there (`hf auth login`, or HF_TOKEN)")
    hub.failing = {"/": 503}
    (busy,) = run_client(hub, tmp_path, PUSH, asked[-1:], HF_TOKEN=TOKEN)
    assert "503" in busy and busy.endswith("run this again when the hub can be reached")
    (offline,) = run_client(hub, tmp_path, PUSH, asked[-1:], HF_HUB_OFFLINE="1")
    assert "OfflineModeIsEnabled" in offline
    assert set(hub.repositories) == {"lab/several"}


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
