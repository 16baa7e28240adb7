"""What all tests share."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault(
    "OMP_WAIT_POLICY", "PASSIVE"
)  # as `eegdm` does: threads that spin while they wait slow a busy machine down
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
settings.register_profile(
    "unhurried", deadline=None
)  # how fast a machine is, is no property of the code
settings.load_profile("unhurried")

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of open recordings and golden numbers beside the checkout."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("the open recordings (../shared) are not beside this checkout")
    return folder


@pytest.fixture(scope="session")
def cluster() -> Iterator[str]:
    """A scheduler and two worker processes on this machine, connected by TCP as those of several
    machines are.
    """
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=None
    ) as found:
        yield found.scheduler_address


def golden_folder(name: str) -> Path:
    """The golden set ``name``: beside the checkout if there, else the copy kept with the tests."""
    beside = ROOT.parent / "shared" / "golden" / name
    return beside if beside.is_dir() else Path(__file__).parent / "golden" / name


def _threads(number: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def on_one_thread() -> Iterator[None]:
    yield from _threads(1)


@pytest.fixture
def on_two_threads() -> Iterator[None]:
    yield from _threads(2)
