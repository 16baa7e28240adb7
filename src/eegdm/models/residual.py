"""A residual block as one operation: rows go through it a few at a time, so that all that lies
between two streams stays in cache, and its backward pass keeps nothing but the streams and computes
the rest anew.

With n = (x - mean)/spread over features, s = sigmoid(K * (W n + shift)) and gate, filter = s[:F], 2
s[F:] - 1, a block adds V (gate filter) + bias to [next stream, skips]. Everything lies (row,
feature, time): products have their weight on the left, and nothing is transposed. What does not
depend on time is folded into W and shift beforehand; see :class:`Folded`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from eegdm.models.convolution import Tile, bin_weights, fft_length
from eegdm.models.threads import over_rows

EPS = 1e-5
"""LayerNorm's, as published."""


class Activities(NamedTuple):
    """What a block computes at each sample; inter = gate x filter."""

    gate: Float[Tensor, "row time feature"]
    filter: Float[Tensor, "row time feature"]
    inter: Float[Tensor, "row time feature"]


class Folded(NamedTuple):
    """The weights of a block up to its gates.

    The norm's scale is folded into ``widen``; its shift, the condition and the bias into ``shift``.
    The filter's half of both is doubled, so that one sigmoid serves gate and filter: tanh y = 2
    sigmoid(2 y) - 1.
    """

    shift: Float[Tensor, "row wide"]
    widen: Float[Tensor, "wide feature"]
    spectrum: Complex[Tensor, "wide bin"]


def read(
    x: Float[Tensor, "row feature time"],
    folded: Folded,
    read_activities: Callable[[Activities], Tensor],
    lead: nn.Linear | None,
) -> Float[Tensor, "row ..."]:
    """Return what ``read_activities`` makes of the activities, a few rows at a time; ``x`` becomes
    the next stream (no ``lead``: it stays).

    Without gradients: activities never exist but of those rows.

    Args:
        x: the stream; changed in place.
        folded: the block's weights up to its gates.
        read_activities: called with the activities of some rows.
        lead: from activities to the next stream; None: no later block is wanted.
    """
    n_features = x.shape[1]

    def work_on(rows: slice) -> Float[Tensor, "row ..."]:
        values = []
        # Autocast belongs to a thread and would not hold in all of them; and its half precision is
        # too coarse for the kernels
        with torch.autocast(x.device.type, enabled=False):
            for chunk, work in _chunks(rows, x, folded):
                _, _, s, _ = work.gates(x[chunk], folded.shift[chunk])
                gate, filtered = s[:, :n_features], s[:, n_features:].mul_(2).sub_(1)
                inter = gate * filtered
                values.append(read_activities(Activities(gate.mT, filtered.mT, inter.mT)))
                if lead is not None:
                    weight = lead.weight.expand(len(s), -1, -1)
                    x[chunk].baddbmm_(weight, inter).add_(lead.bias[:, None])
        return torch.cat(values)

    return torch.cat(over_rows(x, work_on))


def advance(
    x: Float[Tensor, "row feature time"],
    skips: Float[Tensor, "row feature time"],
    folded: Folded,
    out: Float[Tensor, "out feature"],
    bias: Float[Tensor, " out"],
) -> tuple[Float[Tensor, "row feature time"] | None, Float[Tensor, "row feature time"]]:
    """Return the next stream (None after the last block, whose ``out`` leads to the skips alone)
    and the sum of skips.

    Args:
        x: the stream.
        skips: the sum of skips of the blocks before.
        folded: the block's weights up to its gates.
        out: weight from activities to [next stream, skips], or to skips alone.
        bias: of the same.
    """
    return _Residual.apply(x, skips, *folded, out, bias)


