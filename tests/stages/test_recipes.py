"""Every published recipe, trained for a few steps on made-up EEG: 20 blocks of a tiny width,
everything else as the recipe says.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import eegdm
from eegdm import artifacts
from eegdm.data.montage import CHBMIT
from eegdm.data.synthetic.layouts import write_chbmit
from eegdm.stages import run_stage
from stages.tiny import MADE_UP_CHBMIT
from test_compose import PUBLISHED

pytestmark = pytest.mark.ci

SIZES = [
    "backbone.d_model=4",
    "backbone.d_state=2",
    "backbone.d_cond=4",
    "backbone.d_embed=4",
    "pretrain.epochs=1",
    "pretrain.max_windows=2",
    "pretrain.batch_size=22",
    "pretrain.samples=0",
    "fusion.n_heads=2",
    "fusion.n_tokens=2",
    "finetune.epochs=1",
    "finetune.batch_size=16",
    "pretrain.ema.start=1",
    "pretrain.ema.every=1",
    "finetune.ema.start=1",
    "finetune.ema.every=1",
]
"""Widths, steps and batches, which no published recipe sets."""
WINDOW = "windows.duration_s=1"
"""Shorter windows for TUEV: without fusion tokens (no_fusion) attention takes the square of their
number.
"""

MEAN, FILTER, NOISELESS = (
    {"tokens.pool": ["mean"]},
    {"tokens.query": ["filter"]},
    {"tokens.forward": "noiseless"},
)


def blocks(first: int, last: int | None, depth: int) -> dict[str, Any]:
    """What a recipe changes that fuses only the blocks `first` .. `last` - 1."""
    found = {
        "tokens.first_block": first,
        "tokens.last_block": last,
        "fusion.n_blocks": (last or 20) - first,
        "fusion.depth": depth,
    }
    return {
        name: value
        for name, value in found.items()
        if (name, value) not in (("tokens.first_block", 0), ("tokens.last_block", None))
    }


CHANGED_BY_CHBMIT = {
    "channels": list(CHBMIT),
    "classes": ["seizure"],
    "n_times": 2000,
    "fusion.n_pools": 10,
    "fusion.n_channels": 16,
    "fusion.n_classes": 1,
    "signal.highpass": 0.5,
    "signal.notch": [60.0],
    "signal.montage": "chbmit",
}
CHANGED: dict[str, dict[str, Any]] = {
    "base": {},
    "linear": {"tokens.schedule": "linear"},
    "nolaw": {"signal.mu": 0.0},
    "base_t0": {"tokens.step": 0, **NOISELESS},
    "base_t1": NOISELESS,
    "base_t2": {"tokens.step": 2, **NOISELESS},
    "noise": {"tokens.forward": "noisy"},
    "base_filters": FILTER,
    "base_filterm": FILTER | MEAN,
    "base_gatem": MEAN,
    "base_firsthalf": blocks(0, 10, depth=22),
    "base_secondhalf": blocks(10, None, depth=22),
    "base_firstquarter": blocks(0, 5, depth=28),
    "base_secondquarter": blocks(5, 10, depth=28),
    "base_thirdquarter": blocks(10, 15, depth=28),
    "base_forthquarter": blocks(15, None, depth=28),
    "no_fusion": {"fusion.kind": "none", "fusion.depth": 34},
    "mean_fusion": {"fusion.kind": "mean", "fusion.depth": 35},
    "base_chbmit": CHANGED_BY_CHBMIT,
    "base_chbmit_bin_filt": CHANGED_BY_CHBMIT,
}
"""What the model of each recipe differs in from that of `base`, and nothing else does.
"""


SHARED = {
    "recordings": {"base", "base_chbmit"},
    "backbone": {"base", "linear", "nolaw"},
    "latents": {
        "base",
        "linear",
        "nolaw",
        "base_t0",
        "base_t1",
        "base_t2",
        "base_filters",
        "base_filterm",
        "base_gatem",
        "base_chbmit",
    },
}
"""Recipes below which there are folders of a kind; all others read theirs."""


@pytest.fixture(scope="module")
def trained(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The classifier's folder of each recipe. All share one root, and so whatever a recipe does not
    change.
    """
    root = tmp_path_factory.mktemp("recipes")
    chbmit = root / "made-up" / "chbmit"
    write_chbmit(chbmit, **MADE_UP_CHBMIT)
    return {
        recipe: train(recipe, root, chbmit if "chbmit" in recipe else corpus) for recipe in CHANGED
    }


def train(recipe: str, root: Path, source: Path) -> Path:
    """Run the stages up to the classifier as a user does; CHB-MIT's takes the backbone trained on
    TUEV.
    """
    words = [f"recipe={recipe}", f"root={root}", *SIZES]
    if "chbmit" in recipe:
        words += ["corpus=chbmit", f"backbone={root}/tuev/base/backbone"]
        stages = ["cache"]
    else:
        words += ["corpus=tuev", WINDOW]
        stages = ["pretrain"] if recipe == "noise" else ["pretrain", "cache"]
    run_stage("preprocess", [*words, f"source={source}"])
    for stage in stages:
        run_stage(stage, words)
    return run_stage("finetune", words)


def settings(classifier: Path) -> Iterator[tuple[str, Any]]:
    """Each setting of a classifier's model, by dotted name; how its decisions are made is left out,
    since that is fitted.
    """
    for name, value in artifacts.read_json(classifier / "config.json")["config"].items():
        if isinstance(value, dict) and name != "decision":
            yield from ((f"{name}.{key}", v) for key, v in value.items())
        elif name != "decision":
            yield name, value


def test_all_twenty_are_trained(trained: dict[str, Path]) -> None:
    assert len(trained) == len(set(trained.values())) == 20 and set(trained) == PUBLISHED


@pytest.mark.parametrize("recipe", CHANGED)
def test_a_recipe_takes_its_steps(trained: dict[str, Path], recipe: str) -> None:
    curves = pd.read_csv(trained[recipe] / "curves.csv")
    assert (
        curves.step.max() >= 2
        and np.isfinite(curves.train_loss.dropna()).all()
        and curves.train_loss.notna().any()
    )
    model = eegdm.load(trained[recipe])
    assert all(value.isfinite().all() for value in model.state_dict().values())


@pytest.mark.parametrize("recipe", CHANGED)
def test_a_recipe_changes_what_it_says_and_nothing_else(
    trained: dict[str, Path], recipe: str
) -> None:
    base, own = dict(settings(trained["base"])), dict(settings(trained[recipe]))
    assert set(base) == set(own)
    assert {name: value for name, value in own.items() if value != base[name]} == CHANGED[recipe]


def test_base_is_as_published(trained: dict[str, Path]) -> None:
    base = dict(settings(trained["base"]))
    published = {
        "tokens.query": ["gate"],
        "tokens.pool": ["std"],
        "tokens.step": 1,
        "tokens.forward": "none",
        "tokens.schedule": "squaredcos_cap_v2",
        "tokens.first_block": 0,
        "tokens.last_block": None,
        "fusion.n_blocks": 20,
        "fusion.kind": "lft",
        "fusion.depth": 8,
        "signal.mu": 255.0,
    }
    assert {name: base[name] for name in published} == published


def test_recipes_share_what_they_do_not_change(trained: dict[str, Path]) -> None:
    root = trained["base"].parents[3]
    made = {
        kind: {p.parent.parent.name for p in root.glob(f"*/*/{kind}/{artifacts.MANIFEST}")}
        for kind in SHARED
    }
    assert made == SHARED
