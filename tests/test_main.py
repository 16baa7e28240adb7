"""Every command of the original's README runs as it is typed there, on made-up corpora."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from conftest import ROOT
from eegdm import artifacts
from eegdm.errors import UserError
from stages.tiny import SIZES, one_thread, write_corpora

sys.path.insert(0, str(ROOT))
import main  # noqa: E402 - main.py is beside the tests' folder, not in it

TYPED = (ROOT / "tests" / "golden" / "original_commands.txt").read_text().splitlines()
PLACEHOLDER = "<path to the downloaded checkpoint>"
DOWNLOADED = {
    "tuev": "my downloads/epoch=3 classifier.ckpt",
    "chbmit": "my downloads/epoch=3 chbmit_classifier.ckpt",
}
GOLDEN = {"tuev": "classifier.ckpt", "chbmit": "classifier_bin16.ckpt"}
USAGE = {
    f"[{group}=?]": f"{group}={name}"
    for group, name in [
        ("preprocessing", "faithful"),
        ("pretrain", "base"),
        ("cache", "base"),
        ("finetune", "base"),
        ("report", "base"),
        ("extra", "reduce_sampling"),
    ]
}
"""What the line that shows the usage stands for: all groups in one command."""

BASE, CHBMIT = "tuev/base", "chbmit/base_chbmit_bin_filt"
EXPERIMENTS = {
    "preprocessing=pretrain": {f"{BASE}/recordings"},
    "preprocessing=faithful": set(),  # both views are of the same recordings
    "pretrain=base": {f"{BASE}/backbone"},
    "pretrain=linear": {"tuev/linear/backbone"},
    "pretrain=nolaw": {"tuev/nolaw/backbone"},
    "cache=base": {f"{BASE}/latents"},
    "finetune=base finetune.rng_seeding.seed=0": {f"{BASE}/classifier/seed=0"},
    "report=base": {f"{BASE}/report"},
    "extra=reduce_sampling extra.rate=0.95": {f"{BASE}/report,rate=0.95"},
    "extra=no_fusion extra.rng_seeding.seed=0": {"tuev/no_fusion/classifier/seed=0"},
    "extra=report_no_fusion": {"tuev/no_fusion/report"},
    "extra=mean_fusion extra.rng_seeding.seed=0": {"tuev/mean_fusion/classifier/seed=0"},
    "extra=report_mean_fusion": {"tuev/mean_fusion/report"},
    "cache=base_chbmit": {f"{CHBMIT}/recordings", f"{CHBMIT}/latents"},
    "finetune=base_chbmit_bin_filt finetune.rng_seeding.seed=0": {f"{CHBMIT}/classifier/seed=0"},
    "report=base_chbmit_bin": {f"{CHBMIT}/report"},
    f"report=base report.checkpoint=[{DOWNLOADED['tuev']}]": {f"{BASE}/report"},
    f"report=base_chbmit_bin report.checkpoint=[{DOWNLOADED['chbmit']}]": {f"{CHBMIT}/report"},
}
"""The commands of the README's part "Experiments", in its order, and the folders below runs/ that
each makes or makes anew.
"""


def typed(line: str) -> list[str]:
    """The words that main.py gets when a shell reads the line: without quotes and comment."""
    python, script, *words = shlex.split(line, comments=True)
    assert (python, script) == ("python", "main.py")
    return words


def experiments() -> Iterator[list[str]]:
    """The words of each command after those of "Usage", one for each choice that a `?` stands
    for.
    """
    for line in TYPED[3:]:
        line = line.replace(PLACEHOLDER, DOWNLOADED["chbmit" if "chbmit" in line else "tuev"])
        for name in ("base", "linear", "nolaw") if "?" in line else ("",):
            yield typed(line.replace("?", name))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with made-up corpora where the original has them: tuev, and chbmit with a patient of
    each part at least.
    """
    folder = tmp_path_factory.mktemp("data")
    write_corpora(folder)
    return folder


