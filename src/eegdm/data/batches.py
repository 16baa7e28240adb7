"""From a recordings folder to batches: windows in model units, seeded order, the same whatever the
number of processes.

Randomness is a function, not a state: order, step and noise of sample i in epoch e come from their
purpose and (seed, e, i). A resumed run, or one on more devices, sees the same batches.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from eegdm.data.recordings import Recordings, channel_places


def generator(purpose: str, *key: int) -> np.random.Generator:
    """Return the random numbers that belong to a purpose and integers >= 0, always the same.

    All of the key counts, its length too: other words or integers give independent numbers.
    SeedSequence alone would take (seed, epoch) for (seed, epoch, 0).
    """
    # JSON, since plain concatenation would take ("a", 1, 23) for ("a", 12, 3).
    digest = hashlib.sha256(json.dumps([purpose, *key]).encode()).digest()
    return np.random.Generator(np.random.Philox(int.from_bytes(digest[:16], "little")))


# ---------------------------------------------------------------------------------------- batches


class DenoisingBatch(NamedTuple):
    """Single channels and the noise to add to them."""

    signal: Float[Tensor, "batch 1 time"]  # model units
    noise: Float[Tensor, "batch 1 time"]  # standard normal
    step: Int[Tensor, " batch"]
    channel: Int[Tensor, " batch"]


class ChannelBatch(NamedTuple):
    """Single channels."""

    signal: Float[Tensor, "batch 1 time"]  # model units
    channel: Int[Tensor, " batch"]


class WindowBatch(NamedTuple):
    """Windows of all channels, as signals or as tokens, with their labels."""

    # signals (batch, channel, time) or tokens (batch, block, pool, query, channel, feature)
    data: Float[Tensor, "batch ..."]
    mask: Bool[Tensor, "batch channel"]  # False where a recording lacks the channel
    label: Int[Tensor, " batch"]
    row: Int[Tensor, " batch"]  # of the dataset
    noise: Float[Tensor, "batch channel time"]  # empty unless the forward process is noisy
    # what the tokens of each window are divided by; empty unless the classifier centres them
    reference: Float[Tensor, "batch ..."]


class SingleChannels(Dataset):
    """The rows of :func:`eegdm.data.windows.pretraining_view`; indexed by lists of (epoch, row)."""

    def __init__(self, recordings: Recordings, view: pd.DataFrame) -> None:
        self.recordings = recordings
        # Plain tuples: pandas takes longer to hand out a row than a window takes to read.
        self.rows = list(
            view[["recording", "start_sample", "n_times", "row", "channel_id"]].itertuples(
                index=False, name=None
            )
        )

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, keys: list[tuple[int, int]]) -> ChannelBatch:
        rows = [self.rows[i] for _, i in keys]
        return ChannelBatch(
            torch.from_numpy(np.stack([self.recordings.window(*row[:4]) for row in rows])),
            torch.tensor([channel for *_, channel in rows]),
        )


class Denoising(Dataset):
    """Single channels, each with its step and noise; indexed by lists of (epoch, row)."""

    def __init__(self, recordings: Recordings, view: pd.DataFrame, n_steps: int, seed: int) -> None:
        self.single, self.n_steps, self.seed = SingleChannels(recordings, view), n_steps, seed

    def __len__(self) -> int:
        return len(self.single)

    def __getitem__(self, keys: list[tuple[int, int]]) -> DenoisingBatch:
        signal, channel = self.single[keys]
        noises, steps = [], []
        for epoch, i in keys:
            random = generator("step and noise", self.seed, epoch, i)
            steps.append(int(random.integers(self.n_steps)))
            noises.append(random.standard_normal(signal.shape[1:], dtype=np.float32))
        return DenoisingBatch(
            signal, torch.from_numpy(np.stack(noises)), torch.tensor(steps), channel
        )


class SignalWindows(Dataset):
    """Labelled windows of all channels as signals; indexed by lists of (epoch, sample)."""

    def __init__(
        self,
        recordings: Recordings,
        samples: pd.DataFrame,
        channels: Sequence[str],
        noisy: bool = False,
        seed: int = 0,
        references: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.recordings, self.channels, self.noisy, self.seed = recordings, channels, noisy, seed
        self.references = references
        self.keys = list(
            samples[["recording", "start_sample", "n_times"]].itertuples(index=False, name=None)
        )
        self.labels = samples.label.to_numpy()
        self.places = channel_places(recordings.table, channels)

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, keys: list[tuple[int, int]]) -> WindowBatch:
        windows = [self.recordings.window(*self.keys[i]) for _, i in keys]
        data = np.zeros((len(keys), len(self.channels), windows[0].shape[-1]), np.float32)
        mask = np.zeros(data.shape[:2], bool)
        for k, (_, i) in enumerate(keys):
            rows, columns = self.places[self.keys[i][0]]
            data[k, columns], mask[k, columns] = windows[k][rows], True
        noise = np.zeros(0, np.float32)
        if self.noisy:
            noise = np.zeros(data.shape, np.float32)
            for k, (epoch, i) in enumerate(keys):
                random = generator("forward noise", self.seed, epoch, i)
                noise[k] = random.standard_normal(data.shape[1:], dtype=np.float32)
        index = np.array([i for _, i in keys])
        return WindowBatch(
            torch.from_numpy(data),
            torch.from_numpy(mask),
            torch.from_numpy(self.labels[index]),
            torch.from_numpy(index),
            torch.from_numpy(noise),
            stacked_references(self.references, [self.keys[i][0] for _, i in keys]),
        )


def stacked_references(
    references: Mapping[str, Tensor] | None, recordings: Sequence[str]
) -> Float[Tensor, "batch ..."]:
    """Return what the tokens of windows are centred by, from the recording of each; empty if they
    are not centred.
    """
    if references is None:
        return torch.zeros(0)
    return torch.stack([references[name] for name in recordings])


class GlobalBatches(Sampler):
    """Yields lists of (epoch, index): this process's share of each global batch.

    The composition of global batches depends on (seed, epoch) alone, not on the number of
    processes. All processes get as many batches, since they wait for each other in each; one whose
    share of a small batch is empty gets the batch's first sample, with weight 0.

    Args:
        n: number of samples.
        batch_size: size of a global batch, over all processes.
        seed: seed of the order; None keeps the order of the data.
        rank, world: this process and how many there are.
    """

    def __init__(
        self, n: int, batch_size: int, seed: int | None, rank: int = 0, world: int = 1
    ) -> None:
        self.n, self.batch_size, self.seed, self.rank, self.world = n, batch_size, seed, rank, world
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; Lightning calls it before each."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.n // self.batch_size)

    def size(self, batch: int) -> int:
        """Return the number of samples in a global batch."""
        return min(self.batch_size, self.n - batch * self.batch_size)

    def weight(self, batch: int) -> float:
        """Return what the mean over this process's share counts in the mean over processes, for
        that to be the global batch's mean.
        """
        return len(range(self.rank, self.size(batch), self.world)) * self.world / self.size(batch)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = (
            np.arange(self.n)
            if self.seed is None
            else generator("order", self.seed, self.epoch).permutation(self.n)
        )
        for first in range(0, self.n, self.batch_size):
            batch = order[first : first + self.batch_size]
            # No process may skip a batch: the others would wait for its gradients for ever.
            share = batch[self.rank :: self.world] if self.rank < len(batch) else batch[:1]
            yield [(self.epoch, int(i)) for i in share]


def loader(
    dataset: Dataset,
    batch_size: int,
    seed: int | None,
    workers: int = 0,
    rank: int = 0,
    world: int = 1,
) -> DataLoader:
    """Return a loader of global batches over a dataset that is indexed by lists."""
    sampler = GlobalBatches(len(dataset), batch_size, seed, rank, world)  # type: ignore[arg-type]
    # The sampler gives whole batches, which the dataset reads in one call; batch_size=None keeps
    # the loader from making batches of them once more.
    return DataLoader(
        dataset,
        sampler=sampler,
        batch_size=None,
        num_workers=workers,
        persistent_workers=workers > 0,
    )


def batch_sampler_of(loader: Any) -> GlobalBatches:
    """Return the sampler that divides the batches of a loader between processes."""
    return loader.sampler


def in_order(batches: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Return logits (row, class) in the order of the dataset, from (index, logits) of batches."""
    index = np.concatenate([rows for rows, _ in batches])
    return np.concatenate([logits for _, logits in batches])[np.argsort(index, kind="stable")]
