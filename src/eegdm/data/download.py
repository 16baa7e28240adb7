"""Getting the corpora: databases of PhysioNet, resumable and checked.

What has arrived of a file waits in ``.<name>.part`` beside its place. After a break, a stall or a
killed run the next attempt asks the server for the rest. Only a file whose SHA-256 is that of the
database's SHA256SUMS.txt gets its name.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from eegdm.artifacts import atomic_path
from eegdm.config import did_you_mean
from eegdm.console import file_size, say, transfer
from eegdm.errors import UserError, one_line

if TYPE_CHECKING:
    from requests import RequestException

SUMS = "SHA256SUMS.txt"


class Database(NamedTuple):
    """A database of PhysioNet. A file's path begins with its subject: `chb01/chb01_03.edf`,
    `Subject00_1.edf`.
    """

    title: str
    url: str
    subjects: tuple[str, ...]
    about: tuple[str, ...]
    """Small files about all subjects, downloaded with any of them."""


DATABASES = {
    "chbmit": Database(
        "CHB-MIT",
        "https://physionet.org/files/chbmit/1.0.0/",
        tuple(f"chb{number:02d}" for number in range(1, 25)),
        ("RECORDS", "RECORDS-WITH-SEIZURES", "SUBJECT-INFO"),
    ),
    "siena": Database(
        "Siena",
        "https://physionet.org/files/siena-scalp-eeg/1.0.0/",
        tuple(f"PN{number:02d}" for number in (0, 1, 3, 5, 6, 7, 9, 10, 11, 12, 13, 14, 16, 17)),
        ("RECORDS", "subject_info.csv"),
    ),
    "eegmmidb": Database(
        "eegmmidb",
        "https://physionet.org/files/eegmmidb/1.0.0/",
        tuple(f"S{number:03d}" for number in range(1, 110)),
        ("RECORDS",),
    ),
    "eegmat": Database(
        "EEGMAT",
        "https://physionet.org/files/eegmat/1.0.0/",
        tuple(f"Subject{number:02d}" for number in range(36)),
        ("RECORDS", "subject-info.csv"),
    ),
}

_CHUNK_BYTES = 2**14  # a break loses what has come of one
_CHECKS = 3  # a file that arrives this often with another checksum is given up


class Patience(NamedTuple):
    """When to give up on a server."""

    timeout_s: float = 30.0
    """Without a byte, before the connection is broken off."""
    attempts: int = 6
    """In a row that bring nothing new."""
    pause_s: float = 1.0
    """Before the second attempt; doubled before each further one."""


PATIENCE = Patience()


# -------------------------------------------------------------------------------------- PhysioNet


def download_database(
    name: str,
    out: Path,
    subjects: Sequence[str] = (),
    base_url: str | None = None,
    connections: int = 4,
    patience: Patience = PATIENCE,
) -> Path:
    """Download subjects' files into ``out``, in PhysioNet's layout; go on where an earlier call
    stopped.

    Args:
        name: one of :data:`DATABASES`.
        out: the folder; files in it that have their checksum are left as they are.
        subjects: names such as "chb01"; none means all.
        base_url: where a mirror of the database lies; None: PhysioNet.
        connections: files at a time.
        patience: when to give up.

    Raises:
        UserError: an unknown subject, a server that doesn't answer or holds something else, or
            files that could not be got; what arrived is kept.
    """
    from filelock import FileLock, Timeout

    database = DATABASES[name]
    wanted = _known_subjects(database, subjects)
    out = Path(out)
    url = base_url or database.url
    try:
        out.mkdir(parents=True, exist_ok=True)
        with FileLock(out / ".lock").acquire(timeout=0):
            _fetch_all(database, out, wanted, f"{url.rstrip('/')}/", connections, patience)
    except Timeout:
        raise UserError(
            f"{out}: another process downloads into it; wait for it to end, or choose another --out"
        ) from None
    except OSError as error:
        fault = f"{error.filename or out}: {error.strerror or error}"
        raise UserError(f"{fault}; what has arrived is kept, the same command resumes") from error
    return out


def _known_subjects(database: Database, subjects: Sequence[str]) -> Sequence[str]:
    every = database.subjects
    for name in subjects:
        if name not in every:
            raise UserError(
                f"subjects={name}: {database.title} has {every[0]} to"
                f" {every[-1]}{did_you_mean(name, every)}"
            )
    return subjects or every


def _subject_of(file: str) -> str:
    return re.split("[/_]", file, maxsplit=1)[0]


def _fetch_all(
    database: Database,
    out: Path,
    subjects: Sequence[str],
    base_url: str,
    connections: int,
    patience: Patience,
) -> None:
    # Threads can't be ended from outside: they look at this between chunks, so that an interrupted
    # download ends within seconds.
    stopped = threading.Event()
    # The list comes anew each time: an old one would take a corrected file for a damaged one.
    with atomic_path(out / SUMS) as temporary:
        _receive(base_url + SUMS, temporary, patience, stopped, lambda n_bytes: None)
    sums = {
        name: digest
        for name, digest in read_sums(out / SUMS).items()
        if name in database.about or _subject_of(name) in subjects
    }
    if lacking := sorted(set(subjects) - {_subject_of(name) for name in sums}):
        raise UserError(
            f"{base_url}{SUMS}: lists no file of {', '.join(lacking)}; is this the address of"
            f" {database.title}?"
        )
    say(f"download: {len(sums)} files of {len(subjects)} subjects from {base_url} -> {out}")
    faults, begun = [], time.monotonic()
    with transfer("download", len(sums)) as progress:
        store = _Store(out, base_url, sums, patience, stopped, progress.received)
        pool = ThreadPoolExecutor(connections)
        try:
            for future in as_completed([pool.submit(store.fetch, name) for name in sorted(sums)]):
                # One file that can't be had does not stop the others; a bug does.
                if isinstance(fault := future.exception(), UserError):
                    faults.append(str(fault))
                elif fault is not None:
                    raise fault
                progress.finished_one()
        finally:
            stopped.set()
            pool.shutdown(cancel_futures=True)
    for fault_line in faults:
        say(f"  failed   {fault_line}")
    took = time.monotonic() - begun
    say(
        f"download: {len(sums) - len(faults)} of {len(sums)} files are there and have their"
        f" checksum; {file_size(progress.n_bytes)} came in {took:.0f} s"
    )
    if faults:
        raise UserError(
            f"{len(faults)} of {len(sums)} files could not be downloaded (above); what has arrived"
            " is kept: run the same command again"
        )


def read_sums(path: Path) -> dict[str, str]:
    """Read a SHA256SUMS.txt: the digest of each file, by its path below the database.

    Raises:
        UserError: unreadable, a line of another shape, or a path that leads elsewhere.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not a list of checksums ({error})") from error
    sums = {}
    for number, line in enumerate(lines, start=1):
        match = re.fullmatch(
            r"([0-9a-f]{64}) [ *]?((?:[A-Za-z0-9][\w+.-]*/)?[A-Za-z0-9][\w+.-]*)", line, re.ASCII
        )
        if match is None:
            raise UserError(
                f"{path}:{number}: {ascii(line[:60])} is not a line of a {SUMS}; is this the"
                " address of a PhysioNet database?"
            )
        sums[match[2]] = match[1]
    return sums


