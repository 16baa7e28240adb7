"""The linear head is the formula it says, wherever it stands, and comes back from a folder."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import eegdm
from eegdm.errors import UserError
from eegdm.models.eegdm import EEGDM
from eegdm.models.fusion import LatentFusionTransformer
from eegdm.models.latents import extract
from eegdm.models.linear import LinearHead
from eegdm.models.pretrained import weights_fingerprint

BACKBONE = {"d_model": 4, "n_blocks": 3, "d_state": 4, "d_cond": 8, "d_embed": 8}
CHANNELS = ("FP1-F7", "F7-T3", "P4-O2")
EACH = pytest.mark.parametrize("per_channel", [False, True])


def drawn(head: LinearHead) -> LinearHead:
    """A head whose numbers are all drawn."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        head.value_mean.copy_(torch.randn(head.value_mean.shape, generator=generator))
        head.value_spread.copy_(0.5 + torch.rand(head.value_spread.shape, generator=generator))
        for parameter in head.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return head.eval()


def made(per_channel: bool, **settings: Any) -> EEGDM:
    torch.manual_seed(0)
    fusion = {"kind": "linear", "per_channel": per_channel, "floor": 0.01}
    model = EEGDM(BACKBONE, fusion, channels=CHANNELS, classes=("a", "b"), **settings)
    drawn(model.fusion)
    return model.eval()


def windows(n: int = 2) -> Tensor:
    return torch.randn(n, 3, 1000, generator=torch.Generator().manual_seed(2))


def slowly(head: LinearHead, tokens: Tensor, window: int, present: list[int]) -> list[float]:
    """Logits of a window, value by value."""
    _, n_blocks, n_pools, n_queries, n_channels, width = tokens.shape
    logits = head.out.bias.tolist()
    place = 0
    for channel in range(n_channels) if head.per_channel else [None]:
        value = 0
        for block in range(n_blocks):
            for query in range(n_queries):
                for k in range(width):
                    logs = []
                    for c in [channel] if channel is not None else present:
                        pools = [
                            float(tokens[window, block, p, query, c, k]) for p in range(n_pools)
                        ]
                        logs.append(math.log(sum(pools) / n_pools + head.floor))
                    row = channel or 0
                    spread = float(head.value_spread[row, value])
                    z = (sum(logs) / len(logs) - float(head.value_mean[row, value])) / spread
                    for number, weights in enumerate(head.out.weight.tolist()):
                        if channel is None or channel in present:
                            logits[number] += weights[place] * z
                    place, value = place + 1, value + 1
    return logits


@EACH
def test_logits_are_the_sum_that_the_docstring_describes(per_channel: bool) -> None:
    head = drawn(LinearHead(2, 2, 3, 2, 4, per_channel, floor=0.1))
    tokens = torch.rand(2, 2, 5, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    for present in ([0, 1, 2], [0, 2]):
        mask = torch.zeros(2, 3, dtype=torch.bool)
        mask[:, present] = True
        with torch.no_grad():
            found = head(tokens, mask)
            without = head(tokens) if len(present) == 3 else found
        expected = torch.tensor([slowly(head, tokens, k, present) for k in range(2)])
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(without, expected, rtol=1e-5, atol=1e-5)


@EACH
def test_an_absent_channel_may_hold_anything(per_channel: bool) -> None:
    model, x = made(per_channel), windows()
    mask = torch.tensor([[True, False, True]]).expand(2, -1)
    other = x.clone()
    other[:, 1] = 50.0
    with torch.no_grad():
        assert torch.equal(model(x, mask), model(other, mask))
        assert not torch.allclose(model(x, mask), model(x))


@EACH
def test_a_folder_gives_the_same_logits_again(per_channel: bool, tmp_path: Path) -> None:
    model, x = made(per_channel), windows()
    loaded = eegdm.load(model.save_pretrained(tmp_path))
    assert isinstance(loaded, EEGDM) and isinstance(loaded.fusion, LinearHead)
    assert loaded.config == model.config
    assert weights_fingerprint(loaded) == weights_fingerprint(model)
    with torch.no_grad():
        assert torch.equal(loaded(x), model(x))
    assert "a linear head" in " ".join((tmp_path / "README.md").read_text().split())


def test_the_head_sees_the_tokens_that_are_extracted() -> None:
    model, x = made(True), windows()
    with torch.no_grad():
        tokens = extract(model.backbone, x, model.channel_ids, model.spec)
        assert torch.equal(model.fusion.classify(tokens.mean(dim=2)), model(x))


def test_a_folder_that_names_no_kind_holds_a_transformer(tmp_path: Path) -> None:
    fusion = {"n_tokens": 2, "n_heads": 2, "depth": 1}
    EEGDM(BACKBONE, fusion, channels=CHANNELS).save_pretrained(tmp_path)
    about = json.loads((tmp_path / "config.json").read_text())
    assert about["config"]["fusion"].pop("kind") == "lft"
    (tmp_path / "config.json").write_text(json.dumps(about))
    assert isinstance(eegdm.load(tmp_path).fusion, LatentFusionTransformer)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"per_channel": False}, "has other shapes"),
        ({"n_blocks": 2}, "n_blocks=2"),
        ({"floor": 0.0}, "floor=0.0"),
        ({"floor": float("inf")}, "floor=inf"),
        ({"depth": 3}, "make no EEGDM"),
        ({"kind": "magic"}, "make no EEGDM"),
    ],
)
def test_a_config_that_is_not_of_these_weights_is_refused(
    change: dict[str, Any], said: str, tmp_path: Path
) -> None:
    made(True).save_pretrained(tmp_path)
    about = json.loads((tmp_path / "config.json").read_text())
    about["config"]["fusion"] |= change
    (tmp_path / "config.json").write_text(json.dumps(about))
    with pytest.raises(UserError, match=said):
        eegdm.load(tmp_path)


def test_tokens_of_other_axes_are_refused() -> None:
    head = LinearHead(2, 1, 3, 2, 4, per_channel=True)
    with pytest.raises(UserError, match=r"n_channels=2 \(not 3\)"):
        head(torch.rand(1, 2, 5, 1, 2, 4))
    with pytest.raises(UserError, match="without any channel"):
        head(torch.rand(1, 2, 5, 1, 3, 4), torch.zeros(1, 3, dtype=torch.bool))


@EACH
def test_channels_of_other_names_are_read_as_those_they_are_taken_for(
    per_channel: bool, tmp_path: Path
) -> None:
    plain = made(per_channel)
    own = EEGDM(
        plain.backbone,
        plain.fusion,
        channels=("E1", "E2", "E3"),
        classes=plain.classes,
        taken_for=CHANNELS,
    ).eval()
    loaded = eegdm.load(own.save_pretrained(tmp_path))
    assert (loaded.channels, loaded.taken_for) == (("E1", "E2", "E3"), CHANNELS)
    with torch.no_grad():
        assert torch.equal(loaded(windows()), plain(windows()))
    assert "taken_for" not in plain.config


@pytest.mark.parametrize(
    ("channels", "taken_for", "said"),
    [
        (("E1", "E2"), ("FP1-F7",), "1 channels for 2"),
        (("E1", "E1"), ("FP1-F7", "F7-T3"), "1 differ"),
        (("E1",), ("E1",), "is not of the montage"),
    ],
)
def test_channels_that_are_taken_for_nothing_are_refused(
    channels: tuple[str, ...], taken_for: tuple[str, ...], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        EEGDM(BACKBONE, {"kind": "linear"}, channels=channels, taken_for=taken_for)
