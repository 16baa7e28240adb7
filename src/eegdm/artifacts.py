"""The folders that stages write: manifest, fingerprint, atomic write, open, verify.

A finished artefact is a folder whose ``manifest.json`` names its kind, the configuration and the
inputs it was made from, and the size and SHA-256 of each of its files. The manifest is written
last, so a folder without one is unfinished work: the stage that owns it resumes where it stopped.
Every write is temp, fsync, rename; nothing half-written has a final name.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import socket
import threading
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eegdm import __version__
from eegdm.errors import UserError, one_line

FORMAT = 2
"""2: labels of events stand as in the files, and recordings name the files they were made of."""
MANIFEST = "manifest.json"
PLAN = "plan.json"
LOCK = ".lock"
RUN = ".run"
WRITER = ".writer-{}.lock"
_WRITER_LOCK = re.compile(r"\.writer-.*\.lock")
_TEMPORARY = re.compile(r"\..*\.\d+\.tmp(\.[^.]*)?")
"""Names that :func:`atomic_path` and :func:`atomic_folder` give to what is half-written."""
WAIT_FOR_WRITERS_S = 600.0
MAX_JSON_BYTES = 256 * 2**20
_READ_BYTES = 2**20
_WINDOWS = os.name == "nt"
# Faults of the disk or network drive, which the same command survives once they are mended.
_STORAGE_FAULTS = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.ESTALE,
    errno.EIO,
    errno.ENOTDIR,
    errno.ENAMETOOLONG,
)


# ---------------------------------------------------------------------------------------- writing


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success flush it to disk and rename it to
    ``path``, else remove it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    try:
        yield temporary
        # The content must be on the disk before its name, and the name (an entry of the folder)
        # before anyone relies on it: after a power cut a renamed file could be empty otherwise
        _fsync(temporary)
        os.replace(temporary, path)
        _fsync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``; on success rename it to ``path``, else remove
    it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir()
        yield temporary
        for file in temporary.rglob("*"):
            _fsync(file)
        os.replace(temporary, path)
        _fsync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _fsync(path: Path) -> None:
    """Send a file or folder to the disk; Windows opens no folders, and flushes a file only through
    a handle that may write.
    """
    if _WINDOWS and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDWR if _WINDOWS else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # An error of a descriptor has no name, and the user needs one
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        os.close(descriptor)


def _temporary(path: Path) -> Path:
    # The suffix stays at the end, where libraries choose a format by it; _TEMPORARY finds the name
    return path.with_name(f".{path.name}.{os.getpid()}.tmp{path.suffix}")


def memory_map(path: Path, shape: tuple[int, ...]) -> Any:
    """Make a .npy file of float32 zeros and return it as a memory map that can be written to.

    All of its blocks are taken now: where a disk fills up under a memory map, the system ends the
    process by a signal, without a message.

    Raises:
        OSError: the disk has less space; the error names the file.
    """
    import numpy as np

    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    try:
        with open(path, "r+b") as stream:
            _reserve(stream.fileno(), path.stat().st_size)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    return array


def _reserve(descriptor: int, n_bytes: int) -> None:
    """Give a sparse file its blocks; its content stays."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, n_bytes)
        return
    # macOS has no such call: write what is read, which is zeros
    offset = 0
    while content := os.pread(descriptor, _READ_BYTES, offset):
        offset += os.pwrite(descriptor, content, offset)


