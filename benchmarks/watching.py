"""`eegdm watch` on a recording that grows faster than real time: does it keep up, how long are
events waited for, how much memory does an hour take, and is the result that of `eegdm predict`?

    # Three minutes of recording and a tiny model: does it run at all?
    python -m benchmarks.watching --smoke
    # An hour of synthetic EEG at 20 times real time, by a classifier (that of `eegdm demo`)
    python -m benchmarks.watching --model runs/synthetic/demo/classifier/seed=0

A delay is how much of the recording there was after the end of a window when its row was written,
or after the end of an event when that was known, in seconds of the recording. The least that it can
be is what filters and decision rule look ahead. Memory is that of the watching process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.long_recordings import save_model

BY_HAND = "python -m benchmarks.watching"
SPEED = 20.0
MINUTES = 60.0


def run(smoke: bool = False, model: Path | None = None) -> list[dict[str, Any]]:
    """Return one row."""
    minutes, speed = (3.0, 60.0) if smoke else (MINUTES, SPEED)
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", ".")) as name:
        folder = Path(name)
        if model is None:
            model = folder / "model"
            save_model(model, "tiny" if smoke else "demo")
        finished = recording(folder, minutes)
        watched = watch(finished, folder / "live" / finished.name, model, speed)
        predicted = folder / "predicted"
        command = [sys.executable, "-m", "eegdm", "predict", str(finished), "--model", str(model)]
        command += ["--out", str(predicted), "--device", "cpu", "--no-report"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        final = [pd.read_csv(place / f"{finished.stem}_events.tsv", sep="\t")
                 for place in (predicted, folder / "live")]  # fmt: skip
    return [
        {"minutes": minutes, "speed": speed, **watched, "same events": final[0].equals(final[1])}
    ]


def recording(folder: Path, minutes: float) -> Path:
    """Write synthetic EEG with events, of a subject that the demo has never met."""
    from eegdm.data.synthetic.layouts import write_tuev
    from eegdm.demo import UNSEEN_SEED

    write_tuev(folder / "corpus", n_train=0, n_eval=1, minutes=minutes, seed=UNSEEN_SEED)
    return next((folder / "corpus").rglob("*.edf"))


def watch(finished: Path, growing: Path, model: Path, speed: float) -> dict[str, Any]:
    """Write the recording anew at the given speed while another process watches it."""
    growing.parent.mkdir()
    recorder = threading.Thread(target=write_slowly, args=(finished, growing, speed), daemon=True)
    recorder.start()
    while not growing.exists():
        time.sleep(0.01)
    command = [sys.executable, "-m", "benchmarks.watching", "--child", str(growing)]
    child = subprocess.run(
        [*command, "--model", str(model)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_WAIT_POLICY": "PASSIVE"},  # as the command sets it
    )
    recorder.join()
    found = json.loads(child.stdout.splitlines()[-1])
    cells: dict[str, Any] = {"windows": len(found["windows"]), "events": len(found["events"])}
    for what in ("windows", "events"):
        if not found[what]:
            continue
        for name, share in (("least", 0), ("median", 50), ("95 %", 95), ("largest", 100)):
            cells[f"delay of {what}, {name}, s"] = round(
                float(np.percentile(found[what], share)), 2
            )
    return {**cells, **found["mib"]}


def write_slowly(finished: Path, growing: Path, speed: float) -> None:
    """Copy an EDF record after record, as a recorder writes it."""
    from eegdm.data.edf import read_edf_header

    header, data = read_edf_header(finished), finished.read_bytes()
    begun = time.monotonic()
    with growing.open("wb", buffering=0) as file:
        file.write(data[:236] + b"-1      " + data[244 : header.data_offset])
        for k in range(header.n_records):
            time.sleep(max(0.0, begun + (k + 1) * header.record_s / speed - time.monotonic()))
            at = header.data_offset + k * header.record_bytes
            file.write(data[at : at + header.record_bytes])
        file.seek(236)
        file.write(f"{header.n_records:<8}".encode())


def child(growing: Path, model: Path) -> None:
    """Watch to the end, and print the delays and the memory on the way."""
    import eegdm

    windows: list[float] = []
    events: list[float] = []
    mib: dict[str, float] = {}
    watching = eegdm.Watch(growing, model, growing.parent, device="cpu")
    for update in watching:
        table = update.windows
        windows += (table.recorded_s - table.onset_s - table.duration_s).tolist()
        recorded_s = float(table.recorded_s.iloc[-1])
        events += (recorded_s - update.ended.onset_s - update.ended.duration_s).tolist()
        if recorded_s > 600 and not mib:
            mib["MiB after 10 min"] = resident_mib()
        last = resident_mib()
    mib["MiB at the end"], mib["peak MiB"] = last, resident_mib("VmHWM")
    watching.finish()
    print(json.dumps({"windows": windows, "events": events, "mib": mib}))


def resident_mib(field: str = "VmRSS") -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{field}:"))
    return int(line.split()[1]) / 2**10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--model", type=Path, help="a classifier; by default random weights")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child, arguments.model)
        return
    for row in run(arguments.smoke, arguments.model):
        print(json.dumps(row, indent=1))


if __name__ == "__main__":
    main()
