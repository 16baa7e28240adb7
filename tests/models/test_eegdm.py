"""EEGDM: size, configuration, and that it is backbone, tokens and fusion transformer in a row."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor

from eegdm.data.montage import CHBMIT, TCP
from eegdm.errors import UserError
from eegdm.models.backbone import SSMDP
from eegdm.models.eegdm import EEGDM
from eegdm.models.fusion import LatentFusionTransformer
from eegdm.models.latents import TokenSpec, extract

BACKBONE = {"d_model": 8, "n_blocks": 3, "d_state": 8, "d_cond": 12, "d_embed": 16}
FUSION = {"n_tokens": 4, "n_heads": 2, "depth": 1}


def made(**settings: Any) -> EEGDM:
    torch.manual_seed(0)
    return EEGDM(
        **{"backbone": BACKBONE, "fusion": FUSION, "channels": TCP[3:6], **settings}
    ).eval()


def windows(channels: int = 3, n_times: int = 1000) -> Tensor:
    return torch.randn(2, channels, n_times, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("what", ["tokens", "logits"])
def test_the_signal_s_gradient_through_a_frozen_backbone_is_that_of_finite_differences(
    what: str,
) -> None:
    torch.manual_seed(0)
    model = EEGDM(
        {"d_model": 8, "n_blocks": 2, "d_state": 4, "d_cond": 8, "d_embed": 4},
        {"n_tokens": 2, "n_heads": 2, "depth": 1},
        channels=["FP1-F7", "P4-O2"],
        classes=["a", "b"],
    )
    model = model.double().eval()
    model.backbone.requires_grad_(False)
    x = torch.randn(1, 2, 1000, dtype=torch.float64, requires_grad=True)

    def outcome(x: torch.Tensor) -> torch.Tensor:
        return (model.backbone.tokens(x, [0, 21]) if what == "tokens" else model(x)).sin().sum()

    (gradient,) = torch.autograd.grad(outcome(x), x)
    for _ in range(3):
        direction = torch.randn_like(x)
        with torch.no_grad():
            slope = (outcome(x + 1e-6 * direction) - outcome(x - 1e-6 * direction)) / 2e-6
        expected = pytest.approx(slope.item(), rel=1e-5)
        assert (gradient * direction).sum().item() == expected and slope.abs() > 1e-4


def test_published_sizes() -> None:
    with torch.device("meta"):
        tuev = EEGDM()
        chbmit = EEGDM(channels=CHBMIT, classes=["seizure"], n_times=2000)
    for model, size in ((tuev, 6_898_950), (chbmit, 6_918_785)):
        assert sum(p.numel() for p in model.backbone.parameters()) == 5_931_649
        assert sum(p.numel() for p in model.fusion.parameters()) == size
    assert tuev.channels == TCP and tuev.classes == ("SPSW", "GPED", "PLED", "EYEM", "ARTF", "BCKG")
    assert chbmit.channel_ids == [0, 1, 2, 3, 4, 5, 6, 7, 14, 15, 16, 17, 18, 19, 20, 21]
    assert chbmit.fusion.config["n_pools"] == 10


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {
            "tokens": {"query": ["gate", "filter"], "pool": ["std", "mean"], "first_block": 1},
            "n_times": 2000,
            "compat": "published",
        },
        {
            "sfreq": 256.0,
            "n_times": 1280,
            "classes": ["seizure"],
            "signal": {"mu": 255.0},
            "decision": {"threshold": 0.4},
        },
        {"fusion": FUSION | {"kind": "mean"}},
    ],
)
@torch.no_grad()
def test_config_builds_the_same_model(settings: dict[str, Any]) -> None:
    model = made(**settings)
    again = EEGDM(**json.loads(json.dumps(model.config))).eval()
    assert again.config == model.config
    again.load_state_dict(model.state_dict())
    x = windows(n_times=model.n_times)
    assert torch.equal(again(x), model(x)) and model(x).shape == (2, len(model.classes))


@torch.no_grad()
def test_logits_are_those_of_tokens() -> None:
    spec = TokenSpec(query=("filter",), first_block=1)
    model, x = made(tokens=spec), windows()
    mask = torch.tensor([[True, True, True], [True, False, True]])
    tokens = extract(model.backbone, x, [3, 4, 5], spec)
    assert torch.equal(model(x), model.logits_from_tokens(tokens))
    assert torch.equal(model(x, mask), model.logits_from_tokens(tokens, mask))
    assert torch.equal(model(x, mask), model.fusion(tokens, mask))
    x[1, 1] = torch.nan  # a missing channel may hold anything
    assert torch.equal(model(x, mask), model.logits_from_tokens(tokens, mask))


@torch.no_grad()
def test_windows_at_another_sampling_rate() -> None:
    model = made()
    assert torch.equal(
        model(windows(n_times=950), sfreq=190.0),
        model.logits_from_tokens(
            extract(model.backbone, windows(n_times=950), [3, 4, 5], TokenSpec(), sfreq=190.0)
        ),
    )
    with pytest.raises(UserError, match=r"tokens have n_pools=4 \(not 5\)"):
        model(windows(n_times=950))
    model.compat = "published"
    assert model(windows(n_times=950), sfreq=190.0).shape == (2, 6)


@torch.no_grad()
def test_noisy_tokens_need_noise() -> None:
    model, x = made(tokens=TokenSpec(forward="noisy", step=30)), windows()
    drawn = torch.randn(x.shape, generator=torch.Generator().manual_seed(3))
    assert torch.equal(model(x, noise=torch.Generator().manual_seed(3)), model(x, noise=drawn))
    assert not torch.equal(model(x, noise=torch.Generator().manual_seed(4)), model(x, noise=drawn))
    with pytest.raises(UserError, match="forward=noisy"):
        model(x)


def test_parts_may_be_given_whole() -> None:
    backbone = SSMDP(**BACKBONE)
    fusion = LatentFusionTransformer(
        n_blocks=2, n_pools=10, n_channels=22, n_classes=6, d_model=8, **FUSION
    )
    model = EEGDM(backbone, fusion, TokenSpec(last_block=2), n_times=2000)
    assert model.backbone is backbone and model.fusion is fusion


def test_gradients_reach_the_backbone() -> None:
    model = made()
    model(windows()).square().sum().backward()
    unread = ("head", "skip", "blocks.2.next")
    for name, parameter in model.backbone.named_parameters():
        assert any(part in name for part in unread) or parameter.grad is not None, name


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"channels": ["FP1-F7", "FZ-CZ"]},
            "FZ-CZ is not of the montage; choose from FP1-F7, F7-T3",
        ),
        ({"channels": []}, "nothing is not of the montage"),
        ({"fusion": FUSION | {"n_pools": 4}}, r"fusion has n_pools=4 \(the model has 5\)"),
        (
            {"fusion": FUSION | {"n_blocks": 2, "n_classes": 2}},
            r"n_blocks=2 \(the model has 3\), n_classes=2 \(the model has 6\)",
        ),
        ({"n_times": 100}, "holds no pool"),
        ({"tokens": {"last_block": 4}}, r"blocks 0..4 are not within the backbone's 0..3"),
        ({"tokens": {"wndow": 3}}, "unknown settings wndow"),
    ],
)
def test_parts_that_do_not_fit_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        made(**settings)


def test_windows_of_other_channels_are_refused() -> None:
    with pytest.raises(
        UserError,
        match=(
            r"x has shape \(2, 4, 1000\); the model takes \(batch, 3, time\): T5-O1, FP2-F8, F8-T4"
        ),
    ):
        made()(windows(channels=4))