def make_folder(path: Path, option: str) -> None:
    """Make a folder and those above it, if need be.

    Args:
        option: what the user chooses the place by, such as "--out".

    Raises:
        UserError: it can't be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{path}: can't be made ({_why(error)}); choose another place with {option}"
        ) from error


def _why(error: OSError) -> str:
    if isinstance(error, FileExistsError | NotADirectoryError):
        return "a file is in the way"
    return str(error.strerror or error)


@contextmanager
def storage_faults(folder: Path, option: str) -> Iterator[None]:
    """Turn faults of the disk below ``folder`` into one line: full, read-only, not permitted.

    Raises:
        UserError: with the fault, and ``option`` as in :func:`make_folder`.
    """
    try:
        yield
    except OSError as error:
        if not is_storage_fault(error, folder):
            raise
        raise UserError(
            f"{error.filename or folder}: {_why(error)}; make room or allow writing there, or"
            f" choose another place with {option}"
        ) from error


def refuse_long_names(paths: Iterable[Path], option: str) -> None:
    """Refuse files whose names the disk can't hold, before any work is done for them; their folders
    exist.

    Raises:
        UserError: naming the first of them.
    """
    for path in paths:
        try:
            # The temporary name is the longer one; asking for it costs nothing, and writing may
            # come hours later
            os.lstat(_temporary(path))
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            raise UserError(
                f"{path.name}: this name of a result is too long for the disk"
                f" ({len(os.fsencode(path.name))} bytes); {option}"
            ) from error


def is_storage_fault(error: BaseException, folder: Path) -> bool:
    """Whether an exception says that the disk below the folder can't be written: full, read-only,
    or gone.
    """
    if not isinstance(error, OSError):
        return False
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        return True
    # The others may as well be faults of what is read: the file decides
    file = Path(os.fsdecode(error.filename or ""))
    return error.errno in _STORAGE_FAULTS and file.is_relative_to(folder)


def write_json(path: Path, obj: Any) -> None:
    """Write ``obj`` as indented JSON, atomically. NaN is refused: it is not JSON."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(obj, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read JSON, or say in one line why it can't be read."""
    path = Path(path)
    try:
        # Files come from strangers, and parsed JSON takes many times its size
        if path.stat().st_size > MAX_JSON_BYTES:
            raise UserError(
                f"{path}: larger than {MAX_JSON_BYTES >> 20} MiB, not a file that eegdm wrote"
            )
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise UserError(f"{path}: can't be read as JSON ({error})") from error


def write_array(path: Path, array: Any) -> None:
    """Write a NumPy array as .npy, atomically. `np.save` itself would not say why a write
    failed.
    """
    from numpy.lib import format as npy

    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        npy.write_array_header_1_0(stream, npy.header_data_from_array_1_0(array))
        stream.write(array if array.flags.c_contiguous else array.tobytes(order="A"))


def begin_array(stream: Any, shape: tuple[int, ...]) -> None:
    """Write the header of a .npy file of little-endian float32, whose numbers the caller writes
    behind it a piece at a time: a memory map's pages would count as this process's memory.
    """
    from numpy.lib import format as npy

    npy.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": shape})


def write_table(path: Path, table: Any) -> None:
    """Write a pandas DataFrame as Parquet, atomically."""
    with atomic_path(path) as temporary:
        table.to_parquet(temporary, index=False)


def read_table(path: Path) -> Any:
    """Read a Parquet file into a pandas DataFrame, or say in one line why it can't be read."""
    import pandas as pd

    try:
        return pd.read_parquet(path)
    except Exception as error:  # pyarrow raises many kinds for damaged files
        raise UserError(
            f"{path}: can't be read as Parquet ({error.__class__.__name__}: {one_line(error)})"
        ) from error


# ------------------------------------------------------------------------------------ identifying


def fingerprint(obj: Any) -> str:
    """Return 16 hex digits that identify a JSON-able object, whatever the order of its keys."""
    text = json.dumps(obj, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_state(path: Path) -> tuple[int, ...]:
    """Return what changes when a file is replaced: a key for what was read from it."""
    try:
        state = os.stat(path)
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror})") from error
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns


def sha256(*files: Path) -> str:
    """Return the SHA-256 of a file in hex; of several, that of their bytes in sequence."""
    digest = hashlib.sha256()
    for path in files:
        with open(path, "rb") as stream:
            while chunk := stream.read(_READ_BYTES):
                digest.update(chunk)
    return digest.hexdigest()


@dataclass
class Artifact:
    """A finished folder: its manifest, read."""

    path: Path
    kind: str
    config: dict[str, Any]
    inputs: dict[str, Any]
    fingerprint: str
    files: dict[str, dict[str, Any]]
    summary: dict[str, Any] = field(default_factory=dict)
    version: str = __version__
    format: int = FORMAT

    def __truediv__(self, name: str) -> Path:
        return self.path / name


