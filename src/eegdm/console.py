"""What the stages say while they work."""

from __future__ import annotations

import functools
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from eegdm.errors import Interrupted, UserError
from eegdm.processes import rank

T = TypeVar("T")


def say(text: str) -> None:
    """Print one line to standard output at once; of the processes of a distributed training the
    first one speaks.
    """
    if rank() == 0:
        print(text, flush=True)


def as_options(text: str, names: Iterable[str]) -> str:
    """Spell the settings that a message names as a command's options: from `missing=drop`, as
    Python and the stages take it, to `--missing drop`.

    Args:
        names: the options, without dashes: `missing`, `min_duration`.
    """
    for name in names:
        setting = rf"(?<![\w./-]){name}(?:_s)?="
        option = f"--{name.replace('_', '-')}"
        text = re.sub(setting, option, re.sub(setting + r"(?=\S)", f"{option} ", text))
    return text


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


def clock(seconds: float, tenths: bool = False) -> str:
    """Write a time in a recording: min:s, or h:min:s from an hour on.

    Args:
        tenths: show tenths of a second where there are any.
    """
    # Rounded first: 59.96 s is 1:00, not 0:60
    rounded = round(float(seconds), 1) if tenths else float(round(float(seconds)))
    minutes, rest = divmod(rounded, 60)
    hours, minutes = divmod(int(minutes), 60)
    text = f"{rest:02.0f}" if rest == int(rest) else f"{rest:04.1f}"
    return f"{hours}:{minutes:02}:{text}" if hours else f"{minutes}:{text}"


def file_size(n_bytes: float) -> str:
    """Write a number of bytes with a binary unit, to a tenth of it."""
    if n_bytes < 1024:
        return f"{n_bytes:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        n_bytes /= 1024
        if n_bytes < 1024:
            return f"{n_bytes:.1f} {unit}"
    return f"{n_bytes / 1024:.1f} TiB"


class Transfer:
    """Progress of a download, updated from any thread."""

    def __init__(self, shown: Callable[..., None]) -> None:
        self.n_bytes = 0
        self._shown, self._lock = shown, threading.Lock()

    def received(self, n_bytes: int) -> None:
        """Add bytes that came."""
        with self._lock:
            self.n_bytes += n_bytes
        self._shown(came=file_size(self.n_bytes))

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


def run_main(function: Callable[[], object]) -> None:
    """Run a command; a fault that a user can mend, or a file that can't be opened, becomes one line
    per fault and exit status 2, or a traceback with --debug.

    SIGINT and SIGTERM end it with one line and the status that shells give, 130 or 143.
    """
    # Threads that spin while they wait cost a busy machine up to a hundredfold; read by OpenMP when
    # torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Taken out here, for any place of any command; Typer would know it only where it is declared
    debug = "--debug" in sys.argv
    sys.argv = [word for word in sys.argv if word != "--debug"]
    before = {
        number: signal.signal(number, _interrupt) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        function()
    except Interrupted as interrupted:
        print(
            "eegdm: interrupted; what is finished is kept, the same command resumes from there",
            file=sys.stderr,
        )
        sys.exit(128 + interrupted.signal)
    except UserError as error:
        if debug:
            raise
        for line in str(error).splitlines():
            print(f"eegdm: {line}", file=sys.stderr)
        sys.exit(2)
    # Of a file for which no command has better words; without a name it may be a fault of ours
    except OSError as error:
        if debug or error.filename is None:
            raise
        reason = f"{error.filename}: {error.strerror or error}"
        print(f"eegdm: {reason} (--debug shows where)", file=sys.stderr)
        sys.exit(2)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def stopped_by_signals(stop: threading.Event) -> Iterator[None]:
    """Let SIGINT and SIGTERM set an event, where ending is a part of the work."""
    before = {
        number: signal.signal(number, lambda *_: stop.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, _: object) -> None:
    raise Interrupted(number)
