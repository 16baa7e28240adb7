"""S4D against slow references: a Vandermonde matrix in double precision, convolution sums written
as loops.
"""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from eegdm.models import convolution, s4d
from eegdm.models.s4d import S4D


def made(n_features: int, d_state: int, seed: int = 0) -> S4D:
    torch.manual_seed(seed)
    ssm = S4D(n_features, d_state)
    with torch.no_grad():  # leave the start, where all features decay alike and B is 1
        ssm.log_decay += 0.3 * torch.randn_like(ssm.log_decay)
        ssm.B += 0.3 * torch.randn_like(ssm.B)
    return ssm


def vandermonde_kernel(ssm: S4D, length: int, rate: float = 1.0) -> Tensor:
    """K[l] = 2 Re sum_k B_k C_k (z_k - 1)/A_k exp(l dt A_k), all powers by complex exponentials in
    double precision.

    (z - 1) is taken in the parameters' precision, as in the published code.
    """
    A = torch.complex(-ssm.log_decay.double().exp(), -ssm.frequency.double())
    step = rate * ssm.log_dt.double().exp() * A
    radius, cosine, sine = (
        t.to(ssm.D.dtype) for t in (step.real.exp(), step.imag.cos(), step.imag.sin())
    )
    z = torch.complex(radius * cosine, radius * sine)
    B, C = torch.view_as_complex(ssm.B.double()), torch.view_as_complex(ssm.C.double())
    powers = torch.exp(step[..., None] * torch.arange(length))
    return 2 * torch.einsum("dfm,fml->dfl", B * C * (z - 1) / A, powers).real


def looped_convolution(
    forward: np.ndarray, backward: np.ndarray, D: np.ndarray, x: np.ndarray
) -> np.ndarray:
    """y[j] = sum_l K_f[l] x[j-l] + sum_l K_b[l] x[j+1+l] + D x[j] for x (time, feature)."""
    n_times = len(x)
    y = D * x
    for j in range(n_times):
        for lag in range(n_times):
            if j - lag >= 0:
                y[j] += forward[:, lag] * x[j - lag]
            if j + 1 + lag < n_times:
                y[j] += backward[:, lag] * x[j + 1 + lag]
    return y


