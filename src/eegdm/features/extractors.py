"""Extractors: what makes features of windows. Those that a store lacks run in one pass over a
recording.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from jaxtyping import Float
from numpy import ndarray

from eegdm import artifacts
from eegdm.data.signal import ModelUnits
from eegdm.inference.chunks import Batch
from eegdm.inference.embedding import BackboneReader, mean_over_pools
from eegdm.processes import pick_device


class Extractor(Protocol):
    """Makes one named array of the windows of a recording; picklable, for processes share the
    recordings.
    """

    @property
    def name(self) -> str:
        """Of the array in the store, a plain file name."""

    def describe(self) -> Description:
        """Say what it makes."""

    def __call__(
        self, batch: Batch, sfreq: float, channel_ids: Sequence[int]
    ) -> Float[ndarray, "window ..."]:
        """Return the features of some windows, which must not depend on the other windows.

        Args:
            batch: windows (window, channel, time) in 100 µV, filtered and not companded.
            sfreq: their sampling frequency in Hz.
            channel_ids: for each channel the index in `TCP` of the one that it is taken for.
        """


@dataclass(frozen=True)
class Description:
    """What an extractor makes.

    Attributes:
        fingerprint: identifies all that the numbers depend on beside the windows.
        axes: names of the array's axes; the first is "window". The second is "channel" where
            each channel has features of its own.
        coordinates: for other axes the name of each entry.
    """

    fingerprint: str
    axes: tuple[str, ...]
    coordinates: dict[str, list[str]]


TOKENS = "tokens"


@dataclass(frozen=True)
class Tokens:
    """The tokens of a backbone, averaged over the pools of a window: (window, channel, block,
    feature), with the features of several queries side by side.

    Attributes:
        model: a backbone or a classifier, or its folder, checkpoint or hub id.
        device: auto, cpu, cuda or mps.
        name: of the array.
    """

    model: Any
    device: str = "auto"
    name: str = TOKENS

    @property
    def reader(self) -> BackboneReader:
        """The backbone; one that is named is loaded once in each process, and again when its files
        have changed.
        """
        if not isinstance(self.model, str | Path):
            return BackboneReader.of(self.model)
        path = Path(self.model)
        files = sorted(path.glob("*.*")) if path.is_dir() else [path] if path.is_file() else []
        return _load(str(self.model), tuple(artifacts.file_state(file) for file in files))

    def describe(self) -> Description:
        """Say what it makes."""
        reader = self.reader
        width = range(reader.backbone.config["d_model"])
        return Description(
            artifacts.fingerprint(reader.identity()),
            ("window", "channel", "block", "feature"),
            {
                "block": [str(block) for block in reader.blocks],
                "feature": [f"{query}.{k}" for query in reader.spec.query for k in width],
            },
        )

    def __call__(
        self, batch: Batch, sfreq: float, channel_ids: Sequence[int]
    ) -> Float[ndarray, "window channel block feature"]:
        """Return the averaged tokens of windows in 100 µV."""
        reader = self.reader
        shown = batch.shown(ModelUnits.of(asdict(reader.signal_config)))
        tokens = reader.tokens(shown, channel_ids, sfreq, pick_device(self.device))
        mean = mean_over_pools(tokens).transpose(0, 3, 1, 2, 4)
        return mean.reshape(*mean.shape[:3], -1)


@lru_cache(maxsize=4)
def _load(model: str, state: tuple[tuple[int, ...], ...]) -> BackboneReader:
    return BackboneReader.of(model)
