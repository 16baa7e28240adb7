"""The residual blocks as one operation: each thread leads its rows through them a few at a time, so
that all that lies between two streams stays in cache; the backward pass keeps nothing but the
streams and computes the rest anew.

With n = (x - mean)/spread over features, s = sigmoid(K * (W n + shift)) and gate, filter = s[:F], 2
s[F:] - 1, a block adds V (gate filter) + bias to [stream, skips]. Everything lies (row, feature,
time): products have their weight on the left, and nothing is transposed. What does not depend on
time is folded into W and shift beforehand; see :class:`Folded`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from eegdm.models.convolution import Tile, bin_weights, fft_length
from eegdm.models.threads import check_wanted, over_rows

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


class Lead(NamedTuple):
    """Weights of a block from its activities to [stream, skips], or of the last to skips alone."""

    weight: Float[Tensor, "out feature"]
    bias: Float[Tensor, " out"]


def read(
    x: Float[Tensor, "row feature time"],
    folded: Folded,
    read_activities: Callable[[Activities], Tensor] | None,
    lead: nn.Linear | None,
) -> Float[Tensor, "row ..."] | None:
    """Return what ``read_activities`` makes of a block's activities, a few rows at a time; ``x``
    becomes the next stream (no ``lead``: it stays).

    Without gradients: activities never exist but of those rows.

    Args:
        x: the stream; changed in place.
        folded: the block's weights up to its gates.
        read_activities: called with the activities of some rows; None: they lead on alone.
        lead: from activities to the next stream; None: no later block is wanted.
    """
    n_features, values = x.shape[1], []
    for chunk, work in _chunks(slice(0, len(x)), x, folded):
        _, _, s, _ = work.gates(x[chunk], folded.shift[chunk])
        gate, filtered = s[:, :n_features], s[:, n_features:].mul_(2).sub_(1)
        inter = gate * filtered
        if read_activities is not None:
            values.append(read_activities(Activities(gate.mT, filtered.mT, inter.mT)))
        if lead is not None:
            weight = lead.weight.expand(len(s), -1, -1)
            x[chunk].baddbmm_(weight, inter).add_(lead.bias[:, None])
    return torch.cat(values) if values else None


def sum_of_skips(
    x: Float[Tensor, "row feature time"], blocks: Sequence[tuple[Folded, Lead]]
) -> Float[Tensor, "row feature time"]:
    """Return the sum of what all blocks add to the skips.

    Args:
        x: the first block's stream.
        blocks: the weights of each; the last one leads to the skips alone.
    """
    weights = [weight for folded, lead in blocks for weight in (*folded, *lead)]
    return _Residual.apply(torch.is_grad_enabled(), x, *weights)


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
    """All blocks: between two of them, the threads need not wait for each other."""

    @staticmethod
    def forward(
        ctx: Any, keep: bool, x: Float[Tensor, "row feature time"], *weights: Tensor
    ) -> Float[Tensor, "row feature time"]:
        blocks = list(_of_blocks(weights))
        n_features, skips = x.shape[1], torch.zeros_like(x)
        # Activities are computed again in backward: two transforms more, a tenth of the memory
        later = x.new_empty(len(blocks) - 1 if keep else 1, *x.shape)
        streams = [x, *later.expand(len(blocks) - 1, *x.shape)]
        ctx.save_for_backward(x, later, *weights)

        def work_on(rows: slice) -> None:
            for (folded, lead), stream, next_stream in zip_longest(blocks, streams, streams[1:]):
                # The last block leads to the skips alone
                n_leads = len(lead.bias) // n_features
                leads = [(next_stream, stream), (skips, skips)][-n_leads:]
                parts = [part.split(n_features) for part in lead]
                for chunk, work in _chunks(rows, x, folded):
                    s = work.gates(stream[chunk], folded.shift[chunk])[2]
                    inter = _filter_of(s).mul_(s[:, :n_features])
                    for (target, source), weight, bias in zip(leads, *parts, strict=True):
                        torch.baddbmm(
                            source[chunk], weight.expand(len(s), -1, -1), inter, out=target[chunk]
                        ).add_(bias[:, None])

        over_rows(x, work_on)
        return skips

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_skips: Tensor) -> tuple[Tensor | None, ...]:
        x, later, *weights = ctx.saved_tensors
        blocks, streams = list(_of_blocks(weights)), [x, *later]
        grad_x = torch.empty_like(x)
        grad_shifts = [torch.empty_like(folded.shift) for folded, _ in blocks]

        def work_on(rows: slice) -> list[tuple[Tensor, ...]]:
            """Write gradients of rows, and return those rows' part of each block's weights'."""
            parts = [
                _backward(
                    rows, streams[index], folded, lead, grad_skips, grad_x, grad_shifts[index]
                )
                for index, (folded, lead) in reversed(list(enumerate(blocks)))
            ]
            return parts[::-1]

        # Added in the order of rows, whichever thread was first: a step repeats bit for bit
        first, *others = over_rows(x, work_on)
        for other in others:
            for totals, terms in zip(first, other, strict=True):
                for total, term in zip(totals, terms, strict=True):
                    total += term
        bins, grads = bin_weights(fft_length(x.shape[2]), x), []
        for grad_shift, (grad_widen, grad_spectrum, *grad_lead) in zip(
            grad_shifts, first, strict=True
        ):
            # A half spectrum leaves out the conjugate bins, which have their part in the gradient
            grads += [grad_shift, grad_widen, grad_spectrum.mul_(bins), *grad_lead]
        return None, grad_x, *grads


