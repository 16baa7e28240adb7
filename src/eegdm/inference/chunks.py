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
from eegdm.data.signal import compand
from eegdm.data.windows import grid
from eegdm.errors import UserError

if TYPE_CHECKING:
    import torch

    from eegdm.models.eegdm import EEGDM

Read = Callable[[int, int], Float[ndarray, "channel time"]]
"""Gives samples start..stop of a signal in 100 µV, not companded."""

CHUNK = 64  # windows whose results make one file: what a killed run loses at most
BATCH_SIZE = 16


class Windows(NamedTuple):
    """Where windows start and how long they are, in samples of the signal."""

    starts: Int[ndarray, " window"]
    n_times: int
    sfreq: float

    @classmethod
    def cover(cls, n_times: int, sfreq: float, window_s: float, step_s: float) -> Windows:
        """Return all whole windows, one every ``step_s``.

        Raises:
            UserError: not one fits, or the step is shorter than a sample.
        """
        length = round(window_s * sfreq)
        if step_s * sfreq < 1:
            raise UserError(f"step={step_s:g} s: is shorter than a sample ({1 / sfreq:g} s)")
        if n_times < length:
            raise UserError(
                f"{n_times / sfreq:.1f} s long; this model looks at windows of {window_s:g} s"
            )
        step = step_s * sfreq
        if step.is_integer():
            return cls(grid(n_times, length, int(step)), length, sfreq)
        starts = np.rint(np.arange(int((n_times - length) / step) + 2) * step).astype(np.int64)
        return cls(starts[starts + length <= n_times], length, sfreq)

    @property
    def onset_s(self) -> Float[ndarray, " window"]:
        return self.starts / self.sfreq

    def chunks(self) -> list[Windows]:
        """Cut in runs of ``CHUNK`` windows."""
        return [
            self._replace(starts=self.starts[i : i + CHUNK])
            for i in range(0, len(self.starts), CHUNK)
        ]

    def batches(self, read: Read, mu: float, batch_size: int) -> Iterator[Batch]:
        """Yield windows in model units: companded, float32."""
        for i in range(0, len(self.starts), batch_size):
            starts = self.starts[i : i + batch_size]
            cut = np.stack([read(int(s), int(s) + self.n_times) for s in starts])
            yield Batch(starts, compand(cut, mu).astype(np.float32) if mu else cut)


class Batch(NamedTuple):
    """Some windows, and where they start."""

    starts: Int[ndarray, " window"]
    data: Float[ndarray, "window channel time"]

    def noise(self, channel_ids: Sequence[int]) -> Float[ndarray, "window channel time"]:
        """Return standard normal noise for models that are shown noised signals; it depends on
        window and channel alone.
        """
        from eegdm.data.batches import generator

        shape = (len(TCP), self.data.shape[-1])
        return np.stack(
            [
                generator(0, int(s)).standard_normal(shape, dtype=np.float32)[channel_ids]
                for s in self.starts
            ]
        )


def logits_of(
    model: EEGDM,
    windows: Windows,
    read: Read,
    slots: list[int],
    device: torch.device,
    batch_size: int = BATCH_SIZE,
) -> Float[ndarray, "window class"]:
    """Return a classifier's logits.

    Args:
        slots: for each channel of the signal its place among the model's channels; the others are
            masked.
    """
    import torch

    model = model.to(device).eval()
    mask = torch.zeros(1, len(model.channels), dtype=torch.bool)
    mask[:, slots] = True
    found = []
    with torch.inference_mode():
        for batch in windows.batches(read, model.signal.get("mu", 255.0), batch_size):
            n = len(batch.starts)
            data = torch.zeros(n, len(model.channels), windows.n_times)
            data[:, slots] = torch.from_numpy(batch.data)
            noise = (
                torch.from_numpy(batch.noise(model.channel_ids)).to(device)
                if model.spec.forward == "noisy"
                else None
            )
            logits = model(data.to(device), mask.expand(n, -1).to(device), windows.sfreq, noise)
            found.append(logits.float().cpu().numpy())
    return np.concatenate(found)


def resumed(
    compute: Callable[[Windows], ndarray],
    windows: Windows,
    folder: Path | None = None,
    progress: str | None = None,
) -> Iterator[ndarray]:
    """Yield the results of each chunk, in order of time.

    Args:
        folder: where each chunk's result is kept as soon as it is there; what lies there is not
            computed again.
        progress: what to call the work in the bar that is shown; none is shown without it.
    """
    chunks = windows.chunks()
    shown: Iterable[Windows] = chunks if progress is None else track(chunks, progress, len(chunks))
    for index, chunk in enumerate(shown):
        yield (
            compute(chunk)
            if folder is None
            else _kept(folder / f"chunk-{index:06d}.npy", compute, chunk)
        )


def _kept(path: Path, compute: Callable[[Windows], ndarray], chunk: Windows) -> ndarray:
    if not path.is_file():
        result = compute(chunk)
        artifacts.write_array(path, result)
        return result
    return np.load(path, allow_pickle=False)