@pytest.fixture
def workplace(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with data/ and downloaded checkpoints, where every command is small."""
    (tmp_path / "data").symlink_to(data)
    (tmp_path / "my downloads").mkdir()
    for corpus, name in GOLDEN.items():
        shutil.copy(ROOT / "tests" / "golden" / "open" / name, tmp_path / DOWNLOADED[corpus])
    monkeypatch.setenv("EEGDM_DEFAULTS", " ".join(SIZES))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def finished(workplace: Path) -> dict[str, int]:
    """Each finished folder below runs/ and when it was finished."""
    runs = workplace / "runs"
    return {
        str(m.parent.relative_to(runs)): m.stat().st_mtime_ns
        for m in runs.rglob(artifacts.MANIFEST)
    }


def run(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    """Run main.py in this process, which has loaded torch already."""
    monkeypatch.setattr(sys, "argv", ["main.py", *words])
    main.main()


def run_as_typed(workplace: Path, words: list[str]) -> subprocess.CompletedProcess[str]:
    """Run main.py in a process of its own."""
    command = [sys.executable, ROOT / "main.py", *words]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=240, cwd=workplace, env=one_thread()
    )


def logits(report: Path) -> np.ndarray:
    """Logits of the one classifier that a report is about."""
    (predictions,) = report.glob("predictions-*.parquet")
    return artifacts.read_table(predictions).filter(regex="^logit_").to_numpy()


def test_the_commands_are_those_of_the_readme(shared: Path) -> None:
    readme = (shared / "seed" / "README.txt").read_text(encoding="utf-8")
    assert [line for line in readme.splitlines() if line.startswith("python main.py")] == TYPED


def test_no_experiment_is_left_out() -> None:
    assert [" ".join(words) for words in experiments()] == list(EXPERIMENTS)


@pytest.mark.ci
def test_experiments_run_in_the_order_of_the_readme(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {}
    for words in experiments():
        before = finished(workplace)
        run(monkeypatch, words)
        made = {
            folder for folder, when in finished(workplace).items() if when != before.get(folder)
        }
        command = " ".join(words)
        assert made == EXPERIMENTS[command], command
        said |= {
            f"{command} -> {folder}": logits(workplace / "runs" / folder)
            for folder in made
            if "/report" in folder
        }
    assert len(said) == 7 and all(np.isfinite(values).all() for values in said.values())
    tuev = [values for command, values in said.items() if "chbmit" not in command]
    assert all(values.shape == tuev[0].shape for values in tuev)
    assert all(
        (tuev[i] != tuev[j]).any() for i in range(len(tuev)) for j in range(i)
    )  # seeds, rates, kinds, the published weights


@pytest.mark.ci
def test_all_groups_in_one_command_in_a_process_of_its_own(workplace: Path) -> None:
    line = TYPED[0]
    for group, choice in USAGE.items():
        line = line.replace(group, choice)
    done = run_as_typed(workplace, typed(line))
    assert done.returncode == 0, done.stderr[-3000:]
    stages = [line.split()[2] for line in done.stdout.splitlines() if line.startswith("$ eegdm ")]
    assert stages == ["preprocess", "pretrain", "cache", "finetune", "report", "report"]
    assert set(finished(workplace)) == {
        f"{BASE}/{kind}"
        for kind in ("recordings", "backbone", "latents", "classifier/seed=0", "report")
    }


@pytest.mark.ci
def test_the_examples_of_the_usage(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretrain, finetune = map(typed, TYPED[1:3])
    for words in (["preprocessing=faithful"], pretrain, ["cache=base"], finetune):
        run(monkeypatch, words)
    assert f"{BASE}/classifier/seed=10" in finished(workplace)


@pytest.mark.parametrize(
    "word",
    [
        "extra.target.item=canary.sing",
        "extra.target._target_=canary.sing",
        "+extra.target._target_=canary.sing",
        "extra.target={_target_: canary.sing}",
    ],
)
def test_foreign_code_is_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    canary = tmp_path / "canary.py"
    canary.write_text(
        "from pathlib import Path\nsing = lambda *_, **__: Path('sang').touch()\nsing()\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="nothing is run by name here"):
        run(monkeypatch, ["extra=no_fusion", word])
    assert list(tmp_path.iterdir()) == [canary]


def test_a_refusal_is_one_line_and_exit_status_2(tmp_path: Path) -> None:
    done = run_as_typed(tmp_path, ["extra=no_fusion", "extra.target.item=os.system"])
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("eegdm: extra.target.item=os.system: names code to load")
