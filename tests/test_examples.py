"""The examples run as their first lines say, and what the documents claim of them holds."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT


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
    rows = re.findall(r"^\| (\d+) \| ([\d.]+)% \| ([\d.]+)% \|$", run.stdout, re.MULTILINE)
    assert [int(rate) for rate, _, _ in rows] == [160, 190, 250, 500]
    assert all(float(right) <= 2.0 and float(published) >= 10.0 for _, right, published in rows), (
        run.stdout
    )
