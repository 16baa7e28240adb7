"""What the stages say while they work."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

T = TypeVar("T")


def say(text: str) -> None:
    """Print one line to standard output at once."""
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


class Transfer(NamedTuple):
    """Tells a bar of files that bytes came, and that a file is finished; from any thread."""

    received: Callable[[int], None]
    finished_one: Callable[[], None]


@contextmanager
def transfer(description: str, n_files: int) -> Iterator[Transfer]:
    """Show how many files are finished, the bytes that came just now, and the time left by the files of the last half minute."""
    from rich.console import Console
    from rich.filesize import decimal
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("files"), TextColumn("{task.fields[came]}"),
        TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip
    n_bytes = 0
    with Progress(*columns, console=Console(file=sys.stderr)) as progress:
        task = progress.add_task(description, total=n_files, came="")

        def received(n: int) -> None:
            nonlocal n_bytes
            n_bytes += n
            progress.update(task, came=decimal(n_bytes))

        yield Transfer(received, lambda: progress.advance(task))
