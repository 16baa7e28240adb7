"""The script that makes a backbone from open recordings: from a server on this machine to a page,
killed in between.
"""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import mne
import pytest

from conftest import ROOT
from eegdm.data.synthetic.layouts import write_chbmit
from eegdm.errors import UserError
from inference.small import ELECTRODES, made_up
from stages.tiny import one_thread

EXAMPLES = ROOT / "examples"
sys.path.insert(0, str(EXAMPLES))
from epochs_that_fit import epochs_within  # noqa: E402 - the examples are no package

TINY = (
    "backbone.n_blocks=2",
    "backbone.d_model=8",
    "backbone.d_state=4",
    "backbone.d_cond=8",
    "backbone.d_embed=8",
)
LEFT_OUT = ("Subject00", "Subject05", "Subject06")


def test_epochs_fill_a_share_of_the_time_and_at_least_one_must_fit() -> None:
    assert epochs_within(3600, 100, None) == 21  # 0.6 of an hour are 2160 s
    assert epochs_within(3600, 100, 6) == 6
    assert epochs_within(100, 60, None) == 1
    with pytest.raises(UserError, match=r"an epoch takes about 0.017 h .* give more hours"):
        epochs_within(99, 60, None)


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[str]:
    """The address of a server with three databases of a few seconds of EEG each."""
    root = tmp_path / "mirror"
    names = [f"eegmat/1.0.0/{who}_{run}" for who in (*LEFT_OUT, "Subject01") for run in (1, 2)]
    for seed, name in enumerate([*names, "eegmmidb/1.0.0/S001/S001R03"]):
        file = root / f"{name}.edf"
        file.parent.mkdir(parents=True, exist_ok=True)
        raw = made_up(20.0, seed=seed, names=ELECTRODES)
        mne.export.export_raw(file, raw, physical_range=(-2000, 2000), verbose="ERROR")
    write_chbmit(root / "chbmit/1.0.0", patients=(8,), n_recordings=1, minutes=1.5)
    for database in root.glob("*/1.0.0"):
        files = [file for file in database.rglob("*") if file.is_file()]
        (database / "SHA256SUMS.txt").write_text(
            "".join(
                f"{hashlib.sha256(f.read_bytes()).hexdigest()} {f.relative_to(database)}\n"
                for f in files
            )
        )

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            """Say nothing."""

    handler = partial(Quiet, directory=root)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.mark.ci
@pytest.mark.timeout(1800)
def test_an_open_backbone_from_download_to_page_with_a_kill_between(
    mirror: str, tmp_path: Path
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, words in (("eegdm", "-m eegdm "), ("python", "")):
        (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} {words}"$@"\n')
        (programs / name).chmod(0o755)
    out = tmp_path / "out"
    command = ["bash", EXAMPLES / "open_backbone.sh", tmp_path / "data", out]
    command += ["device=cpu", "hours=2", "pretrain.epochs=2", *TINY]
    env = {
        **one_thread(),
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PHYSIONET": mirror,
        "EEGMAT": ",".join((*LEFT_OUT, "Subject01")),
        "EEGMMIDB": "S001",
        "CHBMIT": "chb08",
        "LEFT_OUT": ",".join(LEFT_OUT),
    }
    first = subprocess.Popen(
        command, env=env, cwd=tmp_path, start_new_session=True, stdout=subprocess.DEVNULL
    )
    backbone = out / "folder" / "people" / "backbone"
    while not (backbone / "plan.json").is_file():
        assert first.poll() is None, "ended before it pretrained"
        time.sleep(0.05)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    kept = {name: (out / name).read_text() for name in ("whiten", "epochs", "command")}
    assert kept["whiten"].startswith("signal.whiten=[") and kept["whiten"].count("\n") == 1
    assert kept["epochs"] == "pretrain.epochs=2\n"

    again = subprocess.run(
        command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=1500
    )
    assert again.returncode == 0, again.stderr[-3000:]
    assert kept == {name: (out / name).read_text() for name in kept}
    assert kept["command"] in again.stdout and "pretrain.epochs=2" in kept["command"]
    config = json.loads((backbone / "config.json").read_text())
    learned = ("Subject01", "S001", "chb08")
    assert config["people"] == sorted(hashlib.sha256(n.encode()).hexdigest()[:12] for n in learned)
    page = (out / "evaluation" / "evaluation.md").read_text()
    assert "rest" in page and "arithmetic" in page
    assert "None of these people is among those whom backbone lists" in page
