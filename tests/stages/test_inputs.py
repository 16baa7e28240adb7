"""Folders know what they were made from: the files, the table, and nothing that readers decide."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from eegdm import artifacts
from eegdm.compose import compose
from eegdm.data.recordings import Recordings
from eegdm.data.synthetic.layouts import write_folder
from eegdm.data.tokens import TokenStore
from eegdm.errors import UserError
from eegdm.models.backbone import SSMDP
from eegdm.models.eegdm import EEGDM
from eegdm.opening import open_data, resolve, token_spec
from eegdm.stages import run_stage
from stages.tiny import SIZES

CLASSES = ["corpus.classes=[SPSW,GPED,PLED,EYEM,ARTF,BCKG]"]


def words(source: Path, root: Path, *more: str) -> list[str]:
    return [
        "corpus=folder",
        f"source={source}",
        "events=table",
        f"table={source / 'events.csv'}",
        f"root={root}",
        "split=subject",
        *SIZES,
        *CLASSES,
        *more,
    ]


@pytest.fixture(scope="module")
def two_sources(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("sources")
    write_folder(folder / "a", "table", n_subjects=4, n_runs=1, minutes=1.2, seed=1)
    write_folder(folder / "b", "table", n_subjects=4, n_runs=1, minutes=1.2, seed=2)
    return folder / "a", folder / "b"


def sealed(folder: Path) -> dict[str, str]:
    return {f.name: artifacts.sha256(f) for f in folder.rglob("*") if f.is_file()}


@pytest.mark.parametrize("recipe", ["small", "base"])
def test_another_source_is_not_written_into_finished_recordings(
    two_sources: tuple[Path, Path], tmp_path: Path, recipe: str
) -> None:
    """The same names with another content, by the same recipe: refused; by another recipe, which
    shares recordings that are equal: a folder of its own.
    """
    a, b = two_sources
    first = run_stage("preprocess", words(a, tmp_path, "recipe=small"))
    before = sealed(first)
    typed = words(b, tmp_path, f"recipe={recipe}")
    if recipe == "small":
        with pytest.raises(UserError, match=r"holds recordings of other files.* 4 changed \(such"):
            run_stage("preprocess", typed)
    else:
        second = run_stage("preprocess", typed)
        assert second != first
        assert run_stage("preprocess", words(a, tmp_path, "recipe=demo")) == first
        with pytest.raises(UserError, match="point recordings= to one of"):
            run_stage("pretrain", words(b, tmp_path, "recipe=demo"))
    assert sealed(first) == before


def without(source: Path, name: str) -> None:
    """Remove a recording and its rows of the table."""
    (source / name).unlink()
    rows = pd.read_csv(source / "events.csv")
    rows[rows.file != name].to_csv(source / "events.csv", index=False)


def other_labels(source: Path, name: str) -> None:
    """Let the table say something else."""
    text = (source / "events.csv").read_text()
    (source / "events.csv").write_text(text.replace("GPED", "PLED"))


CHANGES = {
    "gone": (without, "1 gone (such as {name})"),
    "new": (lambda source, name: shutil.copy(source / name, source / "z9.edf"), "1 new (such as z"),
    "relabelled": (other_labels, "4 changed"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_files_that_change_are_refused_by_name(
    two_sources: tuple[Path, Path], tmp_path: Path, change: str
) -> None:
    source = shutil.copytree(two_sources[0], tmp_path / "source")
    name = min(f.name for f in source.glob("*.edf"))
    typed = words(source, tmp_path / "runs")
    recordings = run_stage("preprocess", typed)
    before = sealed(recordings)
    (source / name).touch()  # another time, the same content
    assert run_stage("preprocess", typed) == recordings
    make, message = CHANGES[change]
    make(source, name)
    with pytest.raises(UserError) as refused:
        run_stage("preprocess", typed)
    assert message.format(name=name) in str(refused.value) and "another root=" in str(refused.value)
    assert sealed(recordings) == before


def test_another_grouping_of_labels_needs_no_second_preprocessing(
    two_sources: tuple[Path, Path], tmp_path: Path
) -> None:
    typed = words(two_sources[0], tmp_path, "backbone=random")
    recordings = run_stage("preprocess", typed)
    latents = run_stage("cache", typed)
    before = sealed(recordings) | sealed(latents)
    grouped = [
        "corpus.label_map={SPSW: spike, GPED: periodic, PLED: periodic, EYEM: other, ARTF: other,"
        " BCKG: other}",
        "corpus.classes=[other,periodic,spike]",
        "corpus.event_classes=[periodic,spike]",
    ]
    rest = [word for word in typed if word not in CLASSES]
    _, six = open_data(compose(typed))
    with pytest.raises(UserError, match=r"corpus.labels=\[\], this run wants \['ARTF'"):
        run_stage("cache", [*rest, *grouped])  # by events: which labels count is part of it
    on_grid = ["windows.policy=grid", "windows.background=BCKG", f"root={tmp_path / 'grid'}"]
    given = [*on_grid, f"recordings={recordings}"]
    run_stage("cache", [*typed, *given])
    of_grid = ["windows.background=other", *given[0:1], *given[2:]]
    _, three = open_data(compose([*rest, *grouped, *of_grid]))
    assert sorted(set(six.samples.label)) == [0, 1, 2, 3, 4, 5]
    assert sorted(set(three.samples.label)) == [0, 1, 2]
    classifier = run_stage("finetune", [*rest, *grouped, *of_grid])
    assert artifacts.open_artifact(classifier).config["corpus"]["classes"] == [
        "other",
        "periodic",
        "spike",
    ]
    report = run_stage("report", [*rest, *of_grid])
    assert json.loads((report / "report.json").read_text())["classes"] == [
        "other",
        "periodic",
        "spike",
    ]
    assert sealed(recordings) | sealed(latents) == before


def test_a_replaced_file_is_read_anew_in_the_same_process(
    two_sources: tuple[Path, Path], tmp_path: Path
) -> None:
    """Memory maps are kept by the identity of the file, not by its name."""
    a, b = (
        run_stage("preprocess", words(source, tmp_path / name))
        for source, name in zip(two_sources, "ab", strict=True)
    )
    place = tmp_path / "place"
    seen = []
    for folder in (a, b):
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(folder, place)
        opened = Recordings(place)
        seen.append(np.array(opened.signal(opened.table.recording[0])))
    expected = [np.load(next(iter(sorted((f / "signals").iterdir())))) for f in (a, b)]
    np.testing.assert_array_equal(seen[0], expected[0])
    np.testing.assert_array_equal(seen[1], expected[1])

    tokens = []
    for name, recordings in (("a", a), ("b", b)):
        latents = run_stage(
            "cache",
            words(two_sources[0], tmp_path / name, "backbone=random", f"recordings={recordings}"),
        )
        shutil.rmtree(place)
        shutil.copytree(latents, place)
        store = TokenStore(place)
        key = tuple(store.windows[["recording", "start_sample", "n_times"]].iloc[0])
        tokens.append((np.array(store.read(key)), TokenStore(latents), key))
    for read, store, key in tokens:
        np.testing.assert_array_equal(read, store.read(key))
    assert not np.array_equal(tokens[0][0], tokens[1][0])


def test_folds_share_the_tokens_of_a_backbone_that_none_of_them_trained(
    two_sources: tuple[Path, Path], tmp_path: Path
) -> None:
    typed = [w for w in words(two_sources[0], tmp_path, "backbone=random") if "split" not in w]
    run_stage("preprocess", typed)
    folds = [[*typed, "split=kfold", "windows.n_folds=4", f"fold={k}"] for k in range(2)]
    folders = {run_stage("cache", fold) for fold in folds}
    assert folders == {tmp_path / "folder" / "base" / "latents"}
    every = [*folds[0][:-1], "fold=all"]
    last = run_stage("finetune", every)
    assert last.name == "fold=3,seed=0"
    assert sorted(path.name for path in last.parent.iterdir()) == [
        f"fold={k},seed=0" for k in range(4)
    ]
    with pytest.raises(UserError, match="fold=all: needs split=kfold, and windows.split=subject"):
        run_stage("finetune", [*typed, "split=subject", "fold=all"])
    own = [*typed, "split=subject"]  # after folds, in the same root
    assert run_stage("cache", own) in folders
    pretrained = [word for word in own if not word.startswith("backbone=random")]
    kfold = [w.replace("split=subject", "split=kfold") for w in pretrained] + ["windows.n_folds=4"]
    run_stage("pretrain", kfold)
    assert run_stage("pretrain", pretrained) == tmp_path / "folder" / "base" / "backbone"
    assert pd.read_csv(tmp_path / "folder" / "base" / "backbone" / "curves.csv").shape[0] == 2


def test_tokens_of_random_weights_are_those_of_the_noise_schedule_that_was_typed(
    two_sources: tuple[Path, Path], tmp_path: Path
) -> None:
    """Where the signal is scaled by the schedule before it is read, another schedule is another
    set of tokens: it is refused in the finished folder.
    """
    typed = words(two_sources[0], tmp_path, "backbone=random", "latents.forward=noiseless")
    run_stage("preprocess", typed)
    folder = run_stage("cache", typed)
    assert run_stage("cache", typed) == folder
    with pytest.raises(UserError, match="was made with backbone=.random"):
        run_stage("cache", [*typed, "diffusion.schedule=linear"])


@pytest.mark.parametrize("holds", ["backbone", "classifier"])
def test_a_backbone_from_elsewhere_brings_its_noise_schedule_and_companding(
    two_sources: tuple[Path, Path], tmp_path: Path, holds: str
) -> None:
    """Tokens are made of signals and noise as it learned from, whatever the recipe says."""
    noise = {"schedule": "linear", "n_steps": 20, "beta_start": 1e-3, "beta_end": 0.3}
    sizes = {"d_model": 8, "n_blocks": 2, "d_state": 4, "d_cond": 8, "d_embed": 8}
    if holds == "backbone":
        info = {"diffusion": noise, "signal": {"mu": 20.0}}
        folder = SSMDP(**sizes).save_pretrained(tmp_path / "other", info=info)
    else:
        fusion = {"n_heads": 2, "depth": 1}
        model = EEGDM(sizes, fusion, tokens=noise, signal={"mu": 20.0})
        folder = model.save_pretrained(tmp_path / "other")
    untyped = [word for word in words(two_sources[0], tmp_path / "root") if "n_steps" not in word]
    run_stage("preprocess", untyped)
    config, inputs = resolve(compose([*untyped, f"backbone={folder}"]), "cache")
    assert token_spec(config).noise == noise and config.signal.mu == 20.0
    for typed in ("diffusion.n_steps=30", "diffusion.beta_end=0.1", "signal.mu=255"):
        with pytest.raises(UserError, match=f"other: is a backbone with {typed.split('=')[0]}="):
            resolve(compose([*untyped, f"backbone={folder}", typed]), "cache")
