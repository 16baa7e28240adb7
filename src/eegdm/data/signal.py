"""From a recording to model units: derivation, filters, resampling, companding and windows."""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from numpy.typing import ArrayLike

from eegdm.data.channels import PER_VOLT, ChannelQuality, DerivedChannels, stand_out
from eegdm.data.filtering import FilteredBlock, Filtering, conditioned, filter_length
from eegdm.data.montage import Derivation
from eegdm.data.reading import open_recording
from eegdm.data.resampling import Resampling
from eegdm.data.whitening import start_weights, unwhitened, whitened
from eegdm.errors import UserError

if TYPE_CHECKING:
    import mne
    from torch import Tensor

__all__ = [
    "PUBLISHED_UNITS",
    "ChannelQuality",
    "Filtering",
    "ModelUnits",
    "Preprocessed",
    "compand",
    "expand",
    "first_sample",
    "open_recording",
    "preprocess",
    "published_chbmit_window",
    "robust_spread",
    "tensor_to_model_units",
    "to_model_units",
    "wrap",
]

BLOCK_VALUES = 2**24  # float64 values of a block, all electrodes: 128 MiB
# Blocks overlap by the filters (33 s at a high-pass of 0.1 Hz): of shorter ones too much is read
# twice.
SHORTEST_BLOCK_S = 120.0
NOTED_FLAT, NOTED_CLIPPED = 0.5, 0.01
PUBLISHED_MU = 255.0


class Preprocessed(NamedTuple):
    """A recording ready to be cut into windows."""

    signal: Float[ndarray, "channel time"]
    """float32, unit 100 µV, not companded."""
    sfreq: float
    quality: list[ChannelQuality]
    notes: list[str]


def preprocess(
    raw: mne.io.BaseRaw,
    derivations: Sequence[Derivation],
    filtering: Filtering,
    block_s: float | None = None,
    out: Callable[[tuple[int, int]], Any] | None = None,
    keep_raw: bool = False,
    progress: str | None = None,
) -> Preprocessed:
    """Derive, filter and resample a recording, reading the channels it needs and no others.

    Equals MNE's `filter`, `notch_filter` and `resample` of the whole recording: to rounding if it
    fits in one block, within 1e-5 of the largest amplitude else. All steps are linear, so deriving
    comes first.

    Args:
        raw: the recording, in volts as MNE has it; its data may lie on disk.
        derivations: what each row of the signal is made of (`eegdm.data.montage.derive`).
        filtering: the filters and the sampling frequency wanted; a recording sampled too slowly for
            them gets what it allows, and a note.
        block_s: seconds in memory at a time; chosen by the number of channels if not given.
        out: makes the float32 array (channel, time) to write to, such as a memory map, given its
            shape.
        keep_raw: neither filter nor resample.
        progress: what to call the filtering in the bar that is shown; none is shown without it, nor
            if there is one block only.

    Raises:
        UserError: if a value is missing (channel and time are named); if the recording is shorter
            than a second, sampled too slowly or too fast, or flat in all channels; if its
            amplitudes cannot be EEG in volts.
    """
    file_sfreq = float(raw.info["sfreq"])
    applied, note = filtering.effective(file_sfreq)
    if raw.n_times < file_sfreq:
        raise UserError(
            f"the recording lasts {raw.n_times / file_sfreq:.3g} s, at least 1 s is needed"
        )
    channels = DerivedChannels(raw, derivations)
    block = _block_samples(block_s, file_sfreq, len(channels.picks))
    if keep_raw:
        n_times, sfreq, notes = int(raw.n_times), file_sfreq, []
        blocks = _unfiltered(channels.read, raw.n_times, block)
    else:
        sfreq = applied.sfreq
        n_times = Resampling.of(int(raw.n_times), file_sfreq, sfreq).n_out
        notes = [] if note is None else [note]
        if raw.n_times < (length := filter_length(file_sfreq, applied)):
            notes.append(
                f"shorter than the filters ({length / file_sfreq:.1f} s), so slow waves are"
                " distorted"
            )
        blocks = conditioned(
            channels.read, raw.n_times, file_sfreq, applied, block, progress=progress
        )

    shape = (len(derivations), n_times)
    signal = np.empty(shape, np.float32) if out is None else out(shape)
    quality = channels.quality(_write_blocks(blocks, signal, n_times))
    return Preprocessed(signal, sfreq, quality, [*channels.notes, *notes, *_quality_notes(quality)])


