"""Band-pass, notch and resampling as MNE-Python computes them on a whole recording, for recordings
of any length.

The reference is `raw.filter(highpass, lowpass)`, `raw.notch_filter(notch)`, `raw.resample(sfreq)`
with MNE's defaults. Both filters are symmetric FIRs, so they are convolved into one. MNE continues
a signal beyond its ends by odd reflection, and a symmetric FIR turns an odd reflection into an odd
reflection; hence one pass equals two, ends included.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy import fft

from eegdm.console import track
from eegdm.data.resampling import Resampling, Span
from eegdm.errors import UserError

ALLOWED_SFREQ_HZ = (20.0, 20_000.0)
# Farther from where MNE joins a recording's ends, the jump's ringing is below 2e-6 of it.
JOIN_REACH_S = 600.0


@dataclass(frozen=True)
class Filtering:
    """What is kept of a recording: sampling frequency, pass band, and the mains frequencies taken
    out; all in Hz.
    """

    sfreq: float = 200.0
    highpass: float = 0.1
    lowpass: float = 75.0
    notch: tuple[float, ...] = (50.0,)

    def __post_init__(self) -> None:
        if not 0 < self.highpass < self.lowpass < self.sfreq / 2:
            raise UserError(
                f"filters need 0 < highpass < lowpass < sfreq / 2, got highpass={self.highpass:g}, "
                f"lowpass={self.lowpass:g}, sfreq={self.sfreq:g} Hz"
            )

    def effective(self, file_sfreq: float) -> tuple[Filtering, str | None]:
        """What can be done to a file sampled at `file_sfreq`, and a note that names the band it
        lacks, if any.

        The low-pass needs room below half the sampling frequency: 75 Hz needs 160 Hz. Below that it
        becomes 0.45 times the sampling frequency. Notches above the low-pass have nothing to take
        out and are left out.
        """
        low, high = ALLOWED_SFREQ_HZ
        if not low <= file_sfreq <= high:
            raise UserError(
                f"sampled at {file_sfreq:g} Hz; EEG between {low:g} and {high:g} Hz can be used"
            )
        lowpass, note = self.lowpass, None
        if file_sfreq < self.lowpass * 160 / 75:
            lowpass = 0.45 * file_sfreq
            note = (
                f"sampled at {file_sfreq:g} Hz, so {lowpass:g} to {self.lowpass:g} Hz are missing"
            )
        if lowpass <= self.highpass:
            raise UserError(
                f"sampled at {file_sfreq:g} Hz: nothing is left above the high-pass of"
                f" {self.highpass:g} Hz"
            )
        notch = tuple(frequency for frequency in self.notch if frequency < lowpass)
        return replace(self, lowpass=lowpass, notch=notch), note


class FilteredBlock(NamedTuple):
    """Filtered and resampled samples, the first of which is output sample `start`."""

    start: int
    signal: Float[ndarray, "channel time"]


def conditioned(
    read: Callable[[int, int], Float[ndarray, "channel time"]],
    n_times: int,
    file_sfreq: float,
    filtering: Filtering,
    block: int,
    precision: type[np.floating] = np.float32,
    progress: str | None = None,
) -> Iterator[FilteredBlock]:
    """Filter and resample a recording, block after block.

    Args:
        read: gives file samples start..stop of all channels in float64; stretches overlap.
        n_times, file_sfreq: the recording's length in samples and its sampling frequency in Hz.
        filtering: what to do, possible at `file_sfreq` (see `Filtering.effective`).
        block: file samples in a block. A recording that is no longer is done at once and equals MNE
            to rounding; others are within 1e-5 of the largest amplitude.
        precision: in which the filtered signal is resampled; reading and filtering, with offsets
            and drifts still there, are in float64.
        progress: what to call the work in the bar that is shown; none is shown without it, nor if
            there is one block only.
    """
    plan = Resampling.of(n_times, file_sfreq, filtering.sfreq)
    conditioning = Conditioning(read, file_sfreq, filtering, plan, precision)
    # Of a block shorter than the filters, most of what is read would be margin.
    spans = plan.spans(max(block, filter_length(file_sfreq, filtering)), file_sfreq)
    # At once, the FFT is MNE's own and rings by itself; behind long padding nothing is heard of it.
    is_heard = len(spans) > 1 and plan.pad < JOIN_REACH_S * file_sfreq
    jump = conditioning.jump() if is_heard else np.zeros((1, 1))
    for span in (
        track(spans, progress, len(spans)) if progress is not None and len(spans) > 1 else spans
    ):
        yield conditioning.block(span, jump)


class Conditioning(NamedTuple):
    """Filtering and resampling of a recording by a layout, any stretch of it at a time.

    Attributes:
        read, file_sfreq, filtering, precision: as for :func:`conditioned`.
        plan: the layout.
    """

    read: Callable[[int, int], Float[ndarray, "channel time"]]
    file_sfreq: float
    filtering: Filtering
    plan: Resampling
    precision: type[np.floating] = np.float32

    def block(self, span: Span, jump: Float[ndarray, "channel 1"]) -> FilteredBlock:
        """The output samples of a span; `jump` is by how much each channel rises at the join."""
        parts = [self._padded(*piece) for piece in self.plan.pieces(span)]
        # A generator: only a few channels are held in float64 at a time.
        signals = (
            np.concatenate(rows, axis=1, dtype=self.precision) for rows in zip(*parts, strict=True)
        )
        return FilteredBlock(span.out_start, self.plan.resampled(signals, span, jump))

    def source(self, span: Span) -> tuple[int, int]:
        """The file samples that the output samples of a span depend on, as start and stop. A start
        below 0 says that the recording is too short to be reflected that far.
        """
        half = filter_length(self.file_sfreq, self.filtering) // 2
        sources = [
            Reflected(start - half, stop + half, self.plan.n_times).source
            for start, stop in self.plan.pieces(span)
        ]
        return min(start for start, _ in sources), max(stop for _, stop in sources)

    def jump(self) -> Float[ndarray, "channel 1"]:
        """By how much each channel rises where the ends of the padded recording join, both
        continued by half a sample.
        """
        plan = self.plan
        after = self._padded(-plan.pad, -plan.pad + 2)
        before = self._padded(plan.circle - plan.pad - 2, plan.circle - plan.pad)
        # The join lies between two samples, so both sides are extrapolated by half a sample.
        return np.concatenate(
            [
                first @ [[1.5], [-0.5]] - last @ [[-0.5], [1.5]]
                for first, last in zip(after, before, strict=True)
            ]
        )

    def _padded(self, start: int, stop: int) -> Iterator[Float[ndarray, "some time"]]:
        piece = Reflected(start, stop, self.plan.n_times)
        return _filtered_piece(self.read, piece, self.file_sfreq, self.filtering)


def _filtered_piece(
    read: Callable[[int, int], Float[ndarray, "channel time"]],
    piece: Reflected,
    file_sfreq: float,
    filtering: Filtering,
) -> Iterator[Float[ndarray, "some time"]]:
    """The piece after both filters, some channels at a time."""
    taps = _taps(file_sfreq, filtering.highpass, filtering.lowpass, filtering.notch)
    start, stop = piece.source
    half = len(taps) // 2
    # Too short to be reflected far enough for both filters at once.
    if half >= piece.n_times:
        filtered = _filtered_by_mne(read(start, stop), file_sfreq, filtering)
        yield from (piece.continued(rows) for rows in _row_batches(filtered))
        return
    wider = Reflected(start - half, stop + half, piece.n_times)
    for rows in _row_batches(read(*wider.source)):
        yield piece.continued(_convolved(wider.continued(rows), taps))


def _row_batches(signal: Float[ndarray, "channel time"]) -> Iterator[Float[ndarray, "some time"]]:
    """Four rows at a time: the FFT then works on them at once, in the processor's vector
    registers.
    """
    return (signal[row : row + 4] for row in range(0, len(signal), 4))


def filter_length(file_sfreq: float, filtering: Filtering) -> int:
    """Samples that the filters reach over, both together."""
    return len(_taps(file_sfreq, filtering.highpass, filtering.lowpass, filtering.notch))


class Reflected(NamedTuple):
    """Samples start..stop of a signal of `n_times` samples, continued at both ends by odd
    reflection.
    """

    start: int
    stop: int
    n_times: int

    @property
    def source(self) -> tuple[int, int]:
        """The samples of the signal that it is made of, as start and stop."""
        last = self.n_times - 1
        needed = [index for index in (self.start, self.stop - 1) if 0 <= index <= last]
        if self.start < 0:
            needed += [0, -self.start]
        if self.stop - 1 > last:
            needed += [2 * last - (self.stop - 1), last]
        return min(needed), max(needed) + 1

    def continued(self, source: Float[ndarray, "some source"]) -> Float[ndarray, "some time"]:
        """The stretch itself, from the samples that `source` names."""
        low, last = self.source[0], self.n_times - 1
        parts = [source[:, max(self.start, 0) - low : max(min(self.stop, last + 1) - low, 0)]]
        # Odd reflection: 2 x(end) - x(mirrored), which continues without a step and without a kink.
        if self.start < 0:
            mirror = source[:, 1 - min(self.stop, 0) : 1 - self.start]
            parts.insert(0, 2 * source[:, :1] - mirror[:, ::-1])
        if self.stop > last + 1:
            mirror = source[
                :, 2 * last - self.stop + 1 - low : 2 * last - max(self.start, last + 1) + 1 - low
            ]
            parts.append(2 * source[:, last - low : last - low + 1] - mirror[:, ::-1])
        return np.concatenate(parts, axis=1)


# Each block of a recording asks for them, and MNE takes long to design so long a filter.
@lru_cache(maxsize=8)
def _taps(
    sfreq: float, highpass: float, lowpass: float, notch: tuple[float, ...]
) -> Float[ndarray, " tap"]:
    """MNE's band-pass and notch filters in one."""
    from mne.filter import create_filter

    band_pass = create_filter(None, sfreq, highpass, lowpass, verbose="ERROR")
    if not notch:
        return band_pass
    # `mne.filter.notch_filter`: each notch is 1/200 of its frequency wide and has half a hertz of
    # transition on either side
    frequency = np.array(notch)
    half_width = frequency / 400 + 0.5
    transition = {"l_trans_bandwidth": 0.5, "h_trans_bandwidth": 0.5}
    band_stop = create_filter(
        None, sfreq, frequency + half_width, frequency - half_width, **transition, verbose="ERROR"
    )
    return np.convolve(band_pass, band_stop)