@contextmanager
def building(
    path: Path, kind: str, config: dict[str, Any], inputs: dict[str, Any], replace: bool = False
) -> Iterator[Path]:
    """Hold the folder of an artefact while a stage fills it.

    Writes ``plan.json`` (what is being made, from what) at the start, so that a resumed run
    continues only its own work, and holds a lock, so that two processes never mix their files. Call
    :func:`finish` inside. On error the finished parts stay for the next run. Other processes may
    write into the folder inside :func:`writing`; those of a killed run are waited for. With
    ``replace`` unfinished work of other settings or inputs is given up instead of refused.

    Raises:
        UserError: the folder holds other work, can't be written, or another process is at it.
    """
    from filelock import FileLock, Timeout

    path = Path(path)
    plan = {"kind": kind, "format": FORMAT, "config": config, "inputs": inputs}
    option = _option(kind)
    make_folder(path, option)
    try:
        lock = FileLock(path / LOCK)
        with lock.acquire(timeout=0):
            # The new name first: workers of an earlier run that have not begun see it and give up;
            # then those that have begun are waited for
            (path / RUN).write_text(uuid.uuid4().hex)
            _shut_out_writers(path)
            # Only now is nobody else writing, so that what lies there can be judged and swept
            if replace and (path / PLAN).exists() and read_json(path / PLAN) != plan:
                abandon(path)
            _claim(path, plan)
            _remove_leftovers(path)
            yield path
            # In the same order at the end: no worker of this run outlives the lock
            (path / RUN).unlink(missing_ok=True)
            _shut_out_writers(path)
    except Timeout:
        raise UserError(
            f"{path}: another process is writing here; wait for it to end, or choose another"
            f" {option}"
        ) from None
    except OSError as error:
        if not is_storage_fault(error, path):
            raise
        raise UserError(
            f"{error.filename or path}: {error.strerror}; what was finished is kept, the same"
            " command resumes"
        ) from error


@contextmanager
def writing(path: Path, run: str) -> Iterator[None]:
    """Write into a folder that another process, or another machine, is :func:`building`.

    A worker outlives a killed run for a moment; its writes must not meet those of the next run. So
    each worker holds a lock of its own, which the next run waits for, and begins nothing once a
    next run has begun.

    Args:
        run: what :func:`run_of` gave the process that builds.

    Raises:
        UserError: that run has ended.
    """
    from filelock import FileLock

    name = f"{socket.gethostname()}-{os.getpid()}-{threading.get_ident()}"
    with FileLock(path / WRITER.format(name)):
        # Asked with the lock held: a run that begins from now on waits for it
        if run_of(path) != run:
            raise UserError(f"{path}: the run that this worker belongs to has ended")
        yield


def run_of(path: Path) -> str:
    """Return what tells the run that is building this folder from those before and after it;
    nothing if there is none.
    """
    try:
        return (path / RUN).read_text()
    except FileNotFoundError:
        return ""


def _shut_out_writers(path: Path) -> None:
    """Wait for the writers of the run before and let no more of them begin; the folder's lock is
    held.
    """
    from filelock import FileLock, Timeout

    for file in path.glob(WRITER.format("*")):
        try:
            # The system frees the lock of a killed worker, so that only a living one is waited for
            with FileLock(file).acquire(timeout=WAIT_FOR_WRITERS_S):
                file.unlink()
        except Timeout:
            raise UserError(
                f"{path}: a process of an earlier run is still writing here (see {file.name}); end"
                " it and run again"
            ) from None


def _claim(path: Path, plan: dict[str, Any]) -> None:
    """Begin the folder's plan, or continue an equal one; refuse files of anyone else."""
    if (path / PLAN).exists():
        refuse_mismatch(path, read_json(path / PLAN), plan)
        return
    strangers = [p.name for p in _own_entries(path) if not p.name.startswith(".")]
    if strangers:
        raise UserError(
            f"{path}: is not empty and was not begun by eegdm (it holds {strangers[0]!r}); choose"
            " another folder"
        )
    write_json(path / PLAN, plan)


