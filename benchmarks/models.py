"""The models that are measured: ours and the plain ones, with equal weights."""

from __future__ import annotations

import torch
from torch import nn

from benchmarks import timing
from eegdm.models import reference
from eegdm.models.backbone import SSMDP
from eegdm.models.fusion import LatentFusionTransformer

SMALL_BACKBONE = {"d_model": 16, "n_blocks": 2, "d_state": 16, "d_cond": 16, "d_embed": 16}
SMALL_FUSION = {"d_model": 16, "n_blocks": 2, "n_tokens": 4, "n_heads": 2, "depth": 2}
N_CHANNELS = 22


def backbones(smoke: bool, sizes: dict[str, int] | None = None) -> tuple[SSMDP, reference.Backbone]:
    """Return both backbones, at full size unless ``smoke`` or of ``sizes``, in eval mode; what
    starts at zero is random, so that all matters.
    """
    torch.manual_seed(0)
    sizes = sizes or (SMALL_BACKBONE if smoke else {})
    ours = SSMDP(**sizes)
    for parameter in ours.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    return _pair(ours, reference.Backbone(**sizes))


def fusions(smoke: bool) -> tuple[LatentFusionTransformer, reference.FusionTransformer]:
    """Return both fusion transformers, at full size unless ``smoke``, in eval mode."""
    torch.manual_seed(1)
    sizes = SMALL_FUSION if smoke else {}
    return _pair(LatentFusionTransformer(**sizes), reference.FusionTransformer(**sizes))


def side(pair: tuple, name: str) -> nn.Module:
    """Return "ours" or "plain" of a pair."""
    return pair[("ours", "plain").index(name)]


def noise(*shape: int) -> torch.Tensor:
    """Return standard normal numbers, always the same."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(2)).to(timing.DEVICE)


def _pair(ours: nn.Module, other: nn.Module) -> tuple:
    other.load_state_dict(ours.state_dict())
    return ours.to(timing.DEVICE).eval(), other.to(timing.DEVICE).eval()
