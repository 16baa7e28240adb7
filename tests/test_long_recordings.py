"""A long recording takes no more memory than a short one, and a killed run comes out the same."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from conftest import ROOT


@pytest.mark.ci
@pytest.mark.timeout(600)
def test_an_hour_takes_the_memory_of_ten_minutes_and_survives_sigkill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = importlib.util.spec_from_file_location(
        "long_recordings", ROOT / "benchmarks" / "long_recordings.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "long_recordings", module)
    spec.loader.exec_module(module)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    (row,) = module.run(smoke=True)
    assert row["ratio"] <= 1.1
    assert row["killed_after_chunks"] > 0
    assert row["resumed_is_identical"] and not row["work_left"]
