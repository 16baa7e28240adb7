"""The latents folder: tokens of each distinct window once, in memory-mapped shards.

``windows.parquet`` keys each window by (recording, start_sample, n_times) and says in which shard
and from which row its tokens lie, one row per channel; ``shard-00000.npy`` is an array (row, block,
pool, query, feature). With int8 each feature is standardised over its shard, and the array holds
round(standardised / scale): ``scale-00000.npy`` has the float32 scale of each (row, block, pool,
query), ``feature-00000.npy`` (2, block, query, feature) the means and the spreads. A feature's
spread is a small part of the largest value beside it, and what tells windows apart are its
deviations from its mean.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset

from eegdm import artifacts
from eegdm.data.batches import WindowBatch, stacked_references
from eegdm.data.recordings import channel_places
from eegdm.data.windows import WINDOW_KEY
from eegdm.errors import UserError, one_line

_OPEN_SHARDS = 256


def shard_name(shard: int) -> str:
    """File name of a shard, below the latents folder."""
    return f"shards/shard-{shard:05d}.npy"


def _scale_name(shard: int) -> str:
    return f"shards/scale-{shard:05d}.npy"


def _feature_name(shard: int) -> str:
    return f"shards/feature-{shard:05d}.npy"


def shard_is_done(folder: Path, shard: int, dtype: str) -> bool:
    """Whether a shard was written whole; the tokens are renamed into place after what they are read
    with.
    """
    needed = [shard_name(shard)]
    if dtype == "int8":
        needed += [_scale_name(shard), _feature_name(shard)]
    return all((folder / name).is_file() for name in needed)


def write_shard(folder: Path, shard: int, rows: np.ndarray, dtype: str) -> None:
    """Write tokens (row, block, pool, query, feature) in the given number format, atomically."""
    if dtype == "int8":
        # A feature that never changes has no spread to divide by.
        tiny = np.finfo(np.float32).tiny
        # (block, query, feature)
        mean = rows.mean(axis=(0, 2), dtype=np.float64).astype(np.float32)
        spread = np.maximum(rows.std(axis=(0, 2), dtype=np.float64), tiny).astype(np.float32)
        rows = (rows - mean[:, None]) / spread[:, None]
        scale = np.maximum(np.abs(rows).max(-1, keepdims=True) / 127, tiny)
        # The tokens come last: with them a shard is whole, whenever a run is killed.
        artifacts.write_array(folder / _scale_name(shard), scale[..., 0])
        artifacts.write_array(folder / _feature_name(shard), np.stack([mean, spread]))
        rows = np.rint(rows / scale)
    artifacts.write_array(folder / shard_name(shard), rows.astype(dtype))


def _open_shard(path: Path, dtype: str, shape: tuple[int | None, ...]) -> np.ndarray:
    """Map a file of a shard, whose number format and shape (None: any length) must be these."""
    return _map_shard(path, artifacts.file_state(path), dtype, shape)


@functools.lru_cache(maxsize=_OPEN_SHARDS)
def _map_shard(
    path: Path, state: tuple[int, ...], dtype: str, shape: tuple[int | None, ...]
) -> np.ndarray:
    try:
        # Copy on write, since torch takes no read-only array; nobody writes.
        array = np.load(path, mmap_mode="c", allow_pickle=False)
    # A damaged header fails in NumPy's parser in several ways.
    except Exception as error:
        raise UserError(
            f"{path}: can't be read as a shard of tokens ({one_line(error)}); remove it and run"
            " `eegdm cache` again"
        ) from error
    is_right = array.ndim == len(shape) and all(
        n in (None, length) for n, length in zip(shape, array.shape, strict=True)
    )
    if array.dtype != dtype or not is_right:
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        raise UserError(
            f"{path}: holds {array.dtype} {array.shape}, not {dtype} ({wanted}); remove it and run"
            " `eegdm cache` again"
        )
    return array


class TokenStore:
    """A latents folder, open for reading."""

    def __init__(self, path: Path) -> None:
        self.artifact = artifacts.open_artifact(path, "latents")
        self.windows = artifacts.read_table(self.artifact / "windows.parquet")
        self.dtype = self.artifact.config["latents"]["dtype"]
        self._n_rows = self.windows.groupby("shard").n_channels.sum().to_dict()
        # A dict, since looking up a key in a table is slow beside reading the tokens.
        keys = self.windows[WINDOW_KEY].itertuples(index=False, name=None)
        places = self.windows[["shard", "row", "n_channels"]].itertuples(index=False, name=None)
        self._place = dict(zip(keys, places, strict=True))

    def __contains__(self, key: tuple[str, int, int]) -> bool:
        return key in self._place

    def read(self, key: tuple[str, int, int], blocks: slice = slice(None)) -> np.ndarray:
        """Return the float32 tokens (channel, block, pool, query, feature) of a window, in the
        recording's channel order.

        Float32 shards give a view of the file's pages: not to be written to.
        """
        shard, row, n = self._place[key]
        tokens = _open_shard(
            self.artifact / shard_name(shard),
            self.dtype,
            (self._n_rows[shard], None, None, None, None),
        )
        stored = torch.from_numpy(tokens[row : row + n, blocks])
        if self.dtype == "int8":
            _, n_blocks, _, n_queries, n_features = tokens.shape
            scales = _open_shard(self.artifact / _scale_name(shard), "float32", tokens.shape[:-1])
            features = _open_shard(
                self.artifact / _feature_name(shard),
                "float32",
                (2, n_blocks, n_queries, n_features),
            )
            standardised = stored * torch.from_numpy(scales[row : row + n, blocks, ..., None])
            mean, spread = torch.from_numpy(features[:, blocks, None])
            return torch.addcmul(mean, standardised, spread).numpy()
        # By torch, for NumPy converts float16 one number at a time.
        return stored.float().numpy()


class CachedTokens(Dataset):
    """Labelled windows as stored tokens; indexed by lists of (epoch, sample), like
    :class:`eegdm.data.batches.SignalWindows`.
    """

    def __init__(
        self,
        store: TokenStore,
        table: pd.DataFrame,
        samples: pd.DataFrame,
        channels: Sequence[str],
        blocks: slice,
        references: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.store, self.channels, self.blocks = store, channels, blocks
        self.references = references
        self.keys = list(samples[WINDOW_KEY].itertuples(index=False, name=None))
        self.labels = samples.label.to_numpy()
        self.places = channel_places(table, channels)
        missing = next((key for key in self.keys if key not in store), None)
        if missing is not None:
            raise UserError(
                f"{store.artifact.path}: has no tokens of the window at sample {missing[1]} of"
                f" {missing[0]}; it was cached with other windows settings: run `eegdm cache` for"
                " this run"
            )

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, keys: list[tuple[int, int]]) -> WindowBatch:
        tokens = [self.store.read(self.keys[i], self.blocks) for _, i in keys]
        data = np.zeros((len(keys), len(self.channels), *tokens[0].shape[1:]), np.float32)
        mask = np.zeros(data.shape[:2], bool)
        for k, (_, i) in enumerate(keys):
            rows, columns = self.places[self.keys[i][0]]
            data[k, columns], mask[k, columns] = tokens[k][rows], True
        index = np.array([i for _, i in keys])
        return WindowBatch(
            torch.from_numpy(data).permute(0, 2, 3, 4, 1, 5),
            torch.from_numpy(mask),
            torch.from_numpy(self.labels[index]),
            torch.from_numpy(index),
            torch.zeros(0),
            stacked_references(self.references, [self.keys[i][0] for _, i in keys]),
        )
