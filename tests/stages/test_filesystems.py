"""Full and read-only file systems, mounted for the purpose: one sentence, exit status 2, and the
same command completes later.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from eegdm import artifacts
from stages.tiny import SIZES, Finished, one_thread

pytestmark = [pytest.mark.ci, pytest.mark.timeout(300)]

KIND = {
    "preprocess": "recordings",
    "pretrain": "backbone",
    "cache": "latents",
    "finetune": "classifier/seed=0",
    "report": "report",
}
PRIVATE = ["unshare", "--user", "--map-root-user", "--mount"]
FULL = """
place=$1 size=$2; shift 2
mount -t tmpfs -o "size=$size" tmpfs "$place"
cp -r "$place.before/." "$place"
set +e
"$@" 2>"$place.full.err"; echo $? >"$place.full"
set -e
mount -o remount,size=1g "$place"
"$@" 2>"$place.roomy.err"
cp -r "$place" "$place.after"
"""
READ_ONLY = """
place=$1; shift
mount --bind "$place" "$place"
mount -o remount,ro,bind "$place"
exec "$@"
"""


def require_namespaces() -> None:
    """Leave a test out where the kernel lets no user mount anything, as in many containers; the
    summary of the test run says so.
    """
    tried = subprocess.run([*PRIVATE, "true"], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(
            f"mounting takes a user namespace, which this machine refuses: {tried.stderr.strip()}"
        )


@pytest.fixture(scope="module", autouse=True)
def namespaces() -> None:
    require_namespaces()


def mounted(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a script in which mounts are its own."""
    command = [*PRIVATE, "sh", "-euc", script, "sh", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, env=one_thread())


def words_of(stage: str, root: Path, finished: Finished) -> list[str]:
    """The user's command for one stage, upstream folders as they are."""
    words = [sys.executable, "-m", "eegdm", stage, "corpus=tuev", f"root={root}", *SIZES]
    return [*words, f"source={finished.source}"] if stage == "preprocess" else words


def upstream(stage: str, finished: Finished, root: Path) -> None:
    """Copy what the stage reads."""
    for earlier in list(KIND)[: list(KIND).index(stage)]:
        source = finished.root / "tuev" / "base" / KIND[earlier]
        shutil.copytree(source, root / source.relative_to(finished.root))


def size_of(folder: Path) -> int:
    """Bytes on disk, in whole pages."""
    return sum(-(-f.stat().st_size // 4096) * 4096 for f in folder.rglob("*") if f.is_file())


def one_sentence(text: str) -> str:
    """The last line of what a command said, which must be its only word on the fault."""
    assert "Traceback" not in text
    (line,) = [line for line in text.splitlines() if line.startswith("eegdm: ")]
    return line


@pytest.mark.parametrize("stage", KIND)
def test_a_full_disk_is_one_sentence_and_the_same_command_completes(
    stage: str, finished: Finished, tmp_path: Path
) -> None:
    place, before = tmp_path / "runs", tmp_path / "runs.before"
    place.mkdir()
    before.mkdir()
    upstream(stage, finished, before)
    written = finished.root / "tuev" / "base" / KIND[stage]
    done = mounted(
        FULL, place, size_of(before) + size_of(written) // 2, *words_of(stage, place, finished)
    )
    assert done.returncode == 0, (
        done.stdout + done.stderr + (tmp_path / "runs.full.err").read_text()
    )
    assert (tmp_path / "runs.full").read_text().strip() == "2", (
        tmp_path / "runs.full.err"
    ).read_text()
    said = one_sentence((tmp_path / "runs.full.err").read_text())
    assert str(place) in said and "No space left on device" in said
    shutil.copytree(before, tmp_path / "whole")
    undisturbed = subprocess.run(
        words_of(stage, tmp_path / "whole", finished),
        capture_output=True,
        text=True,
        env=one_thread(),
    )
    assert undisturbed.returncode == 0, undisturbed.stderr
    result = tmp_path / "runs.after" / written.relative_to(finished.root)
    assert artifacts.verify(result) == []
    assert sealed(result) == sealed(tmp_path / "whole" / written.relative_to(finished.root))
    assert not [path for path in result.rglob("*") if ".tmp" in path.name]


def sealed(folder: Path) -> dict[str, object]:
    """Checksums of an artefact's files, but for the page that says when it was made."""
    files = json.loads((folder / artifacts.MANIFEST).read_text())["files"]
    return {name: what for name, what in files.items() if name != "report.html"}


@pytest.mark.parametrize("stage", KIND)
def test_a_read_only_folder_is_one_sentence(stage: str, finished: Finished, tmp_path: Path) -> None:
    upstream(stage, finished, tmp_path / "runs")
    (tmp_path / "runs").mkdir(exist_ok=True)
    done = mounted(READ_ONLY, tmp_path / "runs", *words_of(stage, tmp_path / "runs", finished))
    assert done.returncode == 2, done.stderr
    assert "read-only" in one_sentence(done.stderr).lower()
    assert not list((tmp_path / "runs").rglob("*.tmp"))


def test_recordings_are_read_from_a_read_only_mount(finished: Finished, tmp_path: Path) -> None:
    done = mounted(READ_ONLY, finished.source, *words_of("preprocess", tmp_path / "runs", finished))
    assert done.returncode == 0, done.stderr
    assert sealed(tmp_path / "runs" / "tuev" / "base" / "recordings") == sealed(finished.recordings)
