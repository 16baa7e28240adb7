"""The stages: each is a module with a function `run(Config)` that returns the folder it wrote. Five
lead from recordings to a report; `distill` may stand in the place of `pretrain`.
"""

from __future__ import annotations

import importlib
from pathlib import Path

from eegdm.compose import compose
from eegdm.errors import UserError

# Each stage, what it does, and the sections of the configuration it reads.
STAGES = {
    "preprocess": ("raw recordings -> recordings/", ("corpus", "signal", "run")),
    "pretrain": (
        "recordings -> backbone/",
        ("windows", "backbone", "diffusion", "pretrain", "run"),
    ),
    "cache": ("recordings + backbone -> latents/", ("windows", "latents", "run")),
    "finetune": (
        "tokens -> classifier/seed=N/",
        ("windows", "latents", "fusion", "finetune", "run"),
    ),
    "report": ("recordings + classifiers -> report/", ("windows", "run")),
    "distill": (
        "recordings + a teacher (model=) -> a smaller backbone/, in the place of pretrain",
        ("windows", "backbone", "pretrain", "latents", "run"),
    ),
}


def run_stage(name: str, words: list[str]) -> Path:
    """Compose the words and run one stage, for each fold in turn where they say `fold=all`.

    Returns:
        The folder it wrote; of the last fold.
    """
    for words_of_run in of_each_fold(name, words):
        # Imported here: a stage loads torch or MNE, which takes seconds
        stage = importlib.import_module(f"eegdm.stages.{name}")
        folder = stage.run(compose(words_of_run))
    return folder


def of_each_fold(name: str, words: list[str]) -> list[list[str]]:
    """Return the words of the runs that `fold=all` stands for."""
    rest = [word for word in words if word not in ("fold=all", "windows.fold=all")]
    if len(rest) == len(words):
        return [words]
    config = compose(rest)
    if config.windows.split != "kfold":
        raise UserError(f"fold=all: needs split=kfold, and windows.split={config.windows.split}")
    # These have one folder for all folds
    if name in ("preprocess", "report"):
        return [rest]
    return [[*rest, f"fold={fold}"] for fold in range(config.windows.n_folds)]