def _block_samples(block_s: float | None, sfreq: float, n_electrodes: int) -> int:
    if block_s is not None:
        return max(round(block_s * sfreq), 1)
    return max(BLOCK_VALUES // n_electrodes, round(SHORTEST_BLOCK_S * sfreq))


def _unfiltered(
    read: Callable[[int, int], ndarray], n_times: int, block: int
) -> Iterator[FilteredBlock]:
    for start in range(0, n_times, block):
        yield FilteredBlock(start, read(start, min(start + block, n_times)))


def _write_blocks(
    blocks: Iterator[FilteredBlock], signal: Any, n_times: int
) -> Float[ndarray, " channel"]:
    """Write the blocks to `signal`; return the robust spread of each channel in µV, found from
    20,000 samples or more of it.
    """
    sampled = []
    stride = max(n_times // 20_000, 1)
    for start, block in blocks:
        signal[:, start : start + block.shape[1]] = block
        _release_written(signal)
        # On one grid over the whole recording, so that the spread does not depend on the blocks. A
        # copy, since a view would keep the whole block in memory.
        sampled.append(block[:, -start % stride :: stride].copy())
    return channel_spreads_uv(np.concatenate(sampled, axis=1))


def channel_spreads_uv(signal: Float[ndarray, "channel time"]) -> Float[ndarray, " channel"]:
    """Return the robust spread of each channel of a signal in 100 µV, in µV."""
    # The interquartile range of a normal distribution is 1.349 standard deviations.
    low, high = np.percentile(signal, (25, 75), axis=1)
    return (high - low) / 1.349 * (1e6 / PER_VOLT)


def _release_written(signal: Any) -> None:
    """Give a memory map's pages back to the system's cache of the file; a day of EEG would count as
    memory of this process.
    """
    if isinstance(getattr(signal, "base", None), mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        signal.base.madvise(mmap.MADV_DONTNEED)


def _quality_notes(quality: list[ChannelQuality]) -> list[str]:
    flat = [f"{q.name} ({q.flat:.0%} of the time)" for q in quality if q.flat >= NOTED_FLAT]
    clipped = [
        f"{q.name} ({q.clipped:.0%} of the samples)" for q in quality if q.clipped >= NOTED_CLIPPED
    ]
    odd = stand_out(np.array([q.spread_uv for q in quality]))
    outstanding = [
        f"{q.name} ({q.spread_uv:.3g} µV)"
        for q, is_odd in zip(quality, odd, strict=True)
        if is_odd and q.flat < NOTED_FLAT
    ]
    return [
        f"{what}: {', '.join(names)}"
        for what, names in (
            ("flat", flat),
            ("clipped", clipped),
            (
                "a hundred times louder or quieter than most, a loose electrode or another unit",
                outstanding,
            ),
        )
        if names
    ]


# ---------------------------------------------------------------------------------------- windows


def first_sample(onset_s: ArrayLike, sfreq: float) -> Any:
    """Index of the first sample at or after a time; sample n is at n / sfreq in float64, as in MNE.
    0 before the start.

    Equals `np.searchsorted(np.arange(n_times) / sfreq, onset_s, "left")` for a recording without
    end; int64 as `onset_s` is shaped.
    """
    onset_s = np.asarray(onset_s, np.float64)
    # The product is rounded, so it may be one off either way.
    index = np.ceil(onset_s * sfreq)
    index = np.where((index - 1) / sfreq >= onset_s, index - 1, index)
    index = np.where(index / sfreq < onset_s, index + 1, index)
    return np.maximum(index, 0).astype(np.int64)[()]


def wrap(
    signal: Float[ndarray, "*channel time"], start: int, n_times: int
) -> Float[ndarray, "*channel window"]:
    """A copy of samples start..start + n_times of a recording taken as periodic; `start` may be
    negative.
    """
    if start >= 0 and start + n_times <= signal.shape[-1]:
        return np.array(signal[..., start : start + n_times])
    return np.take(np.asarray(signal), np.arange(start, start + n_times), axis=-1, mode="wrap")


def published_chbmit_window(x_uv: Float[ndarray, "*batch 2560"]) -> Float[ndarray, "*batch 2000"]:
    """The published transform of 10 s of CHB-MIT at 256 Hz in µV, each window on its own, to
    companded model units at 200 Hz.

    FFT-resampled without padding, band-passed 0.5-75 Hz, notch-filtered at 60 Hz, divided by 100,
    companded.
    """
    from mne.filter import filter_data, notch_filter
    from scipy.signal import resample

    resampled = resample(np.asarray(x_uv, np.float64), 2000, axis=-1)
    passed = filter_data(resampled, 200.0, 0.5, 75.0, verbose="ERROR")
    return compand(notch_filter(passed, 200.0, 60.0, verbose="ERROR") / 100.0)


# ------------------------------------------------------------------------------------- companding


def compand(
    x: Float[ndarray, "*shape"], mu: float = 255.0, scale: float = 1.0
) -> Float[ndarray, "*shape"]:
    """Leave `scale` x as it is up to 1, make it the mu-law logarithm above, and divide by `scale`
    again.
    """
    scaled = scale * np.asarray(x)
    size = np.abs(scaled)
    return (
        np.where(size <= 1, scaled, np.sign(scaled) * np.log1p(mu * size) / math.log1p(mu)) / scale
    )


def to_model_units(
    signal: Float[ndarray, "*shape"], mu: float, per_unit: float = 1.0
) -> Float[ndarray, "*shape"]:
    """Return a signal as the models take it: float32, in 100 µV, amplitudes above that companded.

    Args:
        mu: companding; 0 leaves the amplitudes.
        per_unit: how many 100 µV one unit of the signal is; `PER_VOLT` for volts.
    """
    scaled = per_unit * np.asarray(signal)
    return (compand(scaled, mu) if mu else scaled).astype(np.float32, copy=False)


@dataclass(frozen=True)
class ModelUnits:
    """What a model is shown of a recording: the settings mu, spread and whiten of
    :class:`eegdm.config.SignalConfig`.

    By default that is 100 µV, companded.
    """

    mu: float = PUBLISHED_MU
    spread: float | None = None
    whiten: tuple[float, ...] | None = None

    @classmethod
    def of(cls, signal: Mapping[str, Any]) -> ModelUnits:
        """Return those of a section `signal`, which a model's config.json has too; the published
        ones where it says nothing.
        """
        whiten = signal.get("whiten")
        return cls(
            float(signal.get("mu", PUBLISHED_MU)),
            signal.get("spread"),
            None if whiten is None else tuple(whiten),
        )

    def measure(self, signal: Float[ndarray, "channel time"]) -> float | None:
        """Return of a recording what its windows are divided by: its robust spread, or None if they
        are not.
        """
        return None if self.spread is None else robust_spread(signal)

    def shown(
        self,
        windows: Float[ndarray, "*batch time"],
        measured: float | None,
        per_unit: float = 1.0,
    ) -> Float[ndarray, "*batch time"]:
        """Return windows of a recording as the model takes them, float32.

        Args:
            windows: cut from the recording.
            measured: what :meth:`measure` says of the recording, in the same unit.
            per_unit: how many 100 µV one unit of the windows is.
        """
        if self.spread is not None:
            assert measured is not None
            per_unit = self.spread / measured
        units = to_model_units(windows, self.mu, per_unit)
        return units if self.whiten is None else whitened(units, self.whiten)

    def shown_alone(
        self, windows: Float[Tensor, "*batch channel time"], per_unit: float = 1.0
    ) -> Float[Tensor, "*batch channel time"]:
        """Do what :meth:`shown` does, of tensors, each window taken for a recording of its own."""
        scaled: Tensor | float = per_unit
        if self.spread is not None:
            scaled = self.spread / _window_spread(windows)
        units = tensor_to_model_units(scaled * windows, self.mu)
        return units if self.whiten is None else _whitened_tensor(units, self.whiten)

    def recovered(
        self, windows: Float[ndarray, "*batch time"], measured: float | None
    ) -> Float[ndarray, "*batch time"]:
        """Return the signal that :meth:`shown` makes such windows of, in the unit of ``measured``,
        or 100 µV.
        """
        units = windows if self.whiten is None else unwhitened(windows, self.whiten)
        units = expand(units, self.mu) if self.mu else units
        if self.spread is None:
            return units
        assert measured is not None
        return units * (measured / self.spread)


PUBLISHED_UNITS = ModelUnits()


def robust_spread(signal: Float[ndarray, "channel time"]) -> float:
    """Return the spread of a recording in its own unit: the median over channels of the
    interquartile range, divided by 1.349 so that it is the standard deviation of Gaussian noise;
    flat channels don't count.

    Found from 20,000 samples or more of each channel, if it has as many.
    """
    sampled = np.asarray(signal[:, :: max(signal.shape[1] // 20_000, 1)], np.float64)
    low, high = np.percentile(sampled, (25, 75), axis=1)
    spread = (high - low)[high > low] / 1.349
    return float(np.median(spread)) if len(spread) else 1.0


class SpreadSoFar:
    """:func:`robust_spread` of a recording that comes in, from 20,000 to 40,000 samples of each
    channel, which lie the farther apart the longer it is.
    """

    def __init__(self) -> None:
        self._stride, self._n_times = 1, 0
        self._sampled: Float[ndarray, "channel time"] | None = None

    def add(self, signal: Float[ndarray, "channel time"]) -> None:
        """Take in the samples that follow."""
        new = signal[:, -self._n_times % self._stride :: self._stride]
        sampled = [new] if self._sampled is None else [self._sampled, new]
        self._sampled = np.concatenate(sampled, axis=1)
        self._n_times += signal.shape[1]
        while self._sampled.shape[1] >= 40_000:
            self._sampled = self._sampled[:, ::2].copy()
            self._stride *= 2

    def measure(self) -> float:
        """Return the spread so far, in the unit of the samples."""
        assert self._sampled is not None
        return robust_spread(self._sampled)


def tensor_to_model_units(
    signal: Float[Tensor, "*shape"], mu: float, per_unit: float = 1.0
) -> Float[Tensor, "*shape"]:
    """Do what :func:`to_model_units` does, of tensors, in their own precision."""
    scaled = per_unit * signal
    if not mu:
        return scaled
    size = scaled.abs()
    return scaled.where(size <= 1, scaled.sign() * (mu * size).log1p() / math.log1p(mu))


def _window_spread(
    windows: Float[Tensor, "*batch channel time"],
) -> Float[Tensor, "*batch 1 1"]:
    """:func:`robust_spread` of each window, from all of its samples."""
    import torch

    levels = torch.tensor([0.25, 0.75], dtype=windows.dtype, device=windows.device)
    low, high = windows.quantile(levels, dim=-1)
    width = (high - low) / 1.349
    spread = width.where(width > 0, torch.nan).nanquantile(0.5, dim=-1).nan_to_num(1.0)
    return spread[..., None, None]


def _whitened_tensor(
    windows: Float[Tensor, "*batch time"], filter_: Sequence[float]
) -> Float[Tensor, "*batch time"]:
    """:func:`eegdm.data.whitening.whitened`, of tensors."""
    import torch

    n, n_times = len(filter_) - 1, windows.shape[-1]
    taps = windows.new_tensor(filter_[::-1])
    rest = torch.nn.functional.conv1d(windows.reshape(-1, 1, n_times), taps[None, None])
    start = windows.new_tensor(start_weights(tuple(filter_)))
    begun = windows[..., :n] @ start.T
    return torch.cat([begun, rest.reshape(*windows.shape[:-1], -1)], dim=-1)


def expand(
    y: Float[ndarray, "*shape"], mu: float = 255.0, scale: float = 1.0
) -> Float[ndarray, "*shape"]:
    """Inverse of `compand`."""
    scaled = scale * np.asarray(y)
    size = np.abs(scaled)
    return (
        np.where(size <= 1, scaled, np.sign(scaled) * np.expm1(size * math.log1p(mu)) / mu) / scale
    )
