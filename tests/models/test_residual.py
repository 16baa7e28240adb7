"""The fused residual blocks against the same blocks written with LayerNorm, Linear and autograd, in
double precision.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from eegdm.models import convolution, residual
from eegdm.models.backbone import SSMDP, Block

SIZES = {"d_model": 6, "d_state": 4, "d_cond": 5}


class Blocks(nn.Module):
    """Some blocks, of which the last leads to the skips alone."""

    def __init__(self, n_blocks: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList(Block(**SIZES, last=i == n_blocks - 1) for i in range(n_blocks))
        self.double()
        with torch.no_grad():
            for parameter in self.parameters():
                parameter += 0.3 * torch.randn_like(parameter)

    def forward(self, x: Tensor, condition: Tensor, rate: float = 1.1) -> Tensor:
        weights = [
            (block.folded(condition, block.ssm.spectrum(x.shape[1], rate)), block.lead())
            for block in self.blocks
        ]
        return residual.sum_of_skips(x.mT, weights).mT

    def plain(self, x: Tensor, condition: Tensor, rate: float = 1.1) -> Tensor:
        """The same, one module after another."""
        skips = torch.zeros_like(x)
        for block in self.blocks:
            x, skips = plain(block, x, skips, condition, rate)
        return skips


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def plain(
    block: Block, x: Tensor, skips: Tensor, condition: Tensor, rate: float
) -> tuple[Tensor, Tensor]:
    """Next stream and skips, one module after another."""
    h = block.norm(x) + block.condition(condition)[:, None]
    gate, filtered = block.ssm(block.widen(h), rate).chunk(2, dim=-1)
    inter = gate.sigmoid() * filtered.tanh()
    skips = skips + block.skip(inter)
    return x if block.next is None else block.next(inter) + x, skips


def outcome(skips: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    """The skips, and gradients of a loss that depends on them."""
    return [skips, *torch.autograd.grad(skips.sin().sum(), inputs)]


@pytest.mark.parametrize("n_blocks", [1, 2, 4])
@pytest.mark.parametrize("length", [1, 9, 32])
@pytest.mark.parametrize("at_once", [1, 64 * 5, 64 * 30])  # down to one row and one feature at once
def test_blocks_and_their_gradients_equal_the_plain_ones(
    n_blocks: int, length: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convolution, "at_once", lambda device: at_once)
    blocks = Blocks(n_blocks)
    x, condition = noise(3, length, 6).requires_grad_(), noise(3, 5, seed=3).requires_grad_()
    inputs = [x, condition, *blocks.parameters()]
    got = outcome(blocks(x, condition), inputs)
    for one, other in zip(got, outcome(blocks.plain(x, condition), inputs), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)
    # Without gradients the streams share one place
    before = x.detach().clone()
    with torch.no_grad():
        assert torch.equal(blocks(x, condition), got[0])
    assert torch.equal(x, before)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("at_once", [1, 64 * 5, 64 * 30])
def test_activities_and_the_next_stream_equal_the_plain_ones(
    last: bool, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convolution, "at_once", lambda device: at_once)
    block, x, condition = Blocks(2).blocks[int(last)], noise(3, 32, 6), noise(3, 5, seed=3)
    next_stream, skips = plain(block, x, torch.zeros_like(x), condition, 1.1)
    with torch.no_grad():
        folded = block.folded(condition, block.ssm.spectrum(32, 1.1))
        stream = x.mT.contiguous()
        seen = residual.read(stream, folded, lambda found: torch.cat([*found], dim=2), block.next)
        assert residual.read(x.mT.contiguous(), folded, None, block.next) is None
    assert seen is not None
    recorded, its_stream = block(x, condition, 1.1)
    for found, stream_ in ((seen.chunk(3, dim=2), stream.mT), (recorded, its_stream)):
        gate, filtered, inter = found
        torch.testing.assert_close(gate * filtered, inter, rtol=1e-11, atol=1e-12)
        torch.testing.assert_close(block.skip(inter), skips, rtol=1e-11, atol=1e-12)
        torch.testing.assert_close(stream_, next_stream, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("n_blocks", [1, 2])
def test_blocks_pass_gradcheck(n_blocks: int) -> None:
    module = Blocks(n_blocks)
    names = [name for name, _ in module.named_parameters()]

    def run(x: Tensor, condition: Tensor, *parameters: Tensor) -> Tensor:
        return torch.func.functional_call(
            module, dict(zip(names, parameters, strict=True)), (x, condition)
        )

    inputs = [noise(2, 3, 6).requires_grad_(), noise(2, 5, seed=3).requires_grad_()]
    # Fast: along random directions; each weight by itself takes many times as long for two blocks
    is_fast = n_blocks > 1
    assert torch.autograd.gradcheck(run, (*inputs, *module.parameters()), fast_mode=is_fast)


def test_a_rows_velocity_and_gradient_do_not_depend_on_its_batch() -> None:
    torch.manual_seed(0)
    model = SSMDP(d_model=8, n_blocks=3, d_state=8, d_cond=12, d_embed=16)
    torch.nn.init.normal_(model.head[2].weight)
    x, step, channel = noise(5, 1, 300).float(), torch.arange(5), torch.arange(5)

    def run(rows: slice) -> tuple[Tensor, Tensor]:
        signal = x[rows].clone().requires_grad_()
        velocity = model(signal, step[rows], channel[rows])
        return velocity, torch.autograd.grad(velocity.sin().sum(), signal)[0]

    together = run(slice(None))
    for row in range(5):
        for one, other in zip(run(slice(row, row + 1)), together, strict=True):
            assert (one - other[row : row + 1]).abs().max() <= 1e-6 * other.abs().max()


def test_training_steps_repeat_bit_for_bit() -> None:
    blocks, x, condition = Blocks(3), noise(7, 40, 6), noise(7, 5)

    def gradients() -> list[Tensor]:
        return outcome(blocks(x, condition), list(blocks.parameters()))

    for one, other in zip(gradients(), gradients(), strict=True):
        assert torch.equal(one, other)


def test_blocks_keep_their_streams_alone_for_the_backward_pass() -> None:
    blocks, x, condition = Blocks(3), noise(4, 500, 6), noise(4, 5)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        blocks(x.requires_grad_(), condition)
    large = {t.untyped_storage().data_ptr(): t.numel() for t in kept if t.numel() >= x.numel()}
    # The streams; a spectrum of 12 features for each block
    n_bins = convolution.fft_length(500) // 2 + 1
    assert sum(large.values()) <= 3 * (x.numel() + 2 * 12 * n_bins)


def test_autocast_leaves_it_in_full_precision() -> None:
    blocks, x, condition = Blocks(2).float(), noise(2, 30, 6).float(), noise(2, 5).float()
    weights = [
        (block.folded(condition, block.ssm.spectrum(30, 1.0)), block.lead())
        for block in blocks.blocks
    ]
    x = x.mT.requires_grad_()

    def run() -> tuple[Tensor, Tensor]:
        skips = residual.sum_of_skips(x, weights)
        return skips, torch.autograd.grad(skips.sin().sum(), x)[0]

    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = run()
    for one, other in zip(got, run(), strict=True):
        assert torch.equal(one, other)
