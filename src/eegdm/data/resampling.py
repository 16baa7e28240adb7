"""FFT resampling onto the time grid of MNE's `raw.resample`, at once or in overlapping blocks of
bounded memory.

MNE continues a recording by odd reflection to a power of two, P samples, and keeps the lowest
frequencies of one FFT of that circle, which gives M = round(P sfreq_out / sfreq_in) samples. Two
consequences, both reproduced here:

- Output samples are P/M file samples apart, not sfreq_in / sfreq_out, and the first one need not
  fall on the file's first.
- The circle has a jump where its ends join; the sharp cut in frequency makes it ring, by about jump
  / (5 distance in samples).

A block of the circle is faded out at both ends, resampled by an FFT of its own whose spacing
differs from P/M by very little, and moved onto the grid by a phase and, for what is left (a drift),
by its Taylor series in time. The ringing that reaches it from the join, or the difference between
that on the whole circle and that on its own, is put in by formula.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy import fft

BLOCK_MARGIN_S = 10.0  # of which the outer half is faded out
# Of the amplitude at the highest frequency, where filtered EEG has next to nothing.
TAYLOR_TOLERANCE = 1e-6
# Samples, more than any recording has; exact as an integer and as a float.
_ENDLESS = 2**50


class Span(NamedTuple):
    """The output samples of a block and the stretch of the circle, in file samples from the
    recording's first, they come from.
    """

    out_start: int
    out_stop: int
    start: int
    stop: int
    n_resampled: int
    fade: int


class Resampling(NamedTuple):
    """MNE's layout: `n_times` file samples padded to `circle`, resampled to `new_circle`, `n_out`
    samples kept.
    """

    n_times: int
    pad: int
    circle: int
    new_circle: int
    removed: int
    n_out: int

    @classmethod
    def of(cls, n_times: int, sfreq_in: float, sfreq_out: float) -> Resampling:
        """The layout of `raw.resample(sfreq_out)`; nothing is padded where the frequencies
        agree.
        """
        if math.isclose(sfreq_in, sfreq_out, rel_tol=1e-6):
            return cls(n_times, 0, n_times, n_times, 0, n_times)
        # MNE's own rule (npad="auto"): at least 100 samples of padding on either side, or an eighth
        # of a short recording, up to the next power of two.
        ratio = sfreq_out / sfreq_in
        circle = 2 ** math.ceil(math.log2(n_times + 2 * min(n_times // 8, 100)))
        pad = (circle - n_times) // 2
        return cls(
            n_times,
            pad,
            circle,
            max(round(ratio * circle), 1),
            round(ratio * pad),
            max(round(ratio * n_times), 1),
        )

    @classmethod
    def endless(cls, sfreq_in: float, sfreq_out: float) -> Resampling:
        """The layout of a recording whose length is not known yet: output sample k lies at k /
        `sfreq_out`, and the ends of the circle are too far away to be heard.

        Where rates are such that a long circle is a whole number of output samples (256 Hz to 200
        Hz, not 250 Hz), that is MNE's own grid for most lengths (:meth:`shares_grid`); else the two
        are at most one output sample apart.
        """
        if math.isclose(sfreq_in, sfreq_out, rel_tol=1e-6):
            return cls.of(_ENDLESS, sfreq_in, sfreq_out)
        fast, slow = (Fraction(hz).limit_denominator(10**6) for hz in (sfreq_in, sfreq_out))
        ratio = slow / fast
        # Both grids meet once in so many file samples; everything is a multiple of that.
        n_times, pad = (ratio.denominator * (n // ratio.denominator) for n in (_ENDLESS, 2**40))
        circle = n_times + 2 * pad
        return cls(
            n_times, pad, circle, int(ratio * circle), int(ratio * pad), int(ratio * n_times)
        )

    def shares_grid(self, other: Resampling) -> bool:
        """Whether output samples lie at the same file samples in two layouts."""
        return (
            self.new_circle * other.circle == other.new_circle * self.circle
            and self.removed * self.circle == self.pad * self.new_circle
            and other.removed * other.circle == other.pad * other.new_circle
        )

    @property
    def is_identity(self) -> bool:
        return self.circle == self.n_times

    def spans(self, block: int, sfreq: float) -> list[Span]:
        """Cut the recording into stretches of at most about `block` file samples at `sfreq` Hz; one
        if it is no longer.
        """
        n_blocks = math.ceil(self.n_times / block)
        if n_blocks == 1:
            return [self._whole(0, self.n_out)]
        edges = [self.n_out * index // n_blocks for index in range(n_blocks + 1)]
        return [
            self.span(start, stop, sfreq) for start, stop in zip(edges[:-1], edges[1:], strict=True)
        ]

    def _whole(self, out_start: int, out_stop: int) -> Span:
        return Span(out_start, out_stop, -self.pad, self.circle - self.pad, self.new_circle, fade=0)

    def span(
        self, out_start: int, out_stop: int, sfreq: float, margin_s: float = BLOCK_MARGIN_S
    ) -> Span:
        """The stretch of the circle that some output samples come from, and a margin on either
        side, in a file of `sfreq` Hz.
        """
        if self.is_identity:
            return Span(out_start, out_stop, out_start, out_stop, out_stop - out_start, fade=0)
        margin = math.ceil(margin_s * sfreq)
        start = (self.removed + out_start) * self.circle // self.new_circle - self.pad
        stop = (self.removed + out_stop) * self.circle // self.new_circle - self.pad + 1
        start -= margin
        # Where a block with its margins is as long as the circle, the circle itself is exact.
        length = self._good_length(stop + margin - start)
        if length >= self.circle:
            return self._whole(out_start, out_stop)
        return Span(
            out_start, out_stop, start, start + length, self._n_resampled(length), fade=margin // 2
        )

    def _good_length(self, least: int) -> int:
        """A length, up to a tenth more than `least`, fast to transform and as near as can be to a
        whole number of output samples.
        """
        lengths = [fft.next_fast_len(least, real=True)]
        while (longer := fft.next_fast_len(lengths[-1] + 1, real=True)) < 1.1 * least:
            lengths.append(longer)
        return min(lengths, key=self._cost)

    def _cost(self, length: int) -> tuple[bool, float]:
        new_length = self._n_resampled(length)
        # Speed goes before a whole number of output samples: a slow FFT costs several times as
        # much, a drift only a few terms of a Taylor series.
        is_slow = fft.next_fast_len(new_length, real=True) != new_length
        return is_slow, abs(length * self.new_circle / self.circle - new_length)

    def _n_resampled(self, length: int) -> int:
        return round(length * self.new_circle / self.circle)

    def pieces(self, span: Span) -> list[tuple[int, int]]:
        """The span as stretches between the two ends of the padded recording; two if it runs over
        the join.
        """
        low, high = -self.pad, self.circle - self.pad
        if span.start < low:
            return [(span.start + self.circle, high), (low, span.stop)]
        if span.stop > high:
            return [(span.start, high), (low, span.stop - self.circle)]
        return [(span.start, span.stop)]

    def resampled(
        self,
        signals: Iterable[Float[ndarray, "some span"]],
        span: Span,
        jump: Float[ndarray, "channel 1"],
    ) -> Float[ndarray, "channel out"]:
        """Output samples out_start..out_stop of the channels' signals over the span (its pieces
        joined).

        The signals come some at a time and are overwritten; `jump` is by how much each rises at the
        join.
        """
        if self.is_identity:
            return np.concatenate(list(signals))
        length, new_length = span.stop - span.start, span.n_resampled
        grid = self._grid(span)
        angle = 2j * np.pi / length * np.arange(min(length, new_length) // 2 + 1)
        gain = np.exp(grid.shift * angle) * (new_length / length)
        # At the highest frequency of an even length, two bins of the longer spectrum are one:
        # they are added going down, and it is halved between them going up.
        if min(length, new_length) % 2 == 0:
            gain[-1] *= 2 if new_length < length else 0.5
        series = [
            grid.drift**order / math.factorial(order)
            for order in range(1, grid.taylor_order(angle[-1]) + 1)
        ]
        kept = slice(grid.first, grid.first + span.out_stop - span.out_start)
        results = []
        for signal in signals:
            _fade_out(signal, span.fade)
            spectrum = fft.rfft(signal)[:, : len(gain)]
            # In place, here and below: the precision stays that of the signals.
            spectrum *= gain
            results.append(fft.irfft(spectrum, new_length)[:, kept])
            # x(t + drift) = x + drift x' + drift² x'' / 2 ..., each derivative by one more factor
            # of i omega; the phase above has moved the block's middle, so the drift is small.
            for term in series:
                spectrum *= angle
                results[-1] += term * fft.irfft(spectrum, new_length)[:, kept]
        result = np.concatenate(results)
        # A block of the whole circle rings as MNE's does.
        if new_length != self.new_circle:
            result -= jump * self._missing_ringing(span)
        return result

    def _missing_ringing(self, span: Span) -> Float[ndarray, " out"]:
        """What a block's samples lack, after a rise of 1 at the join."""
        position = (self.removed + np.arange(span.out_start, span.out_stop)) * (
            self.circle / self.new_circle
        ) + 0.5  # the join lies half a sample before the first
        missing = _ringing(position, self.circle, self.new_circle)
        length = span.stop - span.start
        if span.start < -self.pad:
            missing -= _ringing(position, length, span.n_resampled)
        elif span.stop > self.circle - self.pad:
            missing -= _ringing(position - self.circle, length, span.n_resampled)
        return missing

    def _grid(self, span: Span) -> _Grid:
        length, new_length = span.stop - span.start, span.n_resampled
        middle = (span.out_start + span.out_stop) // 2
        # Where the middle output sample lies, in file samples from the span's start. Integers until
        # the division: after a day of EEG, floats would have lost the digits that matter.
        position = (
            (self.removed + middle) * self.circle - (span.start + self.pad) * self.new_circle
        ) / self.new_circle
        nearest = round(position * new_length / length)
        longer = (self.circle * new_length - length * self.new_circle) / (
            self.new_circle * new_length
        )
        return _Grid(
            first=nearest - (middle - span.out_start),
            shift=position - nearest * length / new_length,
            drift=(np.arange(span.out_start, span.out_stop) - middle) * longer,
        )


