"""A report says what its classifiers are: of one plan, all folds together, with their own settings
and backbone; and what it compares with never ends it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from eegdm import artifacts
from eegdm.data.synthetic.layouts import write_folder
from eegdm.errors import UserError
from eegdm.evaluation import comparisons
from eegdm.evaluation.scoring import logits_from_table
from eegdm.stages import report as stage
from eegdm.stages import run_stage
from stages.tiny import SIZES, Finished

pytestmark = pytest.mark.ci

ON_THE_FLY = ["backbone=random", "latents.cached=false", "finetune.epochs=1"]
TWO = ["corpus.classes=[rest,spike]", "corpus.event_classes=[spike]"]
LABELS = "corpus.label_map={BCKG: rest, SPSW: spike, GPED: spike, PLED: spike}"
WARNING = "s01 and s02 may be one person"


def numbers_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "report.json").read_text())


def text_of(folder: Path) -> str:
    return (folder / "report.md").read_text()


# ------------------------------------------------------------------------------------- three folds


@pytest.fixture(scope="module")
def folds(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Path]:
    """The words of a run, and its report: two classes, three folds, and a classifier of another
    division that was finished last.
    """
    folder = tmp_path_factory.mktemp("folds")
    write_folder(folder / "edf", "table", n_subjects=3, n_runs=2, minutes=1.2)
    words = ["corpus=folder", f"root={folder / 'runs'}"]
    source = [f"source={folder / 'edf'}", "events=table", f"table={folder / 'edf' / 'events.csv'}"]
    recordings = run_stage("preprocess", [*words, *source, LABELS, *TWO])
    manifest = artifacts.read_json(recordings / artifacts.MANIFEST)
    manifest["summary"] |= {"subject_warnings": [WARNING], "subjects_from": "the table"}
    artifacts.write_json(recordings / artifacts.MANIFEST, manifest)
    sizes = [*SIZES, *ON_THE_FLY]
    for fold in range(3):
        kfold = ["split=kfold", "windows.n_folds=3", f"fold={fold}"]
        run_stage("finetune", [*words, *sizes, *kfold])
    run_stage("finetune", [*words, *sizes, "finetune.max_lr=1e-4"])
    return words, run_stage("report", words)


@pytest.fixture(scope="module")
def predictions(folds: tuple[list[str], Path]) -> list[pd.DataFrame]:
    _, report = folds
    names = [run["name"] for run in numbers_of(report)["runs"]]
    assert names == [f"fold {fold}, seed 0" for fold in range(3)]
    files = [f"predictions-{name.replace(', ', ',').replace(' ', '=')}.parquet" for name in names]
    assert sorted(p.name for p in report.glob("predictions-*")) == sorted(files)
    return [pd.read_parquet(report / file) for file in files]


def test_a_classifier_of_another_division_is_listed_and_not_averaged(
    folds: tuple[list[str], Path], predictions: list[pd.DataFrame]
) -> None:
    numbers = numbers_of(folds[1])
    (left_out,) = numbers["left_out"]
    assert left_out["classifier"] == "seed=0" and "finetune.max_lr" in left_out["why"]
    kappas = [
        metrics.cohen_kappa_score(p.label, logits_from_table(p).argmax(axis=1)) for p in predictions
    ]
    assert numbers["summary"]["kappa"] == {
        "mean": pytest.approx(100 * np.mean(kappas), abs=0.006),
        "std": pytest.approx(100 * np.std(kappas), abs=0.006),
    }
    assert left_out["why"] in text_of(folds[1]).replace("\\", "")


def test_folds_are_pooled_each_window_once(
    folds: tuple[list[str], Path], predictions: list[pd.DataFrame]
) -> None:
    numbers, every = numbers_of(folds[1]), pd.concat(predictions)
    (found,) = numbers["pooled"]
    assert not every.duplicated(["recording", "start_sample", "channel", "label"]).any()
    logits = logits_from_table(every)
    predicted = logits.argmax(axis=1)
    assert found["scores"]["n"] == len(every)
    assert found["scores"]["confusion"] == metrics.confusion_matrix(every.label, predicted).tolist()
    assert found["scores"]["auroc"] == pytest.approx(
        metrics.roc_auc_score(every.label, logits[:, 1] - logits[:, 0]), abs=1e-12
    )
    assert (found["n_subjects"], found["n_recordings"]) == (3, 6)
    assert found["interval_unit"] == "recordings" and "not independent" in text_of(folds[1])
    for name, baseline in numbers["baselines"].items():
        assert len(baseline["scores"]) == 3 and baseline["pooled"]["kappa"]["std"] == 0.0, name
    prior = numbers["baselines"]["chance: majority class"]["pooled"]
    assert prior["balanced_accuracy"]["mean"] == 50.0 and prior["auroc"]["mean"] == 50.0


def test_the_division_the_counts_and_the_warnings_are_those_of_all_folds(
    folds: tuple[list[str], Path], predictions: list[pd.DataFrame]
) -> None:
    numbers, text = numbers_of(folds[1]), text_of(folds[1])
    assert "into 3 folds" in numbers["split"] and "0, 1, 2, which are all" in numbers["split"]
    rows = [row for row in numbers["counts"] if row["split"] == "test"]
    assert [row["of"] for row in rows] == [f"fold {fold}, seed 0" for fold in range(3)]
    for row, predicted in zip(rows, predictions, strict=True):
        assert row["windows"] == len(predicted) and row["recordings"] == 2
        assert (row["rest"], row["spike"]) == tuple(predicted.label.value_counts().sort_index())
    n = sum(map(len, predictions))
    assert f"{n} test in 3 folds (6 recordings of 3 subjects)" in text
    assert WARNING in text and "Subjects are taken from the table" in text


def test_the_settings_are_the_models_and_nothing_was_pretrained(
    folds: tuple[list[str], Path],
) -> None:
    """The report command typed no sizes: the recipe's width is 128."""
    numbers = numbers_of(folds[1])
    assert numbers["settings"]["backbone"]["d_model"] == 8
    assert numbers["settings"]["finetune"]["epochs"] == 1
    assert "pretrain" not in numbers["settings"] and "fold" not in numbers["settings"]["windows"]
    assert "random weights: nothing was pretrained" in text_of(folds[1])
    assert (
        numbers["provenance"]["recordings scored"]
        == (numbers["provenance"]["recordings trained on"])
    )


