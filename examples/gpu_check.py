"""Collect what `gpu_check.sh` found: how long each step took and how it ended, the benchmarks, and
how far the predictions on the device are from those on the CPU. Ends with status 1 if a step
failed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

LARGEST_DIFFERENCE = 1e-3
"""Between the probabilities of a window on the device and on the CPU, both in float32."""


def main(out: Path, device: str) -> int:
    steps = pd.read_csv(out / "steps.tsv", sep="\t", names=["step", "status", "seconds"], dtype=str)
    found = {"device": device, "steps": steps.to_dict("records")}
    for name in ("agreement", "benchmarks"):
        path = out / name / "results.json"
        if path.is_file():
            found |= json.loads(path.read_text())
    failed = list(steps.step[~steps.status.isin(["0", "left_out"])])
    difference = _difference(out, device)
    if difference is not None:
        found["largest difference of a probability from the CPU's"] = difference
        if not difference <= LARGEST_DIFFERENCE:
            failed.append(f"predictions on {device} and cpu, which differ by {difference:.2g}")
    (out / "results.json").write_text(json.dumps(found, indent=1) + "\n")
    lines = ["| step | status | s |", "|---|---|---|"]
    lines += [f"| {row.step} | {row.status} | {row.seconds} |" for row in steps.itertuples()]
    if difference is not None:
        lines += ["", f"Largest difference of a probability from the CPU's: {difference:.2g}"]
    for name in ("agreement", "benchmarks"):
        path = out / name / "results.md"
        lines += ["", path.read_text()] if path.is_file() else []
    (out / "results.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines[: len(steps) + 4]))
    print(
        f"failed: {', '.join(failed)}" if failed else "nothing failed", f"-> {out / 'results.md'}"
    )
    return int(bool(failed))


def _difference(out: Path, device: str) -> float | None:
    tables = [
        pd.read_parquet(path)
        for where in ("cpu", device)
        for path in (out / f"predicted-{where}").glob("*_probabilities.parquet")
    ]
    if len(tables) != 2:
        return None
    one, other = (t.select_dtypes("number").to_numpy() for t in tables)
    return float(np.abs(one - other).max())


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
