"""What the stages say while they work."""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from eegdm.processes import rank

T = TypeVar("T")


def say(text: str) -> None:
    """Print one line to standard output at once; of the processes of a distributed training the
    first one speaks.
    """
    if rank() == 0:
        print(text, flush=True)


def track(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    """Yield items with a bar, a count and the time left, on standard error; only a line at the end
    where there is no terminal.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(file=sys.stderr)) as progress:
        yield from progress.track(items, total=total, description=description)


class Transfer:
    """What came of some files so far, told from any thread."""

    def __init__(self, shown: Callable[..., None]) -> None:
        self.n_bytes = 0
        self._shown, self._lock = shown, threading.Lock()

    def received(self, n_bytes: int) -> None:
        """Add bytes that came."""
        from rich.filesize import decimal

        with self._lock:
            self.n_bytes += n_bytes
        self._shown(came=decimal(self.n_bytes))

    def finished_one(self) -> None:
        """Count a file, whether it came or failed."""
        self._shown(advance=1)


@contextmanager
def transfer(description: str, n_files: int) -> Iterator[Transfer]:
    """Show how many files are finished, the bytes that came just now, and the time left by the
    files of the last half minute.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("files"),
        TextColumn("{task.fields[came]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(file=sys.stderr)) as progress:
        yield Transfer(
            functools.partial(
                progress.update, progress.add_task(description, total=n_files, came="")
            )
        )
