"""Run a stage as its command does, and keep what its command does not: weights in full precision
and the validated logits.

Lightning starts the other processes of a training by running this file again.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eegdm import pretraining, training
from eegdm.console import run_main
from eegdm.stages import finetune, run_stage

KEPT, STAGE, *WORDS = sys.argv[1:]


def train(trainer: Any, module: Any, training_loader: Any, validation_loader: Any) -> None:
    training.fit_module(trainer, module, training_loader, validation_loader)
    if trainer.is_global_zero:
        torch.save(module.state_dict(), Path(KEPT) / f"{trainer.world_size}.pt")
    if (
        STAGE == "finetune"
    ):  # the weights that one process has learned, scored by as many as there are
        module.load_state_dict(torch.load(Path(KEPT) / "1.pt", weights_only=True))
        training.scores = keep_logits(Path(KEPT) / f"{trainer.world_size}.npz")
        trainer.validate(module, validation_loader, verbose=False)


def keep_logits(path: Path) -> Any:
    def scores(labels: np.ndarray, logits: np.ndarray) -> Any:
        found = real(labels, logits)
        np.savez(
            path,
            labels=labels,
            logits=logits,
            scores=[found["kappa"], found["balanced_accuracy"], found["weighted_f1"]],
        )
        return found

    real = training.scores
    return scores


for caller in (pretraining, finetune):
    caller.fit_module = train  # type: ignore[attr-defined]
run_main(lambda: run_stage(STAGE, WORDS))
