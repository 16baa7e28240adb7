"""The readable implementation computes what the fast one does: same weights, same numbers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from eegdm.models import reference
from eegdm.models.backbone import SSMDP
from eegdm.models.diffusion import NoiseSchedule
from eegdm.models.fusion import LatentFusionTransformer

SIZES = {"d_model": 8, "n_blocks": 3, "d_state": 8, "d_cond": 12, "d_embed": 16}
FUSION = {"d_model": 8, "n_blocks": 3, "n_tokens": 4, "n_heads": 2, "depth": 2}


def backbones(compat: str | None = None) -> tuple[SSMDP, reference.Backbone]:
    """Both in double precision, with random weights where training starts from zeros."""
    torch.manual_seed(0)
    fast = SSMDP(**SIZES, compat=compat).double().eval()
    for parameter in fast.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.3)
    slow = reference.Backbone(**SIZES).double().eval()
    slow.load_state_dict(fast.state_dict())
    return fast, slow


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_velocity_and_gradients_of_all_weights() -> None:
    x, step, channel = noise(3, 1, 300), torch.tensor([0, 7, 49]), torch.tensor([0, 21, 4])
    found = []
    for model in backbones():
        predicted = model(x, step, channel)
        names, weights = zip(*sorted(dict(model.named_parameters()).items()), strict=True)
        gradients = torch.autograd.grad(predicted.square().sum(), weights)
        found.append([predicted, *gradients])
    for name, one, other in zip(["velocity", *names], *found, strict=True):
        error = (one - other).abs().max() / other.abs().max()
        assert error <= 1e-6, (name, error)


@pytest.mark.parametrize("compat", [None, "published"])
@torch.no_grad()
def test_tokens(compat: str | None) -> None:
    """At 200 Hz and 5 s the published errors have no effect."""
    fast, slow = backbones(compat)
    x = noise(2, 22, 1000)
    expected = slow.tokens(x)
    assert expected.shape == (2, 3, 5, 1, 22, 8)
    torch.testing.assert_close(fast.tokens(x, range(22)), expected, rtol=1e-9, atol=1e-11)
    half = fast.tokens(x, range(22), window=100, stride=100)
    torch.testing.assert_close(half, slow.tokens(x, window=100), rtol=1e-9, atol=1e-11)


@torch.no_grad()
def test_logits() -> None:
    torch.manual_seed(0)
    fast = LatentFusionTransformer(**FUSION).double().eval()
    slow = reference.FusionTransformer(**FUSION).double().eval()
    slow.load_state_dict(fast.state_dict())
    tokens = noise(4, 3, 5, 1, 22, 8)
    for compat in (None, "published"):
        torch.testing.assert_close(fast(tokens, compat=compat), slow(tokens), rtol=1e-9, atol=1e-11)


def test_forward_process() -> None:
    schedule, x0, eps = (
        NoiseSchedule(50),
        noise(50, 1, 20).float(),
        noise(50, 1, 20).flip(2).float(),
    )
    step = torch.arange(50)
    abar = reference.cosine_signal_levels(50).float()
    torch.testing.assert_close(abar, schedule.alphas_cumprod, rtol=1e-5, atol=1e-7)
    levels = abar[:, None, None]
    for ours, theirs in (
        (reference.noised, schedule.add_noise),
        (reference.velocity, schedule.velocity),
    ):
        torch.testing.assert_close(
            ours(x0, eps, levels), theirs(x0, eps, step), rtol=1e-4, atol=1e-5
        )


def test_full_size_is_the_published_one() -> None:
    with torch.device("meta"):
        sizes = [
            sum(weight.numel() for weight in model().parameters())
            for model in (reference.Backbone, reference.FusionTransformer)
        ]
    assert sizes == [5_931_649, 6_898_950]
