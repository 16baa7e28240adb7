"""SSMDP: size, start, tokens against activities pooled one by one, sampling rates, published
errors.
"""

from __future__ import annotations

import copy
import json
import math

import jaxtyping
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from eegdm.errors import UserError
from eegdm.models import backbone as module
from eegdm.models import residual
from eegdm.models.backbone import SSMDP, Block, step_embedding

SMALL = {"d_model": 8, "n_blocks": 3, "d_state": 8, "d_cond": 12, "d_embed": 16}


def made(seed: int = 0, **settings: int) -> SSMDP:
    """A small backbone whose zero-initialised weights are random, so that everything matters."""
    torch.manual_seed(seed)
    model = SSMDP(**{**SMALL, **settings}).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(std=0.3)
    return model


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def smooth(sfreq: float, duration_s: float = 5.0) -> Tensor:
    """A signal (1, 2, time) below 20 Hz, sampled at any rate without error."""
    t = torch.arange(round(duration_s * sfreq), dtype=torch.float64) / sfreq
    rng = np.random.default_rng(3)
    waves = [
        torch.sin(2 * math.pi * f * t + p) / (1 + f)
        for f, p in rng.uniform((0.5, 0), (20, 6), (2, 12, 2)).reshape(-1, 2)
    ]
    return torch.stack(waves).unflatten(0, (2, 12)).sum(1)[None].float()


