"""Which of the processes of one distributed training this is, before any of them is connected to the others."""

from __future__ import annotations

import os


def rank() -> int:
    """Return this process's number, counted from 0 over all machines, as torchrun, SLURM or Lightning's launcher gave it."""
    return next((int(os.environ[name]) for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK") if name in os.environ), 0)