def _convolved(
    signal: Float[ndarray, "some time"], taps: Float[ndarray, " tap"]
) -> Float[ndarray, "some valid"]:
    """`np.convolve(row, taps, "valid")` of each row by overlap-save, in transforms that stay in the
    processor's cache.
    """
    n_fft = 2 ** math.ceil(math.log2(6 * len(taps)))
    # A circular convolution wraps around: its first samples mix the end of the stretch into the
    # start, and are thrown away.
    skipped = len(taps) - 1
    step = n_fft - skipped
    response = fft.rfft(taps, n_fft)
    result = np.empty((len(signal), signal.shape[1] - skipped))
    for start in range(0, result.shape[1], step):
        kept = result[:, start : start + step]
        kept[:] = fft.irfft(fft.rfft(signal[:, start : start + n_fft], n_fft) * response, n_fft)[
            :, skipped : skipped + kept.shape[1]
        ]
    return result


def _filtered_by_mne(
    signal: Float[ndarray, "channel time"], sfreq: float, filtering: Filtering
) -> Float[ndarray, "channel time"]:
    from mne.filter import filter_data, notch_filter

    signal = filter_data(signal, sfreq, filtering.highpass, filtering.lowpass, verbose="ERROR")
    return (
        notch_filter(signal, sfreq, filtering.notch, verbose="ERROR") if filtering.notch else signal
    )
