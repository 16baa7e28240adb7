"""Windows of a signal through a model, a chunk at a time; finished chunks stay on disk for a run
that was killed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from eegdm import artifacts
from eegdm.console import track
from eegdm.data.montage import TCP
from eegdm.data.signal import ModelUnits
from eegdm.data.windows import WindowGrid

if TYPE_CHECKING:
    import torch

    from eegdm.models.eegdm import EEGDM

Read = Callable[[int, int], Float[ndarray, "channel time"]]
"""Gives samples start..stop of a signal in 100 µV, not companded."""

# Windows whose results make one file, which is what a killed run loses at most.
CHUNK = 64
BATCH_SIZE = 16


def runs_of_windows(windows: WindowGrid) -> list[WindowGrid]:
    """Cut a grid into runs of ``CHUNK`` windows."""
    return [
        windows._replace(starts=windows.starts[i : i + CHUNK])
        for i in range(0, len(windows.starts), CHUNK)
    ]


def read_batches(
    windows: WindowGrid, read: Read, spread: float, batch_size: int
) -> Iterator[Batch]:
    """Yield windows in 100 µV, not companded.

    Args:
        spread: the recording's robust spread in 100 µV.
    """
    for i in range(0, len(windows.starts), batch_size):
        starts = windows.starts[i : i + batch_size]
        cut = np.stack([read(int(s), int(s) + windows.n_times) for s in starts])
        yield Batch(starts, cut, spread)


class Batch(NamedTuple):
    """Some windows, and where they start."""

    starts: Int[ndarray, " window"]
    data: Float[ndarray, "window channel time"]
    spread: float  # of the whole recording, robust, in 100 µV

    def shown(self, units: ModelUnits) -> Batch:
        """Return windows of 100 µV as a model with these units takes them."""
        return self._replace(data=units.shown(self.data, self.spread))

    def noise(self, channel_ids: Sequence[int]) -> Float[ndarray, "window channel time"]:
        """Return standard normal noise for models that are shown noised signals; it depends on
        window and channel alone.
        """
        from eegdm.data.batches import generator

        # Drawn for all channels of the montage, so that it is the same whichever of them a
        # recording has; keyed by the window's start, so that a resumed run draws the same.
        shape = (len(TCP), self.data.shape[-1])
        drawn = []
        for start in self.starts:
            noise = generator("forward noise", int(start)).standard_normal(shape, dtype=np.float32)
            drawn.append(noise[channel_ids])
        return np.stack(drawn)


def classifier_logits(
    model: EEGDM,
    windows: WindowGrid,
    read: Read,
    spread: float,
    slots: list[int],
    device: torch.device,
    batch_size: int = BATCH_SIZE,
    reference: torch.Tensor | None = None,
) -> Float[ndarray, "window class"]:
    """Return a classifier's logits.

    Args:
        spread: the recording's robust spread in 100 µV.
        slots: for each channel of the signal its place among the model's channels; the others are
            masked.
        reference: what its tokens are centred by, as :func:`reference_of_signal` returns it.
    """
    import torch

    model = model.to(device).eval()
    mask = torch.zeros(1, len(model.channels), dtype=torch.bool)
    mask[:, slots] = True
    reference = None if reference is None else reference.to(device)
    logits_of_batches = []
    with torch.inference_mode():
        units = ModelUnits.of(model.signal)
        for batch in read_batches(windows, read, spread, batch_size):
            n = len(batch.starts)
            data = _placed(model, batch.shown(units), slots)
            noise = (
                torch.from_numpy(batch.noise(model.channel_ids)).to(device)
                if model.spec.forward == "noisy"
                else None
            )
            logits = model(
                data.to(device), mask.expand(n, -1).to(device), windows.sfreq, noise, reference
            )
            logits_of_batches.append(logits.float().cpu().numpy())
    return np.concatenate(logits_of_batches)


def reference_of_signal(
    model: EEGDM,
    windows: WindowGrid,
    read: Read,
    spread: float,
    slots: list[int],
    device: torch.device,
) -> torch.Tensor:
    """Return what a classifier's tokens are centred by, from windows of a signal; arguments as of
    :func:`classifier_logits`.

    Raises:
        UserError: there is one window alone.
    """
    model = model.to(device).eval()
    (batch,) = read_batches(windows, read, spread, len(windows.starts))
    data = _placed(model, batch.shown(ModelUnits.of(model.signal)), slots)
    return model.reference(data.to(device), windows.sfreq).cpu()


def _placed(model: EEGDM, batch: Batch, slots: list[int]) -> torch.Tensor:
    """Windows of the channels that the model has; zeros for those that the signal lacks."""
    import torch

    data = torch.zeros(len(batch.starts), len(model.channels), batch.data.shape[-1])
    data[:, slots] = torch.from_numpy(batch.data)
    return data


def iter_chunks(
    compute: Callable[[WindowGrid], ndarray],
    windows: WindowGrid,
    folder: Path | None = None,
    progress: str | None = None,
) -> Iterator[ndarray]:
    """Yield the results of each chunk, in order of time.

    Args:
        folder: where each chunk's result is kept as soon as it is there; what lies there is not
            computed again.
        progress: what to call the work in the bar that is shown; none is shown without it.
    """
    chunks = runs_of_windows(windows)
    shown: Iterable[WindowGrid] = (
        chunks if progress is None else track(chunks, progress, len(chunks))
    )
    for index, chunk in enumerate(shown):
        yield (
            compute(chunk) if folder is None else _kept(chunk_path(folder, index), compute, chunk)
        )


def chunk_path(folder: Path, index: int) -> Path:
    """Return where the results of a run of ``CHUNK`` windows are kept."""
    return folder / f"chunk-{index:06d}.npy"


def _kept(path: Path, compute: Callable[[WindowGrid], ndarray], chunk: WindowGrid) -> ndarray:
    if not path.is_file():
        result = compute(chunk)
        artifacts.write_array(path, result)
        return result
    return np.load(path, allow_pickle=False)
