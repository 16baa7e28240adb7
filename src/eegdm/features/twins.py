"""Networks like a model with random weights, to compare its tokens with."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING

from eegdm.features.extractors import Tokens

if TYPE_CHECKING:
    from eegdm.models.backbone import SSMDP
    from eegdm.models.eegdm import EEGDM


def random_twin(model: SSMDP | EEGDM | str | Path, seed: int) -> SSMDP | EEGDM:
    """Return the same network as before its training: other weights, drawn by the seed, and all
    else alike.
    """
    from eegdm.checkpoints.load import load_backbone, load_model
    from eegdm.processes import initial_weights

    twin = copy.deepcopy(load_model(model))
    backbone = load_backbone(twin)
    with initial_weights(seed):
        untrained = type(backbone)(**backbone.config)
    backbone.load_state_dict(untrained.state_dict())
    return twin


def twin_tokens(model: SSMDP | EEGDM | str | Path, seed: int, device: str = "auto") -> Tokens:
    """Return what makes the tokens of a random twin; their array is named after the seed."""
    return Tokens(random_twin(model, seed), device, f"random-{seed}")