def pooled_one_by_one(
    model: SSMDP, x: Tensor, ids: list[int], query: str, pool: str, step: int
) -> Tensor:
    """Tokens (batch, block, pool, channel, feature) of 1000 samples a part, from activities, every
    row alone.
    """
    batch, n_channels, n_times = x.shape
    found = torch.empty(
        batch, len(model.blocks), n_times // 200, n_channels, model.config["d_model"]
    )
    reduce = {"std": torch.std, "mean": torch.mean}[pool]
    for b in range(batch):
        for c in range(n_channels):
            for start in range(0, n_times, 1000):
                row = x[b, c, start : start + 1000][None, None]
                activities = model.activations(
                    row, torch.tensor([step]), torch.tensor([ids[c]]), query
                )[0]
                for k in range(start // 200, start // 200 + 5):
                    found[b, :, k, c] = reduce(
                        activities[:, 200 * k - start : 200 * (k + 1) - start], dim=1
                    )
    return found


def scaled_error(got: Tensor, expected: Tensor) -> float:
    return ((got - expected).abs().max() / expected.abs().max()).item()


def test_precisions_that_give_no_right_numbers_are_refused() -> None:
    model = SSMDP(d_model=4, n_blocks=1, d_state=4, d_cond=4, d_embed=4)
    x = torch.randn(1, 2, 1000)
    for cast in (SSMDP.half, SSMDP.bfloat16):
        with pytest.raises(UserError, match="too coarse for the frequencies of its kernels; keep"):
            cast(copy.deepcopy(model)).tokens(x, [0, 1])
    message = "x is torch.float64, the backbone's weights are torch.float32; give x.to"
    with pytest.raises(UserError, match=message):
        model.tokens(x.double(), [0, 1])
    with pytest.raises(UserError, match=r"torch.jit.trace can't record .*eegdm.braindecode.EEGDM"):
        torch.jit.trace(model, (x[:, :1], torch.tensor([1]), torch.tensor([0])))


def test_published_size() -> None:
    with torch.device("meta"):
        model = SSMDP()
    assert sum(p.numel() for p in model.parameters()) == 5_931_649
    assert (
        len(model.state_dict()) == 333
    )  # the published checkpoint's count; parameters alone, no buffers


def test_config_builds_the_same_model() -> None:
    model = made()
    again = SSMDP(**json.loads(json.dumps(model.config)))
    assert again.config == model.config
    again.load_state_dict(model.state_dict())


@pytest.mark.parametrize("width", [4, 16, 128])
def test_step_embedding_is_the_formula(width: int) -> None:
    expected = np.empty((50, width))
    for t in range(50):
        for i in range(width // 2):
            f = math.exp(-i * math.log(10_000) / (width / 2 - 1))
            expected[t, i], expected[t, width // 2 + i] = math.sin(t * f), math.cos(t * f)
    np.testing.assert_allclose(
        step_embedding(torch.arange(50), width).numpy(), expected, rtol=0, atol=5e-6
    )


def test_start_predicts_zero_and_ignores_the_condition() -> None:
    torch.manual_seed(0)
    model = SSMDP(**SMALL)
    x, channel = noise(2, 1, 300), torch.tensor([0, 1])
    assert not model(x, torch.tensor([3, 4]), channel).any()
    one, other = (model.activations(x, torch.tensor([step, step]), channel) for step in (3, 30))
    assert torch.equal(one, other)
    assert model.blocks[-1].next is None and all(
        isinstance(b.next, nn.Linear) for b in list(model.blocks)[:-1]
    )
    assert model.head[0].weight.std().item() == pytest.approx(
        (2 / SMALL["d_model"]) ** 0.5, rel=0.3
    )  # Kaiming normal


def test_velocity_depends_on_step_channel_and_row_alone() -> None:
    model, x = made(), noise(1, 1, 300).repeat(4, 1, 1)
    x[3] += 1
    with torch.no_grad():
        v = model(x, torch.tensor([3, 4, 3, 3]), torch.tensor([5, 5, 6, 5]))
        alone = model(x[:1], torch.tensor([3]), torch.tensor([5]))
    assert v.shape == x.shape
    assert all((v[0] - v[i]).abs().max() > 1e-3 for i in (1, 2, 3))
    assert scaled_error(v[:1], alone) < 1e-5


def test_activations_are_gate_filter_and_their_product() -> None:
    model = made()
    x, step, channel = noise(2, 1, 300), torch.tensor([3, 4]), torch.tensor([5, 6])
    with torch.no_grad():
        gate, filtered, inter = (
            model.activations(x, step, channel, q) for q in ("gate", "filter", "inter")
        )
    assert gate.shape == (2, 3, 300, 8)
    assert (
        (gate > 0).all()
        and (gate < 1).all()
        and (filtered.abs() < 1).all()
        and (filtered < 0).any()
    )
    assert torch.equal(inter, gate * filtered)


@pytest.mark.parametrize("query", ["gate", "filter", "inter"])
@pytest.mark.parametrize("pool", ["std", "mean"])
def test_tokens_are_pooled_activities(query: str, pool: str) -> None:
    model, x, ids = made(), noise(2, 3, 2000), [4, 0, 21]
    with torch.no_grad():
        got = model.tokens(x, ids, query, pool, step=7)
        expected = pooled_one_by_one(model, x, ids, query, pool, step=7)
    assert got.shape == (2, 3, 10, 1, 3, 8)
    assert scaled_error(got[:, :, :, 0], expected) < 1e-5


def test_queries_are_zipped_with_pools() -> None:
    model, x = made(), noise(1, 2, 1000)
    with torch.no_grad():
        both = model.tokens(x, [0, 1], ("filter", "gate"), ("mean", "std"))
        first, second = (
            model.tokens(x, [0, 1], "filter", "mean"),
            model.tokens(x, [0, 1], "gate", "std"),
        )
    assert torch.equal(both, torch.cat([first, second], dim=3))


def test_tokens_do_not_depend_on_chunks_or_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = made(), noise(3, 2, 1000)
    with_gradients = model.tokens(x, torch.tensor([8, 9]))
    assert with_gradients.requires_grad
    with_gradients.sum().backward()
    assert all(p.grad is not None for p in model.blocks[1].ssm.parameters())
    for at_once in (1, 4000, 10**9):
        monkeypatch.setattr(module, "_SAMPLES_AT_ONCE", {"cpu": at_once})
        with torch.no_grad():
            assert scaled_error(model.tokens(x, [8, 9]), with_gradients.detach()) < 1e-6


def test_tokens_take_few_rows_at_once(on_one_thread: None, monkeypatch: pytest.MonkeyPatch) -> None:
    model, sizes, read = made(), [], residual.read
    monkeypatch.setattr(residual, "read", lambda x, *args: sizes.append(len(x)) or read(x, *args))
    monkeypatch.setattr(module, "_SAMPLES_AT_ONCE", {"cpu": 4000})
    with torch.no_grad():
        model.tokens(noise(5, 2, 1000), [0, 1])
    # Each group goes through all blocks before the next one begins
    assert sizes == [4] * 3 + [4] * 3 + [2] * 3


def test_blocks_beyond_the_range_are_not_computed(
    on_one_thread: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x = made(), noise(1, 2, 1000)
    with torch.no_grad():
        every = model.tokens(x, [0, 1])
        assert torch.equal(model.tokens(x, [0, 1], blocks=slice(1, None)), every[:, 1:])
        calls, read = [], residual.read
        monkeypatch.setattr(residual, "read", lambda x, *a: calls.append(a[2]) or read(x, *a))
        assert torch.equal(model.tokens(x, [0, 1], blocks=slice(0, 2)), every[:, :2])
    # The last one read leads nowhere
    assert calls == [model.blocks[0].next, None]
    recorded = []
    for block in model.blocks:
        block.register_forward_hook(lambda block, *_: recorded.append(block))
        if block.next is not None:
            block.next.register_forward_hook(lambda next_, *_: recorded.append(next_))
    model.tokens(x, [0, 1], blocks=slice(0, 2))
    assert recorded == [model.blocks[0].next, model.blocks[0], model.blocks[1]]


def test_tokens_read_neither_skips_nor_the_head() -> None:
    model, x = made(), noise(1, 2, 1000)
    with torch.no_grad():
        before = model.tokens(x, [0, 1])
        for unread in (model.head, *(block.skip for block in model.blocks)):
            for parameter in unread.parameters():
                parameter.fill_(torch.nan)
        assert torch.equal(model.tokens(x, [0, 1]), before)


@pytest.mark.parametrize("sfreq", [160.0, 190.0, 256.0, 500.0])
def test_tokens_of_a_signal_hardly_depend_on_its_sampling_rate(sfreq: float) -> None:
    """The SSMs are continuous in time; the published code scales dt the wrong way (DEVIATIONS
    8).
    """
    model = made(n_blocks=2, d_model=16, d_state=32)
    with torch.no_grad():
        at_200 = model.tokens(smooth(200.0), [3, 4])
        right = model.tokens(smooth(sfreq), [3, 4], sfreq=sfreq)
        x, steps, ids = (
            smooth(sfreq).transpose(0, 1),
            torch.ones(2, dtype=torch.long),
            torch.tensor([3, 4]),
        )
        wrong = model.activations(x, steps, ids, sfreq=sfreq, compat="published")
        also_right = model.activations(x, steps, ids, sfreq=sfreq)
    assert right.shape == at_200.shape == (1, 2, 5, 1, 2, 16)

    def off(tokens: Tensor) -> float:
        return ((tokens - at_200).norm() / at_200.norm()).item()

    def tokens_of(activities: Tensor) -> Tensor:
        bounds = np.linspace(0, activities.shape[2], 6).round().astype(int)
        pooled = [
            activities[:, :, a:b].std(dim=2) for a, b in zip(bounds, bounds[1:], strict=False)
        ]
        return torch.stack(pooled, dim=2).permute(1, 2, 0, 3)[None, :, :, None]

    assert off(right) < 0.01
    assert scaled_error(tokens_of(also_right), right) < 1e-4
    assert off(tokens_of(wrong)) > 0.2


def test_published_rate_scales_dt_the_wrong_way_and_keeps_pools_of_200_samples() -> None:
    model, x = made(), noise(1, 2, 950)
    with torch.no_grad():
        published = model.tokens(x, [3, 4], sfreq=190.0, compat="published")
        mirrored = model.tokens(
            x, [3, 4], sfreq=200 * 200 / 190
        )  # the same dt, pools of 211 samples
        activities = model.activations(
            x[0, :, None], torch.ones(2).long(), torch.tensor([3, 4]), sfreq=40_000 / 190
        )
    assert published.shape == (1, 3, 4, 1, 2, 8) and mirrored.shape[2] == 4
    expected = torch.stack(
        [activities[:, :, 200 * k : 200 * (k + 1)].std(dim=2) for k in range(4)], dim=2
    )
    assert scaled_error(published[0, :, :, 0], expected.permute(1, 2, 0, 3)) < 1e-5


def test_published_parts_mix_channels_and_halves() -> None:
    """Slot (channel j, half h) holds channel (C h + j)//2, half (C h + j)%2, under the condition of
    channel j.
    """
    model, x, ids, C = made(), noise(2, 5, 2000), [0, 3, 7, 14, 21], 5
    with torch.no_grad():
        got = model.tokens(x, ids, compat="published")
        for h in (0, 1):
            for j in range(C):
                channel, half = divmod(C * h + j, 2)
                row = x[:, channel : channel + 1, 1000 * half : 1000 * (half + 1)]
                alone = model.tokens(row, [ids[j]])
                assert scaled_error(got[:, :, 5 * h : 5 * (h + 1), :, j], alone[..., 0, :]) < 1e-5


def test_a_models_own_compat_is_what_its_methods_do() -> None:
    model, x = made(), noise(1, 2, 2000)
    with torch.no_grad():
        published = model.tokens(x, [3, 4], compat="published")
        model.compat = "published"
        assert torch.equal(model.tokens(x, [3, 4]), published)


def test_blocks_norm_is_not_affected_by_scale() -> None:
    block = Block(8, 8, 12, last=True)
    x = noise(1, 50, 8) * 100
    with torch.no_grad():
        one, other = (block(scale * x, torch.zeros(1, 12), 1.0)[0].gate for scale in (1, 10))
    assert scaled_error(one, other) < 1e-4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"query": "gates"}, "query='gates' is unknown; choose from gate, filter, inter"),
        ({"pool": "max"}, "pool='max' is unknown; choose from std, mean"),
        ({"query": ["gate", "filter"]}, "give one pool per query"),
        ({"channels": [0]}, r"channels=\[0\] for a signal of 2 channels"),
        ({"channels": [0, 22]}, r"give each channel's id, 0..21"),
        ({"sfreq": 0.0}, "sfreq=0.0"),
        ({"compat": "Published"}, "compat='Published' is unknown"),
        ({"window": 1001}, "holds no pool"),
        ({"blocks": slice(3, None)}, r"blocks 3..3 are not within the backbone's 0..3"),
        ({"blocks": slice(1, 4)}, r"blocks 1..4 are not within the backbone's 0..3"),
    ],
)
def test_tokens_refuse_what_they_do_not_know(
    settings: dict, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the test run checks types by itself; a user meets the model's own refusal
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(UserError, match=message):
        made().tokens(noise(1, 2, 1000), **{"channels": [0, 1], **settings})


def test_other_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    # the test run checks shapes by itself; a user meets the model's own refusal
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    model, one = made(), torch.zeros(1, dtype=torch.long)
    with pytest.raises(
        UserError, match=r"x has shape \(1, 2, 300\); the backbone takes \(batch, 1, time\)"
    ):
        model(noise(1, 2, 300), one, one)
    with pytest.raises(UserError, match="d_state=7, d_embed=16: both must be even"):
        made(d_state=7)
    with pytest.raises(UserError, match="multiple"):
        model.tokens(noise(1, 2, 1500), [0, 1], compat="published")
