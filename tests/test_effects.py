"""Every typed setting is used, refused, or reported as having no effect."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from eegdm.compose import compose
from eegdm.config import Config, check, check_resolved, leaves
from eegdm.effects import ALL, lines_without_effect, stages_of, without_effect
from eegdm.errors import UserError
from eegdm.layout import content_config

KINDS = {
    "preprocess": "recordings",
    "pretrain": "backbone",
    "distill": "backbone",
    "cache": "latents",
    "finetune": "classifier",
}
SETTINGS = {name: (field, value) for name, field, value in leaves(Config()) if name != "explicit"}

# Settings that never identify a folder, and still have an effect on the stages named.
NOT_CONTENT = {name for name in SETTINGS if name.startswith("run.")} | {
    "recipe",  # where results go
    "corpus.source",
    "corpus.table",
    "corpus.label_map",  # readers'
    "corpus.classes",
    "corpus.event_classes",
    "latents.batch_size",
    "latents.shard_windows",
    "latents.cached",
}


def other_value(name: str, rng: random.Random):
    """A value of a setting that is allowed and not its default."""
    field, value = SETTINGS[name]
    limits = field.metadata
    if limits["choices"]:
        others = [c for c in limits["choices"] if c != value and [c] != value]
        choice = rng.choice(others)
        return [choice] if isinstance(value, list) else choice
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        low = limits["low"] if limits["low"] is not None else 0
        high = limits["high"] if limits["high"] is not None else max(10, value * 3)
        number = value
        while number == value:
            number = rng.uniform(low, min(high, max(10, value * 3)))
            number = round(number) if isinstance(value, int) else round(number, 3)
        return number
    if isinstance(value, list) and value and isinstance(value[0], float):
        return [v * 0.9 for v in value]
    if isinstance(value, list):
        return ["a", "b"]
    if isinstance(value, dict):
        return {"x": "SPSW"}
    of_name = {
        "corpus.table": "t.csv",
        "finetune.class_weights": [1.0] * 6,
        "pretrain.last_lr": 1e-6,
        "pretrain.ssm_lr": 1e-3,
        "signal.spread": 0.35,
        "signal.whiten": [1.2, -0.6],
    }
    return of_name.get(
        name, 3 if "samples" in name or "windows" in name or name.endswith("block") else "other"
    )


def with_values(values: dict) -> Config:
    config = Config()
    for name, value in values.items():
        target = config
        *sections, key = name.split(".")
        for section in sections:
            target = getattr(target, section)
        setattr(target, key, value)
    return replace(config, explicit=list(values))


@pytest.mark.parametrize("name", SETTINGS)
def test_each_setting_belongs_to_a_stage(name: str) -> None:
    assert stages_of(name) and set(stages_of(name)) <= set(ALL)


def test_a_thousand_combinations_leave_no_setting_without_a_word() -> None:
    """What is not reported and not refused changes what identifies the stage's folder, or is one
    of the settings that never do; what belongs to another stage changes nothing.
    """
    rng = random.Random(20261126)
    used = reported = refused = 0
    for _ in range(1000):
        stage = rng.choice(list(KINDS))
        names = rng.sample(sorted(SETTINGS), rng.randint(1, 6))
        values = {name: other_value(name, rng) for name in names}
        if stage == "distill":  # which has a teacher
            values = {"run.model": "mini", **values}
        config = with_values(values)
        try:
            check(config)
            check_resolved(config, stage)
        except UserError:
            refused += 1
            continue
        idle = dict(without_effect(config, stage))
        assert len(list(lines_without_effect(config, stage))) == len(idle)
        content = content_config(config, KINDS[stage])
        for name in names:
            without = with_values({k: v for k, v in values.items() if k != name})
            changes = content != content_config(without, KINDS[stage])
            if name in idle and stage not in stages_of(name):
                assert not changes or name in NOT_CONTENT, (stage, name)
                reported += 1
            elif name in idle:
                reported += 1
            else:
                adopted = name.split(".")[0] in ("corpus", "signal", "backbone", "diffusion",
                                                 "pretrain", "windows", "latents")  # fmt: skip
                assert changes or name in NOT_CONTENT or (adopted and stage != "preprocess"), (
                    stage,
                    name,
                )
                used += 1
    assert used > 200 and reported > 200 and refused > 50


@pytest.mark.parametrize(
    ("stage", "words", "line"),
    [
        ("pretrain", ["finetune.max_lr=1e-3"], "finetune.max_lr has no effect here (it belongs to"),
        ("finetune", ["rate=0.9"], "run.rate has no effect here (it belongs to report)"),
        (
            "cache",
            ["seed=3"],
            "run.seed has no effect here (it belongs to pretrain, distill, finetune, report)",
        ),
        ("distill", ["pretrain.samples=2"], "pretrain.samples has no effect here (it belongs to"),
        ("distill", ["latents.dtype=int8"], "latents.dtype has no effect here (it belongs to"),
        ("pretrain", ["latents.query=[filter]"], "latents.query has no effect here (it belongs to"),
        ("finetune", ["model=mini"], "run.model has no effect here (it belongs to distill)"),
        ("cache", ["precision=bf16-mixed"], "run.precision has no effect here"),
        ("finetune", ["fold=1"], "windows.fold has no effect here (it needs split=kfold)"),
        ("cache", ["windows.step_s=2"], "windows.step_s has no effect here (it needs windows"),
        ("preprocess", ["signal.mu=0"], "signal.mu has no effect here"),
        ("pretrain", ["diffusion.beta_end=0.02"], "it needs diffusion.schedule=linear"),
        ("finetune", ["corpus=tusz", "windows.val_fraction=0.1"], "published one without valid"),
        ("finetune", ["corpus=chbmit", "windows.split_seed=1"], "it needs a split that chooses at"),
    ],
)
def test_what_is_typed_in_vain_is_reported(stage: str, words: list[str], line: str) -> None:
    corpus = [] if words[0].startswith("corpus=") else ["corpus=tuev"]
    (said,) = lines_without_effect(compose([*corpus, *words]), stage)
    assert line in said and said.startswith(f"{stage}: ")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["finetune.loss=binary", "finetune.monitor=auroc", "finetune.class_weights=[1,2]"],
         "finetune.class_weights: has no effect with finetune.loss=binary; use finetune.pos_"),
        (["finetune.loss=binary", "finetune.monitor=auroc", "finetune.label_smoothing=0.2"],
         "finetune.label_smoothing: has no effect"),
        (["finetune.pos_weight=3"], "finetune.pos_weight: has no effect with finetune.loss=cross"),
        (["corpus.classes=[a,a]"], "names a class twice"),
        (["finetune.betas=[0.9]"], "Adam takes two"),
    ],
)  # fmt: skip
def test_settings_of_the_loss_that_is_not_used_are_refused(words: list[str], line: str) -> None:
    with pytest.raises(UserError) as refused:
        compose(words)
    assert line in str(refused.value)


def test_a_typo_among_event_classes_is_refused_before_anything_is_computed() -> None:
    config = compose(["corpus.event_classes=[SPWS]"])
    with pytest.raises(UserError, match=r"'SPWS' is not one of .*did you mean \"SPSW\""):
        check_resolved(config, "cache")