def _backward(
    rows: slice,
    x: Float[Tensor, "row feature time"],
    folded: Folded,
    lead: Lead,
    grad_skips: Float[Tensor, "row feature time"],
    grad_x: Float[Tensor, "row feature time"],
    grad_shift: Float[Tensor, "row wide"],
) -> tuple[Tensor, ...]:
    """Go back through a block with some rows: ``grad_x``, of the next stream, becomes that of the
    block's own, and ``grad_shift`` is written. Return those rows' part of the gradients of widen,
    spectrum, lead's weight and bias.
    """
    n_features, length = x.shape[1:]
    (_, widen, spectrum), (out, bias) = folded, lead
    is_last = len(out) == n_features
    reverse = spectrum.conj().resolve_conj()
    grad_widen, grad_spectrum = torch.zeros_like(widen), torch.zeros_like(spectrum)
    grad_out, grad_bias = torch.zeros_like(out), torch.zeros_like(bias)
    for chunk, work in _chunks(rows, x, folded):
        n, inverse_spread, s, kept = work.gates(x[chunk], folded.shift[chunk], keep=True)
        gate, filtered = s[:, :n_features], _filter_of(s)
        grad = grad_skips[chunk]
        if not is_last:
            grad = torch.cat([grad_x[chunk], grad], dim=1)
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
        if is_last:
            torch.mul(grad_n, inverse_spread, out=grad_x[chunk])
        else:
            grad_x[chunk].addcmul_(grad_n, inverse_spread)
    return grad_widen, grad_spectrum, grad_out, grad_bias


def _of_blocks(weights: Sequence[Tensor]) -> Iterator[tuple[Folded, Lead]]:
    """Yield the weights of each block from those of all in a row."""
    for shift, widen, spectrum, weight, bias in zip(*[iter(weights)] * 5, strict=True):
        yield Folded(shift, widen, spectrum), Lead(weight, bias)


def _chunks(
    rows: slice, x: Float[Tensor, "row feature time"], folded: Folded
) -> Iterator[tuple[slice, _Work]]:
    """Yield some of the rows at a time and what to work on them with."""
    n_fft = fft_length(x.shape[2])
    tile = Tile.of(rows.stop - rows.start, len(folded.widen), n_fft, x.device)
    work = _Work(tile, n_fft, folded, x)
    for start in range(rows.start, rows.stop, tile.rows):
        check_wanted()
        yield slice(start, min(start + tile.rows, rows.stop)), work


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
