"""What of the machine belongs to a process: cores, devices, and a GPU that no other has."""

from __future__ import annotations

import builtins
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from eegdm import processes
from eegdm.errors import UserError
from eegdm.processes import available_cores, own_device, pick_device


def test_cores_are_those_that_the_process_may_use() -> None:
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "from eegdm.processes import available_cores; print(available_cores())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


def test_a_containers_share_of_the_cores_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """100 ms of processor time in each 100 ms is one core, however many the machine has."""
    limit, exists, opened = "/sys/fs/cgroup/cpu.max", os.path.exists, builtins.open
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.setattr(os.path, "exists", lambda path: path == limit or exists(path))
    monkeypatch.setattr(
        builtins,
        "open",
        lambda path, *rest, **options: (
            io.StringIO("300000 100000\n") if path == limit else opened(path, *rest, **options)
        ),
    )
    assert available_cores() == 3


@pytest.mark.parametrize("name", ["gpu", "cuda", "cuda:0", "cpu:1", "cuda:x", ""])
def test_a_device_that_is_not_available_is_refused_with_those_that_are(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UserError) as refused:
        pick_device(name)
    assert str(refused.value) == (
        f"device={name} is not available on this machine (available: cpu)"
    )
    assert pick_device("auto") == pick_device("cpu") == torch.device("cpu")


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine that says that it has two GPUs, and locks of its own."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(processes.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(processes, "_HELD", {})
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


OTHER = """
import sys, tempfile, torch
torch.cuda.is_available, torch.cuda.device_count = lambda: True, lambda: 2
tempfile.tempdir = sys.argv[1]
from eegdm.processes import own_device
print(own_device("cuda", 2), flush=True)
sys.stdin.read()
"""


def test_a_long_lived_process_takes_one_gpu_for_all_its_runs(
    two_gpus: None, tmp_path: Path
) -> None:
    assert [own_device("auto", 1) for _ in range(3)] == [torch.device("cuda", 0)] * 3
    other = subprocess.Popen(
        [sys.executable, "-c", OTHER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout is not None and other.stdout.readline() == "cuda:1\n"
    third = subprocess.run(
        [sys.executable, "-c", OTHER, str(tmp_path)], input="", capture_output=True, text=True
    )
    assert "all taken by other runs" in third.stderr
    other.communicate("")
    again = subprocess.run(
        [sys.executable, "-c", OTHER, str(tmp_path)], input="", capture_output=True, text=True
    )
    assert again.stdout == "cuda:1\n"  # it went back when its process ended


def test_locks_are_of_a_user_and_of_a_gpu_by_the_machines_number(
    two_gpus: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user's lock can't be opened; jobs that see one GPU each both call it 0."""
    assert processes._lock_path(1).name == f"eegdm-{os.getuid()}-cuda-1.lock"
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-8932f937")
    assert processes._lock_path(0).name == "eegdm-12345-cuda-3.lock"
    assert processes._lock_path(1).name == "eegdm-12345-cuda-GPU-8932f937.lock"
