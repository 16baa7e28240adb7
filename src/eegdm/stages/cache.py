"""cache: recordings + backbone -> tokens of each distinct window, once."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pandas as pd
import torch

from eegdm import artifacts
from eegdm.config import Config
from eegdm.console import say, track
from eegdm.data.montage import CHANNEL_ID
from eegdm.data.recordings import Recordings
from eegdm.data.tokens import shard_is_done, write_shard
from eegdm.data.windows import KEY, distinct, make_samples
from eegdm.executor import results
from eegdm.layout import content_config, destination, upstream
from eegdm.models.backbone import SSMDP
from eegdm.models.latents import TokenSpec, extract
from eegdm.models.pretrained import weights_fingerprint
from eegdm.processes import own_device, pick_device
from eegdm.stages.pretrain import make_backbone


def run(config: Config) -> Path:
    """Write ``latents/``: shards of tokens and `windows.parquet`.

    Raises:
        UserError: no recordings or backbone, no windows, or the folder holds other work.
    """
    source = upstream(config, "recordings")
    recordings = Recordings(source.path, config.signal.mu)
    backbone, identity = open_backbone(config, source.fingerprint)
    inputs = {"recordings": source.fingerprint, "backbone": identity}
    folder = destination(config, "latents", inputs)
    if artifacts.is_finished(folder):
        say(f"cache: {folder} is finished")
        return folder
    recordings.require_channel_ids()
    samples = make_samples(
        recordings.table, recordings.events, config.windows, config.corpus.classes
    )
    with artifacts.building(folder, "latents", content_config(config, "latents"), inputs):
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
        if config.run.devices == 1 and config.run.cluster is None:
            backbone.to(device(config)).eval()
            for item in track(todo, "cache", len(todo)):
                _write(item, backbone, recordings, config, folder)
        else:
            _share_out(todo, config, source.fingerprint, folder)
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
    say(f"cache: wrote {stored / 2**20:.1f} MiB")
    return folder


def _write(
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


def _share_out(
    todo: list[tuple[int, pd.DataFrame]], config: Config, recordings: str, folder: Path
) -> None:
    """Let several processes, or a dask cluster, write the shards."""
    work = functools.partial(
        _in_process,
        config=config,
        recordings=recordings,
        folder=folder,
        run=artifacts.run_of(folder),
    )
    with closing(results(work, todo, config.run.devices, config.run.cluster)) as written:
        for _ in track(written, "cache", len(todo)):
            pass


_OPEN: dict[str, tuple[SSMDP, Recordings]] = {}  # what this process opened for the run it works for


def _in_process(
    item: tuple[int, pd.DataFrame], config: Config, recordings: str, folder: Path, run: str
) -> None:
    with artifacts.writing(folder, run):
        if run not in _OPEN:
            _OPEN.clear()
            _OPEN[run] = _opened(config, recordings)
        _write(item, *_OPEN[run], config, folder)


def _opened(config: Config, recordings: str) -> tuple[SSMDP, Recordings]:
    backbone, _ = open_backbone(config, recordings)
    where = own_device(config.run.device, config.run.devices if config.run.cluster is None else 1)
    return backbone.to(where).eval(), Recordings(
        upstream(config, "recordings").path, config.signal.mu
    )


def open_backbone(config: Config, recordings: str) -> tuple[SSMDP, str]:
    """Return the backbone that this run reads and what identifies it: its folder's fingerprint, or
    that of its weights.
    """
    chosen = config.run.backbone
    if chosen == "random":
        L.seed_everything(
            0, verbose=False
        )  # one backbone for all seeds of the classifier, as a pretrained one is
        return (
            make_backbone(config),
            f"random, {artifacts.fingerprint(content_config(config, 'backbone')['backbone'])}",
        )
    if chosen is None or artifacts.is_finished(Path(chosen)):
        made = upstream(config, "backbone", {"recordings": recordings} if chosen is None else None)
        return SSMDP.from_pretrained(made.path), made.fingerprint
    from eegdm.checkpoints.load import load

    model = load(chosen)
    backbone = model if isinstance(model, SSMDP) else model.backbone
    for name, value in backbone.config.items():
        if hasattr(config.backbone, name):
            setattr(config.backbone, name, value)
    return backbone, weights_fingerprint(backbone)


def token_spec(config: Config, blocks: bool = True) -> TokenSpec:
    """Return how tokens are read; with ``blocks=False`` of all blocks, as they are stored."""
    c, d, f = config.latents, config.diffusion, config.fusion
    return TokenSpec(
        query=tuple(c.query),
        pool=tuple(c.pool),
        step=c.step,
        forward=c.forward,
        schedule=d.schedule,
        n_steps=d.n_steps,
        window=c.window,
        stride=c.stride,
        first_block=f.first_block if blocks else 0,
        last_block=f.last_block if blocks else None,
    )


def device(config: Config) -> torch.device:
    """Return the device that ``run.device`` names; auto takes the best there is."""
    return pick_device(config.run.device)


def _place(windows: pd.DataFrame, recordings: Recordings, per_shard: int) -> pd.DataFrame:
    """Add to each distinct window its shard, first row in it, and number of channels."""
    channels = dict(zip(recordings.table.recording, recordings.table.ch_names, strict=True))
    windows = windows.assign(
        shard=np.arange(len(windows)) // per_shard,
        n_channels=[len(channels[r]) for r in windows.recording],
    )
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
    for names, keys in _batches(windows, recordings, config.latents.batch_size):
        signal = torch.from_numpy(np.stack([recordings.window(*key) for key in keys])).to(where)
        ids = torch.tensor([CHANNEL_ID[n] for n in names], device=where)
        tokens = extract(
            backbone, signal, ids, spec, sfreq=recordings.sfreq, compat=config.run.compat
        )
        yield tokens.permute(0, 4, 1, 2, 3, 5).flatten(0, 1).float().cpu().numpy()


def _batches(
    windows: pd.DataFrame, recordings: Recordings, size: int
) -> Iterator[tuple[tuple[str, ...], list[Any]]]:
    channels = {r.recording: tuple(r.ch_names) for r in recordings.table.itertuples()}
    batch: list[Any] = []
    for key in windows[KEY].itertuples(index=False, name=None):
        if batch and (len(batch) == size or channels[key[0]] != channels[batch[0][0]]):
            yield channels[batch[0][0]], batch
            batch = []
        batch.append(key)
    if batch:
        yield channels[batch[0][0]], batch
