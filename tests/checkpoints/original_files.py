"""Checkpoints in the original's format, to be read, changed and poisoned by the tests beside this
file.
"""

from __future__ import annotations

import sys
import types
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

import eegdm
from conftest import golden_folder
from eegdm.errors import UserError

OPEN = golden_folder("open")


def golden(name: str) -> Path:
    return OPEN / f"{name}.ckpt"


def pretend_original_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pickle write and torch read a reference to the original's function, as if its code were
    installed.
    """
    util = types.ModuleType("src.util")

    def inv_staged_mu_law() -> None:
        raise AssertionError("nothing may call what a checkpoint names")

    inv_staged_mu_law.__module__, inv_staged_mu_law.__qualname__ = "src.util", "inv_staged_mu_law"
    util.inv_staged_mu_law = inv_staged_mu_law
    monkeypatch.setitem(sys.modules, "src", types.ModuleType("src"))
    monkeypatch.setitem(sys.modules, "src.util", util)


def golden_content(name: str) -> dict[str, Any]:
    """Read a golden checkpoint as torch does, to be changed and saved again."""
    return torch.load(golden(name), weights_only=False)


def save(content: Any, folder: Path) -> Path:
    torch.save(content, folder / "changed.ckpt")
    return folder / "changed.ckpt"


def refusal(path: Path, *words: str, **options: Any) -> str:
    """Load; that must raise one line that names the file and holds the words. Return the line."""
    with pytest.raises(UserError) as caught:
        eegdm.load(path, **options)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 1500
    for word in (str(path), *words):
        assert word in message
    return message


def full_size_content(facts: dict[str, Any]) -> dict[str, Any]:
    """Make a checkpoint with the keys, shapes and settings of a published file, and seeded random
    weights.
    """
    generator = torch.Generator().manual_seed(len(facts["state_dict"]))
    state: OrderedDict[str, torch.Tensor] = OrderedDict()
    use_cond = facts["hparams"]["model_kwargs"].get("use_cond", range(22))
    for key, (shape, dtype) in facts["state_dict"].items():
        if key.startswith("ema.online_model."):
            state[key] = state[key.removeprefix("ema.online_")]
        elif key.endswith("extractor.cond"):
            state[key] = torch.tensor(list(use_cond))[:, None]
        elif dtype == "float32":
            state[key] = torch.rand(shape, generator=generator)
        else:
            state[key] = torch.ones(shape, dtype=getattr(torch, dtype))
    hyper = dict(facts["hparams"])
    if "gen_kwargs" in hyper:
        hyper["gen_kwargs"] = {
            **hyper["gen_kwargs"],
            "inv_data_trans": sys.modules["src.util"].inv_staged_mu_law,
        }
    root = OmegaConf.create(
        {
            "stage": {
                key: hyper[key]
                for key, kind in facts["hparams_types"].items()
                if kind == "DictConfig"
            }
        }
    )
    hyper |= {key: root.stage[key] for key in root.stage}
    return {
        "epoch": 1,
        "global_step": 3,
        "state_dict": state,
        "hyper_parameters": hyper,
        "loops": defaultdict(dict),
    }
