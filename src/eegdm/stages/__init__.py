"""The five stages: each is a module with a function `run(Config)` that returns the folder it
wrote.
"""

from __future__ import annotations

import importlib
from pathlib import Path

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
}


def run_stage(name: str, words: list[str]) -> Path:
    """Compose the words and run one stage; the folder it wrote."""
    from eegdm.compose import compose

    config = compose(words)
    return importlib.import_module(f"eegdm.stages.{name}").run(config)