def whole_files(folder: Path, pattern: str) -> list[Path]:
    """Return the files of a pattern in order, without what a killed run left half-written."""
    found = sorted(folder.glob(pattern))
    return [path for path in found if not _TEMPORARY.fullmatch(path.name)]


def _remove_leftovers(path: Path) -> None:
    """Remove what a killed run left half-written; the lock is held, so nobody else is writing."""
    for leftover in _own_files(path):
        if _TEMPORARY.fullmatch(leftover.name):
            leftover.unlink()


def _own_entries(path: Path) -> list[Path]:
    """What lies in a folder, without the folders of its folds, which are artefacts of their own."""
    return [p for p in path.iterdir() if p.name != LOCK and not (p.is_dir() and "=" in p.name)]


def _own_files(path: Path) -> list[Path]:
    files: list[Path] = []
    for entry in _own_entries(path):
        files += entry.rglob("*") if entry.is_dir() else [entry]
    return [file for file in files if file.is_file()]


def reopen(path: Path) -> None:
    """Make a finished folder unfinished again, before its files change."""
    (path / MANIFEST).unlink(missing_ok=True)


def abandon(path: Path) -> None:
    """Give up a folder in which nothing came about, so that a run with other settings may have
    it.
    """
    for leftover in [p for p in _own_entries(path) if p.name != RUN]:
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()


