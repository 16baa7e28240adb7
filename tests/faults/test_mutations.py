"""Mutated files of every kind that the package reads: read as what they say, or refused in one
line; no traceback, no hang.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file

from eegdm import artifacts
from eegdm.data.tokens import write_shard
from eegdm.models.backbone import SSMDP
from faults.mutating import KINDS
from stages.tiny import one_thread

NUMBER = 300
"""Mutations of each kind; all of them the same in every run."""
pytestmark = [pytest.mark.ci, pytest.mark.timeout(900)]


def make_latents(folder: Path) -> None:
    with artifacts.building(
        folder, "latents", {"latents": {"dtype": "float32"}}, {"recordings": "abc"}
    ):
        artifacts.write_json(folder / "shard.json", [1, 2])
        artifacts.finish(folder, {"windows": 3})


def make_tokens(folder: Path) -> None:
    tokens = np.random.default_rng(0).standard_normal((4, 2, 5, 1, 3), dtype=np.float32)
    table = pd.DataFrame(
        {
            "recording": "a",
            "start_sample": [0, 1000],
            "n_times": 1000,
            "shard": 0,
            "row": [0, 2],
            "n_channels": 2,
        }
    )
    with artifacts.building(folder, "latents", {"latents": {"dtype": "float16"}}, {}):
        write_shard(folder, 0, tokens, "float16")
        artifacts.write_table(folder / "windows.parquet", table)
        artifacts.finish(folder)


def make_recordings(folder: Path) -> None:
    names, n_times = ["FP1-F7", "F7-T3"], 300
    with artifacts.building(folder, "recordings", {"signal": {"per_window": False}}, {}):
        (folder / "signals").mkdir()
        np.save(
            folder / "signals" / "a.npy",
            np.arange(2 * n_times, dtype=np.float32).reshape(2, n_times),
        )
        row = {
            "recording": "a",
            "file": "a.edf",
            "sha256": "0",
            "subject": "s",
            "session": "",
            "run": "",
            "split": "train",
            "sfreq": 200.0,
            "n_times": n_times,
            "ch_names": names,
            "channel_ids": [0, 1],
            "status": "ok",
            "reason": "",
            "signal": "signals/a.npy",
        }
        artifacts.write_table(folder / "recordings.parquet", pd.DataFrame([row]))
        events = pd.DataFrame(
            [
                {
                    "recording": "a",
                    "channel": None,
                    "onset_s": 0.5,
                    "duration_s": 0.1,
                    "label": "SPSW",
                }
            ]
        )
        artifacts.write_table(folder / "events.parquet", events.astype({"channel": "string"}))
        artifacts.finish(folder)


def make_model(folder: Path) -> None:
    torch.manual_seed(0)
    SSMDP(d_model=4, n_blocks=1, d_state=2, d_cond=4, d_embed=4).save_pretrained(folder)
    (folder / "README.md").unlink()
    shutil.copy(folder / "config.json", folder / "original.json")
    header = {
        name: ("F32", list(tensor.shape))
        for name, tensor in load_file(folder / "model.safetensors").items()
    }
    (folder / "header.json").write_text(json.dumps(header))


def make_checkpoint(folder: Path) -> None:
    folder.mkdir()
    torch.save(
        {
            "state_dict": {"weight": torch.arange(256, dtype=torch.float32)},
            "epoch": 3,
            "loops": {"a": [1, 2]},
        },
        folder / "last.ckpt",
    )


def make_yaml(folder: Path) -> None:
    folder.mkdir()
    (folder / "map.yaml").write_text(
        "{sharp wave: spike, 'GPED': periodic, \"a: b\": rest, 10: spike, true: rest}"
    )


MAKE = {
    "manifest": make_latents,
    "parquet": make_recordings,
    "signal": make_recordings,
    "tokens": make_tokens,
    "config": make_model,
    "safetensors": make_model,
    "checkpoint": make_checkpoint,
    "yaml": make_yaml,
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_mutated_file_is_read_as_what_it_says_or_refused(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "within"
    MAKE[kind](folder)
    before = sorted(tmp_path.rglob("*"))
    command = [
        sys.executable,
        str(Path(__file__).with_name("mutating.py")),
        kind,
        folder,
        str(NUMBER),
    ]
    environment = one_thread() | {
        "HYPOTHESIS_STORAGE_DIRECTORY": str(tmp_path.with_name(f"{tmp_path.name}-hypothesis"))
    }
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=800, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["faults"] == []
    assert found["count"]["refused"] >= NUMBER / 2 and sum(found["count"].values()) >= NUMBER
    assert sorted(tmp_path.rglob("*")) == before


def test_as_many_mutations_as_promised() -> None:
    assert NUMBER * len(KINDS) >= 2000 and set(MAKE) == set(KINDS)
