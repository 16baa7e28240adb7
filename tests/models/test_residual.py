"""The fused residual block against the same block written with LayerNorm, Linear and autograd, in
double precision.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from eegdm.models import convolution, residual
from eegdm.models.backbone import SSMDP, Block

SIZES = {"d_model": 6, "d_state": 4, "d_cond": 5}


def made(last: bool = False) -> Block:
    torch.manual_seed(0)
    block = Block(**SIZES, last=last).double()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return block


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def plain(block: Block, x: Tensor, skips: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
    """Next stream and skips, one module after another."""
    h = block.norm(x) + block.condition(condition)[:, None]
    gate, filtered = block.ssm(block.widen(h), 1.1).chunk(2, dim=-1)
    inter = gate.sigmoid() * filtered.tanh()
    skips = skips + block.skip(inter)
    return x if block.next is None else block.next(inter) + x, skips


def outcome(outputs: tuple[Tensor, Tensor], inputs: list[Tensor]) -> list[Tensor]:
    """Outputs, and gradients of a loss that depends on both."""
    loss = outputs[0].cos().sum() + outputs[1].sin().sum()
    return [*outputs, *torch.autograd.grad(loss, inputs)]


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("length", [1, 9, 32])
@pytest.mark.parametrize("at_once", [1, 64 * 5, 64 * 30])  # down to one row and one feature at once
def test_block_and_its_gradients_equal_the_plain_ones(
    last: bool, length: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convolution, "at_once", lambda device: at_once)
    block, x, skips, condition = (
        made(last),
        noise(3, length, 6),
        noise(3, length, 6, seed=2),
        noise(3, 5, seed=3),
    )
    inputs = [
        x.requires_grad_(),
        skips.requires_grad_(),
        condition.requires_grad_(),
        *block.parameters(),
    ]
    got = outcome(block.advance(x, skips, condition, 1.1), inputs)
    expected = outcome(plain(block, x, skips, condition), inputs)
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("at_once", [1, 64 * 5, 64 * 30])
def test_activities_and_the_next_stream_equal_the_plain_ones(
    last: bool, gradients: bool, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convolution, "at_once", lambda device: at_once)
    block, x, condition = made(last), noise(3, 32, 6), noise(3, 5, seed=3)
    next_stream, skips = plain(block, x, torch.zeros_like(x), condition)
    with torch.set_grad_enabled(gradients):
        seen, stream = block(
            x.mT.contiguous().mT, condition, 1.1, lambda found: torch.cat([*found], dim=2), True
        )
    gate, filtered, inter = seen.chunk(3, dim=2)
    torch.testing.assert_close(gate * filtered, inter, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(block.skip(inter), skips, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(stream, next_stream, rtol=1e-11, atol=1e-12)


class Advancing(torch.nn.Module):
    def __init__(self, block: Block) -> None:
        super().__init__()
        self.block = block

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return self.block.advance(*inputs, rate=1.0)


@pytest.mark.parametrize("last", [False, True])
def test_block_passes_gradcheck(last: bool) -> None:
    module = Advancing(made(last))
    names = [name for name, _ in module.named_parameters()]

    def advance(
        x: Tensor, skips: Tensor, condition: Tensor, *parameters: Tensor
    ) -> tuple[Tensor, ...]:
        return torch.func.functional_call(
            module, dict(zip(names, parameters, strict=True)), (x, skips, condition)
        )

    inputs = [
        noise(2, 3, 6).requires_grad_(),
        noise(2, 3, 6, seed=2).requires_grad_(),
        noise(2, 5, seed=3).requires_grad_(),
    ]
    assert torch.autograd.gradcheck(advance, (*inputs, *module.parameters()))


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
    block, x, condition = made(), noise(7, 40, 6), noise(7, 5)

    def gradients() -> list[Tensor]:
        return outcome(
            block.advance(x, torch.zeros_like(x), condition, 1.0), list(block.parameters())
        )

    for one, other in zip(gradients(), gradients(), strict=True):
        assert torch.equal(one, other)


def test_a_block_keeps_its_stream_alone_for_the_backward_pass() -> None:
    block, x, condition = made(), noise(4, 500, 6), noise(4, 5)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        block.advance(x.requires_grad_(), torch.zeros_like(x), condition, 1.0)
    large = {t.untyped_storage().data_ptr(): t.numel() for t in kept if t.numel() >= x.numel()}
    assert sum(large.values()) <= x.numel() + 2 * 12 * (
        convolution.fft_length(500) // 2 + 1
    )  # x; spectra of 12 features


def test_autocast_leaves_it_in_full_precision() -> None:
    block, x = made().float(), noise(2, 30, 6).float()
    shared = block.folded(noise(2, 5).float(), 30, 1.0)
    out, bias = (
        torch.cat([block.next.weight, block.skip.weight]),
        torch.cat([block.next.bias, block.skip.bias]),
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = residual.advance(x.mT, torch.zeros_like(x.mT), shared, out, bias)
    expected = residual.advance(x.mT, torch.zeros_like(x.mT), shared, out, bias)
    assert all(torch.equal(one, other) for one, other in zip(got, expected, strict=True))
