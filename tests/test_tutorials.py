"""Every block of shell and Python in the tutorials runs, on small settings, and leaves what the
page says it leaves.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT
from documents import blocks, run_blocks
from eegdm import SSMDP, artifacts
from eegdm.data.synthetic.layouts import write_folder, write_tuev
from stages.tiny import MADE_UP, SIZES, one_thread, write_corpora

TUTORIALS = ROOT / "docs" / "tutorials"
LANGUAGES = {"bash", "python", "text"}

pytestmark = pytest.mark.timeout(1800)


def run_page(name: str, folder: Path, *words: str) -> str:
    page = (TUTORIALS / f"{name}.md").read_text(encoding="utf-8")
    return run_blocks(
        [block for block in blocks(page) if block.language in ("bash", "python")],
        folder,
        [*SIZES, *words],
    )


def finished(folder: Path) -> set[str]:
    """The finished folders below runs/ and beside it, by their paths."""
    return {str(found.parent.relative_to(folder)) for found in folder.rglob(artifacts.MANIFEST)}


def demo_backbone(folder: Path) -> None:
    """A backbone where the demo leaves one, untrained."""
    SSMDP(d_model=8, n_blocks=2, d_state=4, d_cond=8, d_embed=8).save_pretrained(
        folder / "runs" / "synthetic" / "demo" / "backbone"
    )


def test_every_tutorial_is_in_the_site_and_says_what_its_blocks_are() -> None:
    pages = sorted(path.stem for path in TUTORIALS.glob("*.md"))
    assert sorted(re.findall(r"tutorials/([\w-]+)\.md", (ROOT / "mkdocs.yml").read_text())) == pages
    tested = re.findall(r'run_page\(\s*"([\w-]+)"', Path(__file__).read_text())
    assert sorted(tested) == pages
    for page in pages:
        assert {
            block.language for block in blocks((TUTORIALS / f"{page}.md").read_text())
        } <= LANGUAGES, page


def test_the_tutorial_on_scikit_learn_takes_twenty_lines() -> None:
    first = next(
        block
        for block in blocks((TUTORIALS / "scikit-learn.md").read_text())
        if block.language == "python"
    )
    assert sum(bool(line.strip()) for line in first.text.splitlines()) <= 20


@pytest.mark.ci
def test_first_run(tmp_path: Path) -> None:
    said = run_page(
        "first-run", tmp_path, *(f"corpus.{name}={value}" for name, value in MADE_UP.items())
    )
    assert "report.html" in said and (tmp_path / "first-run.png").stat().st_size > 5_000
    assert {
        f"runs/synthetic/demo/{kind}" for kind in ("backbone", "report", "classifier/seed=0")
    } <= finished(tmp_path)


@pytest.mark.ci
def test_tuev(tmp_path: Path) -> None:
    write_tuev(tmp_path / "data" / "tuev", **MADE_UP)
    run_page("tuev", tmp_path)
    kinds = (
        "recordings",
        "backbone",
        "latents",
        "classifier/seed=0",
        "classifier/seed=1",
        "report",
    )
    assert finished(tmp_path) == {f"runs/tuev/base/{kind}" for kind in kinds}


@pytest.mark.ci
def test_chbmit(tmp_path: Path) -> None:
    write_corpora(tmp_path / "data")
    assert "eventType" in run_page("chbmit", tmp_path)
    assert "runs/chbmit/base_chbmit_bin_filt/report" in finished(tmp_path)


@pytest.mark.ci
def test_own_recordings(tmp_path: Path) -> None:
    write_folder(tmp_path / "data" / "mine", n_subjects=6, n_runs=1)
    assert "<Annotations" in run_page("own-recordings", tmp_path)
    assert (
        tmp_path / "marked" / "s01_run1_events.tsv"
    ).is_file() and "runs/folder/small/report" in finished(tmp_path)


@pytest.mark.ci
def test_few_marks(tmp_path: Path) -> None:
    said = run_page("few-marks", tmp_path)
    assert "across 3 people: AUROC" in said and "3 of 3 annotated events" in said
    assert (tmp_path / "found" / "chb01_02_events.tsv").is_file()
    assert {"detector", "runs/embeddings/mine-mini-missing-drop"} <= finished(tmp_path)


@pytest.mark.ci
@pytest.mark.real
def test_real_people(shared: Path, tmp_path: Path) -> None:
    """Five of the people; the download of the set has tests of its own."""
    (tmp_path / "data" / "eegmat").mkdir(parents=True)
    for who in ("01", "03", "04", "07", "09"):
        for file in (shared / "data" / "people" / "eegmat").glob(f"Subject{who}_?.edf"):
            (tmp_path / "data" / "eegmat" / file.name).symlink_to(file)
    said = run_page("real-people", tmp_path)
    assert "across 4 people: AUROC" in said and "across 5 people: AUROC" in said
    assert said.count("band power, with a head chosen alike: AUROC") == 2
    assert said.count("what such channels cost") == 4  # read for tokens, by predict and surprise
    for page in (
        "detector/expectation", "found/Subject09_2_report", "next/suggest", "alike/found",
        "strange", "worth/evaluation",
    ):  # fmt: skip
        assert (tmp_path / f"{page}.html").stat().st_size > 100_000, page
        assert re.search(rf"`{page}\.html`", (TUTORIALS / "real-people.md").read_text()), page


@pytest.mark.ci
def test_few_labels(tmp_path: Path) -> None:
    said = run_page(
        "few-labels", tmp_path, *(f"corpus.{name}={value}" for name, value in MADE_UP.items())
    )
    assert "kappa" in said
    classifiers = {
        f"few/synthetic/{recipe}/classifier/seed={seed}"
        for recipe in ("demo", "demo_random")
        for seed in range(3)
    }
    assert classifiers | {"few/synthetic/demo/report"} <= finished(tmp_path)


@pytest.mark.ci
@pytest.mark.real
def test_scikit_learn(shared: Path, tmp_path: Path) -> None:
    demo_backbone(tmp_path)
    (tmp_path / "data").symlink_to(shared / "data")
    said = run_page("scikit-learn", tmp_path)
    (score,) = re.findall(r"balanced accuracy ([\d.]+)", said)
    assert (
        float(score) >= 0.6 and "eegdmfeatures__query" in said
    )  # 236 windows: chance stays below 0.6 but for once in a thousand times
    assert "b0_s0_inter_std_C3_f0" in said


@pytest.mark.ci
def test_braindecode(tmp_path: Path) -> None:
    demo_backbone(tmp_path)
    run_page("braindecode", tmp_path)
    assert {path.name for path in (tmp_path / "kept").iterdir()} == {
        "config.json",
        "model.safetensors",
        "README.md",
    }


@pytest.mark.ci
def test_variants(tmp_path: Path) -> None:
    write_tuev(tmp_path / "data" / "tuev", **MADE_UP)
    said = run_page("variants", tmp_path)
    assert "torch.Size([2, 4, 5, 2, 22, 32])" in said and "torch.Size([2, 3])" in said
    made = finished(tmp_path)
    assert {f"wide/tuev/base/classifier/seed={seed}" for seed in (0, 1)} | {
        "runs/tuev/base_filters/report"
    } <= made
    assert "runs/tuev/base_filters/backbone" not in made  # shared, not computed again


@pytest.mark.ci
def test_cluster(tmp_path: Path) -> None:
    write_tuev(tmp_path / "data" / "tuev", **MADE_UP)
    run_page("cluster", tmp_path)
    assert finished(tmp_path) == {
        f"runs/tuev/base/{kind}" for kind in ("recordings", "backbone", "latents")
    }


@pytest.mark.ci
def test_the_site_builds_without_a_warning_and_fetches_nothing(tmp_path: Path) -> None:
    site = tmp_path / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", site]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=240, env=one_thread()
    )
    assert done.returncode == 0, done.stderr[-3000:]
    pages = {str(page.relative_to(site)) for page in site.rglob("*.html")}
    assert {"index.html", "api.html", "deviations.html", "tutorials/tuev.html"} <= pages
    loaded = [
        tag
        for page in site.rglob("*.html")
        for tag in re.findall(r"<(?:script|link|img)[^>]+>", page.read_text(encoding="utf-8"))
    ]
    foreign = [
        tag
        for tag in loaded
        if re.search(r'(?:src|href)="(?:https?:)?//', tag) and 'rel="canonical"' not in tag
    ]
    assert len(loaded) > 50 and not foreign
    shutil.rmtree(site)
