"""Folders that identify themselves, writes that are whole or absent."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from eegdm import artifacts
from eegdm.errors import UserError


def make(folder: Path, config: dict | None = None, kind: str = "latents") -> artifacts.Artifact:
    with artifacts.building(folder, kind, config or {"a": {"b": 1}}, {"recordings": "abc"}):
        (folder / "part").mkdir(exist_ok=True)
        (folder / "part" / "data.bin").write_bytes(b"0123456789")
        return artifacts.finish(folder, {"windows": 3})


def test_an_artifact_reopens_as_it_was_made(tmp_path: Path) -> None:
    made = make(tmp_path / "x")
    opened = artifacts.open_artifact(tmp_path / "x", "latents")
    assert opened == made
    assert opened.config == {"a": {"b": 1}} and opened.summary == {"windows": 3}
    assert list(opened.files) == ["part/data.bin"]
    assert artifacts.verify(tmp_path / "x") == []


def test_the_fingerprint_depends_on_content_and_settings_only(tmp_path: Path) -> None:
    one, two = make(tmp_path / "one"), make(tmp_path / "elsewhere" / "two")
    other = make(tmp_path / "three", {"a": {"b": 2}})
    assert one.fingerprint == two.fingerprint != other.fingerprint


@pytest.mark.parametrize("position", [0, 5, 9])
def test_a_flipped_bit_is_found_and_named(tmp_path: Path, position: int) -> None:
    make(tmp_path / "x")
    file = tmp_path / "x" / "part" / "data.bin"
    damaged = bytearray(file.read_bytes())
    damaged[position] ^= 1
    file.write_bytes(damaged)
    assert [f.partition(":")[0] for f in artifacts.verify(tmp_path / "x")] == ["part/data.bin"]


def test_a_changed_manifest_is_found(tmp_path: Path) -> None:
    make(tmp_path / "x")
    path = tmp_path / "x" / artifacts.MANIFEST
    manifest = json.loads(path.read_text())
    manifest["config"]["a"]["b"] = 7
    path.write_text(json.dumps(manifest))
    assert artifacts.verify(tmp_path / "x")[0].startswith("manifest.json")


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    make(tmp_path / "x")
    with pytest.raises(UserError, match=r"a\.b=1, this run wants 2"):
        make(tmp_path / "x", {"a": {"b": 2}})


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="thesis.txt"):
        make(tmp_path / "x")
    assert (tmp_path / "x" / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 99}, "upgrade"),
        ({"kind": "backbone"}, "holds a backbone"),
        ({"files": {"../../etc/passwd": {"bytes": 1}}}, "outside"),
        ({"files": {"part/data.bin": {"bytes": 9}}}, "10 bytes"),
        ({"files": {"gone.npy": {"bytes": 1}}}, "missing"),
        ({"files": 3}, "not a manifest"),
    ],
)
def test_a_manifest_that_lies_is_refused(tmp_path: Path, change: dict, message: str) -> None:
    make(tmp_path / "x")
    path = tmp_path / "x" / artifacts.MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=message):
        artifacts.open_artifact(tmp_path / "x", "latents")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    artifacts.write_json(path, {"old": 1})
    with pytest.raises(RuntimeError), artifacts.atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert artifacts.read_json(path) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_does_not_open_its_folder_on_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows refuses to open folders, and to flush a file that was opened for reading."""
    system_open = os.open

    def windows_open(path: Path, flags: int, *mode: int) -> int:
        if os.path.isdir(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        assert flags & os.O_RDWR or not str(path).endswith(".tmp.json")
        return system_open(path, flags, *mode)

    monkeypatch.setattr(artifacts, "_WINDOWS", True)
    monkeypatch.setattr(os, "open", windows_open)
    artifacts.write_json(tmp_path / "facts.json", {"a": 1})
    assert artifacts.read_json(tmp_path / "facts.json") == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["facts.json"]


def test_leftovers_of_a_killed_run_are_swept(tmp_path: Path) -> None:
    make(tmp_path / "x")
    leftover = tmp_path / "x" / "part" / ".data.bin.12345.tmp.bin"
    leftover.write_bytes(b"half")
    make(tmp_path / "x")
    assert not leftover.exists()


def _hold(folder: Path, ready, done) -> None:  # noqa: ANN001
    with artifacts.building(folder, "latents", {}, {}):
        ready.set()
        done.wait(30)


def test_two_processes_never_share_a_folder(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(tmp_path / "x", ready, done))
    other.start()
    try:
        assert ready.wait(60)
        with pytest.raises(UserError, match="another process"):
            make(tmp_path / "x")
    finally:
        done.set()
        other.join()
    assert other.exitcode == 0


# -------------------------------------------------------------- workers that outlive a killed run


def _build_and_wait(folder: Path, ready) -> None:  # noqa: ANN001
    with artifacts.building(folder, "latents", {}, {}):
        ready.set()
        signal.pause()


def _write_when_told(folder: Path, run: str, begun, go) -> None:  # noqa: ANN001
    with artifacts.writing(folder, run):
        (folder / "piece.npy").write_bytes(b"begun")
        begun.set()
        assert go.wait(60)
        (folder / "piece.npy").write_bytes(b"by the worker of the killed run")


def test_a_run_waits_for_the_workers_of_a_killed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, context = tmp_path / "x", multiprocessing.get_context("spawn")
    ready, begun, go = context.Event(), context.Event(), context.Event()
    run = context.Process(target=_build_and_wait, args=(folder, ready))
    run.start()
    assert ready.wait(60)
    killed = artifacts.run_of(folder)
    worker = context.Process(target=_write_when_told, args=(folder, killed, begun, go))
    worker.start()
    assert begun.wait(60)
    os.kill(run.pid, signal.SIGKILL)
    run.join()

    monkeypatch.setattr(artifacts, "WAIT_FOR_WRITERS_S", 0.2)
    with (
        pytest.raises(UserError, match="earlier run is still writing"),
        artifacts.building(folder, "latents", {}, {}),
    ):
        pytest.fail("began beside a worker of the killed run")
    monkeypatch.setattr(artifacts, "WAIT_FOR_WRITERS_S", 60.0)
    go.set()
    with artifacts.building(folder, "latents", {}, {}):
        assert (folder / "piece.npy").read_bytes() == b"by the worker of the killed run"
        with pytest.raises(UserError, match="has ended"):
            _write_when_told(folder, killed, begun, go)
    worker.join()
    assert worker.exitcode == 0 and not list(folder.glob(".writer*"))


def test_no_worker_writes_into_a_finished_folder(tmp_path: Path) -> None:
    with artifacts.building(tmp_path / "x", "latents", {}, {}):
        run = artifacts.run_of(tmp_path / "x")
        with artifacts.writing(tmp_path / "x", run):
            pass
        artifacts.finish(tmp_path / "x")
    with pytest.raises(UserError, match="has ended"), artifacts.writing(tmp_path / "x", run):
        pytest.fail("wrote into a finished folder")
    assert artifacts.verify(tmp_path / "x") == []


# ----------------------------------------------------------------------------- faults of the disk


@pytest.mark.parametrize("code", ["ENOSPC", "EDQUOT", "EROFS", "ESTALE", "EIO"])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_fault_of_the_disk_is_one_sentence_and_is_survived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, call: str
) -> None:
    real, folder = getattr(os, call), tmp_path / "x"

    def fails(target: object, *more: object) -> None:
        if isinstance(target, int) or Path(str(target)).parent.name == "part":
            raise OSError(
                getattr(errno, code),
                os.strerror(getattr(errno, code)),
                *([] if isinstance(target, int) else [str(target)]),
            )
        real(target, *more)

    with (
        pytest.raises(UserError, match="the same command resumes") as error,
        artifacts.building(folder, "latents", {}, {}),
    ):
        monkeypatch.setattr(os, call, fails)
        artifacts.write_json(folder / "part" / "x.json", {})
    assert len(str(error.value).splitlines()) == 1 and os.strerror(getattr(errno, code)) in str(
        error.value
    )
    monkeypatch.undo()
    assert list((folder / "part").iterdir()) == []
    with artifacts.building(folder, "latents", {}, {}):
        artifacts.write_json(folder / "part" / "x.json", {})
        artifacts.finish(folder)
    assert artifacts.verify(folder) == []


def test_a_fault_in_reading_something_else_is_no_fault_of_the_folder(tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match="gone"),
        artifacts.building(tmp_path / "x", "latents", {}, {}),
    ):
        raise OSError(errno.ESTALE, "gone", str(tmp_path / "elsewhere"))


@pytest.mark.parametrize("name", ["a.tmp.npy", "x.tmp", "night.lock", "a.tmpl-1.npy", "lock"])
def test_files_are_sealed_whatever_a_recording_is_called(tmp_path: Path, name: str) -> None:
    with artifacts.building(tmp_path / "x", "recordings", {}, {}):
        artifacts.write_json(tmp_path / "x" / "signals" / name, 1)
        (tmp_path / "x" / "signals" / f".{name}.1.tmp").write_bytes(b"half-written")
        made = artifacts.finish(tmp_path / "x")
    assert list(made.files) == [f"signals/{name}"]
    (tmp_path / "x" / "signals" / name).write_bytes(b"2\n")
    assert artifacts.verify(tmp_path / "x") != []
