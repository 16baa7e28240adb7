"""The examples run as their first lines say, and what the documents claim of them holds."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from conftest import ROOT

SAMPLING_RATES = re.compile(r"^\| (\d+) \| ([\d.]+)% \| ([\d.]+)% \| ([\d.]+)% \|$", re.MULTILINE)


@pytest.mark.ci
@pytest.mark.real
@pytest.mark.timeout(1000)
def test_tokens_keep_at_another_sampling_rate_and_the_published_way_does_not(shared: Path) -> None:
    script = ROOT / "examples" / "sampling_rate.py"
    run = subprocess.run(
        [sys.executable, script, shared / "data" / "eegmmidb" / "S001R03.edf"],
        capture_output=True,
        text=True,
        timeout=900,
        cwd=ROOT,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    rows, documented = (
        {int(rate): tuple(map(float, numbers)) for rate, *numbers in SAMPLING_RATES.findall(text)}
        for text in (run.stdout, (ROOT / "docs" / "deviations.md").read_text())
    )
    assert list(rows) == list(documented) == [100, 128, 160, 190, 250, 500]
    for rate, (right, published, same_band) in rows.items():
        assert right <= (2.0 if rate >= 160 else 3.4) and published >= 10.0, run.stdout
        # Other windows and channels of the recording change the numbers by as much.
        assert (right, same_band) == pytest.approx(documented[rate][::2], abs=0.3), run.stdout


def test_features_for_neuralbench_belong_to_channels_of_any_montage() -> None:
    """The benchmark itself is not installed here; docs/neuralbench.md says what ran with it."""
    example = runpy.run_path(str(ROOT / "examples" / "neural_bench.py"))
    tokens = example["Tokens"]("mini").eval()
    names = ["O2", "Fp1", "Cz", "T3"]
    for n_times in (100, 250):
        x = 2e-5 * torch.randn(2, 4, n_times, generator=torch.Generator().manual_seed(n_times))
        features = tokens(x, torch.zeros(2, 4, 3), names)
        assert features.shape == (2, 4, 256) and features.isfinite().all()
        reversed_features = tokens(x.flip(1), torch.zeros(2, 4, 3), names[::-1])
        torch.testing.assert_close(reversed_features.flip(1), features, rtol=1e-4, atol=1e-4)
    assert tokens.preprocessing()["data.neuro.filter"] == [0.5, 45.0]


@pytest.mark.ci
@pytest.mark.timeout(900)
def test_the_check_of_a_gpu_is_rehearsed_on_the_cpu(tmp_path: Path) -> None:
    """Every step runs and is named in the results; what a GPU computes is not known from this."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, started in (("eegdm", f"{sys.executable} -m eegdm"), ("python", sys.executable)):
        (programs / name).write_text(f'#!/bin/sh\nexec {started} "$@"\n')
        (programs / name).chmod(0o755)
    environment = os.environ | {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "src"),
        "OMP_NUM_THREADS": "1",
    }
    run = subprocess.run(
        ["bash", ROOT / "examples" / "gpu_check.sh", tmp_path / "out", "cpu", "--smoke"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-2000:]
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {step["status"] for step in found["steps"]} <= {"0", "left_out"}
    assert [step["step"] for step in found["steps"][:3]] == [
        "agreement",
        "benchmarks",
        "preprocess",
    ]
    assert all(row["error"] <= row["limit"] for row in found["agreement"])
    assert {row["how"] for row in found["compiled"]} == {"eager"}