class LargestTensor(TorchDispatchMode):
    """Records the most elements any operation returns."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        for tensor in found if isinstance(found, tuple | list) else (found,):
            if isinstance(tensor, Tensor):
                self.numel = max(self.numel, tensor.numel())
        return found


def test_initialisation_is_diag_lin() -> None:
    torch.manual_seed(0)
    ssm = S4D(256, 128)
    assert torch.equal(ssm.log_decay, torch.full((256, 64), math.log(0.5)))
    expected = torch.cat(
        [torch.tensor([1e-4]), (math.pi * torch.arange(1, 64, dtype=torch.float64)).float()]
    )
    assert torch.equal(ssm.frequency, expected.expand(256, 64))
    assert torch.equal(
        torch.view_as_complex(ssm.B.detach()), torch.ones(1, 256, 64, dtype=torch.cfloat)
    )
    assert (
        ssm.C.shape == (2, 256, 64, 2) and abs(ssm.C.std().item() - 0.5**0.5) < 0.01
    )  # a standard complex normal
    assert math.log(0.001) <= ssm.log_dt.min() < -6.5 and -2.7 < ssm.log_dt.max() <= math.log(0.1)
    assert (
        ssm.log_dt.shape == (256, 1)
        and ssm.D.shape == (1, 256)
        and abs(ssm.D.std().item() - 1) < 0.2
    )


@pytest.mark.parametrize("length", [1, 2, 237, 950, 1000, 20_000])
@pytest.mark.parametrize("rate", [1.0, 200 / 190])
def test_kernel_is_float32_accurate(length: int, rate: float) -> None:
    ssm = made(6, 128)
    with torch.no_grad():
        expected, got = vandermonde_kernel(ssm, length, rate), ssm.kernel(length, rate)
    assert got.shape == (2, 6, length) and got.dtype == torch.float32
    assert (got - expected).abs().max() <= 2e-6 * expected.abs().max()


def test_kernel_in_double_precision_is_exact() -> None:
    ssm = made(3, 16).double()
    with torch.no_grad():
        expected, got = vandermonde_kernel(ssm, 5000, 0.8), ssm.kernel(5000, 0.8)
    assert (got - expected).abs().max() <= 1e-12 * expected.abs().max()


def test_kernel_gradients_equal_those_of_the_reference() -> None:
    ssm = made(3, 8).double()
    weight = torch.randn(2, 3, 37, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    parameters = [ssm.log_decay, ssm.frequency, ssm.log_dt, ssm.B, ssm.C]
    got = torch.autograd.grad((weight * ssm.kernel(37, 1.1)).sum(), parameters)
    expected = torch.autograd.grad((weight * vandermonde_kernel(ssm, 37, 1.1)).sum(), parameters)
    for g, e in zip(got, expected, strict=True):
        torch.testing.assert_close(g, e, rtol=1e-9, atol=1e-11)


def test_layer_passes_gradcheck() -> None:
    ssm = made(2, 4).double()
    names = [name for name, _ in ssm.named_parameters()]
    x = torch.randn(
        2, 5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True
    )

    def layer(x: Tensor, *parameters: Tensor) -> Tensor:
        return torch.func.functional_call(ssm, dict(zip(names, parameters, strict=True)), (x,))

    assert torch.autograd.gradcheck(layer, (x, *ssm.parameters()))


def test_gradients_cannot_be_differentiated_again() -> None:
    ssm, x = made(2, 4), torch.ones(1, 5, 2, requires_grad=True)
    (gradient,) = torch.autograd.grad(ssm(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        gradient.sum().backward()


def test_no_tensor_holds_every_mode_at_every_lag() -> None:
    n_features, d_state, length = 4, 128, 20_000
    with LargestTensor() as largest:
        S4D(n_features, d_state).kernel(length).sum().backward()
    assert largest.numel < n_features * (d_state // 2) * length / 10


@pytest.mark.parametrize(
    "at_once", [1, 64 * 20, 64 * 100]
)  # n_fft is 64: tiles of 1 x 1, 1 x 20 and 2 x 37
def test_tiles_change_nothing(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    ssm = made(37, 4).double()
    x = torch.randn(
        5, 37, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    ).transpose(1, 2)

    def outcome() -> list[Tensor]:
        ssm.zero_grad()
        signal = x.clone().requires_grad_()
        y = ssm(signal)
        y.cos().sum().backward()
        with torch.inference_mode():
            return [y, ssm(x), signal.grad, *(p.grad for p in ssm.parameters())]

    whole = outcome()
    monkeypatch.setattr(convolution, "at_once", lambda device: at_once)
    for got, expected in zip(outcome(), whole, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-11, atol=1e-11)


def test_gradients_equal_those_of_a_plain_convolution() -> None:
    ssm = made(3, 8).double()
    x = torch.randn(
        4,
        50,
        3,
        dtype=torch.float64,
        generator=torch.Generator().manual_seed(1),
        requires_grad=True,
    )
    lag = torch.arange(50)[:, None] - torch.arange(50)
    forward, backward = vandermonde_kernel(ssm, 50)
    toeplitz = torch.where(
        lag >= 0, forward[:, lag.clamp(min=0)], backward[:, (-1 - lag).clamp(min=0)]
    )
    expected = torch.einsum("fjm,bmf->bjf", toeplitz, x) + ssm.D * x
    inputs = [x, *ssm.parameters()]
    found = (torch.autograd.grad(y.cos().sum(), inputs) for y in (ssm(x), expected))
    for got, reference in zip(*found, strict=True):
        torch.testing.assert_close(got, reference, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("n_times", [1, 2, 9, 16])
def test_convolution_equals_the_sums(n_times: int) -> None:
    ssm = made(3, 8).double()
    x = torch.randn(2, n_times, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        got = ssm(x)
        (forward, backward), D = ssm.kernel(n_times).numpy(), ssm.D.numpy()
    for row, result in zip(x.numpy(), got.numpy(), strict=True):
        np.testing.assert_allclose(
            result, looped_convolution(forward, backward, D, row), rtol=0, atol=1e-12
        )


def test_backward_direction_starts_at_the_next_sample() -> None:
    ssm = made(1, 8).double()
    impulse = torch.zeros(1, 5, 1, dtype=torch.float64)
    impulse[0, 2] = 1
    with torch.no_grad():
        (forward, backward), D = ssm.kernel(5)[:, 0], ssm.D[0, 0]
        got = ssm(impulse)[0, :, 0]
    expected = torch.stack([backward[1], backward[0], forward[0] + D, forward[1], forward[2]])
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)


def test_autocast_leaves_the_kernel_in_full_precision() -> None:
    ssm, x = made(4, 16), torch.randn(2, 50, 4, generator=torch.Generator().manual_seed(1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = ssm(x)
        gradients = torch.autograd.grad(got.sum(), [ssm.C, ssm.log_dt])
    assert torch.equal(got, ssm(x))
    expected = torch.autograd.grad(ssm(x).sum(), [ssm.C, ssm.log_dt])
    for gradient, reference in zip(gradients, expected, strict=True):
        torch.testing.assert_close(
            gradient, reference, rtol=1e-4, atol=1e-4
        )  # bfloat16 would be 4e-3 off


# ----------------------------------------------------------------------------------- kept spectra


def sgd_step(ssm: S4D) -> S4D:
    with torch.enable_grad():
        ssm(torch.ones(1, 30, 4, dtype=ssm.D.dtype)).square().sum().backward()
    torch.optim.SGD(ssm.parameters(), lr=1e-3).step()
    return ssm


def write_in_place(ssm: S4D) -> S4D:
    ssm.log_dt[1] += 0.1
    return ssm


def write_through_data(ssm: S4D) -> S4D:
    ssm.C.data.lerp_(
        torch.zeros_like(ssm.C), 0.1
    )  # as ema-pytorch updates its model; no version counter moves
    return ssm


def load_others(ssm: S4D) -> S4D:
    ssm.load_state_dict(made(4, 8, seed=5).state_dict())
    return ssm


def assign_others(ssm: S4D) -> S4D:
    ssm.load_state_dict(made(4, 8, seed=5).state_dict(), assign=True)
    return ssm


@pytest.mark.parametrize(
    "change",
    [
        sgd_step,
        write_in_place,
        write_through_data,
        load_others,
        assign_others,
        S4D.double,
        copy.deepcopy,
    ],
)
@torch.no_grad()
def test_kept_spectrum_never_outlives_its_parameters(change) -> None:
    ssm = made(4, 8).eval()
    x = torch.randn(2, 30, 4, generator=torch.Generator().manual_seed(1))
    before = ssm(x)
    changed = change(ssm)
    x = x.to(changed.D.dtype)
    got = changed(x)
    assert torch.equal(got, copy.deepcopy(changed).train()(x))  # in training mode nothing is kept
    assert change in (S4D.double, copy.deepcopy) or not torch.equal(got, before)


@torch.no_grad()
def test_spectrum_is_computed_once_per_length_and_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    ssm, computed, kernel = made(4, 8).eval(), [], S4D.kernel

    def counted(self: S4D, length: int, rate: float = 1.0) -> Tensor:
        computed.append((length, rate))
        return kernel(self, length, rate)

    monkeypatch.setattr(S4D, "kernel", counted)
    for _ in range(3):
        ssm(torch.ones(1, 30, 4))
        ssm(torch.ones(2, 30, 4), rate=1.1)
        ssm(torch.ones(1, 20, 4))
    assert computed == [(30, 1.0), (30, 1.1), (20, 1.0)]
    for length in range(40, 50):
        ssm(torch.ones(1, length, 4))
    assert len(ssm._spectra) == s4d.MAX_SPECTRA
    assert len(copy.deepcopy(ssm)._spectra) == 0


def test_spectrum_is_not_kept_where_gradients_are() -> None:
    ssm = made(4, 8).eval()
    ssm(torch.ones(1, 30, 4)).sum().backward()
    assert len(ssm._spectra) == 0 and ssm.C.grad is not None