class _Store:
    """Files of a database on a server and in a folder, by pooch: which are there, which to get, and
    whether they are right.
    """

    def __init__(
        self,
        out: Path,
        base_url: str,
        sums: dict[str, str],
        patience: Patience,
        stopped: threading.Event,
        seen: Callable[[int], None],
    ) -> None:
        import pooch

        pooch.get_logger().setLevel("WARNING")
        for name in {name.rpartition("/")[0] for name in sums}:
            # Pooch looks whether a folder is there and then makes it, which two threads may do at
            # once.
            (out / name).mkdir(exist_ok=True)
            # Pooch's temporary files, of a run that was killed while it checked one.
            for leftover in (out / name).glob("tmp????????"):
                leftover.unlink()
        self._pooch = pooch.create(path=out, base_url=base_url, registry=sums)
        self._out, self._patience, self._stopped, self._seen = out, patience, stopped, seen

    def fetch(self, name: str) -> None:
        """See that a file is there with its checksum; what arrives with another is fetched anew,
        from its first byte.
        """
        for _ in range(_CHECKS):
            try:
                self._pooch.fetch(name, downloader=self._download)
                return
            except UserError:
                raise
            # Pooch has no exception of its own for a wrong checksum.
            except ValueError:
                continue
        raise UserError(
            f"{self._pooch.get_url(name)}: came {_CHECKS} times with another SHA-256 than {SUMS}"
            " says"
        )

    def _download(self, url: str, output_file: str, store: Any) -> None:
        """Pooch's downloader: bring the file into `.<name>.part` however many attempts that takes,
        then hand it over.
        """
        # Pooch compares the checksum of what lies at output_file before it moves it into place; the
        # part must not lie there, or pooch would delete it after a break.
        target = self._out / url.removeprefix(store.base_url)
        part = target.with_name(f".{target.name}.part")
        _receive(url, part, self._patience, self._stopped, self._seen)
        os.replace(part, output_file)


