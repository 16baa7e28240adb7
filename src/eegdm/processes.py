"""Which of several processes this one is, and what of the machine is its own."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from eegdm.errors import UserError

if TYPE_CHECKING:
    import torch
    from filelock import BaseFileLock

_HELD: dict[int, BaseFileLock] = {}
"""The GPU that this process has taken, at most one, held until the process ends or lets it go."""


def rank() -> int:
    """Return this process's number in a distributed training, counted from 0 over all machines, as
    torchrun, SLURM or Lightning's launcher gave it: known before the processes are connected.
    """
    # LOCAL_RANK last: it counts anew on each machine, and Lightning's launcher sets it alone
    for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"):
        if name in os.environ:
            return int(os.environ[name])
    return 0


@contextmanager
def initial_weights(seed: int) -> Iterator[None]:
    """Let the weights of models that are built inside follow from the seed, and put torch's
    generator back.
    """
    import torch

    # Not torch.manual_seed, which reaches the generators of devices too
    with torch.random.fork_rng(devices=()):
        torch.random.default_generator.manual_seed(seed)
        yield


@contextmanager
def own_random_state() -> Iterator[None]:
    """Let what is inside seed the generators of Python, NumPy and torch, and put them back."""
    from lightning.pytorch.utilities.seed import isolate_rng

    try:
        with isolate_rng():
            yield
    finally:
        # What seed_everything leaves behind would seed the next training of this process
        for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
            os.environ.pop(name, None)


def available_cores() -> int:
    """Return how many cores this process may use: fewer than the machine has where an affinity, a
    container or a batch system limits it (or the user, by LOKY_MAX_CPU_COUNT).
    """
    # joblib knows affinities and the limits of containers, which os.cpu_count() does not
    from joblib import cpu_count

    return int(cpu_count())


def pick_device(name: str = "auto") -> torch.device:
    """Return the device of that name; "auto" takes the best one.

    Raises:
        UserError: the device is not available on this machine.
    """
    import torch

    counts = {
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
        "cpu": 1,
    }
    available = [kind for kind, count in counts.items() if count]
    if name == "auto":
        return torch.device(available[0])
    kind, _, index = name.partition(":")
    if kind not in available or (index and not (index.isdecimal() and int(index) < counts[kind])):
        raise UserError(
            f"device={name} is not available on this machine (available: {', '.join(available)})"
        )
    return torch.device(name)


def own_device(name: str, processes: int) -> torch.device:
    """Return this process's device, where ``processes`` share the work on this machine.

    Of several GPUs it is one that no other process has taken. This process keeps it until it ends,
    so that a later run in it (a Dask worker does many) gets the same one. On CPUs this process
    takes its share of the cores.

    Raises:
        UserError: the device is not available, or every GPU is taken.
    """
    import torch
    from filelock import FileLock, Timeout

    chosen = pick_device(name)
    if chosen.type == "cpu" and processes > 1:
        torch.set_num_threads(max(1, available_cores() // processes))
    if chosen.type != "cuda" or chosen.index is not None:
        return chosen
    if _HELD:
        return torch.device("cuda", next(iter(_HELD)))
    # Locks are the system's: a process that is killed gives its GPU back
    for index in range(torch.cuda.device_count()):
        lock = FileLock(_lock_path(index))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        _HELD[index] = lock
        return torch.device("cuda", index)
    raise UserError(
        f"devices={processes}: this machine has {torch.cuda.device_count()} GPUs, all taken by"
        " other runs; ask for fewer devices, or wait for those runs"
    )


def _lock_path(index: int) -> Path:
    """The lock of a GPU. Its name has the user, since another user's file can't be opened, and the
    GPU's own number, since two jobs that see one GPU each both call it 0.
    """
    user = os.getuid() if hasattr(os, "getuid") else "user"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    gpu = visible[index].strip() if index < len(visible) and visible[0] else str(index)
    return Path(tempfile.gettempdir()) / f"eegdm-{user}-cuda-{gpu}.lock"
