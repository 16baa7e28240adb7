"""Rows divided among threads that do not wait for each other before all rows are done.

An operation that torch divides among threads ends when its slowest thread does. A block of the
backbone has some 350 of them a window, each of a fraction of a millisecond; where another process
keeps a core busy, each waits for a thread that is not running, and a window takes many times as
long. Also, torch's threads wait for the next such operation by spinning, which keeps a core from
ours for about a millisecond after each. Here each thread takes its rows through all operations of
all blocks by itself, and there is one wait.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")

_this_thread = threading.local()
"""``stop``: the event by which the caller of :func:`over_rows` calls a thread off."""


class _StoppedError(Exception):
    """Ends a thread whose results nobody waits for."""


_MAX_WASTE = 1.25
"""Rows are whole: three rows on two threads take as long as four. Where they would take longer than
this many times their share, torch's own division within operations is faster on an idle machine.
"""


def over_rows(rows: Tensor, work: Callable[[slice], Result]) -> list[Result]:
    """Return what ``work`` returns for consecutive slices that make up ``rows``, in order.

    As many threads take part as torch uses for an operation, and each of their operations stays on
    its thread. The grad and inference modes of the caller hold in all of them, and autocast in
    none; ``work`` must not record operations for autograd, nor depend on how rows are divided.
    """
    n_rows, n_threads = len(rows), torch.get_num_threads()
    n_threads = min(n_rows, n_threads)

    def in_full_precision(part: slice) -> Result:
        # Autocast belongs to a thread; and its half precision is too coarse for the kernels
        with torch.autocast(rows.device.type, enabled=False):
            return work(part)

    if n_threads < 2 or not _divisible(rows, n_threads):
        return [in_full_precision(slice(0, n_rows))]
    # At least a row for each, and sizes that differ by one at most
    bounds = [n_rows * i // n_threads for i in range(n_threads + 1)]
    first, *others = (slice(*ends) for ends in zip(bounds, bounds[1:], strict=False))
    inference, gradients = torch.is_inference_mode_enabled(), torch.is_grad_enabled()
    stop = threading.Event()

    def work_alone(part: slice) -> Result:
        _this_thread.stop = stop
        # OpenMP's setting and torch's modes are each thread's own: a new one has the defaults
        torch.set_num_threads(1)
        with torch.inference_mode(inference), torch.set_grad_enabled(gradients):
            return in_full_precision(part)

    # The threads last as long as the call: a process that is forked later would not have them
    with _undivided_operations(), ThreadPoolExecutor(len(others)) as pool:
        pending = [pool.submit(work_alone, part) for part in others]
        try:
            return [in_full_precision(first), *(each.result() for each in pending)]
        except BaseException:
            stop.set()
            raise


def check_wanted() -> None:
    """End this thread's part if the caller's has failed or was interrupted: a pass may take many
    seconds. ``work`` calls it where a part can end.
    """
    stop = getattr(_this_thread, "stop", None)
    if stop is not None and stop.is_set():
        raise _StoppedError


def _divisible(rows: Tensor, n_threads: int) -> bool:
    """Return whether rows may leave this thread, whose tracer and modes other threads lack."""
    in_python = type(rows) is Tensor and rows.device.type == "cpu" and not torch.jit.is_tracing()
    return in_python and -(-len(rows) // n_threads) * n_threads <= _MAX_WASTE * len(rows)


@contextmanager
def _undivided_operations() -> Iterator[None]:
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)
