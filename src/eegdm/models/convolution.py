"""Long convolutions of many signals with one kernel a feature, by FFT, in tiles that stay in cache.

Why FFTs: with 128 states, carrying states from chunk to chunk of T samples costs 2 T + 1024
operations per sample and feature, a Toeplitz matrix 2 L; on a CPU that multiplies matrices at 90
GFLOP/s a core and transforms 2048 samples in 2.2 µs, both transforms of 1000 samples cost as much
as 400. Why tiles: a transform's spectrum is 4 times its signal, and sending it to memory and back
costs more than the transform. Signals lie (row, feature, time), so that nothing is transposed.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import torch
from jaxtyping import Complex, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

_A_THREAD = 2**18
_AN_ACCELERATOR = 2**26
"""Numbers worked on at once: what stays in a CPU's caches, yet keeps its threads busy; what fills
an accelerator.
"""


def at_once(device: torch.device) -> int:
    """Return how many numbers to work on at once."""
    # Each thread has a cache of its own
    return _A_THREAD * torch.get_num_threads() if device.type == "cpu" else _AN_ACCELERATOR


@functools.cache
def fft_length(length: int) -> int:
    """Return an even FFT length for signals and two-sided kernels of ``length`` samples: at least
    twice that.

    Twice, so that what wraps around the end falls on zeros. FFTs of powers of two take 20 % less
    time per sample than others: one is chosen unless it is much the longer.
    """
    from scipy.fft import next_fast_len  # 0.2 s that loading a model need not wait for

    shortest = 2 * next_fast_len(length, real=True)
    power = 2 ** (2 * length - 1).bit_length()
    return power if 5 * shortest > 4 * power else shortest


class Tile(NamedTuple):
    """How many rows and features of a batch are transformed at once."""

    rows: int
    features: int

    @classmethod
    def of(cls, batch: int, n_features: int, n_fft: int, device: torch.device) -> Tile:
        n_transforms = max(1, at_once(device) // n_fft)
        # Features first: rows are added only where all features of one fit
        features = min(n_features, n_transforms)
        return cls(max(1, min(batch, n_transforms // features)), features)


def convolve(
    x: Float[Tensor, "row feature time"], spectrum: Complex[Tensor, "feature bin"], n_fft: int
) -> Float[Tensor, "row feature time"]:
    """Convolve circularly ``x``, padded with zeros to ``n_fft`` samples, with the kernels that have
    this ``spectrum``.
    """
    return _Convolution.apply(x, spectrum, n_fft)


class _Convolution(torch.autograd.Function):
    """Keeps only x and the kernel's spectrum for the backward pass, which takes x's spectrum anew:
    that costs less than sending it to memory and back.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Float[Tensor, "row feature time"],
        spectrum: Complex[Tensor, "feature bin"],
        n_fft: int,
    ) -> Float[Tensor, "row feature time"]:
        ctx.save_for_backward(x, spectrum)
        ctx.n_fft, y = n_fft, x.new_empty(x.shape)
        for rows, features in _slices(x, n_fft):
            transformed = torch.fft.rfft(x[rows, features], n=n_fft).mul_(spectrum[features])
            y[rows, features] = torch.fft.irfft(transformed, n=n_fft)[..., : x.shape[2]]
        return y

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad: Float[Tensor, "row feature time"]
    ) -> tuple[Float[Tensor, "row feature time"], Complex[Tensor, "feature bin"], None]:
        """Both are correlations: of ``grad`` with the kernel, and of ``grad`` with x, summed over
        the batch.
        """
        (x, spectrum), n_fft = ctx.saved_tensors, ctx.n_fft
        # Resolved: as a lazy conjugate it would be conjugated anew in every tile
        reverse = spectrum.conj().resolve_conj()
        grad_x, grad_spectrum = x.new_empty(x.shape), torch.zeros_like(spectrum)
        for rows, features in _slices(x, n_fft):
            X, G = (torch.fft.rfft(signal[rows, features], n=n_fft) for signal in (x, grad))
            # A conjugate spectrum is a signal reversed in time, which makes a convolution the
            # correlation that its gradient is; in place, since neither is needed again
            grad_spectrum[features] += X.conj_physical_().mul_(G).sum(0)
            grad_x[rows, features] = torch.fft.irfft(G.mul_(reverse[features]), n=n_fft)[
                ..., : x.shape[2]
            ]
        return grad_x, grad_spectrum.mul_(bin_weights(n_fft, x)), None


def bin_weights(n_fft: int, like: Tensor) -> Float[Tensor, " bin"]:
    """Return what each bin of a half spectrum weighs in its inverse real transform: interior bins
    stand for two.
    """
    weights = torch.full((n_fft // 2 + 1,), 2 / n_fft, dtype=like.dtype, device=like.device)
    weights[0] = weights[-1] = 1 / n_fft
    return weights


def _slices(x: Float[Tensor, "row feature time"], n_fft: int) -> list[tuple[slice, slice]]:
    tile = Tile.of(x.shape[0], x.shape[1], n_fft, x.device)
    # Features outside, rows inside: a tile's part of the spectrum stays in cache for all rows
    return [
        (slice(row, row + tile.rows), slice(feature, feature + tile.features))
        for feature in range(0, x.shape[1], tile.features)
        for row in range(0, x.shape[0], tile.rows)
    ]