class _Grid(NamedTuple):
    """How the output samples of a span lie to those its own FFT gives."""

    first: int
    """Index, among the FFT's samples, of the first output sample."""
    shift: float
    """By how many file samples the middle output sample is later than the FFT's."""
    drift: Float[ndarray, " out"]
    """By how many file samples more each other one is later."""

    def taylor_order(self, highest: complex) -> int:
        """Terms needed, beyond the first, to move frequencies up to `highest` (times i, per file
        sample) by the drift.
        """
        largest = np.abs(self.drift).max() * abs(highest)
        order = 0
        while largest ** (order + 1) / math.factorial(order + 1) > TAYLOR_TOLERANCE:
            order += 1
        return order


def _ringing(
    distance: Float[ndarray, " out"], circle: int, new_circle: int
) -> Float[ndarray, " out"]:
    """What cutting off high frequencies takes from a sawtooth around a circle, which jumps by 1
    `distance` samples before.

    The sawtooth is a sum of sin(k angle) / (circle sin(pi k / circle)). Cut off after k = K, the
    sum lacks, by summation by parts, a term at K; the next one is smaller by the distance.
    """
    angle = 2 * np.pi * distance / circle
    if new_circle < circle:
        last = new_circle // 2 + 0.5
        return np.cos(last * angle) / (
            2 * circle * np.sin(np.pi * last / circle) * np.sin(angle / 2)
        )
    return np.cos(np.pi * distance) / (2 * circle * np.tan(angle / 2))


def _fade_out(signal: Float[ndarray, "some span"], n_faded: int) -> None:
    """Let the signal rise from 0 and fall to 0 over `n_faded` samples, in place."""
    ramp = np.sin(0.5 * np.pi * (np.arange(n_faded) + 0.5) / max(n_faded, 1)) ** 2
    signal[:, :n_faded] *= ramp
    signal[:, signal.shape[1] - n_faded :] *= ramp[::-1]
