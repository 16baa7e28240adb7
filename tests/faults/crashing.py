"""Runs a stage again and again in children of one process that has imported everything, crashing
each at another change of the disk.

    python crashing.py RESULT FOLDER STAGE WORD...

The first child runs undisturbed and notes every fsync, rename and removal. For each of these
another child starts afresh and ends there, as if the power failed: a file whose fsync has not
returned is cut in half. A last child goes on from what that one left.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

CRASHED = 77
KIND = {
    "preprocess": "recordings",
    "pretrain": "backbone",
    "cache": "latents",
    "finetune": "classifier",
    "report": "report",
    "distill": "backbone",
}
EARLIER = {"distill": ["preprocess", "pretrain"]}


class Change(NamedTuple):
    """A call that changes what a later process finds; process numbers in names are left out."""

    call: str
    path: str

    @classmethod
    def of(cls, call: str, path: str) -> Change:
        return cls(call, re.sub(r"\.\d+\.tmp", ".PID.tmp", path))


class Disk:
    """Notes the changes that this process makes below a folder, and ends the process at one of
    them.

    Args:
        root: the folder.
        crash_at: number of the change at which to end; None for an undisturbed run.
        notes: file for one line per change.
    """

    def __init__(self, root: Path, crash_at: int | None, notes: Path) -> None:
        self.root, self.crash_at, self.notes, self.count = root.resolve(), crash_at, notes, 0

    def watch(self) -> None:
        """Put itself between the process and the calls."""
        fsync, replace, unlink, rmtree = os.fsync, os.replace, os.unlink, shutil.rmtree

        def noted_fsync(descriptor: int) -> None:
            path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
            self.note(
                "fsync",
                path,
                lambda: os.truncate(path, path.stat().st_size // 2) if path.is_file() else None,
            )
            fsync(descriptor)

        def noted_replace(source: Any, target: Any) -> None:
            self.note("before rename", Path(source))
            replace(source, target)
            self.note("after rename", Path(target))

        def noted_unlink(path: Any, **options: Any) -> None:
            if ".tmp" not in Path(path).name and not Path(path).name.startswith("."):
                self.note("remove", Path(path))
            unlink(path, **options)

        def noted_rmtree(path: Any, *args: Any, **options: Any) -> None:
            self.note("remove", Path(path))
            rmtree(path, *args, **options)

        os.fsync, os.replace, os.unlink, shutil.rmtree = (
            noted_fsync,
            noted_replace,
            noted_unlink,
            noted_rmtree,
        )  # type: ignore[assignment]

    def note(self, call: str, path: Path, damage: Callable[[], object] = lambda: None) -> None:
        path = path.resolve()
        if not path.is_relative_to(self.root):
            return
        with open(self.notes, "a") as stream:
            stream.write(json.dumps(Change.of(call, path.relative_to(self.root).as_posix())) + "\n")
        if self.count == self.crash_at:
            damage()
            os._exit(CRASHED)
        self.count += 1


def in_child(work: Callable[[], object], disk: Disk, log: Path) -> int:
    """Run work in a forked child whose changes are noted; return its exit status."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            disk.watch()
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def here(function: Callable[[Any], Any], items: list[Any], *_: Any) -> Iterator[tuple[Any, Any]]:
    """Stand in for :func:`eegdm.executor.map_unordered`: the work of the pool in this process, so
    that its changes are noted too.
    """
    for item in items:
        try:
            yield item, function(item)
        except Exception as error:
            yield item, error


def main(result: Path, folder: Path, stage: str, words: list[str]) -> None:
    import torch

    from eegdm.stages import STAGES, run_stage

    torch.set_num_threads(1)
    for name in STAGES:
        importlib.import_module(f"eegdm.stages.{name}")
    sys.modules["eegdm.stages.preprocess"].map_unordered = here  # type: ignore[attr-defined]

    whole = folder / "whole"
    before = EARLIER.get(stage, list(KIND)[: list(KIND).index(stage)])

    def run(name: str, root: Path, crash_at: int | None, which: str = stage) -> int:
        disk = Disk(root, crash_at, folder / f"{name}.notes")
        own = [*words, f"root={root}"]
        if which == "distill":
            own += ["recipe=lite", f"model={whole / 'tuev' / 'base' / KIND['pretrain']}"]
        return in_child(lambda: run_stage(which, own), disk, folder / f"{name}.log")

    whole.mkdir()
    for earlier in before:
        assert run(earlier, whole, None, earlier) == 0, (folder / f"{earlier}.log").read_text()
    status = run("undisturbed", whole, None)
    changes = [json.loads(line) for line in (folder / "undisturbed.notes").read_text().splitlines()]
    runs = {}
    for k in [
        k for k, (call, _) in enumerate(changes) if call != "after rename"
    ]:  # the same disk as at the fsync that follows
        root = folder / str(k)
        for earlier in before:
            (source,) = whole.glob(f"*/base/{KIND[earlier]}")
            shutil.copytree(source, root / source.relative_to(whole))
        runs[k] = [run(str(k), root, k), run(str(k), root, None)]
    result.write_text(json.dumps({"status": status, "changes": changes, "runs": runs}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4:])
