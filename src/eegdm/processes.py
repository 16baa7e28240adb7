"""Which of several processes this one is, and what of the machine is its own."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eegdm.errors import UserError

if TYPE_CHECKING:
    import torch

_LOCKS: list[Any] = []  # held as long as the process lives


def rank() -> int:
    """Return this process's number in a distributed training, counted from 0 over all machines, as
    torchrun, SLURM or Lightning's launcher gave it: known before the processes are connected.
    """
    return next(
        (
            int(os.environ[name])
            for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK")
            if name in os.environ
        ),
        0,
    )


def pick_device(name: str = "auto") -> torch.device:
    """Return the device of that name; "auto" takes the best there is.

    Raises:
        UserError: there is no such device here.
    """
    import torch

    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return torch.device(next(kind for kind, is_there in there.items() if is_there))
    if not there.get(name.split(":")[0], False):
        raise UserError(
            f"device={name}: is not there; this machine has"
            f" {', '.join(k for k, is_there in there.items() if is_there)}"
        )
    return torch.device(name)


def own_device(name: str, processes: int) -> torch.device:
    """Return the device of one of so many ``processes`` that share out work on this machine.

    Of several GPUs it is one that no other process has taken; on CPUs this process takes its share
    of the cores.

    Raises:
        UserError: there is no such device, or no free one.
    """
    import torch
    from filelock import FileLock, Timeout

    chosen = pick_device(name)
    if chosen.type == "cpu" and processes > 1:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // processes))
    if chosen.type != "cuda" or chosen.index is not None:
        return chosen
    for index in range(torch.cuda.device_count()):
        lock = FileLock(Path(tempfile.gettempdir()) / f"eegdm-cuda-{index}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        _LOCKS.append(lock)
        return torch.device("cuda", index)
    raise UserError(
        f"devices={processes}: this machine has {torch.cuda.device_count()} GPUs, all taken by"
        " other runs; ask for fewer devices, or wait for those runs"
    )
