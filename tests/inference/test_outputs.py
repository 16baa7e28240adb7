"""What can't be written is one line that names the option to choose another place by, found before
any work is done and leaving nothing behind.
"""

from __future__ import annotations  # noqa: I001

import subprocess
import sys
from pathlib import Path

import mne
import pytest
from checkpoints.original_files import golden
from inference.small import made_up, small_model
from stages.test_filesystems import PRIVATE, READ_ONLY, require_namespaces

from eegdm import cli
from eegdm.inference import embedding_files, generation, prediction_folder

COMMANDS = ("predict", "predict folder", "embed", "generate", "convert", "demo", "preprocess")
OPTION = {"convert": "OUT", "preprocess": "root="}


class Workplace:
    """A model, a recording and a published checkpoint, and the words of commands on them."""

    def __init__(self, folder: Path) -> None:
        self.model = small_model().save_pretrained(folder / "model")
        self.file = folder / "recordings" / "recording.edf"
        self.file.parent.mkdir()
        mne.export.export_raw(self.file, made_up(12.0), fmt="edf", verbose="ERROR")
        self.checkpoint = folder / "published.ckpt"
        self.checkpoint.write_bytes(golden("classifier").read_bytes())

    def words(self, command: str, out: Path) -> list[str]:
        words: dict[str, list[object]] = {
            "predict": ["predict", self.file, "--model", self.model, "--out", out],
            "predict folder": ["predict", self.file.parent, "--model", self.model, "--out", out],
            "embed": ["embed", self.file, "--model", self.model, "--out", out],
            "generate": ["generate", "--steps", 1, "--channels", "F7-T3", "--out", out],
            "convert": ["convert", self.checkpoint, out],
            "demo": ["demo", "--out", out],
            "preprocess": ["preprocess", "recipe=demo", f"root={out}"],
        }
        return [str(word) for word in words[command]]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    return Workplace(tmp_path_factory.mktemp("workplace"))


def refusal(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a command ends with."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as end:
        patch.setattr("sys.argv", ["eegdm", *words])
        cli.main()
    assert end.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("eegdm: ")]
    return line


def suffixed(command: str, out: Path) -> Path:
    """`out` with the suffix that a command asks for."""
    return out.with_name(f"{out.name}{ {'embed': '.npz', 'generate': '.fif'}.get(command, '') }")


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail if a window is computed or drawn."""
    for module, name in ((prediction_folder, "predict_in"), (embedding_files, "embed_in")):
        monkeypatch.delattr(module, name)
    monkeypatch.delattr(generation, "generate")


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("place", ["a file is in the way", "a file is above", "/proc"])
def test_a_folder_that_can_not_be_made(
    place: str,
    command: str,
    workplace: Workplace,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "file"
    file.write_text("kept")
    out = {
        "a file is in the way": file / "x" if command in ("embed", "generate") else file,
        "a file is above": file / "deep" / "x",
        "/proc": Path("/proc/nothing/x"),
    }[place]
    line = refusal(workplace.words(command, suffixed(command, out)), capsys)
    if (command, place) == ("convert", "a file is in the way"):
        assert "is not an empty folder; name a new one" in line
    else:
        reason = "No such file or directory" if place == "/proc" else "a file is in the way"
        option = OPTION.get(command, "--out")
        assert f"can't be made ({reason}); choose another place with {option}" in line
    assert file.read_text() == "kept"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("n_letters", [240, 300])
def test_a_name_that_is_too_long(
    n_letters: int,
    command: str,
    workplace: Workplace,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if n_letters < 255 and command not in ("embed", "generate"):
        n_letters = 300  # folders have no temporary names
    out = suffixed(command, tmp_path / ("n" * n_letters))
    line = refusal(workplace.words(command, out), capsys)
    assert "too long" in line
    assert OPTION.get(command, "--out") in line
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("command", ["predict", "embed"])
def test_a_recording_whose_results_would_have_names_that_are_too_long(
    command: str, workplace: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / f"{'ß' * 120}.edf"  # two bytes each
    file.write_bytes(workplace.file.read_bytes())
    line = refusal([command, str(file), "--model", str(workplace.model)], capsys)
    assert "this name of a result is too long for the disk" in line
    assert ("rename the recording" if command == "predict" else "--out") in line
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("command", ["embed", "generate"])
def test_a_folder_of_the_file_s_name(
    command: str, workplace: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = suffixed(command, tmp_path / "x")
    out.mkdir()
    assert "is a folder; name a file with --out" in refusal(workplace.words(command, out), capsys)


# ------------------------------------------------------------------- disks mounted for the purpose

ON_A_SMALL_DISK = """
place=$1; shift
mount -t tmpfs -o size=16k tmpfs "$place"
set +e
"$@"; status=$?
find "$place" -mindepth 1 >&2
exit $status
"""


def mounted(script: str, place: Path, words: list[str]) -> subprocess.CompletedProcess[str]:
    """Run eegdm where a script has mounted something at `place`."""
    require_namespaces()
    command = [*PRIVATE, "sh", "-euc", script, "sh", place, sys.executable, "-m", "eegdm", *words]
    return subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=120
    )


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2, (done.returncode, done.stderr)
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("eegdm: ")]
    return line


@pytest.mark.ci
@pytest.mark.timeout(200)
@pytest.mark.parametrize("command", ["predict", "embed", "generate", "convert"])
def test_a_full_disk_is_one_line(command: str, workplace: Workplace, tmp_path: Path) -> None:
    """16 KiB are less than any of the results, and less than the signal that `predict` and `embed`
    map into memory.
    """
    out = suffixed(command, tmp_path / "disk" / "x")
    out.parent.mkdir()
    done = mounted(ON_A_SMALL_DISK, out.parent, workplace.words(command, out))
    assert "No space left on device" in one_line(done)
    if command in ("embed", "generate"):
        assert "choose another place with --out" in one_line(done)
        assert left_behind(done, out.parent) == []


def left_behind(done: subprocess.CompletedProcess[str], place: Path) -> list[str]:
    return [line for line in done.stderr.splitlines() if line.startswith(str(place))]


@pytest.mark.ci
@pytest.mark.timeout(200)
@pytest.mark.parametrize("command", ["predict", "embed"])
def test_results_beside_a_recording_in_a_read_only_folder(
    command: str, workplace: Workplace
) -> None:
    words = [command, str(workplace.file), "--model", str(workplace.model)]
    line = one_line(mounted(READ_ONLY, workplace.file.parent, words))
    assert str(workplace.file.parent) in line
    assert "Read-only file system" in line
    assert "--out" in line


@pytest.mark.ci
@pytest.mark.timeout(200)
@pytest.mark.parametrize("command", ["generate", "convert", "demo", "preprocess"])
def test_a_read_only_place(command: str, workplace: Workplace, tmp_path: Path) -> None:
    place = tmp_path / "disk"
    place.mkdir()
    out = suffixed(command, place / "x")
    line = one_line(mounted(READ_ONLY, place, workplace.words(command, out)))
    assert "Read-only file system" in line
    assert OPTION.get(command, "--out") in line
