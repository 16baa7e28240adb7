"""S4D: independent diagonal state-space models that look both ways in time.

Each feature has N/2 conjugate pairs of modes A_k = -exp(log_decay) - i frequency and a time step dt
= exp(log_dt). With zero-order hold the kernel is K[l] = 2 Re sum_k B_k C_k (z_k - 1)/A_k z_k^l, z_k
= exp(dt A_k). A, B and dt are shared by the two directions, C is not. Source: Gu et al. 2022, arXiv
2206.11893; "diag-lin" is their S4D-Lin initialisation.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from eegdm.models.convolution import at_once, convolve, fft_length

MAX_SPECTRA = 4
"""Kernel spectra a layer keeps (one per length and rate); a full-size one takes 2 MB."""


class _Spectrum(NamedTuple):
    parameters: Float[Tensor, " parameter"]
    values: Complex[Tensor, "feature bin"]


class _Spectra(dict[tuple, _Spectrum]):
    """Kept spectra; a copied or pickled layer starts with none."""

    def __reduce__(self) -> tuple:
        return _Spectra, ()


class S4D(nn.Module):
    """``n_features`` bidirectional SSMs with ``d_state`` / 2 conjugate pairs of modes each, and a
    direct term D.

    y[j] = sum_l K_f[l] x[j-l] + sum_l K_b[l] x[j+1+l] + D x[j], zeros outside: the backward
    direction starts at the NEXT sample. ``rate`` multiplies dt, so that a signal at another
    sampling rate meets the same continuous system.

    Args:
        n_features: SSMs, each with one input and one output.
        d_state: states of each, two per conjugate pair of modes; even.
    """

    def __init__(self, n_features: int = 256, d_state: int = 128) -> None:
        super().__init__()
        n_modes = d_state // 2
        # As published, a floor for the start alone: training may take the frequency lower
        frequency = torch.tensor([max(math.pi * k, 1e-4) for k in range(n_modes)])
        self.log_decay = nn.Parameter(torch.full((n_features, n_modes), math.log(0.5)))
        self.frequency = nn.Parameter(frequency.expand(n_features, -1).contiguous())
        self.log_dt = nn.Parameter(
            torch.empty(n_features, 1).uniform_(math.log(0.001), math.log(0.1))
        )
        # B and C are complex, kept as pairs of reals: the published files store them so, and
        # optimizers and EMA need not know complex numbers
        self.B = nn.Parameter(
            torch.tensor([1.0, 0.0]).expand(1, n_features, n_modes, -1).contiguous()
        )
        self.C = nn.Parameter(
            torch.view_as_real(torch.randn(2, n_features, n_modes, dtype=torch.cfloat))
        )
        self.D = nn.Parameter(torch.randn(1, n_features))
        self._spectra = _Spectra()

    def forward(
        self, x: Float[Tensor, "batch time feature"], rate: float = 1.0
    ) -> Float[Tensor, "batch time feature"]:
        """Convolve with both kernels and D; see :mod:`eegdm.models.convolution`.

        Args:
            x: signals.
            rate: factor of dt; 200/f for signals at f Hz.
        """
        length = x.shape[1]
        return convolve(x.mT.to(self.D.dtype), self.spectrum(length, rate), fft_length(length)).mT

    def kernel(self, length: int, rate: float = 1.0) -> Float[Tensor, "2 feature lag"]:
        """Return the kernels of lags 0 .. ``length``-1, forward then backward, without D.

        Args:
            length: lags, in samples.
            rate: as in :meth:`forward`.
        """
        exponent, weight = self._modes(rate)
        weight = weight.to(self.D.device, self.D.dtype.to_complex())
        # Features some at a time, so that their tables of powers stay in cache; 2: they are complex
        width = max(1, at_once(self.D.device) // (2 * _n_fine(length) * exponent.shape[1]))
        parts = zip(exponent.split(width), weight.split(width, dim=1), strict=True)
        return torch.cat([_Kernel.apply(*modes, length) for modes in parts], dim=1)

    def _modes(
        self, rate: float
    ) -> tuple[Complex[Tensor, "feature mode"], Complex[Tensor, "2 feature mode"]]:
        """Return log z and 2 B C (z - 1)/A in double precision, on the CPU where the device has
        none (Apple's).

        In z - 1 alone, z is taken in the parameters' precision: the published weights were trained
        with what float32 leaves of that difference, up to 1e-4 off for slow modes. Rounding from
        double precision gives the same z - 1 on every machine.
        """
        device = torch.device("cpu") if self.D.device.type == "mps" else self.D.device
        log_decay, frequency, log_dt, B, C = (
            p.to(device, torch.float64)
            for p in (self.log_decay, self.frequency, self.log_dt, self.B, self.C)
        )
        dt, A = rate * log_dt.exp(), torch.complex(-log_decay.exp(), -frequency)
        exponent = dt * A
        parts = exponent.real.exp(), exponent.imag.cos(), exponent.imag.sin()
        radius, cosine, sine = (part.to(self.D.dtype) for part in parts)
        hold = (torch.complex(radius * cosine, radius * sine) - 1) / A.to(self.D.dtype.to_complex())
        return exponent, 2 * torch.view_as_complex(B) * torch.view_as_complex(C) * hold

    def spectrum(self, length: int, rate: float = 1.0) -> Complex[Tensor, "feature bin"]:
        """Return the transform of both kernels and D, for signals of ``length`` samples padded to
        ``fft_length(length)``.

        In eval mode without gradients it is kept between calls, and used only while every parameter
        equals, value for value, those it was made from. Version counters would be cheaper but miss
        writes through ``.data``, which is how ema-pytorch updates its model.
        """
        if self.training or torch.is_grad_enabled():
            return torch.fft.rfft(self._circular_kernel(length, rate))
        key = (length, rate, self.D.dtype, self.D.device)
        parameters = torch.cat([p.detach().flatten() for p in self.parameters()])
        # Taken out and put back at the end, so that the first one is the one used longest ago
        kept = self._spectra.pop(key, None)
        if kept is None or not torch.equal(kept.parameters, parameters):
            kept = _Spectrum(parameters, torch.fft.rfft(self._circular_kernel(length, rate)))
        while len(self._spectra) >= MAX_SPECTRA:
            self._spectra.pop(next(iter(self._spectra)))
        self._spectra[key] = kept
        return kept.values

    def _circular_kernel(self, length: int, rate: float) -> Float[Tensor, "feature lag"]:
        """Return both kernels and D as one, n long: lag l at l, lag -1-l at n-1-l, zeros
        between.
        """
        forward, backward = self.kernel(length, rate)
        # In a circular convolution, negative lags lie at the end of the kernel
        gap = forward.new_zeros(forward.shape[0], fft_length(length) - 2 * length)
        return torch.cat(
            [forward[:, :1] + self.D.mT, forward[:, 1:], gap, backward.flip(-1)], dim=-1
        )


class _Kernel(torch.autograd.Function):
    """K[l] = Re sum_k w_k z_k^l, without a tensor of every mode at every lag, in either direction.

    z^l is written as z^(J i) z^j with l = J i + j, so that only about 2 sqrt(length) powers per
    mode exist and the sum over modes is one matrix product. Complex numbers enter it as pairs of
    reals: Re(conj(a) b) is their dot product.
    """

    @staticmethod
    def forward(
        ctx: Any,
        exponent: Complex[Tensor, "feature mode"],
        weight: Complex[Tensor, "2 feature mode"],
        length: int,
    ) -> Float[Tensor, "2 feature lag"]:
        ctx.save_for_backward(exponent, weight)
        fine, coarse = _power_tables(exponent, length, weight)
        # Conjugated, since the dot product of pairs of reals is Re(conj(a) b)
        weighted = (weight.transpose(0, 1)[:, :, None] * coarse[:, None]).conj_physical_()
        kernel = _product(_reals(weighted.flatten(1, 2)), _reals(fine).mT)
        return kernel.view(len(kernel), 2, -1)[..., :length].transpose(0, 1)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad: Float[Tensor, "2 feature lag"]
    ) -> tuple[Complex[Tensor, "feature mode"], Complex[Tensor, "2 feature mode"], None]:
        """With dK[l]/dw = z^l and dK[l]/d log z = l w z^l, sum g z^l and l g z^l over l as (J i +
        j), j first.
        """
        exponent, weight = ctx.saved_tensors
        n_features, length = grad.shape[1:]
        fine, coarse = _power_tables(exponent, length, weight)
        n_fine, n_coarse = fine.shape[1], coarse.shape[1]
        split = functional.pad(grad.transpose(0, 1), (0, n_coarse * n_fine - length)).unflatten(
            2, (n_coarse, n_fine)
        )
        j, i = (torch.arange(n, device=grad.device, dtype=grad.dtype) for n in (n_fine, n_coarse))
        # Both sums over j in one product: of g for dK/dw and, of l = J i + j, of the part j g
        sums = _product(torch.stack([split, split * j], dim=1).flatten(1, 3), _reals(fine))
        plain, by_j = torch.view_as_complex(sums.view(n_features, 2, 2, n_coarse, -1, 2)).unbind(1)
        # The part J i is constant in j and needs no product of its own
        by_lag = by_j.addcmul_(plain, n_fine * i[:, None])
        g_z, g_l_z = ((table * coarse[:, None]).sum(2).transpose(0, 1) for table in (plain, by_lag))
        # torch's gradient of a complex number is the conjugate of the derivative
        return (weight * g_l_z).sum(0).conj().to(exponent.device, exponent.dtype), g_z.conj(), None


def _power_tables(
    exponent: Complex[Tensor, "feature mode"], length: int, like: Tensor
) -> tuple[Complex[Tensor, "feature fine mode"], Complex[Tensor, "feature coarse mode"]]:
    """Return z^j, j = 0 .. J-1, and z^(J i) up to ``length``, J = 2^ceil(log2(length)/2), in the
    precision of ``like``.

    Powers are taken in double precision: their phase grows with l.
    """
    n_fine = _n_fine(length)
    fine, z_coarse = _powers(torch.polar(exponent.real.exp(), exponent.imag), n_fine)
    coarse, _ = _powers(z_coarse, math.ceil(length / n_fine))
    return fine.to(like.device, like.dtype), coarse.to(like.device, like.dtype)


def _n_fine(length: int) -> int:
    return 2 ** math.ceil(math.log2(length) / 2)


def _powers(
    base: Complex[Tensor, "feature mode"], count: int
) -> tuple[Complex[Tensor, "feature power mode"], Complex[Tensor, "feature mode"]]:
    """Return ``base`` to the powers 0 .. ``count``-1, and to the next power of two >= ``count``, by
    repeated doubling.

    Much faster than the complex exponential on a CPU; in double precision the error stays below
    count x 1e-16.
    """
    known, step = 1, base[:, None]
    table = base.new_ones(len(base), 2 ** math.ceil(math.log2(count)), base.shape[1])
    while known < count:
        torch.mul(table[:, :known], step, out=table[:, known : 2 * known])
        known, step = 2 * known, step * step
    return table[:, :count], step[:, 0]


def _reals(table: Complex[Tensor, "feature power mode"]) -> Float[Tensor, "feature power part"]:
    return torch.view_as_real(table).flatten(2)


def _product(
    left: Float[Tensor, "feature row part"], right: Float[Tensor, "feature part column"]
) -> Tensor:
    # bfloat16 would leave three digits of the powers
    with torch.autocast(left.device.type, enabled=False):
        return torch.bmm(left, right)
