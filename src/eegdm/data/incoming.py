"""Filtering and resampling of a recording while it comes in, as soon as what lies ahead of a sample
no longer changes it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from eegdm.data.filtering import Conditioning, FilteredBlock, Filtering
from eegdm.data.resampling import Resampling, Span

# What lies ahead of a sample is waited for, so the margin is short: from 1 s to 10 s, the samples
# are the same to 2e-6 of the largest amplitude.
MARGIN_S = 2.0
# The longest that can be made is taken: far behind, less is read twice.
BLOCKS_S = (300.0, 30.0, 5.0, 1.0)


class Incoming:
    """The filtered samples of a recording that is being written, block after block.

    They equal those of :func:`eegdm.data.filtering.conditioned` for the whole recording within 1e-5
    of the largest amplitude, if both have the same time grid (:meth:`shares_grid`) and away from
    where MNE joins the two ends of a recording that it resamples: there, at both ends, its jump
    rings, by about jump / (5 distance in samples).

    Args:
        read: gives file samples start..stop of all channels in float64.
        file_sfreq: the recording's sampling frequency in Hz.
        filtering: what to do, possible at `file_sfreq`.

    Attributes:
        n_done: output samples so far.
    """

    def __init__(
        self,
        read: Callable[[int, int], Float[ndarray, "channel time"]],
        file_sfreq: float,
        filtering: Filtering,
    ) -> None:
        self.n_done = 0
        self._file_sfreq, self._sfreq = file_sfreq, filtering.sfreq
        plan = Resampling.endless(file_sfreq, filtering.sfreq)
        self._conditioning = Conditioning(read, file_sfreq, filtering, plan)

    @property
    def look_ahead_s(self) -> float:
        """How much of the recording must be there after a sample, once the first block is done:
        half the filters, the margin of resampling and, since blocks are made at once, the shortest
        block.
        """
        length = round(BLOCKS_S[-1] * self._sfreq)
        first = self._sfreq * 3600
        _, stop = self._conditioning.source(self._span(round(first), length))
        return stop / self._file_sfreq - first / self._sfreq

    def shares_grid(self, n_times: int) -> bool:
        """Whether the recording has the same time grid when it ends with so many samples."""
        whole = Resampling.of(n_times, self._file_sfreq, self._sfreq)
        return self._conditioning.plan.shares_grid(whole)

    def next_span(self, n_times: int) -> tuple[Span, tuple[int, int]] | None:
        """Return what can be made of the first `n_times` samples of the recording, and the file
        samples that it takes; None if they are too few.
        """
        for block_s in BLOCKS_S:
            span = self._span(self.n_done, round(block_s * self._sfreq))
            source = self._conditioning.source(span)
            if source[1] <= n_times:
                return span, source
        return None

    def block(self, span: Span) -> FilteredBlock:
        """Return the samples of the next span, float32, in the unit that is read.

        Raises:
            UserError: what `read` raises.
        """
        made = self._conditioning.block(span, np.zeros((1, 1)))
        self.n_done = span.out_stop
        return made

    def _span(self, start: int, length: int) -> Span:
        return self._conditioning.plan.span(start, start + length, self._file_sfreq, MARGIN_S)
