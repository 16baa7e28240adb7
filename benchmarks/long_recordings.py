"""Peak memory of `eegdm predict` on short and on long recordings, and whether a killed run,
resumed, gives the identical result.

    # Minutes of recording and a tiny model: does it run at all?
    python benchmarks/long_recordings.py --smoke
    # 24 h with a model of the demo's size (killed, resumed), and 1 h with the full-size one.
    python benchmarks/long_recordings.py
    python benchmarks/long_recordings.py --only demo   # one of the two

Weights are random: neither time nor memory depends on them. Peak memory is the largest resident set
of the process and what it started, as the kernel counts it (ru_maxrss); pages of memory maps count.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from eegdm.data.montage import TCP

BY_HAND = "python benchmarks/long_recordings.py"
SFREQ = 256


class Case(NamedTuple):
    """A size of model, the two lengths of recording that are compared, the step of the windows, and
    whether a run is killed.
    """

    model: str
    short_s: float
    long_s: float
    step_s: float
    killed: bool


CASES = {
    "demo": Case("demo", 600, 86_400, 5.0, killed=True),
    "full": Case("full", 600, 3600, 5.0, killed=False),
}
SMOKE = {"tiny": Case("tiny", 600, 3600, 5.0, killed=True)}
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {
        "backbone": {"d_model": 8, "n_blocks": 2, "d_state": 4, "d_cond": 8, "d_embed": 8},
        "fusion": {"depth": 1, "n_tokens": 2, "n_heads": 2},
    },
    "demo": {
        "backbone": {"d_model": 32, "n_blocks": 6, "d_state": 16, "d_cond": 128, "d_embed": 32},
        "fusion": {"depth": 2, "n_tokens": 4, "n_heads": 4},
    },
    "full": {},
}


def run(smoke: bool = False, only: str | None = None) -> list[dict[str, Any]]:
    """Return a row for each case: peak memory of both lengths in MiB, their ratio, times, and
    whether the killed run came out the same.
    """
    cases = SMOKE if smoke else CASES
    return [measure(case) for name, case in cases.items() if only in (None, name)]


def measure(case: Case) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", ".")) as name:
        folder = Path(name)
        save_model(folder / "model", case.model)
        files = {kind: folder / f"{kind}.edf" for kind in ("short", "long")}
        for kind, length_s in (("short", case.short_s), ("long", case.long_s)):
            write_edf(files[kind], length_s)
        short = predict(files["short"], folder, "out-short", case)
        whole = predict(files["long"], folder, "out-whole", case)
        row = {
            "model": case.model,
            "short_s": case.short_s,
            "long_s": case.long_s,
            "step_s": case.step_s,
            "short_mib": short["mib"],
            "long_mib": whole["mib"],
            "ratio": round(whole["mib"] / short["mib"], 3),
            "short_run_s": short["s"],
            "long_run_s": whole["s"],
        }
        return row | (resumption(files["long"], folder, case) if case.killed else {})


def resumption(file: Path, folder: Path, case: Case) -> dict[str, Any]:
    """Kill a run, give its command again, and compare the result with that of the run that was left
    alone.
    """
    killed_after = predict_and_kill(file, folder, "out-killed", case)
    resumed = predict(file, folder, "out-killed", case)
    same = all(
        (folder / "out-whole" / f).read_bytes() == (folder / "out-killed" / f).read_bytes()
        for f in ("long_events.tsv", "long_probabilities.parquet")
    )
    return {
        "killed_after_chunks": killed_after,
        "resumed_run_s": resumed["s"],
        "resumed_is_identical": same,
        "work_left": (folder / "out-killed" / ".long.eegdm").exists(),
    }


def save_model(folder: Path, size: str) -> None:
    import torch

    from eegdm import EEGDM

    torch.manual_seed(0)
    EEGDM(**SIZES[size], decision={"threshold": 0.2, "resolution_s": 1.0}).save_pretrained(folder)


def write_edf(path: Path, length_s: float) -> None:
    """Write a referential EDF of synthetic 1/f EEG, a minute at a time."""
    rng = np.random.default_rng(0)
    labels = [f"EEG {name}-REF" for name in dict.fromkeys("-".join(TCP).split("-"))]
    n = len(labels)
    same = ("", "uV", "-3276.8", "3276.7", "-32768", "32767", "", str(SFREQ), "")  # for each signal
    fields = [labels, *([text] * n for text in same)]
    widths = (16, 80, 8, 8, 8, 8, 8, 80, 8, 32)
    head = f"{'0':<8}{'X X X X':<80}{'Startdate X X X X':<80}01.01.8500.00.00{256 * (n + 1):<8}{'':<44}{round(length_s):<8}{1:<8}{n:<4}"  # noqa: E501
    head += "".join(
        f"{text:<{width}}" for width, texts in zip(widths, fields, strict=True) for text in texts
    )
    with open(path, "wb") as file:
        file.write(head.encode("ascii"))
        for first in range(0, round(length_s), 60):
            seconds = min(60, round(length_s) - first)
            spectrum = np.fft.rfft(rng.standard_normal((n, seconds * SFREQ)))
            spectrum /= np.sqrt(1 + np.arange(spectrum.shape[1]))
            noise = np.fft.irfft(spectrum, seconds * SFREQ)
            steps = np.rint(noise / noise.std() * 300).astype("<i2")  # 30 µV
            file.write(steps.reshape(n, seconds, SFREQ).transpose(1, 0, 2).tobytes())


def _command(file: Path, folder: Path, out: str, case: Case) -> list[str]:
    return [
        sys.executable,
        "-m",
        "eegdm",
        "predict",
        str(file),
        "--model",
        str(folder / "model"),
        "--out",
        str(folder / out),
        "--step",
        str(case.step_s),
        "--device",
        "cpu",
    ]


def predict(file: Path, folder: Path, out: str, case: Case) -> dict[str, float]:
    """Run the command; its peak memory in MiB and its time in s."""
    start = time.monotonic()
    process = subprocess.Popen(_command(file, folder, out, case), stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"predict ended with status {os.waitstatus_to_exitcode(status)}")
    per_mib = 2**20 if sys.platform == "darwin" else 2**10
    return {"mib": round(usage.ru_maxrss / per_mib, 1), "s": round(time.monotonic() - start, 1)}


def predict_and_kill(file: Path, folder: Path, out: str, case: Case) -> int:
    """Run the command and kill it (SIGKILL) when half of the windows are done; return how many
    chunks were.
    """
    from eegdm.inference.chunks import CHUNK

    half = max(1, round(case.long_s / case.step_s / CHUNK / 2))
    work = folder / out / f".{file.stem}.eegdm"
    process = subprocess.Popen(
        _command(file, folder, out, case), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while process.poll() is None and len(list(work.glob("chunk-*.npy"))) < half:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    if not work.is_dir():
        raise SystemExit("the run was finished before it could be killed")
    return len(list(work.glob("chunk-*.npy")))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--only", choices=list(CASES))
    arguments = parser.parse_args()
    for row in run(arguments.smoke, arguments.only):
        print(json.dumps(row))


if __name__ == "__main__":
    main()
