"""EEGDM: representations and decisions from EEG by a diffusion model of single channels and a
fusion transformer.
"""

from __future__ import annotations

import importlib
from typing import Any

from eegdm import _moved

__version__ = "0.1.0"

# Public names and the module that defines each; torch, MNE and Lightning load when one is first
# used.
_PUBLIC = {
    "SSMDP": "eegdm.models.backbone",
    "LatentFusionTransformer": "eegdm.models.fusion",
    "EEGDM": "eegdm.models.eegdm",
    "load": "eegdm.checkpoints.load",
    "convert": "eegdm.checkpoints.load",
    "push_to_hub": "eegdm.checkpoints.push",
    "predict": "eegdm.inference",
    "annotate": "eegdm.inference",
    "Watch": "eegdm.inference.watching",
    "embed": "eegdm.inference",
    "embed_folder": "eegdm.features",
    "surprise": "eegdm.inference",
    "find": "eegdm.features.finding",
    "evaluate": "eegdm.features.evaluation",
    "fit": "eegdm.features.detector",
    "suggest": "eegdm.features.suggesting",
    "generate": "eegdm.inference",
    "UserError": "eegdm.errors",
}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'eegdm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


_moved.install()