class _Work:
    """What the rows of a chunk are worked on with: one padded buffer, transformed feature tile by
    feature tile.
    """

    def __init__(self, tile: Tile, n_fft: int, folded: Folded, like: Tensor) -> None:
        self.tile, self.n_fft, self.folded = tile, n_fft, folded
        # Zeros behind the signal are written once: nothing below writes there
        self.padded = like.new_zeros(tile.rows, tile.features, n_fft)

    def gates(
        self,
        x: Float[Tensor, "row feature time"],
        shift: Float[Tensor, "row wide"],
        keep: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
        """Return n, 1/spread, s, and (if to be kept) the spectra of W n + shift, tile by tile."""
        length = x.shape[2]
        n, inverse_spread = _normalised(x)
        s, kept = x.new_empty(len(x), len(self.folded.widen), length), []
        for features in self.features():
            widen = self.folded.widen[features].expand(len(x), -1, -1)
            padded = self.padded[: len(x), : widen.shape[1]]
            # The product goes straight into the padded buffer: a copy would cost as much again
            torch.baddbmm(shift[:, features, None], widen, n, out=padded[..., :length])
            transformed = torch.fft.rfft(padded)
            spectrum = self.folded.spectrum[features]
            product = transformed * spectrum if keep else transformed.mul_(spectrum)
            torch.sigmoid(torch.fft.irfft(product, n=self.n_fft)[..., :length], out=s[:, features])
            if keep:
                kept.append(transformed)
        return n, inverse_spread, s, kept

    def features(self) -> Iterator[slice]:
        step = self.tile.features
        return (slice(start, start + step) for start in range(0, len(self.folded.widen), step))


class _Residual(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Float[Tensor, "row feature time"],
        skips: Float[Tensor, "row feature time"],
        shift: Float[Tensor, "row wide"],
        widen: Float[Tensor, "wide feature"],
        spectrum: Complex[Tensor, "wide bin"],
        out: Float[Tensor, "out feature"],
        bias: Float[Tensor, " out"],
    ) -> tuple[Float[Tensor, "row feature time"] | None, Float[Tensor, "row feature time"]]:
        n_features = x.shape[1]
        # Activities are computed again in backward: two transforms more, a tenth of the memory
        ctx.save_for_backward(x, shift, widen, spectrum, out)
        next_stream = None if len(out) == n_features else x.new_empty(x.shape)
        sum_of_skips = x.new_empty(x.shape)
        leads = (
            [(sum_of_skips, skips)]
            if next_stream is None
            else [(next_stream, x), (sum_of_skips, skips)]
        )
        weights = list(zip(out.split(n_features), bias.split(n_features), strict=True))

        def work_on(rows: slice) -> None:
            with torch.autocast(x.device.type, enabled=False):
                for chunk, work in _chunks(rows, x, Folded(shift, widen, spectrum)):
                    s = work.gates(x[chunk], shift[chunk])[2]
                    inter = _filter_of(s).mul_(s[:, :n_features])
                    for (target, source), (weight, constant) in zip(leads, weights, strict=True):
                        torch.baddbmm(
                            source[chunk], weight.expand(len(s), -1, -1), inter, out=target[chunk]
                        ).add_(constant[:, None])

        over_rows(x, work_on)
        return next_stream, sum_of_skips

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_next: Tensor | None, grad_skips: Tensor) -> tuple[Tensor, ...]:
        x, shift, widen, spectrum, out = ctx.saved_tensors
        n_features, length = x.shape[1:]
        reverse = spectrum.conj().resolve_conj()
        grad_x, grad_shift = torch.empty_like(x), torch.empty_like(shift)

        def work_on(rows: slice) -> tuple[Tensor, ...]:
            """Write gradients of rows, and return those rows' part of the weights' gradients."""
            grad_widen, grad_spectrum = torch.zeros_like(widen), torch.zeros_like(spectrum)
            grad_out, grad_bias = torch.zeros_like(out), out.new_zeros(len(out))
            for chunk, work in _chunks(rows, x, Folded(shift, widen, spectrum)):
                n, inverse_spread, s, kept = work.gates(x[chunk], shift[chunk], keep=True)
                gate, filtered = s[:, :n_features], _filter_of(s)
                grad = grad_skips[chunk]
                if grad_next is not None:
                    grad = torch.cat([grad_next[chunk], grad], dim=1)
                grad_inter = torch.bmm(out.mT.expand(len(s), -1, -1), grad)
                grad_out += torch.bmm(grad, (gate * filtered).mT).sum(0)
                grad_bias += grad.sum((0, 2))
                grad_y = torch.addcmul(s, s, s, value=-1)  # s' = s - s^2
                grad_y[:, :n_features].mul_(grad_inter).mul_(filtered)
                # 2: filter = 2 s - 1; the factor of 2 y is in the doubled weights
                grad_y[:, n_features:].mul_(grad_inter.mul_(gate).mul_(2))
                # Through the convolution, whose gradients are correlations: conjugate spectra
                for features, transformed in zip(work.features(), kept, strict=True):
                    padded = work.padded[: len(s), : transformed.shape[1]]
                    padded[..., :length] = grad_y[:, features]
                    G = torch.fft.rfft(padded)
                    # Summed as spectra, and transformed back once for all rows
                    grad_spectrum[features] += transformed.conj_physical_().mul_(G).sum(0)
                    grad_y[:, features] = torch.fft.irfft(G.mul_(reverse[features]), n=work.n_fft)[
                        ..., :length
                    ]
                torch.sum(grad_y, dim=2, out=grad_shift[chunk])
                grad_widen += torch.bmm(grad_y, n.mT).sum(0)
                grad_n = torch.bmm(widen.mT.expand(len(s), -1, -1), grad_y)
                # Through the norm: what would shift or scale n has no effect and is taken out
                along = (grad_n * n).mean(1, keepdim=True)
                grad_n.sub_(grad_n.mean(1, keepdim=True)).addcmul_(n, along, value=-1)
                torch.mul(grad_n, inverse_spread, out=grad_x[chunk])
                if grad_next is not None:
                    grad_x[chunk] += grad_next[chunk]
            return grad_widen, grad_spectrum, grad_out, grad_bias

        # Added in the order of rows, whichever thread was first: a step repeats bit for bit
        first, *others = over_rows(x, work_on)
        for part in others:
            for total, term in zip(first, part, strict=True):
                total += term
        grad_widen, grad_spectrum, grad_out, grad_bias = first
        # A half spectrum leaves out the conjugate bins, which have their part in the gradient
        grad_spectrum.mul_(bin_weights(fft_length(length), x))
        return grad_x, grad_skips, grad_shift, grad_widen, grad_spectrum, grad_out, grad_bias


def _chunks(
    rows: slice, x: Float[Tensor, "row feature time"], folded: Folded
) -> Iterator[tuple[slice, _Work]]:
    """Yield some of the rows at a time and what to work on them with."""
    n_fft = fft_length(x.shape[2])
    tile = Tile.of(rows.stop - rows.start, len(folded.widen), n_fft, x.device)
    work = _Work(tile, n_fft, folded, x)
    starts = range(rows.start, rows.stop, tile.rows)
    return ((slice(start, min(start + tile.rows, rows.stop)), work) for start in starts)


def _normalised(
    x: Float[Tensor, "row feature time"],
) -> tuple[Float[Tensor, "row feature time"], Float[Tensor, "row 1 time"]]:
    """As LayerNorm over features without its scale and shift; and 1/spread."""
    centred = x - x.mean(1, keepdim=True)
    inverse_spread = (centred * centred).mean(1, keepdim=True).add_(EPS).rsqrt_()
    return centred.mul_(inverse_spread), inverse_spread


def _filter_of(s: Float[Tensor, "row wide time"]) -> Float[Tensor, "row feature time"]:
    """Return the filter, tanh y = 2 sigmoid(2 y) - 1."""
    return s[:, s.shape[1] // 2 :].mul(2).sub_(1)
