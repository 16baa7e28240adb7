"""LFT against a slow reference made of nn.MultiheadAttention and loops; masks, ablations, sizes."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor, nn

from eegdm.errors import UserError
from eegdm.models.fusion import LatentFusionTransformer, attend

TOKENS = {"n_blocks": 3, "n_pools": 2, "n_queries": 2, "n_channels": 4, "d_model": 8}
SMALL = TOKENS | {"n_classes": 3, "n_tokens": 5, "n_heads": 2, "depth": 2}
KINDS = ("lft", "none", "mean")


def made(kind: str = "lft", **settings: int) -> LatentFusionTransformer:
    torch.manual_seed(0)
    model = LatentFusionTransformer(**{**SMALL, **settings}, kind=kind).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(std=0.3)
    return model


def tokens(batch: int = 2, channels: int = 4, pools: int = 2, seed: int = 1) -> Tensor:
    return torch.randn(
        batch, 3, pools, 2, channels, 8, generator=torch.Generator().manual_seed(seed)
    )


def slow_stack(model: LatentFusionTransformer, x: Tensor) -> Tensor:
    """Classify one window's sequence (token, feature)."""
    x = x[None]
    for layer in model.stack:
        h = layer.attn_norm(x)
        x = x + layer.attn(h, h, h)[0]
        x = x + layer.ff(layer.ff_norm(x))
    return model.out(x.mean(dim=1))[0]


def slow_logits(model: LatentFusionTransformer, one: Tensor) -> Tensor:
    """Logits of one window's tokens (block, pool, query, channel, feature), pool by pool, channels
    0.. in their places.
    """
    if model.kind == "lft":
        pools = []
        for p in range(one.shape[1]):
            z = model.fusion_tokens[p][None]
            for i, block in enumerate(model.fusion_blocks):
                keys = torch.cat([one[i, p, 0], one[i, p, 1]])[None]
                h = block.self_norm(z)
                z = z + block.self_attn(h, h, h)[0]
                z = z + block.cross_attn(block.cross_norm(z), keys, keys)[0]
                z = z + block.ff(block.ff_norm(z))
            pools.append(z[0] + model.position[p])
        return slow_stack(model, torch.cat(pools))
    if model.kind == "mean":
        one = one.mean(dim=0, keepdim=True)
    sequence = []
    for i in range(one.shape[0]):
        for p in range(one.shape[1]):
            for q in range(one.shape[2]):
                for c in range(one.shape[3]):
                    place = ((i * one.shape[1] + p) * one.shape[2] + q) * model.config[
                        "n_channels"
                    ] + c
                    sequence.append(one[i, p, q, c] + model.position[place])
    return slow_stack(model, torch.stack(sequence))


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        ({}, 6_898_950),
        ({"n_pools": 10, "n_channels": 16, "n_classes": 1}, 6_918_785),
        ({"kind": "none", "depth": 34}, 7_023_622),
        ({"kind": "mean", "depth": 35}, 6_954_374),
    ],
)
def test_published_sizes(settings: dict, size: int) -> None:
    with torch.device("meta"):
        model = LatentFusionTransformer(**settings)
    assert sum(p.numel() for p in model.parameters()) == size


def test_start() -> None:
    torch.manual_seed(0)
    model = LatentFusionTransformer(n_blocks=1, depth=1)
    for learned in (model.fusion_tokens, model.position):
        assert learned.shape == (5, 16, 128)
        assert learned.min() >= 0 and learned.max() <= 1 and abs(learned.mean().item() - 0.5) < 0.02
    torch.manual_seed(0)
    expected = nn.MultiheadAttention(128, 8)
    assert model.stack[0].attn.in_proj_weight.std().item() == pytest.approx(
        expected.in_proj_weight.std().item(), rel=0.02
    )
    assert not model.stack[0].attn.in_proj_bias.any()