# --------------------------------------------------------------------------------------- one file


def _receive(
    url: str, part: Path, patience: Patience, stopped: threading.Event, seen: Callable[[int], None]
) -> None:
    """Append what is missing of a file to ``part``, over as many connections as it takes.

    Raises:
        UserError: the server refuses the file, or several attempts in a row brought nothing.
    """
    from requests import RequestException

    failures = 0
    while True:
        before = _size_on_disk(part)
        try:
            return _receive_rest(url, part, patience.timeout_s, stopped, seen)
        except RequestException as error:
            # 43 GB over a slow line break off many times; only a server that gives nothing any more
            # is given up.
            failures = 0 if _size_on_disk(part) > before else failures + 1
            if failures >= patience.attempts or _is_refusal(error):
                raise UserError(f"{url}: {_innermost(error)}") from error
        stopped.wait(patience.pause_s * 2**failures)


def _receive_rest(
    url: str, part: Path, timeout_s: float, stopped: threading.Event, seen: Callable[[int], None]
) -> None:
    import requests

    have = _size_on_disk(part)
    # Of a compressed answer the bytes on disk would not be those that the next Range counts.
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={have}-"} if have else {})}
    with requests.get(url, headers=headers, stream=True, timeout=timeout_s) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            # There is nothing beyond what is there; the checksum tells whether it is the file
            return
        response.raise_for_status()
        # A server that knows no ranges answers with the whole file.
        resumed = response.status_code == requests.codes.partial_content
        length = response.headers.get("Content-Length")
        with part.open("ab" if resumed else "wb") as file:
            for chunk in response.iter_content(_CHUNK_BYTES):
                if stopped.is_set():
                    raise UserError(f"{url}: stopped")
                file.write(chunk)
                seen(len(chunk))
    # Some versions of urllib3 take a connection that breaks for the end of the file.
    if length is not None and _size_on_disk(part) < (have if resumed else 0) + int(length):
        raise requests.ConnectionError(f"the connection ended after {_size_on_disk(part)} bytes")


_PASSING_STATUS = (408, 425, 429)  # Request Timeout, Too Early, Too Many Requests


def _is_refusal(error: RequestException) -> bool:
    """Whether the server said that asking again is no use; what it had no time for yet (408, 425,
    429) it may give later.
    """
    if error.response is None:
        return False
    status = error.response.status_code
    return 400 <= status < 500 and status not in _PASSING_STATUS


def _innermost(error: BaseException) -> str:
    """What happened at the bottom of what requests and urllib3 wrapped: `Connection refused`,
    `timed out`, `404 Client Error`.
    """
    # What requests says of its own quotes objects and pool settings.
    while error.__context__ is not None:
        error = error.__context__
    # Alone, the text of an OSError begins with its number, which says nothing to most people.
    strerror = getattr(error, "strerror", None)
    return one_line(Exception(strerror) if strerror else error)


def _size_on_disk(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
