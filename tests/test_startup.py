"""Start-up: what each step must not have loaded. Seconds are measured by benchmarks/startup.py, not
here.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from eegdm.models.eegdm import EEGDM

HEAVY = (
    "torch",
    "mne",
    "lightning",
    "diffusers",
    "sklearn",
    "matplotlib",
    "pandas",
    "pyarrow",
    "scipy",
    "hydra",
    "huggingface_hub",
)
NOT_FOR_MODELS = (
    *(name for name in HEAVY if name != "torch"),
    "torchmetrics",
    "ema_pytorch",
    "sympy",
)
"""sympy: what torch loads with its compiler."""
SMALL = {"d_model": 8, "n_blocks": 1, "d_state": 4, "d_cond": 8, "d_embed": 8}


def loaded(code: str) -> set[str]:
    """Run code in a process of its own; the top-level modules that it loaded."""
    code += (
        "\nimport json, sys; print(json.dumps(sorted({name.partition('.')[0] for name in"
        " sys.modules})))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    return set(json.loads(run.stdout.splitlines()[-1]))


def helped(*command: str) -> str:
    """Code that shows the help of a command and goes on."""
    return f"""
import sys
from eegdm.cli import main
sys.argv = {["eegdm", *command, "--help"]}
try:
    main()
except SystemExit as end:
    assert not end.code
"""


@pytest.mark.parametrize(
    "code",
    ["import eegdm; dir(eegdm)", "import eegdm.config, eegdm.cli", helped(), helped("predict")],
)
def test_help_and_import_load_nothing_heavy(code: str) -> None:
    assert not loaded(code) & set(HEAVY)


def test_a_classifier_is_loaded_without_what_only_stages_need(tmp_path: Path) -> None:
    EEGDM(dict(SMALL), {"depth": 1, "n_tokens": 1, "n_heads": 1}).save_pretrained(tmp_path)
    found = loaded(f"import eegdm; eegdm.load({str(tmp_path)!r})")
    assert "torch" in found
    assert not found & set(NOT_FOR_MODELS)


def test_a_stage_that_trains_nothing_does_not_load_what_trains() -> None:
    assert "lightning" not in loaded("import eegdm.stages.cache, eegdm.stages.report")