def test_config_builds_the_same_model() -> None:
    model = made("mean")
    again = LatentFusionTransformer(**json.loads(json.dumps(model.config)))
    assert again.config == model.config
    again.load_state_dict(model.state_dict())


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("itself", [False, True])
@pytest.mark.parametrize(
    ("batch", "length"), [(4, 5), (100, 5), (100, 40)]
)  # few, many short, many long: each is mixed in its way
def test_attend_is_multihead_attention(batch: int, length: int, itself: bool, masked: bool) -> None:
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(12, 3, batch_first=True)
    nn.init.normal_(attention.in_proj_bias)
    query = torch.randn(batch, length, 12)
    key = query if itself else torch.randn(batch, length + 2, 12)
    mask = torch.rand(key.shape[:2]) < 0.6 if masked else None
    if mask is not None:
        mask[:, 0] = True  # a row without any key has no mean
    results = []
    absent = None if mask is None else ~mask
    for mix in (
        lambda q, k: attend(attention, q, k, mask),
        lambda q, k: attention(q, k, k, key_padding_mask=absent)[0],
    ):
        attention.zero_grad()
        q = query.clone().requires_grad_()
        k = q if itself else key.clone().requires_grad_()
        mixed = mix(q, k)
        mixed.square().sum().backward()
        results.append([mixed, q.grad, k.grad, *(p.grad for p in attention.parameters())])
    for got, expected in zip(*results, strict=True):
        torch.testing.assert_close(
            got, expected, rtol=1e-5, atol=1e-6 * expected.abs().max().item() + 1e-6
        )


def test_a_full_mask_is_no_mask() -> None:
    model, x = made(), tokens()
    with torch.no_grad():
        assert torch.equal(model(x, torch.ones(2, 4, dtype=torch.bool)), model(x))


