"""A run leaves the process as it was: nothing of one run, or of the program that calls it, reaches
the next.
"""

from __future__ import annotations

import logging
import os
import signal
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from eegdm.compose import compose
from eegdm.console import run_main
from eegdm.stages import run_stage
from stages.tiny import Finished


def state() -> dict[str, Any]:
    """What libraries keep for the whole process."""
    return {
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warn only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "cudnn benchmark": torch.backends.cudnn.benchmark,
        "threads": torch.get_num_threads(),
        "default type": torch.get_default_dtype(),
        "default device": torch.get_default_device(),
        "gradients": torch.is_grad_enabled(),
        "seed": torch.initial_seed(),
        "warnings": list(warnings.filters),
        "levels": [logging.getLogger(name).level for name in ("", "lightning.pytorch", "mne")],
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "environment": {k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST"},
        "folder": Path.cwd(),
    }


def figures() -> int:
    import matplotlib.pyplot as plt

    return len(plt.get_fignums())


@pytest.mark.ci
def test_two_runs_of_each_kind_leave_the_process_as_it_was(own: Finished) -> None:
    run_stage("report", [*own.words, f"root={own.root}", "rate=0.9"])  # all is imported now
    before, n_figures = state(), figures()
    for seed in (1, 2):
        run_stage("finetune", [*own.words, f"seed={seed}", "run.loggers=[tensorboard]"])
        run_stage("pretrain", [*own.words, f"seed={seed}", f"root={own.root / str(seed)}",
                               f"recordings={own.recordings}"])  # fmt: skip
    run_stage("report", [*own.words, "rate=0.95"])
    assert state() == before and figures() == n_figures
    for seed in (1, 2):
        logs = own.classifier.with_name(f"seed={seed}") / "logs"
        assert len(list(logs.glob("events.out.tfevents*"))) == 1


def test_a_command_gives_signals_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    run_main(lambda: None)
    assert before == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))


def test_settings_are_composed_inside_another_program_of_hydra(tmp_path: Path) -> None:
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.config_store import ConfigStore

    (tmp_path / "theirs.yaml").write_text("defaults:\n  - schema\nvalue: 1\n")
    ConfigStore.instance().store(name="schema", node={"other": 2})
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        assert compose(["seed=3"]).run.seed == 3
        assert hydra_compose("theirs") == {"other": 2, "value": 1}
    assert compose(["seed=4"]).run.seed == 4
