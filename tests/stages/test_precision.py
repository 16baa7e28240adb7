"""Training in bfloat16 learns what training in float32 does, within the bounds that
docs/determinism.md states.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

import eegdm
from eegdm.compose import compose
from eegdm.evaluation.scoring import logits_from_table, score_samples
from eegdm.opening import open_data
from eegdm.stages import run_stage
from stages.tiny import Finished

pytestmark = [pytest.mark.ci, pytest.mark.timeout(600)]

BOUND = 1e-3


def trained(stage: str, precision: str, finished: Finished, root: Path) -> Path:
    inputs = ("recordings",) if stage == "pretrain" else ("recordings", "backbone", "latents")
    given = [f"{name}={getattr(finished, name)}" for name in inputs]
    words = [word for word in finished.words if not word.startswith("root=")]
    return run_stage(
        stage,
        [
            *words,
            *given,
            f"root={root / precision}",
            "device=cpu",
            f"precision={precision}",
            f"{stage}.epochs=10",
        ],
    )


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_bfloat16_learns_what_float32_does(stage: str, finished: Finished, tmp_path: Path) -> None:
    exact, rough = (
        trained(stage, precision, finished, tmp_path) for precision in ("32-true", "bf16-mixed")
    )
    one, other = (pd.read_csv(folder / "curves.csv") for folder in (exact, rough))
    for loss in ("train_loss", "val_loss"):
        assert 0 < np.abs(other[loss] / one[loss] - 1).max() < BOUND
    if stage == "finetune":
        config = compose([*finished.words, "device=cpu"])
        config, data = open_data(config)
        found = [
            logits_from_table(score_samples(config, data, eegdm.load(str(folder)), data.samples))
            for folder in (exact, rough)
        ]
        # Of probabilities: the largest logit of so short a training is 0.15 to 0.4, by chance
        assert 0 < np.abs(softmax(found[1], 1) - softmax(found[0], 1)).max() < BOUND