def refuse_mismatch(path: Path, plan: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Refuse a folder that was made from other settings or inputs, naming the first differences."""
    if plan.get("kind") != wanted["kind"]:
        raise UserError(f"{path}: holds a {plan.get('kind')}, not a {wanted['kind']}")
    if changes := plan_differences(plan, wanted):
        shown = "; ".join(changes[:3]) + (
            f"; and {len(changes) - 3} more" if len(changes) > 3 else ""
        )
        raise UserError(
            f"{path}: was made with {shown}. Remove that folder, or choose another"
            f" {_option(wanted['kind'])} for this run"
        )


def _option(kind: str) -> str:
    """By what a user chooses where a folder of this kind lies."""
    return "--out" if kind in ("prediction", "embeddings", "surprise", "watch") else "root="


def plan_differences(plan: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """List in what the settings and inputs of two plans differ.

    A plan of an older format is compared in what both know: it may lack what is newer, and hold
    what no longer identifies a folder.
    """
    older = plan.get("format", FORMAT) < FORMAT
    changes = []
    for part in ("config", "inputs"):
        before, now = plan.get(part, {}), wanted[part]
        if older:
            before, now = _common(before, now)
        changes += differences(before, now)
    return changes


def _common(one: Any, other: Any) -> tuple[Any, Any]:
    """Two nested dicts without the keys that only one of them has."""
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return one, other
    pairs = {key: _common(one[key], other[key]) for key in one.keys() & other.keys()}
    return {k: a for k, (a, _) in pairs.items()}, {k: b for k, (_, b) in pairs.items()}


def differences(made_with: Any, wanted: Any, name: str = "") -> list[str]:
    """List ``key=value, this run wants another`` for each leaf in which two nested dicts differ."""
    if isinstance(made_with, dict) and isinstance(wanted, dict):
        changes = []
        for key in sorted(made_with.keys() | wanted.keys()):
            below = f"{name}.{key}" if name else key
            changes += differences(made_with.get(key), wanted.get(key), below)
        return changes
    return [] if made_with == wanted else [f"{name}={made_with!r}, this run wants {wanted!r}"]


def finish(
    path: Path, summary: dict[str, Any] | None = None, unlisted: tuple[str, ...] = ()
) -> Artifact:
    """Write the manifest that makes the folder a finished artefact.

    Args:
        path: the folder, inside :func:`building`.
        summary: what ``eegdm info`` shows.
        unlisted: names of files and folders that belong to the unfinished state (checkpoints, logs)
            and are not sealed.
    """
    plan = read_json(path / PLAN)
    skip = {MANIFEST, PLAN, RUN, *unlisted}
    files = {}
    for file in sorted(_own_files(path)):
        name = file.relative_to(path)
        # A worker's lock lies there until the run ends, its half-written file until the next one
        passing = _WRITER_LOCK.fullmatch(file.name) or _TEMPORARY.fullmatch(file.name)
        if name.parts[0] not in skip and not passing:
            files[name.as_posix()] = {"bytes": file.stat().st_size, "sha256": sha256(file)}
    content = fingerprint({"plan": plan, "files": files})
    manifest = {
        **plan,
        "version": __version__,
        "fingerprint": content,
        "summary": summary or {},
        "files": files,
    }
    write_json(path / MANIFEST, manifest)
    return open_artifact(path, plan["kind"])


# ---------------------------------------------------------------------------------------- reading


def is_finished(path: Path) -> bool:
    """Whether the folder holds a manifest."""
    return (Path(path) / MANIFEST).is_file()


def open_artifact(path: Path, kind: str | None = None) -> Artifact:
    """Open a finished folder; check its manifest and the sizes of its files.

    Raises:
        UserError: no such folder, unfinished, of another kind, from a newer format, or a file is
            missing or of another size.
    """
    artifact = read_manifest(path, kind)
    if kind is not None and artifact.kind != kind:
        raise UserError(f"{path}: holds a {artifact.kind}, not a {kind}")
    for name, entry in artifact.files.items():
        _check_size(path, name, entry)
    return artifact


def read_manifest(path: Path, kind: str | None = None) -> Artifact:
    """Read a finished folder's manifest; its files may be damaged."""
    path = Path(path)
    if not is_finished(path):
        state = (
            "is unfinished: run its command again"
            if (path / PLAN).exists()
            else "is not there or was not written by eegdm"
        )
        raise UserError(f"{path}: {kind or 'artefact'} folder {state}")
    manifest = read_json(path / MANIFEST)
    wanted = {
        "kind": str,
        "format": int,
        "config": dict,
        "inputs": dict,
        "fingerprint": str,
        "files": dict,
        "summary": dict,
        "version": str,
    }
    wrong = [
        k
        for k, t in wanted.items()
        if not isinstance(manifest, dict) or not isinstance(manifest.get(k), t)
    ]
    if wrong:
        raise UserError(
            f"{path / MANIFEST}: is not a manifest of eegdm (wrong or missing: {', '.join(wrong)})"
        )
    if manifest["format"] > FORMAT:
        raise UserError(
            f"{path}: written in format {manifest['format']} by eegdm {manifest['version']}; "
            f"this version reads up to {FORMAT}: upgrade eegdm"
        )
    return Artifact(path, **{k: manifest[k] for k in wanted})


def _check_size(path: Path, name: str, entry: Any) -> None:
    # A stranger's manifest must not lead to files of this machine
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise UserError(f"{path / MANIFEST}: names {name!r}, which is outside the folder")
    file = path / name
    if not file.is_file():
        raise UserError(f"{file}: is missing; remove {path / MANIFEST} and run the command again")
    if not isinstance(entry, dict) or file.stat().st_size != entry.get("bytes"):
        raise UserError(
            f"{file}: has {file.stat().st_size} bytes, its manifest says {entry}; remove it and"
            f" {path / MANIFEST} and run the command again"
        )


def verify(path: Path) -> list[str]:
    """Read every byte of an artefact; return one line per damaged or missing file, and none if it
    is whole.
    """
    artifact = read_manifest(path)
    plan = {k: read_json(artifact / MANIFEST)[k] for k in ("kind", "format", "config", "inputs")}
    faults = []
    if fingerprint({"plan": plan, "files": artifact.files}) != artifact.fingerprint:
        faults.append(f"{MANIFEST}: its content does not fit its fingerprint")
    for name, entry in artifact.files.items():
        try:
            _check_size(artifact.path, name, entry)
        except UserError as error:
            faults.append(str(error))
            continue
        if sha256(artifact / name) != entry.get("sha256"):
            faults.append(f"{name}: its SHA-256 differs from the manifest's")
    return faults
