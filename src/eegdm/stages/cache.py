"""cache: recordings + backbone -> tokens of each distinct window, once."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from eegdm import artifacts
from eegdm.config import Config
from eegdm.console import file_size, say, track
from eegdm.data.montage import CHANNEL_ID
from eegdm.data.recordings import Recordings
from eegdm.data.tokens import shard_is_done, write_shard
from eegdm.data.windows import WINDOW_KEY, distinct, long_events, make_samples
from eegdm.effects import finished_line
from eegdm.executor import map_or_raise
from eegdm.layout import content_config, destination
from eegdm.models.backbone import SSMDP, known_compat
from eegdm.models.latents import extract
from eegdm.opening import Inputs, open_recordings, resolve, token_spec
from eegdm.processes import own_device, pick_device


def run(config: Config) -> Path:
    """Write ``latents/``: shards of tokens and `windows.parquet`.

    Raises:
        UserError: no recordings or backbone, no windows, or the folder holds other work.
    """
    # Inputs: recordings and backbone, and the settings they were made with.
    config, inputs = resolve(config, "cache")
    folder = destination(config, "latents", inputs.fingerprints)
    if artifacts.is_finished(folder):
        say(finished_line(config, "cache", folder))
        return folder
    # Data: each distinct window once, however many labels it has.
    recordings = open_recordings(config, inputs)
    recordings.require_channel_ids()
    samples = make_samples(
        recordings.table, recordings.events, config.windows, config.corpus.classes
    )
    if warning := long_events(recordings.events, config.windows):
        say(f"cache: {warning}")
    with artifacts.building(
        folder, "latents", content_config(config, "latents"), inputs.fingerprints
    ):
        windows = _place(distinct(samples), recordings, config.latents.shard_windows)
        todo = [
            (shard, rows)
            for shard, rows in windows.groupby("shard")
            if not shard_is_done(folder, int(shard), config.latents.dtype)
        ]
        say(
            f"cache: {len(windows)} distinct windows of {len(samples)} samples in"
            f" {windows.shard.max() + 1} shards -> {folder}"
        )
        # Tokens: a shard at a time, here or by other processes; one that is there is whole.
        if config.run.devices == 1 and config.run.cluster is None:
            backbone = _ready(inputs, pick_device(config.run.device))
            for item in track(todo, "cache", len(todo)):
                _write_shard(item, backbone, recordings, config, folder)
        else:
            _share_out(todo, config, folder)
        artifacts.write_table(folder / "windows.parquet", windows)
        stored = sum(f.stat().st_size for f in (folder / "shards").glob("*.npy"))
        artifacts.finish(
            folder,
            {
                "windows": len(windows),
                "samples": len(samples),
                "bytes": stored,
                "channels": recordings.ch_names,
            },
        )
    say(f"cache: wrote {file_size(stored)}")
    return folder


def _write_shard(
    item: tuple[int, pd.DataFrame],
    backbone: SSMDP,
    recordings: Recordings,
    config: Config,
    folder: Path,
) -> None:
    shard, rows = item
    write_shard(
        folder,
        int(shard),
        np.concatenate(list(_tokens(backbone, recordings, rows, config))),
        config.latents.dtype,
    )


def _share_out(todo: list[tuple[int, pd.DataFrame]], config: Config, folder: Path) -> None:
    """Let several processes, or a dask cluster, write the shards."""
    work = functools.partial(
        _in_process,
        config=config,
        folder=folder,
        run=artifacts.run_of(folder),
    )
    with closing(map_or_raise(work, todo, config.run.devices, config.run.cluster)) as written:
        for _ in track(written, "cache", len(todo)):
            pass


# What this process opened for the run that it works for: a worker writes many shards, and a
# worker of a cluster outlives the run
_OPEN: dict[str, tuple[SSMDP, Recordings]] = {}


def _in_process(item: tuple[int, pd.DataFrame], config: Config, folder: Path, run: str) -> None:
    with artifacts.writing(folder, run):
        if run not in _OPEN:
            _OPEN.clear()
            _OPEN[run] = _opened(config)
        _write_shard(item, *_OPEN[run], config, folder)


def _opened(config: Config) -> tuple[SSMDP, Recordings]:
    config, inputs = resolve(config, "cache")
    where = own_device(config.run.device, config.run.devices if config.run.cluster is None else 1)
    return _ready(inputs, where), open_recordings(config, inputs)


def _ready(inputs: Inputs, where: torch.device) -> SSMDP:
    """The backbone on its device, for inference."""
    assert inputs.backbone is not None
    return inputs.backbone.to(where).eval()


def _place(windows: pd.DataFrame, recordings: Recordings, per_shard: int) -> pd.DataFrame:
    """Add to each distinct window its shard, first row in it, and number of channels."""
    channels = dict(zip(recordings.table.recording, recordings.table.ch_names, strict=True))
    windows = windows.assign(
        shard=np.arange(len(windows)) // per_shard,
        n_channels=[len(channels[r]) for r in windows.recording],
    )
    # A window's rows, one per channel, begin where those of the windows before it in the shard end
    windows["row"] = windows.groupby("shard").n_channels.cumsum() - windows.n_channels
    return windows


@torch.inference_mode()
def _tokens(
    backbone: SSMDP, recordings: Recordings, windows: pd.DataFrame, config: Config
) -> Iterator[np.ndarray]:
    """Yield tokens (row, block, pool, query, feature) of runs of windows that have the same
    channels.
    """
    spec, where = token_spec(config, blocks=False), next(backbone.parameters()).device
    for names, keys in _same_channels(windows, recordings, config.latents.batch_size):
        signal = torch.from_numpy(np.stack([recordings.window(*key) for key in keys])).to(where)
        ids = torch.tensor([CHANNEL_ID[n] for n in names], device=where)
        tokens = extract(
            backbone,
            signal,
            ids,
            spec,
            sfreq=recordings.sfreq,
            compat=known_compat(config.run.compat),
        )
        # Channels beside windows: so windows with any number of channels share a shard
        yield tokens.permute(0, 4, 1, 2, 3, 5).flatten(0, 1).float().cpu().numpy()


def _same_channels(
    windows: pd.DataFrame, recordings: Recordings, size: int
) -> Iterator[tuple[tuple[str, ...], list[Any]]]:
    """Yield channels, and at most ``size`` windows in a row that have them: a batch has no gaps."""
    channels = {r.recording: tuple(r.ch_names) for r in recordings.table.itertuples()}
    batch: list[Any] = []
    for key in windows[WINDOW_KEY].itertuples(index=False, name=None):
        if batch and (len(batch) == size or channels[key[0]] != channels[batch[0][0]]):
            yield channels[batch[0][0]], batch
            batch = []
        batch.append(key)
    if batch:
        yield channels[batch[0][0]], batch
