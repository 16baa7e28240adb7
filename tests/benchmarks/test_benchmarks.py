"""Every topic of the benchmarks runs, and ours equals the plain implementation; no time is
asserted.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    command = [sys.executable, "-m", "benchmarks", "--smoke", "--out", str(folder), *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True
    )


@pytest.mark.ci
@pytest.mark.timeout(900)
def test_every_topic_runs_and_outputs_agree(tmp_path: Path) -> None:
    finished = run(tmp_path)
    assert finished.returncode == 0, finished.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    topics = {
        path.stem for path in (ROOT / "benchmarks").glob("*.py") if "\ndef run(" in path.read_text()
    }
    assert results.keys() == {"machine", *topics}
    assert {"pretraining", "latents", "logits", "generation", "scaling", "others"} <= topics
    rows = [row for name in topics for row in results[name]]
    compared = [row for row in rows if row.get("error") is not None]
    assert len(compared) >= 6
    # Half precision and gradients have limits of their own, which the topic states
    assert [row for row in compared if row["error"] > row.get("limit", 1e-5)] == []
    assert all(0.1 < row[key] < 8 for row in rows for key in row if key.endswith("GiB"))
    assert all(results[name] for name in topics)
    assert (tmp_path / "results.md").read_text().count("\n## ") == 1 + len(topics)
    assert (tmp_path / "scaling.png").stat().st_size > 10_000


@pytest.mark.ci
def test_an_unknown_topic_is_refused_by_name(tmp_path: Path) -> None:
    finished = run(tmp_path, "--only", "latent")
    assert finished.returncode != 0
    assert "no topic latent; choose from" in finished.stderr and "latents" in finished.stderr


def test_the_plain_implementation_is_the_method(monkeypatch: pytest.MonkeyPatch) -> None:
    """At small sizes, gradients too; the full size is compared where it is timed."""
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import models

    ours, other = models.backbones(smoke=True)
    x, index = models.noise(3, 1, 300), torch.arange(3)
    for one, two in zip(*(gradients(model, x, index) for model in (ours, other)), strict=True):
        assert (one - two).abs().max() <= 1e-5 * two.abs().max()
    fast, slow = models.fusions(smoke=True)
    tokens = models.noise(2, 2, 5, 1, 22, 16)
    with torch.no_grad():
        assert (fast(tokens) - slow(tokens)).abs().max() <= 1e-5 * slow(tokens).abs().max()


def gradients(model: torch.nn.Module, x: torch.Tensor, index: torch.Tensor) -> list[torch.Tensor]:
    velocity = model(x, index, index)
    names = [
        name for name, _ in model.named_parameters() if not name.endswith(("frequency", "log_dt"))
    ]  # the plain kernel's are not
    weights = [
        dict(model.named_parameters())[name] for name in sorted(names)
    ]  # accurate: phases grow with the lag
    return [velocity, *torch.autograd.grad(velocity.square().sum(), weights)]
