"""TokenSpec, and tokens of the forward process."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import Tensor

from eegdm.errors import UserError
from eegdm.models.backbone import SSMDP
from eegdm.models.diffusion import NoiseSchedule, noise_schedule
from eegdm.models.latents import TokenSpec, extract


@pytest.fixture(scope="module")
def backbone() -> SSMDP:
    torch.manual_seed(0)
    return SSMDP(d_model=8, n_blocks=4, d_state=8, d_cond=12, d_embed=16).eval()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 3, 1000, generator=torch.Generator().manual_seed(1))


IDS = [5, 0, 21]


def test_default_is_the_published_choice() -> None:
    spec = TokenSpec()
    assert (spec.query, spec.pool, spec.step, spec.forward, spec.window, spec.stride) == (
        ("gate",),
        ("std",),
        1,
        "none",
        200,
        200,
    )
    assert spec.blocks == slice(0, None)


def test_dict_round_trip() -> None:
    spec = TokenSpec(
        query=("gate", "filter"),
        pool=("std", "mean"),
        forward="noisy",
        first_block=5,
        last_block=10,
    )
    assert TokenSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert TokenSpec.from_dict({"query": ["filter"]}) == TokenSpec(query=("filter",))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"forward": "noise"}, "forward='noise' is unknown; choose from none, noiseless, noisy"),
        ({"step": 50}, "step=50 is not one of the 50 diffusion steps 0..49"),
        ({"step": -1}, "step=-1"),
        ({"window": 1}, "a pool holds 2..1000 samples"),
        ({"window": 1001}, "a pool holds 2..1000 samples"),
        ({"stride": 0}, "stride=0"),
        ({"schedule": "cosine"}, "schedule='cosine' with betas 0.0001..0.05: choose from"),
        ({"beta_end": 1.5}, "with betas 0.0001..1.5: choose from squaredcos_cap_v2, linear, and"),
        ({"windows": 200}, "unknown settings windows"),
    ],
)
def test_refusals(settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        TokenSpec.from_dict(settings)


@torch.no_grad()
def test_extract_is_tokens_with_the_specs_settings(backbone: SSMDP, x: Tensor) -> None:
    spec = TokenSpec(
        query=("filter", "gate"),
        pool=("mean", "std"),
        step=3,
        window=100,
        stride=50,
        first_block=1,
        last_block=3,
    )
    got = extract(backbone, x, IDS, spec, sfreq=190.0)
    expected = backbone.tokens(x, IDS, ("filter", "gate"), ("mean", "std"), 3, 190.0, 100, 50)[
        :, 1:3
    ]
    assert got.shape == (2, 2, 19, 2, 3, 8) and torch.equal(got, expected)


@torch.no_grad()
def test_forward_process(backbone: SSMDP, x: Tensor) -> None:
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    schedule, step = NoiseSchedule(kind="linear"), torch.full((2,), 30)
    settings = {"step": 30, "schedule": "linear"}
    for forward, eps in (("noiseless", torch.zeros_like(x)), ("noisy", noise)):
        expected = backbone.tokens(schedule.add_noise(x, eps, step), IDS, step=30)
        got = extract(backbone, x, IDS, TokenSpec(forward=forward, **settings), noise=noise)
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(UserError, match="forward=noisy: the tokens depend on noise; pass noise="):
        extract(backbone, x, IDS, TokenSpec(forward="noisy", **settings))


@torch.no_grad()
@pytest.mark.parametrize("forward", ["noiseless", "noisy"])
def test_the_whole_noise_schedule_reaches_the_tokens(
    backbone: SSMDP, x: Tensor, forward: str
) -> None:
    """abar of step 25 is 0.84 with these betas, 0.71 with the default's."""
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    noise = noise * (forward == "noisy")
    settings = {"schedule": "linear", "n_steps": 50, "beta_start": 1e-4, "beta_end": 0.02566}
    abar = np.prod(1 - np.linspace(1e-4, 0.02566, 50)[:26])
    assert abar > noise_schedule(**TokenSpec(schedule="linear").noise).alphas_cumprod[25] + 0.1
    spec = TokenSpec.from_dict(json.loads(json.dumps(settings)) | {"forward": forward, "step": 25})
    assert TokenSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    expected = backbone.tokens(abar**0.5 * x + (1 - abar) ** 0.5 * noise, IDS, step=25)
    got = extract(backbone, x, IDS, spec, noise=noise)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)


def test_settings_of_version_0_1_mean_what_they_meant() -> None:
    """Those files state no betas; their tokens were made with the default's."""
    stored = {"schedule": "linear", "n_steps": 50, "step": 25, "forward": "noiseless"}
    abar = noise_schedule(**TokenSpec.from_dict(stored).noise).alphas_cumprod[25].item()
    assert abar == pytest.approx(np.prod(1 - np.linspace(1e-4, 0.05, 50)[:26]), rel=1e-5)


@torch.no_grad()
def test_compat_reaches_the_backbone(backbone: SSMDP) -> None:
    x = torch.randn(1, 3, 2000, generator=torch.Generator().manual_seed(1))
    got = extract(backbone, x, IDS, TokenSpec(), compat="published")
    assert torch.equal(got, backbone.tokens(x, IDS, compat="published"))
    assert not torch.equal(got, backbone.tokens(x, IDS))
