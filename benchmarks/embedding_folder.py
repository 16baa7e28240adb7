"""`eegdm embed` on a folder: windows per second, peak memory, and a killed run that is resumed

The recordings are synthetic, of 5 minutes each. "alone" is `eegdm.embed` called for one recording
after the other in a process that has loaded the model; "ratio" is the folder's rate by that one's.
Peak memory is the largest resident set of the command and its workers, as the kernel counts it.

    python -m benchmarks --only embedding_folder --smoke
    python -c 'from benchmarks import embedding_folder as b; print(b.run())'
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.long_recordings import write_edf

BY_HAND = "python -c 'from benchmarks import embedding_folder as b; print(b.run())'"


def run(smoke: bool = False) -> list[dict[str, Any]]:
    """Return one row."""
    import eegdm
    from eegdm import artifacts
    from eegdm.features import FeatureStore

    n_recordings, length_s, n_alone = (3, 20.0, 1) if smoke else (97, 300.0, 10)
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", ".")) as name:
        folder = Path(name)
        (folder / "source").mkdir()
        for number in range(n_recordings):
            write_edf(folder / "source" / f"s{number:03}.edf", length_s)
        whole = embed(folder, "whole")
        killed_after = embed_and_kill(folder, "killed", n_recordings // 2)
        resumed = embed(folder, "killed")
        fingerprints = {
            artifacts.open_artifact(folder / out).fingerprint for out in ("whole", "killed")
        }
        n_windows = len(FeatureStore.open(folder / "whole").windows)
        start = time.monotonic()
        for number in range(n_alone):
            eegdm.embed(folder / "source" / f"s{number:03}.edf", "mini")
        alone = n_windows / n_recordings * n_alone / (time.monotonic() - start)
    return [
        {
            "recordings": n_recordings,
            "windows": n_windows,
            "windows/s": n_windows / whole["s"],
            "windows/s alone": alone,
            "ratio": n_windows / whole["s"] / alone,
            "peak MiB": whole["mib"],
            "killed after": killed_after,
            "resumed in s": resumed["s"],
            "identical": len(fingerprints) == 1,
        }
    ]


def _command(folder: Path, out: str) -> subprocess.Popen[bytes]:
    words = ["embed", str(folder / "source"), "--out", str(folder / out), "--device", "cpu"]
    return subprocess.Popen(
        [sys.executable, "-m", "eegdm", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def embed(folder: Path, out: str) -> dict[str, float]:
    """Run the command; its peak memory in MiB and its time in s."""
    start = time.monotonic()
    _, status, usage = os.wait4(_command(folder, out).pid, 0)
    if status != 0:
        raise SystemExit(f"embed ended with status {os.waitstatus_to_exitcode(status)}")
    per_mib = 2**20 if sys.platform == "darwin" else 2**10
    return {"mib": round(usage.ru_maxrss / per_mib, 1), "s": time.monotonic() - start}


def embed_and_kill(folder: Path, out: str, n_recordings: int) -> int:
    """Run the command and kill it (SIGKILL) when some recordings are done; return how many were."""
    process = _command(folder, out)
    while process.poll() is None and len(_done(folder / out)) < n_recordings:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return len(_done(folder / out))


def _done(store: Path) -> list[Path]:
    return list(store.glob("parts/*.json"))
