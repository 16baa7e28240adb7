"""Embeddings of a recording: what a backbone makes of every window and channel."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from eegdm.config import SignalConfig
from eegdm.data.montage import CHANNEL_ID, TCP
from eegdm.data.signal import ModelUnits
from eegdm.data.windows import WindowGrid
from eegdm.errors import UserError
from eegdm.inference.chunks import BATCH_SIZE, Batch, iter_chunks, read_batches
from eegdm.inference.preparation import (
    PreparationSettings,
    Prepared,
    as_raw,
    display_name,
    prepare,
    signal_settings,
)
from eegdm.processes import pick_device

if TYPE_CHECKING:
    import mne

    from eegdm.models.backbone import SSMDP, Compat
    from eegdm.models.eegdm import EEGDM
    from eegdm.models.latents import TokenSpec

BACKBONE_WINDOW_S = 5.0
"""What a backbone is trained on; a classifier has a window of its own."""


@dataclass(frozen=True, kw_only=True)
class EmbedOptions:
    """How a recording is cut and what is kept of its tokens.

    Attributes:
        tokens: keep all axes of the tokens; by default they are averaged over the pools of a
            window.
        step_s: seconds from one window to the next; by default windows follow each other.
        channels: "montage" derives the model's channels; "file" takes the file's own as they are,
            each conditioned on the nearest of the model's by electrode position.
        missing: "error", "drop" or "interpolate" (spherical splines, referential recordings) for
            channels that can't be derived.
        rate: "resample" to the model's sampling rate, or "native": stay at the recording's, 100 to
            1000 Hz.
        unit: what the recording's numbers are in (V, mV or uV), above what it says.
        notch: Hz to notch in place of the model's frequencies; "auto": 50 or 60 Hz by the
            recording's own hum.
        device: auto, cpu, cuda or mps.
        batch_size: windows that the model takes at once; changes time and memory only.
    """

    tokens: bool = False
    step_s: float | None = None
    channels: str = "montage"
    missing: str = "error"
    rate: str = "resample"
    unit: str | None = None
    notch: tuple[float, ...] | str | None = None
    device: str = "auto"
    batch_size: int = BATCH_SIZE


class About(NamedTuple):
    """What stands beside the numbers."""

    onset_s: Float[ndarray, " window"]
    """Where each window starts, from the first sample."""
    duration_s: float
    """Length of a window."""
    ch_names: list[str]
    taken_for: list[str]
    """The channel of `TCP` that each was taken for: itself, or the nearest."""
    distance_mm: list[float]
    """How far each lies from the channel that it was taken for."""
    axes: tuple[str, ...]
    features: list[str]
    """Names of the last axis: query.block.feature, or feature."""
    shape: tuple[int, ...]
    steps: list[str]
    notes: list[str]


class Embeddings(NamedTuple):
    """Embeddings (window, channel, feature), or tokens (window, block, pool, query, channel,
    feature); see ``about``.
    """

    values: ndarray
    about: About


def embed(
    recording: mne.io.BaseRaw | str | Path, model: SSMDP | EEGDM | str | Path, **options: Any
) -> Embeddings:
    """Return the embeddings of a recording's windows; they lie in memory, so use `eegdm embed` for
    a long one.

    Args:
        recording: an MNE Raw in volts, or a file that MNE reads. It is not changed.
        model: a backbone or a classifier, or its folder, checkpoint or hub id.
        options: those of :class:`EmbedOptions`, by name.

    Returns:
        ``values``, float32 (window, channel, feature), or with ``tokens`` (window, block, pool,
        query, channel, feature): activities, which have no unit; ``about`` says which window,
        channel and feature each is of.

    Raises:
        UserError: the recording can't be read, lacks channels, is too short, or can't be EEG in
            volts; the model can't be read; an option is out of range.
        TypeError: an option is unknown.
    """
    with tempfile.TemporaryDirectory(prefix="eegdm-") as folder:
        about, chunks = embed_in(Path(folder), recording, model, EmbedOptions(**options))
        return Embeddings(np.concatenate(list(chunks)), about)


def embed_in(
    folder: Path,
    recording: mne.io.BaseRaw | str | Path,
    model: Any,
    options: EmbedOptions,
    progress: bool = False,
) -> tuple[About, Iterator[ndarray]]:
    """Prepare a recording in ``folder``; return what stands beside the embeddings, and these in
    chunks of windows.
    """
    reader = BackboneReader.of(model)
    settings = reader.preparation(options)
    prepared, windows = prepare_windows(
        recording, settings, reader.window_s, options.step_s, folder, progress
    )
    units, device = ModelUnits.of(asdict(settings.signal)), pick_device(options.device)
    spread = prepared.spread()
    ids = [CHANNEL_ID[name] for name in prepared.taken_for]

    def compute(chunk: WindowGrid) -> ndarray:
        return np.concatenate(
            [
                _kept_axes(
                    reader.tokens(batch.shown(units), ids, chunk.sfreq, device), options.tokens
                )
                for batch in read_batches(chunk, prepared.read, spread, options.batch_size)
            ]
        )

    return reader.about(prepared, windows, options.tokens), iter_chunks(
        compute, windows, progress="windows" if progress else None
    )


def prepare_windows(
    recording: mne.io.BaseRaw | str | Path,
    settings: PreparationSettings,
    window_s: float,
    step_s: float | None,
    folder: Path,
    progress: bool = False,
) -> tuple[Prepared, WindowGrid]:
    """Prepare a recording in ``folder`` and cut it into windows; faults name the recording.

    Args:
        window_s: length of a window in seconds.
        step_s: seconds from one window to the next; by default windows follow each other.

    Raises:
        UserError: as :func:`embed`.
    """
    try:
        raw = as_raw(recording, settings.unit, settings.taken_for or settings.channels)
        prepared = prepare(raw, settings, folder, progress)
        return prepared, WindowGrid.cover(
            prepared.n_times, prepared.sfreq, window_s, step_s or window_s
        )
    except UserError as error:
        name = display_name(recording)
        # Readers of files name theirs already; faults found later know of none.
        if str(error).startswith(name):
            raise
        raise UserError(f"{name}: {error}") from error


def _kept_axes(tokens: ndarray, every: bool) -> ndarray:
    """All axes of the tokens, or (window, channel, query block feature)."""
    return (
        tokens
        if every
        else mean_over_pools(tokens)
        .transpose(0, 3, 2, 1, 4)
        .reshape(len(tokens), tokens.shape[4], -1)
    )


def mean_over_pools(
    tokens: Float[ndarray, "window block pool query channel feature"],
) -> Float[ndarray, "window block query channel feature"]:
    """Average tokens over the pools of their window."""
    import torch

    return torch.from_numpy(tokens).mean(dim=2).numpy()


@dataclass(frozen=True)
class BackboneReader:
    """A backbone and how it is read, alone or as part of a classifier."""

    backbone: SSMDP
    spec: TokenSpec
    channels: tuple[str, ...]
    signal: dict[str, Any]
    window_s: float
    compat: Compat
    taken_for: tuple[str, ...] | None = None
    """Of a classifier with channels of its own, see :class:`eegdm.models.eegdm.EEGDM`."""

    @classmethod
    def of(cls, model: Any) -> BackboneReader:
        from eegdm.checkpoints.load import load_backbone, load_model
        from eegdm.models.eegdm import EEGDM
        from eegdm.models.latents import TokenSpec

        loaded = load_model(model)
        backbone = load_backbone(loaded)
        if isinstance(loaded, EEGDM):
            spec, channels = loaded.spec, loaded.channels
            window_s = loaded.n_times / loaded.sfreq
        else:
            spec, channels = TokenSpec(), TCP[: backbone.config["n_channel_ids"]]
            window_s = BACKBONE_WINDOW_S
        taken_for = loaded.taken_for if isinstance(loaded, EEGDM) else None
        signal = dict(backbone.info.get("signal", {}))
        return cls(backbone, spec, channels, signal, window_s, loaded.compat, taken_for)

    def preparation(self, options: EmbedOptions) -> PreparationSettings:
        """Return what is to be done to recordings before this model reads them.

        Raises:
            UserError: an option is unknown, or does not go with this model.
        """
        if options.rate == "native" and self.compat == "published":
            raise UserError(
                "rate=native: this model has compat=published, which scales time wrongly at other"
                " rates than 200 Hz"
            )
        return PreparationSettings(
            self.channels,
            self.signal_config,
            options.missing,
            options.rate,
            options.channels,
            self.taken_for,
            unit=options.unit,
            notch=options.notch,
        )

    @property
    def signal_config(self) -> SignalConfig:
        """The filters and companding that the model's recordings had."""
        return signal_settings(self.signal)

    def identity(self) -> dict[str, Any]:
        """Return all that the tokens of a window depend on, as JSON takes it."""
        from eegdm.models.pretrained import weights_fingerprint

        return {
            "weights": weights_fingerprint(self.backbone),
            "config": self.backbone.config,
            "tokens": asdict(self.spec),
            "signal": asdict(self.signal_config),
            "channels": list(self.channels),
            "window_s": self.window_s,
            "compat": self.compat,
            **({} if self.taken_for is None else {"taken_for": list(self.taken_for)}),
        }

    @property
    def blocks(self) -> list[int]:
        """The backbone's blocks that tokens are of."""
        return list(self.backbone.chosen_blocks(self.spec.blocks))

    def tokens(
        self, batch: Batch, channel_ids: Sequence[int], sfreq: float, device: Any
    ) -> Float[ndarray, "window block pool query channel feature"]:
        """Return the tokens of some windows, which are in model units."""
        import torch

        from eegdm.models.latents import extract

        backbone = self.backbone.to(device).eval()
        ids = list(channel_ids)
        with torch.inference_mode():
            noise = (
                torch.from_numpy(batch.noise(ids)).to(device)
                if self.spec.forward == "noisy"
                else None
            )
            x = torch.from_numpy(batch.data).to(device)
            extracted = extract(backbone, x, ids, self.spec, sfreq, noise, self.compat)
        return extracted.float().cpu().numpy()

    def about(self, prepared: Prepared, windows: WindowGrid, tokens: bool) -> About:
        from eegdm.models.pooling import pool_bounds

        blocks = self.blocks
        width, n_channels = self.backbone.config["d_model"], len(prepared.ch_names)
        if tokens:
            n_pools = len(
                pool_bounds(windows.n_times, self.spec.window, self.spec.stride, windows.sfreq)
            )
            axes: tuple[str, ...] = ("window", "block", "pool", "query", "channel", "feature")
            shape: tuple[int, ...] = (
                len(windows.starts),
                len(blocks),
                n_pools,
                len(self.spec.query),
                n_channels,
                width,
            )
            features = [str(k) for k in range(width)]
        else:
            axes = ("window", "channel", "feature")
            features = [
                f"{query}.{block}.{k}"
                for query in self.spec.query
                for block in blocks
                for k in range(width)
            ]
            shape = (len(windows.starts), n_channels, len(features))
        return About(
            windows.onset_s,
            windows.n_times / windows.sfreq,
            prepared.ch_names,
            prepared.taken_for,
            prepared.distance_mm,
            axes,
            features,
            shape,
            prepared.steps,
            prepared.notes,
        )
