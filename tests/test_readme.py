"""Every command and every line of Python in the README and in docs/usage.md runs as it stands
there, on small settings and synthetic recordings.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

import eegdm
from conftest import ROOT, golden_folder
from documents import Block, blocks, run_blocks
from eegdm.data.synthetic.layouts import write_folder, write_tuev
from stages.tiny import command_line, write_corpora

README = (ROOT / "README.md").read_text(encoding="utf-8")
USAGE = (ROOT / "docs" / "usage.md").read_text(encoding="utf-8")
PAGES = README + USAGE
LANGUAGES = {"bash", "python", "text", "bibtex"}
ELSEWHERE = {
    "Installation": "the Makefile's, and `eegdm demo`: tests/test_tutorials.py",
    "Models on the Hugging Face hub": "they need a hub: tests/stages/test_hub.py has one",
    "The original's command lines": "tests/test_main.py runs them all",
}
"""Headings whose commands are not run here, and why."""
RECORDINGS, WEIGHTS, TABLES = "Your own recordings", "Published weights", "The paper's tables"
"""Headings each of whose blocks has a folder of its own: they are alternatives. The others follow
from one another.
"""
NAMED = {*ELSEWHERE, RECORDINGS, WEIGHTS, TABLES}

pytestmark = pytest.mark.timeout(1800)


def is_command(block: Block) -> bool:
    """Whether a block is to be typed, not a listing or what a command printed."""
    return block.language in ("bash", "python")


def commands(*headings: str) -> list[Block]:
    """The blocks under these headings, or else under all that are not named above, with the
    placeholders filled in.
    """
    wanted = [
        b
        for b in blocks(PAGES)
        if is_command(b) and (b.heading in headings if headings else b.heading not in NAMED)
    ]
    return [block._replace(text=filled(block)) for block in wanted]


def filled(block: Block) -> str:
    """The text with what DIR and FILE stand for."""
    if block.language != "bash":
        return block.text
    corpus = "chbmit" if "chbmit" in block.text else "tuev" if "tuev" in block.text else "mine"
    text = block.text.replace("source=DIR", f"source=data/{corpus}")
    return re.sub(r"\bDIR\b", "made", re.sub(r"\bFILE\b", "recording.edf", text))


def write_recording(folder: Path) -> None:
    (edf,) = write_tuev(folder / "unseen", n_train=0, n_eval=1, minutes=1.2)
    shutil.copy(edf, folder / "recording.edf")


def test_every_block_says_what_it_is_and_no_command_is_overlooked() -> None:
    assert {block.language for block in blocks(PAGES)} <= LANGUAGES
    typed = [
        block.language
        for block in blocks(PAGES)
        for line in block.text.splitlines()
        if re.match(r"(eegdm|python|make|for) ", line)
    ]
    assert len(typed) > 30 and set(typed) == {"bash"}
    assert set(ELSEWHERE) <= {block.heading for block in blocks(PAGES)}


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) < 200


@pytest.mark.ci
def test_error_messages_are_those_that_are_printed(tmp_path: Path) -> None:
    (recording,) = write_folder(tmp_path / "mine", n_subjects=1, n_runs=1)
    splits = ("train", "train", "train", "tset")
    rows = [f"{recording.name},{k},1,BCKG,{split}" for k, split in enumerate(splits)]
    (tmp_path / "events.csv").write_text("file,onset_s,duration_s,label,split\n" + "\n".join(rows))
    (shown,) = [b.text for b in blocks(USAGE) if "latents.stp" in b.text]
    for words in (
        ["cache", "latents.stp=1"],
        ["preprocess", "corpus=tuev"],
        ["preprocess", "corpus=folder", "source=mine", "events=table", "table=events.csv"],
    ):
        done = command_line(*words, cwd=tmp_path)
        assert done.returncode == 2 and done.stderr.strip() in shown.splitlines(), done.stderr


@pytest.mark.ci
def test_corpora_recordings_and_python(tmp_path: Path) -> None:
    write_corpora(tmp_path / "data")
    write_recording(tmp_path)
    trained = tmp_path / "runs" / "synthetic" / "demo" / "classifier" / "seed=0"
    eegdm.load(golden_folder("open") / "classifier.ckpt").save_pretrained(trained)
    some = commands()
    assert {"bash", "python"} == {block.language for block in some}
    run_blocks([Block("", "python", "import torch\nx = torch.randn(1, 22, 1000)"), *some], tmp_path)


@pytest.mark.ci
@pytest.mark.parametrize(
    "events", ["table", pytest.param("annotations", marks=pytest.mark.real), "none"]
)
def test_your_own_recordings(events: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    (tmp_path / "data").mkdir()
    if events == "annotations":
        (tmp_path / "data" / "mine").symlink_to(
            request.getfixturevalue("shared") / "data" / "eegmmidb"
        )
    else:
        write_folder(tmp_path / "data" / "mine", n_subjects=6, n_runs=1)
        table = pd.read_csv(tmp_path / "data" / "mine" / "events.csv")
        table.assign(label="seizure")[table.label == "GPED"].to_csv(
            tmp_path / "events.csv", index=False
        )
    write_recording(tmp_path)
    own = commands(RECORDINGS)
    first = next(k for k, block in enumerate(own) if f"events={events}" in block.text)
    follows = [block for block in own[first + 1 : first + 2] if "preprocess" not in block.text]
    assert len(follows) == (events == "table")  # marking events with the classifier just trained
    run_blocks([own[first], *follows], tmp_path)
    assert (
        tmp_path
        / "runs"
        / "folder"
        / "small"
        / ("backbone" if events == "none" else "report")
        / "manifest.json"
    ).is_file()
    assert (tmp_path / "made" / "recording_events.tsv").is_file() == (events == "table")


@pytest.mark.ci
@pytest.mark.parametrize("language", ["python", "bash"])
def test_published_weights(language: str, tmp_path: Path) -> None:
    for folder in (
        tmp_path,
        tmp_path / "jhpuah" / "eegdm",
    ):  # what lies on disk is not looked for on the hub
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(golden_folder("open") / "classifier.ckpt", folder)
    write_recording(tmp_path)
    imported = Block("", "python", "import eegdm")  # by the page's Python before
    run_blocks(
        [imported, *(block for block in commands(WEIGHTS) if block.language == language)], tmp_path
    )
    assert (tmp_path / "published" / "classifier" / "model.safetensors").is_file()


@pytest.mark.ci
def test_the_paper_s_tables(tmp_path: Path) -> None:
    """A plan at the documented size: it asks for more blocks than the small settings have, and runs
    nothing.
    """
    shown = run_blocks(commands(TABLES), tmp_path, words=())
    assert "blocks" in shown and not list(tmp_path.glob("runs/**/manifest.json"))
