"""What the stages say while they work."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from eegdm.processes import rank

T = TypeVar("T")


def say(text: str) -> None:
    """Print one line to standard output at once; of the processes of a distributed training the first one speaks."""
    if rank() == 0:
        print(text, flush=True)


def track(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    """Yield items with a bar, a count and the time left, on standard error; only a line at the end where there is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

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