def test_two_classes_show_auroc_and_one_line_for_each_comparison(
    folds: tuple[list[str], Path],
) -> None:
    numbers = numbers_of(folds[1])
    assert numbers["headline"] == ["balanced_accuracy", "kappa", "auroc"]
    lines = [line for line in text_of(folds[1]).splitlines() if line.startswith("| ")]
    for name in ("chance: label prior", "band power + logistic regression"):
        assert len([line for line in lines if line.startswith(f"| {name}, mean of 3 |")]) == 1
        assert len([line for line in lines if line.startswith(f"| {name} |")]) == 1  # pooled
    assert "no class weights" in numbers["rules"] and "best kappa" in numbers["rules"]


def test_folds_that_are_not_all_there_are_named_and_not_pooled(
    folds: tuple[list[str], Path], tmp_path: Path
) -> None:
    words, _ = folds
    numbers = numbers_of(run_stage("report", [*words, "split=kfold", "fold=1"]))
    assert [run["name"] for run in numbers["runs"]] == ["fold 1, seed 0"]
    assert numbers["pooled"] == [] and "not finished: 0, 2" in numbers["split"]


# ---------------------------------------------------------------------------- what is compared with


@pytest.mark.parametrize(
    ("name", "said"),
    [("bas", 'did you mean "base"'), ("small", "recipe=small` first"), ("demoo", "no classifier")],
)
def test_a_recipe_without_classifiers_is_refused_before_anything_is_scored(
    own: Finished, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    monkeypatch.setattr(comparisons, "score_samples", lambda *_: pytest.fail("scored"))
    before = (own.report / "report.json").read_bytes()
    with pytest.raises(UserError, match=f"run.compare={name}: .*{said}"):
        run_stage("report", [*own.words, f"compare=[{name}]"])
    assert (own.report / "report.json").read_bytes() == before


def test_a_comparison_that_fails_is_a_line_of_the_table(
    own: Finished, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise MemoryError("too large")

    monkeypatch.setattr(comparisons, "pooled_of", refuse)
    report = run_stage("report", own.words)
    found = numbers_of(report)["baselines"]
    assert found["linear probe"]["missing"] == "MemoryError: too large"
    assert found["band power + logistic regression"]["missing"] is None
    assert "| linear probe | not computed: MemoryError: too large |" in text_of(report)
    assert "not computed: MemoryError" in capfd.readouterr().out
    assert pd.read_csv(report / "report.csv").model.isin(["linear probe"]).sum() == 2


def test_one_class_to_learn_from_leaves_a_report(tmp_path: Path) -> None:
    source = tmp_path / "edf"
    write_folder(source, "table", n_subjects=3, n_runs=1, minutes=1.2)
    table = pd.read_csv(source / "events.csv")
    split = {"s01": "train", "s02": "val", "s03": "test"}
    table = table.assign(split=table.subject.map(split))
    table = table[(table.split != "train") | (table.label == "BCKG")]
    table.to_csv(tmp_path / "events.csv", index=False)
    words = ["corpus=folder", f"root={tmp_path / 'runs'}", "split=column", LABELS, *TWO]
    events = ["events=table", f"table={tmp_path / 'events.csv'}"]
    run_stage("preprocess", [*words, f"source={source}", *events])
    run_stage("finetune", [*words, *SIZES, *ON_THE_FLY])
    found = numbers_of(run_stage("report", words))["baselines"]
    assert (
        "are of class 0; two classes are needed"
        in (found["band power + logistic regression"]["missing"])
    )
    assert found["chance: label prior"]["summary"]["balanced_accuracy"]["mean"] == 50.0


# ------------------------------------------------------------------------------------ the backbone


def test_the_backbone_shown_is_the_classifiers_and_not_the_one_of_the_recipe(
    own: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    linear = [*own.words, "recipe=linear", "pretrain.epochs=1", "pretrain.samples=2"]
    backbone = run_stage("pretrain", linear)
    words = [word for word in own.words if not word.startswith("pretrain.")]
    other = [f"backbone={backbone}", "latents.cached=false", "finetune.epochs=1"]
    run_stage("finetune", [*words, "seed=1", *other])
    pages = []
    monkeypatch.setattr(
        stage,
        "write_report",
        lambda page, folder, to=stage.write_report: (pages.append(page), to(page, folder)),
    )
    asked = ["corpus=tuev", f"root={own.root}", "seed=1"]
    settings = numbers_of(run_stage("report", asked))["settings"]
    (page,) = pages
    assert len(page.pretraining) == 1 and page.generated.generated.shape[1] == 2
    assert settings["diffusion"]["schedule"] == "linear" and settings["pretrain"]["epochs"] == 1

    (backbone / artifacts.MANIFEST).unlink()
    report = run_stage("report", asked)
    assert pages[-1].pretraining is None and pages[-1].generated is None
    assert "was not found" in text_of(report)
    assert "pretrain" not in numbers_of(report)["settings"]


def test_other_recordings_than_those_learned_from_are_named(own: Finished, tmp_path: Path) -> None:
    words = ["corpus=tuev", f"root={tmp_path / 'other'}", *SIZES]
    recordings = run_stage("preprocess", [*words, f"source={own.source}", "signal.notch=[60.0]"])
    report = run_stage("report", [*words, f"run.classifiers=['{own.classifier}']"])
    found = numbers_of(report)["provenance"]
    scored, learned = (artifacts.read_manifest(p).fingerprint for p in (recordings, own.recordings))
    assert found["recordings scored"] == scored != learned
    assert found["recordings trained on"] == learned
    assert "learned from another recordings folder" in text_of(report)
