"""A classifier and samples -> logits, each distinct window computed once."""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd
import torch

from eegdm.config import Config
from eegdm.data.batches import batch_sampler_of, in_order, loader
from eegdm.executor import map_or_raise
from eegdm.models.eegdm import EEGDM
from eegdm.opening import LabelledData, make_dataset, shared_windows
from eegdm.processes import own_device, pick_device


def score_samples(
    config: Config, data: LabelledData, model: EEGDM, samples: pd.DataFrame, processes: int = 1
) -> pd.DataFrame:
    """Return the samples with a column of logits per class; each distinct window is computed once,
    by one of this many processes.
    """
    windows, window_of = shared_windows(samples)
    if processes == 1:
        parts = _logits(config, data, model, windows, pick_device(config.run.device))
    else:
        work = functools.partial(
            _share,
            config=config,
            data=data,
            model=model.cpu(),
            windows=windows,
            processes=processes,
        )
        parts = [
            part for share in map_or_raise(work, range(processes), processes) for part in share
        ]
    logits = in_order(parts)[window_of]
    subjects = dict(
        zip(data.recordings.table.recording, data.recordings.table.subject, strict=True)
    )
    columns = {f"logit_{name}": logits[:, i] for i, name in enumerate(model.classes)}
    return samples.assign(subject=samples.recording.map(subjects), **columns)


@torch.inference_mode()
def _logits(
    config: Config,
    data: LabelledData,
    model: EEGDM,
    windows: pd.DataFrame,
    where: torch.device,
    rank: int = 0,
    world: int = 1,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows and logits (row, class) of this process's share of each batch of windows."""
    model = model.to(where).eval()
    batches = loader(
        make_dataset(config, data, windows),
        config.finetune.batch_size,
        None,
        config.run.workers,
        rank,
        world,
    )
    parts = []
    for number, batch in enumerate(batches):
        if batch_sampler_of(batches).weight(number) > 0:  # no window is scored twice
            values, mask = batch.data.to(where), batch.mask.to(where)
            noise = batch.noise.to(where) if batch.noise.numel() else None
            reference = batch.reference.to(where) if batch.reference.numel() else None
            logits = (
                model.logits_from_tokens(values, mask, reference)
                if data.store is not None
                else model(values, mask, data.recordings.sfreq, noise, reference)
            )
            parts.append((batch.row.numpy(), logits.float().cpu().numpy()))
    return parts


def _share(
    rank: int,
    config: Config,
    data: LabelledData,
    model: EEGDM,
    windows: pd.DataFrame,
    processes: int,
) -> list[tuple[np.ndarray, np.ndarray]]:
    return _logits(
        config, data, model, windows, own_device(config.run.device, processes), rank, processes
    )


def logits_from_table(predictions: pd.DataFrame) -> np.ndarray:
    """Return the logits (sample, class) of a table of predictions."""
    return predictions.filter(regex="^logit_").to_numpy(np.float32)
