"""Each stage once on made-up EEG: what it leaves behind is what it says, and a later run neither
redoes nor changes it.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

import eegdm
from eegdm import artifacts
from eegdm.compose import compose
from eegdm.config import TUEV_CLASSES
from eegdm.data.montage import TCP
from eegdm.errors import UserError
from eegdm.evaluation.scoring import logits_from_table, score_samples
from eegdm.opening import open_data
from eegdm.stages import run_stage
from stages.tiny import MADE_UP, Finished, snapshot

STAGES = ("preprocess", "pretrain", "cache", "finetune", "report")
KINDS = ("recordings", "backbone", "latents", "classifier", "report")
N_RECORDINGS = MADE_UP["n_train"] + MADE_UP["n_eval"]


def rec_rows(corpus: Path) -> pd.DataFrame:
    """The annotations as they stand in the .rec files: file, channel, onset_s, end_s, code."""
    rows = [
        [file.stem, *map(float, row)]
        for file in sorted(corpus.rglob("*.rec"))
        for row in csv.reader(file.open())
    ]
    return pd.DataFrame(rows, columns=["file", "channel", "onset_s", "end_s", "code"])


# ------------------------------------------------------------------------------------ the folders


@pytest.mark.parametrize("kind", KINDS)
def test_each_stage_leaves_a_sealed_folder_without_pickles(finished: Finished, kind: str) -> None:
    folder = getattr(finished, kind)
    assert folder.relative_to(finished.root).parts[:3] == ("tuev", "base", kind)
    assert artifacts.verify(folder) == []
    made = artifacts.open_artifact(folder, kind)
    assert {Path(name).suffix for name in made.files} <= {
        ".npy",
        ".parquet",
        ".json",
        ".safetensors",
        ".csv",
        ".md",
        ".html",
        ".tex",
    }
    assert not list(folder.rglob("*.tmp*"))


def test_each_folder_names_what_it_was_made_from(finished: Finished) -> None:
    made = {kind: artifacts.open_artifact(getattr(finished, kind), kind) for kind in KINDS}
    recordings, backbone, latents = (made[kind].fingerprint for kind in KINDS[:3])
    assert set(made["recordings"].inputs) == {"files"}
    assert made["backbone"].inputs == {"recordings": recordings}
    assert made["latents"].inputs == {"recordings": recordings, "backbone": backbone}
    assert made["classifier"].inputs == {
        "recordings": recordings,
        "backbone": backbone,
        "latents": latents,
    }
    assert made["report"].summary["classifiers"] == {
        "recordings": recordings,
        "seed 0": made["classifier"].fingerprint,
    }


def test_recordings_are_the_corpus(finished: Finished) -> None:
    table = pd.read_parquet(finished.recordings / "recordings.parquet")
    assert list(table) == [
        "recording",
        "file",
        "sha256",
        "subject",
        "session",
        "run",
        "split",
        "sfreq",
        "n_times",
        "ch_names",
        "channel_ids",
        "status",
        "reason",
        "signal",
    ]
    assert len(table) == N_RECORDINGS and set(table.status) == {"ok"}
    assert set(table.reason) == {""}
    assert table.subject.nunique() == N_RECORDINGS and table.split.value_counts().to_dict() == {
        "train": 5,
        "test": 2,
    }
    for row in table.itertuples():
        signal = np.load(finished.recordings / row.signal)
        assert (
            signal.dtype == np.float32
            and signal.shape == (22, row.n_times)
            and row.n_times == MADE_UP["minutes"] * 60 * row.sfreq
        )
        assert tuple(row.ch_names) == TCP and list(row.channel_ids) == list(range(22))
        assert row.sha256 == artifacts.sha256(finished.source / row.file)


def test_events_are_the_rows_of_the_rec_files(finished: Finished) -> None:
    events = pd.read_parquet(finished.recordings / "events.parquet")
    assert list(events) == ["recording", "channel", "onset_s", "duration_s", "label"]
    expected = rec_rows(finished.source)
    events["file"] = events.recording.str.rpartition("/")[2]
    assert (events.file == expected.file).all()
    assert (events.channel == [TCP[int(c)] for c in expected.channel]).all()
    assert (events.label == [TUEV_CLASSES[int(code) - 1] for code in expected.code]).all()
    np.testing.assert_allclose(
        events.onset_s + events.duration_s, expected.end_s, rtol=0, atol=1e-9
    )


def test_models_load_from_their_folders_and_know_their_channels_and_classes(
    finished: Finished,
) -> None:
    backbone, classifier = eegdm.load(finished.backbone), eegdm.load(finished.classifier)
    assert isinstance(backbone, eegdm.SSMDP) and backbone.config["n_blocks"] == 2
    assert (
        isinstance(classifier, eegdm.EEGDM)
        and tuple(classifier.channels) == TCP
        and tuple(classifier.classes) == TUEV_CLASSES
    )
    assert (classifier.sfreq, classifier.n_times, classifier.signal["mu"]) == (200.0, 1000, 255.0)
    assert classifier.decision["event_classes"] == list(TUEV_CLASSES[:5])
    for name, tensor in backbone.state_dict().items():
        assert (classifier.backbone.state_dict()[name] == tensor).all(), name


def test_curves_have_one_row_per_epoch(finished: Finished) -> None:
    pretraining, finetuning = (
        pd.read_csv(folder / "curves.csv") for folder in (finished.backbone, finished.classifier)
    )
    assert list(pretraining.epoch) == [0, 1] and {"step", "lr", "train_loss", "val_loss"} <= set(
        pretraining
    )
    assert list(finetuning.epoch) == [0, 1, 2] and {
        "val_kappa",
        "val_balanced_accuracy",
        "val_weighted_f1",
    } <= set(finetuning)


def test_generated_windows_are_kept_for_every_channel(finished: Finished) -> None:
    drawn = np.load(finished.backbone / "samples.npy")
    assert drawn.shape == (22, 1, 1000) and np.isfinite(drawn).all() and drawn.std() > 0


# ----------------------------------------------------------------------------------------- tokens


def test_each_distinct_window_is_cached_once(finished: Finished) -> None:
    rows = rec_rows(finished.source)
    distinct = rows.drop_duplicates(["file", "onset_s", "end_s"])
    windows = pd.read_parquet(finished.latents / "windows.parquet")
    assert len(windows) == len(distinct) < len(rows)
    assert not windows.duplicated(["recording", "start_sample", "n_times"]).any()
    shards = [np.load(f) for f in sorted((finished.latents / "shards").glob("shard-*.npy"))]
    assert sum(map(len, shards)) == windows.n_channels.sum() == 22 * len(windows)
    assert {s.shape[1:] for s in shards} == {(2, 5, 1, 8)} and {s.dtype for s in shards} == {
        np.dtype("float16")
    }
    assert len(shards) == -(-len(windows) // 16)


@pytest.fixture(scope="module")
def on_the_fly(finished: Finished) -> np.ndarray:
    """Logits of the test samples by tokens that were never stored."""
    return logits(finished, [*finished.words, "latents.cached=false"])


def logits(finished: Finished, words: list[str]) -> np.ndarray:
    config = compose(words)
    config, data = open_data(config)
    assert (data.store is not None) == config.latents.cached
    test = data.part("test")
    return logits_from_table(score_samples(config, data, eegdm.load(finished.classifier), test))


def test_cached_tokens_give_the_logits_of_tokens_on_the_fly(
    finished: Finished, on_the_fly: np.ndarray
) -> None:
    assert on_the_fly.shape[1] == 6 and on_the_fly.std(axis=0).min() > 0
    np.testing.assert_allclose(
        logits(finished, finished.words), on_the_fly, rtol=0, atol=1e-3 * np.abs(on_the_fly).max()
    )


def test_float32_tokens_give_the_same_logits_more_closely(
    finished: Finished, on_the_fly: np.ndarray, tmp_path: Path
) -> None:
    elsewhere = [w for w in finished.words if not w.startswith("root=")]
    elsewhere += [
        f"root={tmp_path}",
        f"recordings={finished.recordings}",
        f"backbone={finished.backbone}",
        "latents.dtype=float32",
    ]
    latents = run_stage("cache", elsewhere)
    assert latents == tmp_path / "tuev" / "base" / "latents"
    np.testing.assert_allclose(
        logits(finished, elsewhere), on_the_fly, rtol=0, atol=1e-5 * np.abs(on_the_fly).max()
    )


# ----------------------------------------------------------------------------------------- report


def test_the_reports_numbers_are_scikit_learns(finished: Finished) -> None:
    report = json.loads((finished.report / "report.json").read_text())
    predictions = pd.read_parquet(finished.report / "predictions-seed=0.parquet")
    assert [c for c in predictions if c.startswith("logit_")] == [
        f"logit_{name}" for name in TUEV_CLASSES
    ]
    label, predicted = predictions.label.to_numpy(), logits_from_table(predictions).argmax(axis=1)
    (run,) = report["runs"]
    found = run["scores"]
    assert found["n"] == len(label) == (rec_rows(finished.source / "edf" / "eval").shape[0])
    assert found["kappa"] == pytest.approx(metrics.cohen_kappa_score(label, predicted), abs=1e-12)
    assert found["balanced_accuracy"] == pytest.approx(
        metrics.balanced_accuracy_score(label, predicted), abs=1e-12
    )
    assert found["weighted_f1"] == pytest.approx(
        metrics.f1_score(label, predicted, average="weighted"), abs=1e-12
    )
    assert (
        found["confusion"] == metrics.confusion_matrix(label, predicted, labels=range(6)).tolist()
    )
    assert report["summary"]["kappa"]["mean"] == pytest.approx(100 * found["kappa"], abs=0.005)
    assert [c["windows"] for c in report["counts"]] == [
        len(rec_rows(finished.source / "edf" / "train")) - report["counts"][1]["windows"],
        report["counts"][1]["windows"],
        len(label),
    ]


def test_the_report_is_a_page_and_a_text_that_name_the_result(finished: Finished) -> None:
    kappa = json.loads((finished.report / "report.json").read_text())["summary"]["kappa"]["mean"]
    page, text = ((finished.report / name).read_text() for name in ("report.html", "report.md"))
    for content in (page, text):
        assert (
            f"{kappa:.2f}" in content and "chance" in content and "logistic regression" in content
        )
        assert str(finished.root) not in content and str(finished.source) not in content


# --------------------------------------------------------------------------- sharing and resuming


def test_another_split_needs_no_other_recordings_or_latents(own: Finished) -> None:
    before = snapshot(own.recordings, own.backbone, own.latents)
    folder = run_stage(
        "finetune",
        [*own.words, "seed=1", "split=subject", "windows.split_seed=1", "finetune.epochs=1"],
    )
    assert folder == own.classifier.with_name("seed=1")
    assert snapshot(own.recordings, own.backbone, own.latents) == before
    first, second = (artifacts.open_artifact(f) for f in (own.classifier, folder))
    assert first.inputs == second.inputs and second.config["windows"]["split"] == "subject"


@pytest.mark.parametrize("recipe", ["linear", "nolaw"])
def test_recipes_share_recordings(own: Finished, recipe: str) -> None:
    backbone = run_stage(
        "pretrain", [*own.words, f"recipe={recipe}", "pretrain.epochs=1", "pretrain.samples=0"]
    )
    assert backbone == own.root / "tuev" / recipe / "backbone"
    assert artifacts.open_artifact(backbone).inputs == artifacts.open_artifact(own.backbone).inputs
    assert [p.name for p in backbone.parent.iterdir()] == ["backbone"]


def test_recipes_share_whatever_they_do_not_change(own: Finished) -> None:
    words = [*own.words, "recipe=no_fusion", "fusion.depth=1"]
    before = snapshot(own.recordings, own.backbone, own.latents)
    assert [run_stage(stage, words) for stage in STAGES[1:3]] == [own.backbone, own.latents]
    classifier = run_stage("finetune", [*words, "finetune.epochs=1"])
    assert classifier == own.root / "tuev" / "no_fusion" / "classifier" / "seed=0"
    assert snapshot(own.recordings, own.backbone, own.latents) == before
    assert eegdm.load(classifier).fusion.config["kind"] == "none"


@pytest.mark.parametrize(
    ("stage", "typed", "made_with", "command"),
    [
        ("cache", "backbone.d_model=16", "backbone.d_model=8", "eegdm pretrain"),
        ("finetune", "latents.step=5", "latents.step=1", "eegdm cache"),
        ("finetune", "signal.notch=[60.0]", "signal.notch=[50.0]", "eegdm preprocess"),
    ],
)
def test_what_was_typed_and_contradicts_the_folders_is_refused_by_name(
    finished: Finished, stage: str, typed: str, made_with: str, command: str
) -> None:
    before = snapshot(finished.root)
    with pytest.raises(UserError) as error:
        run_stage(stage, [*finished.words, typed])
    (line,) = str(error.value).splitlines()
    assert made_with in line and typed.partition("=")[2].strip("[]") in line and command in line
    assert snapshot(finished.root) == before


def test_an_unmet_need_names_the_command_that_meets_it(finished: Finished, tmp_path: Path) -> None:
    words = [w for w in finished.words if not w.startswith("root=")] + [f"root={tmp_path}"]
    words = [*words, "split=kfold", "fold=1"]
    typed = f"corpus=tuev recipe=base root={tmp_path} split=kfold fold=1"
    for stage, needed in (
        ("pretrain", "preprocess"),
        ("cache", "preprocess"),
        ("finetune", "preprocess"),
        ("report", "preprocess"),
    ):
        with pytest.raises(UserError, match=f"run `eegdm {needed} {typed}` first"):
            run_stage(stage, words)
    for stage, needed in (("cache", "pretrain"), ("report", "finetune")):
        with pytest.raises(UserError, match=f"run `eegdm {needed} {typed}` first"):
            run_stage(stage, [*words, f"recordings={finished.recordings}"])


@pytest.mark.parametrize("stage", STAGES[:4])
def test_running_a_finished_stage_again_changes_nothing(finished: Finished, stage: str) -> None:
    before = snapshot(finished.root)
    words = (
        [*finished.words, f"source={finished.source}"] if stage == "preprocess" else finished.words
    )
    assert run_stage(stage, words) == getattr(finished, KINDS[STAGES.index(stage)])
    assert snapshot(finished.root) == before


def test_a_report_made_again_says_the_same(own: Finished) -> None:
    names = ("report.json", "report.md", "predictions-seed=0.parquet")
    before = [(own.report / name).read_bytes() for name in names]
    with unchangeable(own.recordings, own.backbone, own.latents, own.classifier):
        assert run_stage("report", own.words) == own.report
    assert [(own.report / name).read_bytes() for name in names] == before


@pytest.mark.ci
def test_a_report_trains_a_model_of_braindecode_once_and_scores_it(
    own: Finished, capfd: pytest.CaptureFixture[str]
) -> None:
    words = [*own.words, "compare=[braindecode.EEGNet]"]
    report = run_stage("report", words)
    assert "report: training braindecode.EEGNet, seed 0" in capfd.readouterr().out
    (path,) = report.glob("braindecode.EEGNet-*.npy")
    found = json.loads((report / "report.json").read_text())["baselines"]["braindecode.EEGNet"][
        "summary"
    ]["kappa"]["mean"]
    label = pd.read_parquet(report / "predictions-seed=0.parquet").label
    assert found == pytest.approx(
        100 * metrics.cohen_kappa_score(label, np.load(path).argmax(axis=1)), abs=0.005
    )

    before = path.stat().st_mtime_ns
    run_stage("report", words)
    assert "training" not in capfd.readouterr().out and path.stat().st_mtime_ns == before
    assert artifacts.verify(report) == []
    with pytest.raises(UserError, match='no such model; did you mean "EEGNet"'):
        run_stage("report", [*own.words, "compare=[braindecode.EEGNett]"])
    run_stage("report", own.words)
    assert not path.exists() and artifacts.verify(report) == []


def test_a_report_of_another_classifier_keeps_nothing_of_the_first(own: Finished) -> None:
    other = shutil.copytree(own.classifier, own.root / "other" / "seed=0")
    run_stage("report", [*own.words, f"run.classifiers=['{other}']"])
    assert [p.name for p in own.report.glob("predictions-*")] == [
        "predictions-other-seed=0.parquet"
    ]
    assert artifacts.verify(own.report) == []


def test_classifiers_of_the_same_name_are_kept_apart(own: Finished, tmp_path: Path) -> None:
    others = [
        shutil.copytree(own.classifier, tmp_path / place / "classifier" / own.classifier.name)
        for place in ("x", "y")
    ]
    folder = run_stage(
        "report", [*own.words, f"run.classifiers={[str(other) for other in others]}"]
    )
    assert (
        len(list(folder.glob("predictions-*.parquet")))
        == len(json.loads((folder / "report.json").read_text())["runs"])
        == 2
    )


def test_inputs_may_be_read_only(own: Finished, tmp_path: Path) -> None:
    source = shutil.copytree(own.source, tmp_path / "source")
    words = [w for w in own.words if not w.startswith("root=")] + [f"root={tmp_path / 'elsewhere'}"]
    given = {name: f"{name}={getattr(own, name)}" for name in ("recordings", "backbone", "latents")}
    with unchangeable(source, own.recordings, own.backbone, own.latents):
        run_stage("preprocess", [*words, f"source={source}"])
        run_stage(
            "pretrain", [*words, given["recordings"], "pretrain.epochs=1", "pretrain.samples=0"]
        )
        run_stage("cache", [*words, given["recordings"], given["backbone"]])
        run_stage("finetune", [*words, *given.values(), "finetune.epochs=1"])


@contextmanager
def unchangeable(*folders: Path) -> Iterator[None]:
    """Make folders read-only. The superuser isn't stopped by that, so their listing and times are
    compared as well.
    """
    paths = [path for folder in folders for path in (folder, *folder.rglob("*"))]
    modes = [path.stat().st_mode for path in paths]
    before = {path: path.stat().st_mtime_ns for path in paths}
    for path, mode in zip(paths, modes, strict=True):
        path.chmod(mode & ~0o222)
    try:
        yield
        assert {
            path: path.stat().st_mtime_ns
            for folder in folders
            for path in (folder, *folder.rglob("*"))
        } == before
    finally:
        for path, mode in zip(paths, modes, strict=True):
            path.chmod(mode)
