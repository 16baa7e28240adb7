"""S4D: independent diagonal state-space models that look both ways in time.

Each feature has N/2 conjugate pairs of modes A_k = -exp(log_decay) - i frequency and a time step dt = exp(log_dt). With
zero-order hold the kernel is K[l] = 2 Re sum_k B_k C_k (z_k - 1)/A_k z_k^l, z_k = exp(dt A_k). A, B and dt are shared by
the two directions, C is not. Source: Gu et al. 2022, arXiv 2206.11893; "diag-lin" is their S4D-Lin initialisation.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Complex, Float
from scipy.fft import next_fast_len
from torch import Tensor, nn

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
    """``n_features`` bidirectional SSMs with ``d_state`` / 2 conjugate pairs of modes each, and a direct term D.

    y[j] = sum_l K_f[l] x[j-l] + sum_l K_b[l] x[j+1+l] + D x[j], zeros outside: the backward direction starts at the
    NEXT sample. ``rate`` multiplies dt, so that a signal at another sampling rate meets the same continuous system.
    """

    def __init__(self, n_features: int = 256, d_state: int = 128) -> None:
        super().__init__()
        n_modes = d_state // 2
        frequency = (math.pi * torch.arange(n_modes)).clamp(min=1e-4)  # a clamp of the start alone, not of the parameter
        self.log_decay = nn.Parameter(torch.full((n_features, n_modes), math.log(0.5)))
        self.frequency = nn.Parameter(frequency.repeat(n_features, 1))
        self.log_dt = nn.Parameter(torch.empty(n_features, 1).uniform_(math.log(0.001), math.log(0.1)))
        self.B = nn.Parameter(torch.tensor([1.0, 0.0]).repeat(1, n_features, n_modes, 1))
        self.C = nn.Parameter(torch.view_as_real(torch.randn(2, n_features, n_modes, dtype=torch.cfloat)))
        self.D = nn.Parameter(torch.randn(1, n_features))
        self._spectra = _Spectra()

    def forward(self, x: Float[Tensor, "batch time feature"], rate: float = 1.0) -> Float[Tensor, "batch time feature"]:
        """Convolve by one circular FFT, long enough that the two directions do not meet."""
        length = x.shape[1]
        n_fft = next_fast_len(2 * length, real=True)
        signal = x.to(self.D.dtype).transpose(1, 2).contiguous()
        y = torch.fft.irfft(torch.fft.rfft(signal, n=n_fft) * self._spectrum(length, rate, n_fft), n=n_fft)
        return y[..., :length].transpose(1, 2)

    def kernel(self, length: int, rate: float = 1.0) -> Float[Tensor, "2 feature lag"]:
        """Return the kernels of lags 0 .. ``length``-1, forward then backward, without D.

        z^l is written as z^(J i) z^j with l = J i + j, so that only about 2 sqrt(length) powers per mode exist and the
        sum over modes is one matrix product. Powers are taken in double precision: their phase grows with l.
        """
        z, weight = self._modes(rate)
        n_fine = 2 ** math.ceil(math.log2(length) / 2)
        fine, z_coarse = _powers(z, n_fine)
        coarse, _ = _powers(z_coarse, math.ceil(length / n_fine))
        fine, coarse, weight = (table.to(self.D.device, self.D.dtype.to_complex()) for table in (fine, coarse, weight))
        weighted = (weight.permute(1, 2, 0)[..., None] * coarse[:, :, None]).flatten(2)
        left = torch.cat([weighted.real, weighted.imag], dim=1)
        right = torch.cat([fine.real, -fine.imag], dim=1)
        with torch.autocast(left.device.type, enabled=False):
            kernel = torch.bmm(left.transpose(1, 2), right)
        return kernel.view(kernel.shape[0], 2, -1)[..., :length].transpose(0, 1)

    def _modes(self, rate: float) -> tuple[Complex[Tensor, "feature mode"], Complex[Tensor, "2 feature mode"]]:
        """Return z and 2 B C (z - 1)/A in double precision, on the CPU where the device has none (Apple's).

        In z - 1 alone, z is taken in the parameters' precision: the published weights were trained with what float32
        leaves of that difference, up to 1e-4 off for slow modes. Rounding from double precision gives the same z - 1
        on every machine.
        """
        device = torch.device("cpu") if self.D.device.type == "mps" else self.D.device
        log_decay, frequency, log_dt, B, C = (
            p.to(device, torch.float64) for p in (self.log_decay, self.frequency, self.log_dt, self.B, self.C)
        )
        dt, decay = rate * log_dt.exp(), log_decay.exp()
        radius, cosine, sine = (-dt * decay).exp(), (dt * frequency).cos(), -(dt * frequency).sin()
        z = torch.complex(radius * cosine, radius * sine)
        radius, cosine, sine = (part.to(self.D.dtype) for part in (radius, cosine, sine))
        hold = (torch.complex(radius * cosine, radius * sine) - 1) / torch.complex(-decay, -frequency)
        return z, 2 * torch.view_as_complex(B) * torch.view_as_complex(C) * hold

    def _spectrum(self, length: int, rate: float, n_fft: int) -> Complex[Tensor, "feature bin"]:
        """Return the transform of both kernels and D; kept between calls in eval mode without gradients.

        A kept spectrum is used only while every parameter equals, value for value, those it was made from. Version
        counters would be cheaper but miss writes through ``.data``, which is how ema-pytorch updates its model.
        """
        if self.training or torch.is_grad_enabled():
            return self._transform(length, rate, n_fft)
        key = (length, rate, self.D.dtype, self.D.device)
        parameters = torch.cat([p.detach().flatten() for p in self.parameters()])
        kept = self._spectra.pop(key, None)
        if kept is None or not torch.equal(kept.parameters, parameters):
            kept = _Spectrum(parameters, self._transform(length, rate, n_fft))
        while len(self._spectra) >= MAX_SPECTRA:
            self._spectra.pop(next(iter(self._spectra)))
        self._spectra[key] = kept
        return kept.values

    def _transform(self, length: int, rate: float, n_fft: int) -> Complex[Tensor, "feature bin"]:
        forward, backward = self.kernel(length, rate)
        gap = forward.new_zeros(forward.shape[0], n_fft - 2 * length)
        circular = torch.cat([forward, gap, backward.flip(-1)], dim=-1)  # lag -1-l stands at n_fft-1-l
        return torch.fft.rfft(circular) + self.D.mT  # a direct term at lag 0 has a flat spectrum


def _powers(
    base: Complex[Tensor, "feature mode"], count: int
) -> tuple[Complex[Tensor, "feature mode power"], Complex[Tensor, "feature mode"]]:
    """Return ``base`` to the powers 0 .. ``count``-1, and to the next power of two >= ``count``, by repeated doubling.

    Much faster than the complex exponential on a CPU; in double precision the error stays below count x 1e-16.
    """
    table, step = torch.ones_like(base)[..., None], base[..., None]
    while table.shape[-1] < count:
        table = torch.cat([table, table * step], dim=-1)
        step = step * step
    return table[..., :count], step[..., 0]