def test_a_large_batch_equals_its_windows_one_by_one() -> None:
    model, x = made(), tokens(batch=70)  # 70 windows x 2 pools x 2 heads: batched products
    mask = torch.arange(4) < torch.arange(70)[:, None] % 4 + 1
    with torch.no_grad():
        expected = torch.cat(
            [model(one[None], there[None]) for one, there in zip(x, mask, strict=True)]
        )
        torch.testing.assert_close(model(x, mask), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_logits_equal_the_slow_reference(kind: str) -> None:
    model, x = made(kind), tokens()
    with torch.no_grad():
        expected = torch.stack([slow_logits(model, one) for one in x])
        torch.testing.assert_close(model(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_ragged_batch_equals_its_members_one_by_one(kind: str) -> None:
    model, sizes = made(kind), (4, 1, 3)
    members = [tokens(1, size, seed=size) for size in sizes]
    padded = torch.full((3, 3, 2, 2, 4, 8), torch.nan)  # what pads is never read
    mask = torch.zeros(3, 4, dtype=torch.bool)
    for i, (member, size) in enumerate(zip(members, sizes, strict=True)):
        padded[i, ..., :size, :] = member[0]
        mask[i, :size] = True
    with torch.no_grad():
        expected = torch.cat([model(member) for member in members])
        slow = torch.stack([slow_logits(model, member[0]) for member in members])
        got = model(padded, mask)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(got, slow, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_masked_channel_anywhere_has_no_say(kind: str) -> None:
    model, x = made(kind), tokens()
    mask = torch.tensor([[True, False, True, True], [False, True, True, False]])
    other = torch.where(mask[:, None, None, None, :, None], x, tokens(seed=9))
    with torch.no_grad():
        assert torch.equal(model(x, mask), model(other, mask))
        assert (model(x, mask) - model(x)).abs().max() > 1e-3
        torch.testing.assert_close(model(x, torch.ones_like(mask)), model(x), rtol=1e-5, atol=1e-6)


def test_lft_knows_no_order_of_channels_but_the_ablations_do() -> None:
    x = tokens()
    swapped = x[..., [2, 0, 3, 1], :]
    with torch.no_grad():
        lft, none = made("lft"), made("none")
        torch.testing.assert_close(lft(swapped), lft(x), rtol=1e-5, atol=1e-5)
        assert (none(swapped) - none(x)).abs().max() > 1e-3
        assert lft(tokens(channels=9)).shape == (2, 3)  # more channels than it was built for


def test_fused_tokens_of_each_pool_depend_on_that_pool_alone() -> None:
    model, x = made(), tokens()
    changed = x.clone()
    changed[:, :, 1] += 1
    with torch.no_grad():
        one, other = model.fuse(x), model.fuse(changed)
    assert one.shape == (2, 2, 5, 8)
    assert torch.equal(one[:, 0], other[:, 0]) and (one[:, 1] - other[:, 1]).abs().max() > 1e-3


def test_published_missing_pools_keep_their_learned_tokens() -> None:
    model, x = made(), tokens()
    with torch.no_grad():
        fused, whole = model.fuse(x[:, :, :1], compat="published"), model.fuse(x)
        logits = model(x[:, :, :1], compat="published")
    torch.testing.assert_close(fused[:, 0], whole[:, 0], rtol=1e-5, atol=1e-5)
    assert torch.equal(fused[:, 1], model.fusion_tokens[1].expand(2, -1, -1))
    expected = torch.stack(
        [slow_stack(model, (row + model.position).flatten(0, 1)) for row in fused]
    )
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)


def test_gradients_reach_every_parameter() -> None:
    for kind in KINDS:
        model = made(kind)
        model(
            tokens(), torch.tensor([[True] * 4, [True, False, True, False]])
        ).square().sum().backward()
        assert all(
            p.grad is not None and p.grad.isfinite().all() and p.grad.any()
            for p in model.parameters()
        )


@pytest.mark.parametrize("kind", KINDS)
def test_refusals(kind: str) -> None:
    model = made(kind)
    with pytest.raises(UserError, match=r"n_pools=1 \(not 2\)"):
        model(tokens(pools=1))
    with pytest.raises(
        UserError,
        match=r"tokens have n_blocks=2 \(not 3\), n_queries=1 \(not 2\); give the classifier",
    ):
        model(tokens()[:, :2, :, :1])
    with pytest.raises(UserError, match="without any channel"):
        model(tokens(), torch.tensor([[True] * 4, [False] * 4]))
    with pytest.raises(UserError, match="fusion kind='max' is unknown"):
        made("max")
    with pytest.raises(UserError, match="d_model=8 can't be shared among n_heads=3"):
        made(kind, n_heads=3)


def test_refusals_of_the_ablations() -> None:
    with pytest.raises(UserError, match=r"n_channels=5 \(not 4\)"):
        made("none")(tokens(channels=5))
    with pytest.raises(UserError, match="kind='mean' has no fusion tokens"):
        made("mean").fuse(tokens())
    with pytest.raises(UserError, match=r"n_pools=1 \(not 2\)"):
        made("none")(tokens(pools=1), compat="published")


def test_standardised_tokens_have_no_mean_and_unit_spread_and_absent_channels_do_not_count() -> (
    None
):
    torch.manual_seed(0)
    model = LatentFusionTransformer(
        n_blocks=2,
        n_pools=3,
        n_channels=4,
        n_classes=2,
        d_model=8,
        n_tokens=2,
        n_heads=2,
        depth=1,
        standardise=True,
    )
    tokens = torch.randn(5, 2, 3, 1, 4, 8) * torch.arange(1.0, 9.0) + torch.arange(8.0)
    mask = torch.ones(5, 4, dtype=torch.bool)
    mask[:3, 2] = False
    tokens[:3, ..., 2, :] = 1e6
    model.fit_tokens(tokens, mask)
    seen, _ = model._checked(tokens, mask, None)
    present = seen.permute(1, 5, 0, 4, 2, 3)[:, :, mask].flatten(2)
    torch.testing.assert_close(present.mean(-1), torch.zeros(2, 8), atol=1e-5, rtol=0)
    torch.testing.assert_close(present.std(-1, unbiased=False), torch.ones(2, 8), atol=1e-4, rtol=0)
    plain = LatentFusionTransformer(
        n_blocks=2, n_pools=3, n_channels=4, n_classes=2, d_model=8, n_tokens=2, n_heads=2, depth=1
    )
    missing, left_over = plain.load_state_dict(model.state_dict(), strict=False)
    assert not missing and set(left_over) == {"token_mean", "token_spread"}
    torch.testing.assert_close(model(tokens, mask), plain(seen, mask))
