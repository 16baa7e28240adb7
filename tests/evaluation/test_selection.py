"""Which classifiers a report is about: those of one plan. Folders as `finetune` leaves them, with
a plan and a manifest and no model in them.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eegdm import artifacts
from eegdm.compose import compose
from eegdm.config import Config, with_settings
from eegdm.errors import UserError
from eegdm.evaluation.selection import select, select_beside
from eegdm.layout import content_config, own_folder


def config_of(root: Path, *words: str) -> Config:
    return compose(["corpus=folder", f"root={root}", *words])


def finish(config: Config, inputs: dict[str, Any] | None = None, name: str = "") -> Path:
    """A finished classifier folder without a model."""
    folder = own_folder(config, "classifier")
    folder = folder.with_name(name) if name else folder
    made_from = {"recordings": "r", "backbone": "random, 1", **(inputs or {})}
    with artifacts.building(folder, "classifier", content_config(config, "classifier"), made_from):
        return artifacts.finish(folder).path


def finish_backbone(config: Config) -> str:
    folder = own_folder(config, "backbone")
    with artifacts.building(
        folder, "backbone", content_config(config, "backbone"), {"recordings": "r"}
    ):
        artifacts.write_json(folder / "config.json", {"fold": config.windows.fold})
        return artifacts.finish(folder).fingerprint


def named(config: Config) -> tuple[list[str], dict[str, str]]:
    found = select(config)
    return [run.name for run in found.runs], {one.name: one.reason for one in found.left_out}


def made_at(folder: Path, seconds: float) -> None:
    os.utime(folder / artifacts.MANIFEST, (seconds, seconds))


# --------------------------------------------------------------------------------- kinds of folders


def test_seeds_of_another_learning_rate_are_left_out_and_named(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    for seed in range(3):
        finish(with_settings(config, {"run.seed": seed}))
    finish(with_settings(config, {"run.seed": 3, "finetune.max_lr": 0.01}))
    assert named(config) == (
        ["seed 0", "seed 1", "seed 2"],
        {"seed=3": "finetune.max_lr=0.01, not 0.0005"},
    )


def test_folds_of_another_division_are_left_out(tmp_path: Path) -> None:
    config = config_of(tmp_path, "split=kfold", "windows.n_folds=3")
    for fold in range(3):
        finish(with_settings(config, {"windows.fold": fold}))
    finish(with_settings(config, {"windows.n_folds": 6, "windows.fold": 5}))
    finish(config_of(tmp_path, "split=subject"))
    runs, left_out = named(config_of(tmp_path))
    assert runs == ["fold 0, seed 0", "fold 1, seed 0", "fold 2, seed 0"]
    assert set(left_out) == {"fold=5,seed=0", "seed=0"}
    assert left_out["fold=5,seed=0"] == "windows.n_folds=6, not 3"
    assert "windows.split=subject, not kfold" in left_out["seed=0"]


def test_what_was_typed_chooses_the_plan(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    for seed in range(2):
        finish(with_settings(config, {"run.seed": seed}))
    finish(with_settings(config, {"run.seed": 2, "finetune.max_lr": 0.01}))
    assert named(config_of(tmp_path, "finetune.max_lr=0.01"))[0] == ["seed 2"]
    runs, left_out = named(config_of(tmp_path, "seed=1"))
    assert runs == ["seed 1"] and left_out["seed=0"] == "seed=0, not 1"
    with pytest.raises(UserError, match="no finished classifier is as typed") as error:
        select(config_of(tmp_path, "finetune.max_lr=0.02"))
    assert "0.0005, not 0.02" in str(error.value)


def test_a_typed_fold_chooses_the_fold(tmp_path: Path) -> None:
    words = ["split=kfold", "windows.n_folds=3"]
    for fold in range(3):
        finish(config_of(tmp_path, *words, f"fold={fold}"))
    runs, left_out = named(config_of(tmp_path, *words, "fold=1"))
    assert runs == ["fold 1, seed 0"] and left_out["fold=0,seed=0"] == "windows.fold=0, not 1"


def test_of_plans_with_as_many_classifiers_the_last_finished_is_reported(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    first = finish(config)
    second = finish(with_settings(config, {"run.seed": 1, "finetune.max_lr": 0.01}))
    for newer, older, expected in ((first, second, "seed 0"), (second, first, "seed 1")):
        made_at(newer, 2000.0)
        made_at(older, 1000.0)
        assert named(config)[0] == [expected]


def test_a_copied_folder_does_not_count_twice(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    finish(config)
    finish(config, name="seed=0 (copy)")
    runs, left_out = named(config)
    assert runs == ["seed 0"] and list(left_out.values()) == ["same fold and seed as seed 0"]


def test_other_recordings_are_another_plan(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    for seed, recordings in ((0, "r"), (1, "r"), (2, "other")):
        finish(with_settings(config, {"run.seed": seed}), {"recordings": recordings})
    assert named(config) == (["seed 0", "seed 1"], {"seed=2": "recordings=other, not r"})


def test_backbones_pretrained_for_each_fold_are_one_plan(tmp_path: Path) -> None:
    words = ["split=kfold", "windows.n_folds=3"]
    for fold in range(3):
        config = config_of(tmp_path, *words, f"fold={fold}", "pretrain.epochs=2")
        finish(config, {"backbone": finish_backbone(config)})
    assert len(named(config_of(tmp_path))[0]) == 3
    shutil.rmtree(own_folder(config, "backbone").parent)  # deleted to save space
    assert len(named(config_of(tmp_path))[0]) == 3


def test_a_fixed_backbone_is_another_plan_than_one_for_each_fold(tmp_path: Path) -> None:
    words = ["split=kfold", "windows.n_folds=5"]
    for fold in range(3):
        config = config_of(tmp_path, *words, f"fold={fold}", "pretrain.epochs=2")
        finish(config, {"backbone": finish_backbone(config)})
    for fold in (3, 4):
        finish(config_of(tmp_path, *words, f"fold={fold}"), {"backbone": "mini"})
    runs, left_out = named(config_of(tmp_path))
    assert [run[:6] for run in runs] == ["fold 0", "fold 1", "fold 2"]
    assert "backbone=mini" in left_out["fold=3,seed=0"]


def test_named_classifiers_of_two_losses_are_refused(tmp_path: Path) -> None:
    classes = ["corpus.classes=[a,b]", "corpus.event_classes=[b]"]
    one = finish(config_of(tmp_path, *classes))
    binary = ["finetune.loss=binary", "finetune.monitor=auroc", "seed=1"]
    two = finish(config_of(tmp_path, *classes, *binary))
    with pytest.raises(UserError, match="finetune.loss=binary, not cross_entropy"):
        select(config_of(tmp_path, f"run.classifiers=['{one}','{two}']"))


def test_another_recipe_is_compared_on_the_same_folds_and_division(tmp_path: Path) -> None:
    words = ["split=kfold", "windows.n_folds=3"]
    ours = [finish(config_of(tmp_path, *words, f"fold={fold}")) for fold in (0, 1)]
    assert ours
    for fold in range(3):
        finish(config_of(tmp_path, *words, f"fold={fold}", "recipe=small"))
    finish(config_of(tmp_path, "split=kfold", "windows.n_folds=4", "seed=1", "recipe=small"))
    config = config_of(tmp_path)
    found = select_beside(config, "small", select(config).runs)
    assert [run.name for run in found] == ["fold 0, seed 0", "fold 1, seed 0"]
    with pytest.raises(UserError, match="no classifier is finished"):
        select_beside(config, "smal", select(config).runs)


# --------------------------------------------------------------------------------------- properties

RUNS = st.lists(
    st.tuples(
        st.sampled_from([0, 3, 6]),  # folds; none
        st.integers(0, 5),  # fold
        st.integers(0, 2),  # seed
        st.sampled_from([0.001, 0.002]),  # learning rate
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(RUNS)
def test_a_selection_is_a_largest_set_that_differs_in_fold_and_seed_alone(
    made: list[tuple[int, int, int, float]],
) -> None:
    """Later runs take the folders of earlier ones, as folders on a disk do."""
    with tempfile.TemporaryDirectory() as root:
        base, there = config_of(Path(root)), {}
        for n_folds, fold, seed, rate in made:
            changed = {"run.seed": seed, "finetune.max_lr": rate}
            if n_folds:
                changed |= {
                    "windows.split": "kfold",
                    "windows.n_folds": n_folds,
                    "windows.fold": fold % n_folds,
                }
            config = with_settings(base, changed)
            shutil.rmtree(own_folder(config, "classifier"), ignore_errors=True)
            there[finish(config)] = (n_folds, rate)
        found = select(base)
        plans = {there[run.path] for run in found.runs}
        assert len(plans) == 1
        sizes = [list(there.values()).count(plan) for plan in there.values()]
        assert len(found.runs) == max(sizes)
        assert {run.path.name for run in found.runs} | {one.name for one in found.left_out} == {
            path.name for path in there
        }
        assert len(found.runs) + len(found.left_out) == len(there)
        assert all(one.reason for one in found.left_out)
